"""The process that format children are forked from: everything is imported once.

Started by `nursery` as ``python -m sealwright.signing.forker PARENT``, with a socket (SEQPACKET) as
its standard input. It reads nothing that a user has sent, has one thread, and holds no file of any
artifact: what a child finds of it is the interpreter and the modules.

Each message to it is JSON with ``folder`` and ``limits``, and the child's standard input, output
and error. It answers ``{"pid": ...}`` with a handle (pidfd), and tells later how the child ended:
``{"ended": pid, "status": ...}``, negative for a signal.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from sealwright.signing import child
from sealwright.signing.confinement import die_with_parent

MAX_MESSAGE = 16 << 10
_DESCRIPTORS = 3
_FIRST_OTHER = 3  # descriptors from here on are no standard ones
_NICE = 10  # less of a processor, by 9 to 1, where others of this machine want it as well


def serve(channel: socket.socket) -> None:
    """Fork children until the other end is closed. Those that are left end with this process."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                _tell_ended(channel)
            if channel in ready:
                text, descriptors = _receive(channel)
                if not text:
                    return
                _fork(channel, json.loads(text), descriptors)


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(_DESCRIPTORS * descriptors.itemsize)
    text, ancillary, _, _ = channel.recvmsg(MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return text, list(descriptors)


def _fork(channel: socket.socket, order: dict[str, Any], descriptors: list[int]) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_child(parent, order, descriptors)
    for each in descriptors:
        os.close(each)
    handle = os.pidfd_open(pid)  # it is not reaped before the next round: the id is its own
    socket.send_fds(channel, [json.dumps({"pid": pid}).encode()], [handle])
    os.close(handle)


def _become_child(parent: int, order: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Turn this copy into a format child; never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(_FIRST_OTHER, os.sysconf("SC_OPEN_MAX"))
        child.main([order["folder"], json.dumps({"parent": parent, "limits": order["limits"]})])
        status = 0
    finally:
        os._exit(status)


def _tell_ended(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        told = {"ended": pid, "status": os.waitstatus_to_exitcode(status)}
        channel.send(json.dumps(told).encode())


def main(arguments: list[str]) -> None:
    """Entry point of the process.

    Args:
        arguments: the parent's process id.
    """
    die_with_parent(int(arguments[0]))
    _step_back()
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    gc.collect()
    gc.freeze()  # what is there is shared with the children for good
    serve(channel)


def _step_back() -> None:
    """Leave processors to the token and to what answers people, which format children wait for or
    hold up: where the kernel weighs sessions (sched(7), autogroup), the children's as a whole."""
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICE))


if __name__ == "__main__":
    main(sys.argv[1:])
