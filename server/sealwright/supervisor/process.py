"""One supervised part: kept running, its output forwarded, stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

_TETHER = Path(__file__).with_name("tether.py")
_FIRST_PAUSE = 0.1  #: seconds before the first restart
_LONGEST_PAUSE = 10.0  #: seconds between restarts of a part that keeps failing
_STEADY_SECONDS = 10.0  #: after running so long a part counts as sound again
_MAX_LINE = 64 * 1024  #: bytes of one line of output; longer ones are cut in pieces
_PROBE_PAUSE = 0.02

#: exit status of a part that cannot run as it is configured: starting it again cannot help
EXIT_CONFIGURATION = 2


@dataclass(frozen=True)
class Part:
    """A program that belongs to the server.

    Attributes:
        command: argument vector.
        environment: all of its environment variables.
        descriptors: file descriptors it inherits.
        ready: tells whether it answers; None where nothing waits for it.
        stop_seconds: how long it may take to stop before it is killed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Sequence[int] = ()
    ready: Callable[[], Awaitable[bool]] | None = None
    stop_seconds: float = 10.0


class PartProcess:
    """Keeps one part running until `stop`.

    Args:
        emit: takes each line that the part writes: its name, and the text without line break.
    """

    def __init__(self, part: Part, emit: Callable[[str, str], None]) -> None:
        self.part = part
        self.restarts = 0
        #: set when the part ended in a way that starting it again cannot mend
        self.hopeless = asyncio.Event()
        self._emit = emit
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Id of the running process."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and running else None

    def start(self) -> None:
        """Begin to keep the part running."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep-{self.part.name}")

    async def wait_ready(self, seconds: float) -> bool:
        """Wait until the part answers; False where it did not in time or never will."""
        if self.part.ready is None:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.hopeless.is_set():
                    if self.pid is not None and await self.part.ready():
                        return True
                    await asyncio.sleep(_PROBE_PAUSE)
        return False

    async def stop(self) -> None:
        """Ask the part to end, kill it with all its children when it does not, and wait for it."""
        self._stopping.set()
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if self._keeper is None:
            return
        _, unfinished = await asyncio.wait({self._keeper}, timeout=self.part.stop_seconds)
        if unfinished and self._process is not None:
            _log.warning("%s did not stop in time; killing it", self.part.name)
            _kill_group(self._process.pid)
        await self._keeper

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            begun = loop.time()
            status = await self._run_once()
            if self._stopping.is_set():
                return
            if loop.time() - begun >= _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            if status == EXIT_CONFIGURATION:
                self.hopeless.set()
            _log.warning(
                "%s ended (%s); starting it again in %.1f s", self.part.name, _how(status), pause
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-IS",
            str(_TETHER),
            str(os.getpid()),
            *self.part.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self.part.environment),
            pass_fds=tuple(self.part.descriptors),
            # a group of its own: Ctrl-C reaches the supervisor alone, which stops all in order
            start_new_session=True,
        )
        self._process = process
        if self._stopping.is_set():  # asked to stop while it was being started
            process.terminate()
        assert process.stdout is not None  # noqa: S101 - asked for above
        forwarding = asyncio.create_task(self._forward(process.stdout))
        try:
            status = await process.wait()
            # what a killed part leaves behind must not work on beside its successor
            _kill_group(process.pid)
            await asyncio.wait({forwarding}, timeout=1)
            return status
        finally:
            forwarding.cancel()

    async def _forward(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await output.read(_MAX_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._emit(self.part.name, line.decode(errors="replace"))
            if len(rest) >= _MAX_LINE:
                self._emit(self.part.name, rest.decode(errors="replace"))
                rest = b""
        if rest:
            self._emit(self.part.name, rest.decode(errors="replace"))


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
