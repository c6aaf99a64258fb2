"""Where format children come from: a process of ours that has everything imported, and forks.

A new interpreter takes a core a fifth of a second to import what a child needs, a fork a hundredth.
Decision 13 says what that costs; `forker` is the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sealwright
from sealwright.errors import UnavailableError
from sealwright.signing.forker import MAX_MESSAGE

_STREAMS = ("stdin", "stdout", "stderr")  # of a child, in the order of their descriptors
_STREAM_LIMIT = 1 << 20  # bytes that one buffers

#: What children find in their environment, and nothing else. Their C library (glibc; others ignore
#: it) keeps the memory of buffers that are freed: given back and taken anew for each, it would cost
#: a seventh of their processor time in page faults.
ENVIRONMENT = {
    "PYTHONPATH": str(Path(sealwright.__file__).parent.parent),
    "PYTHONUTF8": "1",
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_TOP_PAD_": str(1 << 20),
}


class ForkedChild:
    """A child of the forker, with what of `asyncio.subprocess.Process` its owner uses.

    Attributes:
        handle: a pidfd; the owner's to close.
    """

    def __init__(
        self,
        pid: int,
        handle: int,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
    ) -> None:
        self.pid = pid
        self.handle = handle
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def end(self, status: int) -> None:
        """Note how it ended: an exit status, or the negative number of a signal."""
        if self.returncode is None:
            self.returncode = status
            self._ended.set()

    async def wait(self) -> int:
        """Wait until it has ended; how."""
        await self._ended.wait()
        assert self.returncode is not None  # noqa: S101 - set with the event
        return self.returncode


class Nursery:
    """Forks children. The forker is started with the first, and anew should it end."""

    def __init__(self) -> None:
        self._forker: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._children: dict[int, ForkedChild] = {}
        self._early: dict[int, int] = {}  # children that ended before their owner had them
        self._born: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._unwanted = 0  # children that are yet to be born, whose orders were cancelled
        self._disowned: set[int] = set()  # those that were born and have not ended
        self._one_at_a_time = asyncio.Lock()

    async def fork(self, folder: Path, limits: Mapping[str, Any]) -> ForkedChild:
        """A child that works in `folder`; it has not said hello yet.

        Raises:
            UnavailableError: the forker has ended, or does not start; the next one may.
        """
        streams: list[tuple[asyncio.StreamReader, asyncio.Transport]] = []
        with contextlib.ExitStack() as child_ends:
            try:
                theirs = []
                for _ in _STREAMS:
                    ours, its = socket.socketpair()
                    theirs.append(child_ends.enter_context(its).fileno())
                    streams.append(await _opened(ours))
                async with self._one_at_a_time:
                    pid, handle, channel = await self._order(folder, limits, theirs)
            except BaseException:
                for _, transport in streams:
                    transport.abort()
                raise
        stdin, (stdout, _), (stderr, _) = streams
        child = ForkedChild(pid, handle, _writer(*stdin), stdout, stderr)
        status = self._early.pop(pid, None)
        if channel is not self._channel:
            child.end(-signal.SIGKILL)  # the forker ended meanwhile, and its children with it
        elif status is None:
            self._children[pid] = child
        else:
            child.end(status)
        return child

    async def _order(
        self, folder: Path, limits: Mapping[str, Any], descriptors: list[int]
    ) -> tuple[int, int, socket.socket]:
        while not self._born.empty():
            self._born.get_nowait()  # told of an end that nobody waited for any more
        channel = self._channel or self._start()
        order = json.dumps({"folder": str(folder), "limits": dict(limits)}).encode()
        try:
            socket.send_fds(channel, [order], descriptors)
        except OSError as error:
            self._lose()
            message = f"The process that format children are forked from has ended: {error}."
            raise UnavailableError(message, advice="Try again.") from None
        try:
            pid, handle = await self._born.get()
        except asyncio.CancelledError:
            # the answer comes all the same, and is none to the next order
            if self._born.empty():
                self._unwanted += 1
            else:
                self._disown(*self._born.get_nowait())
            raise
        if pid == 0:
            message = "The process that format children are forked from has ended."
            raise UnavailableError(message, advice="Try again.")
        return pid, handle, channel

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._forker = subprocess.Popen(
                [sys.executable, "-s", "-P", "-B", "-m", "sealwright.signing.forker",
                 str(os.getpid())],
                stdin=theirs.fileno(),
                env=ENVIRONMENT,
                close_fds=True,
                start_new_session=True,
            )  # fmt: skip
        ours.setblocking(False)  # noqa: FBT003
        asyncio.get_running_loop().add_reader(ours, self._hear)
        self._channel = ours
        return ours

    def _hear(self) -> None:
        """Take what the forker says."""
        assert self._channel is not None  # noqa: S101 - it is what is read
        while True:
            try:
                text, handles, _, _ = socket.recv_fds(self._channel, MAX_MESSAGE, 1)
            except BlockingIOError:
                return
            except OSError:
                text, handles = b"", []
            if not text:
                self._lose()
                return
            told = json.loads(text)
            if "pid" in told and self._unwanted:
                self._unwanted -= 1
                self._disown(told["pid"], handles[0])
            elif "pid" in told:
                self._born.put_nowait((told["pid"], handles[0]))
            elif told["ended"] in self._disowned:
                self._disowned.discard(told["ended"])
            elif (child := self._children.pop(told["ended"], None)) is not None:
                child.end(told["status"])
            else:
                self._early[told["ended"]] = told["status"]

    def _disown(self, pid: int, handle: int) -> None:
        """End a child that nobody waits for any more."""
        if pid == 0:
            return  # the forker has ended
        if self._early.pop(pid, None) is None:
            self._disowned.add(pid)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)

    def _lose(self) -> None:
        """The forker has ended, and with it its children."""
        if self._channel is None:
            return
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        self._channel = None
        if self._forker is not None:
            self._forker.kill()
            self._forker.wait()
            self._forker = None
        for child in self._children.values():
            child.end(-signal.SIGKILL)
        self._children.clear()
        self._early.clear()
        self._disowned.clear()
        self._unwanted = 0
        while not self._born.empty():
            pid, handle = self._born.get_nowait()
            if pid:
                os.close(handle)
        if self._one_at_a_time.locked():
            self._born.put_nowait((0, -1))  # somebody may be waiting for a child

    def close(self) -> None:
        """End the forker and whatever children are left."""
        self._lose()


class _Stream(asyncio.StreamReaderProtocol):
    """Closes its socket when the other end is closed."""

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; False closes."""
        super().eof_received()
        return False


async def _opened(end: socket.socket) -> tuple[asyncio.StreamReader, asyncio.Transport]:
    """A stream on a socket, which is the stream's from now on.

    Sockets and not pipes: uvloop closes the descriptor of a pipe twice, and what another thread has
    opened in between is closed with it. A socket it closes twice if opening is cancelled.
    """
    opening = asyncio.create_task(_open(end))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(lambda opened: opened.result()[1].abort())
        raise


async def _open(end: socket.socket) -> tuple[asyncio.StreamReader, asyncio.Transport]:
    reader = asyncio.StreamReader(limit=_STREAM_LIMIT)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_unix_connection(lambda: _Stream(reader), sock=end)
    return reader, transport


def _writer(reader: asyncio.StreamReader, transport: asyncio.Transport) -> asyncio.StreamWriter:
    protocol, loop = transport.get_protocol(), asyncio.get_running_loop()
    return asyncio.StreamWriter(transport, protocol, reader, loop)
