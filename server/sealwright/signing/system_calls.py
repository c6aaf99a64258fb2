"""The few system calls that Python does not offer, through the C library."""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int = 0, pointer: int = 0) -> int:
    """prctl(2): 0, or -1 with errno in `ctypes.get_errno`."""
    arguments = [ctypes.c_ulong(value) for value in (argument, pointer, 0, 0)]
    result: int = _libc.prctl(ctypes.c_int(option), *arguments)
    return result


def syscall(number: int, *arguments: int) -> int:
    """syscall(2): the result, or -1 with errno in `ctypes.get_errno`."""
    _libc.syscall.restype = ctypes.c_long
    values = [ctypes.c_long(value) for value in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *values)
    return result


def unshare(flags: int) -> bool:
    """unshare(2): whether it succeeded."""
    return bool(_libc.unshare(ctypes.c_int(flags)) == 0)


def drop_capabilities() -> None:
    """Give up every capability: capset(2) with empty sets."""
    number = _CAPSET.get(os.uname().machine)
    if number is not None:
        header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
        nothing = ctypes.create_string_buffer(24)
        syscall(number, ctypes.addressof(header), ctypes.addressof(nothing))
