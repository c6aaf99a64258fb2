"""What a session process gives up before it reads the PIN (Linux).

It dies with its parent, leaves no core dump, cannot be traced by its user's other processes and
gains no privileges. Where the token is local, a seccomp filter (Linux, BPF) takes away sockets
other than those of the local machine, and the starting of programs.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_RETURN_ALLOW = 0x7FFF0000
_RETURN_KILL = 0x80000000
_RETURN_EACCES = 0x00050000 | 13
_AF_UNIX = 1

#: machine -> (AUDIT_ARCH_*, socket, forbidden calls: execve, execveat, io_uring_setup)
_ARCHITECTURES = {
    "x86_64": (0xC000003E, 41, (59, 322, 425)),
    "aarch64": (0xC00000B7, 198, (221, 281, 425)),
}
_X32_CALLS = 0x40000000  # the second system call table that x86_64 processes can reach

# Classic BPF instruction codes and offsets into struct seccomp_data.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16


def confine(parent: int, *, network: bool) -> bool:
    """Give up what a session does not need; cannot be undone.

    Args:
        parent: process id of the parent, which must still be alive.
        network: whether the PKCS#11 module reaches its token over a network or a helper program.

    Returns:
        Whether the system call filter is in force, if one was wanted.

    Raises:
        OSError: the kernel refuses the basics.
        SystemExit: the parent is gone.
    """
    os.umask(0o077)
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        raise SystemExit(1)
    return network or _filter_calls()


def _filter_calls() -> bool:
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    program = _program(*architecture)
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
    try:
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header))
    except OSError:
        return False  # a kernel or a container without seccomp
    return True


def _program(architecture: int, socket_call: int, forbidden: tuple[int, ...]) -> bytes:
    """Assemble the filter. Jumps count the instructions to skip, if true and if false."""
    deny = 3 + len(
        forbidden
    )  # from the first instruction that judges the number to `return EACCES`
    judged = [(_JUMP_GREATER_EQUAL, deny + 1, 0, _X32_CALLS)]
    judged += [(_JUMP_EQUAL, deny - index, 0, call) for index, call in enumerate(forbidden)]
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _RETURN_KILL),
        (_LOAD, 0, 0, _NUMBER),
        *judged,
        (_JUMP_EQUAL, 0, 2, socket_call),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_EQUAL, 0, 1, _AF_UNIX),
        (_RETURN, 0, 0, _RETURN_ALLOW),
        (_RETURN, 0, 0, _RETURN_EACCES),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)


def _prctl(option: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [
        ctypes.c_ulong(argument) if isinstance(argument, int) else argument
        for argument in (*arguments, 0, 0, 0, 0)[:4]
    ]
    if libc.prctl(option, *values):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
