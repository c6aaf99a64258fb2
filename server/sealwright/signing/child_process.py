"""A format child as a process: started, greeted, talked to over its streams, and ended.

It is confined and never trusted: what it says is checked for its shape, and no operation takes
longer than it may.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from sealwright.errors import (
    ArtifactError,
    ConfigurationError,
    InternalError,
    SealwrightError,
    UnavailableError,
)
from sealwright.signing import child_protocol as protocol
from sealwright.signing.budget import Limits, Pace
from sealwright.signing.confinement import OUTPUT, WORK, ChildLimits
from sealwright.signing.nursery import ENVIRONMENT, ForkedChild, Nursery

#: Layers that can be required; see `confinement.confine`.
LAYERS = ("landlock", "seccomp", "netns")
_START_SECONDS = 30.0
_ERROR_TAIL = 4096


@dataclass(frozen=True)
class SandboxSettings:
    """How children are started.

    Attributes:
        child: resource limits of each.
        artifact: limits of what it processes.
        pace: how much it may have under way.
        wall_seconds: for each operation, waiting for signatures included.
        required: layers of `LAYERS` without which a child is not used.
        roots: DER of the roots that ``authenticode-verify`` lets signers chain to,
        timestamp_roots: and time stamp authorities.
    """

    child: ChildLimits = field(default_factory=ChildLimits)
    artifact: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    wall_seconds: float = 3600.0
    required: frozenset[str] = frozenset()
    roots: tuple[bytes, ...] = field(default=(), repr=False)
    timestamp_roots: tuple[bytes, ...] = field(default=(), repr=False)


class ChildProcess:
    """One child process and its folder. Make it with `start`.

    Attributes:
        folder: holds ``input``, ``output`` and the child's own ``work``.
        confinement: layers in force: ``{"landlock": 7, "seccomp": True, "netns": True}``.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process | ForkedChild,
        folder: Path,
        settings: SandboxSettings,
    ) -> None:
        self._process = process
        # Popen.kill would reap a child that has just died before asyncio can learn how.
        if isinstance(process, ForkedChild):
            self._handle = process.handle
        else:
            self._handle = os.pidfd_open(process.pid)
        self._settings = settings
        self._complaints = b""
        self._listening = asyncio.create_task(self._keep_complaints())
        self.folder = folder
        self.confinement: Mapping[str, int | bool] = {}

    @classmethod
    async def start(
        cls,
        folder: Path,
        settings: SandboxSettings | None = None,
        nursery: Nursery | None = None,
    ) -> Self:
        """Start a child that may touch nothing but `folder`, and wait until it is confined.

        Args:
            folder: empty, this child's alone; stays the caller's to delete.
            nursery: forks it; None: a new interpreter, which takes longer.

        Raises:
            ConfigurationError: a required layer is not available here.
            InternalError: the child does not start.
            UnavailableError: it, or what forks it, was killed meanwhile.
        """
        settings = settings or SandboxSettings()
        await asyncio.to_thread(_prepare, folder)
        process = await (
            nursery.fork(folder, asdict(settings.child))
            if nursery
            else _new_interpreter(folder, settings)
        )
        child = cls(process, folder, settings)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await child._greet()
            if not child.is_alive:  # its hello lay in the stream already
                raise await child._died()
        except TimeoutError:
            await child.kill()
            message = f"The format child did not start within {_START_SECONDS:.0f} s."
            raise InternalError(message) from None
        except BaseException:
            await child.kill()
            raise
        return child

    async def close(self) -> None:
        """Let the child end; kill it if it does not within a second."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._end(patience=1.0)

    async def kill(self) -> None:
        """End the child at once."""
        await self._end(patience=0.0)

    async def _end(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.shield(self._listening)  # who is cancelled here may end it once more
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    async def _greet(self) -> None:
        reply = self._checked(await self._receive(), "hello")
        layers = reply.get("confinement")
        if not isinstance(layers, dict):
            raise protocol.malformed()
        self.confinement = {name: layers.get(name, False) for name in LAYERS}
        missing = sorted(name for name in self._settings.required if not layers.get(name))
        if missing:
            message = f"Format children cannot be confined here: {', '.join(missing)} is missing."
            advice = "Use a newer kernel, allow it in the container, or do not require it."
            raise ConfigurationError(message, advice=advice)

    async def _ask(self, request: protocol.Message, reply_type: str) -> protocol.Message:
        await self._send(request)
        return self._checked(await self._receive(), reply_type)

    def _checked(self, reply: protocol.Message, reply_type: str) -> protocol.Message:
        if reply.get("type") == "error":
            raise protocol.error_from_json(reply)
        if reply.get("type") != reply_type:
            raise protocol.malformed()
        return reply

    async def _send(self, message: protocol.Message) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a child has it
        try:
            self._process.stdin.write(protocol.encode(message))
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._died() from None

    async def _receive(self) -> protocol.Message:
        assert self._process.stdout is not None  # noqa: S101 - a child has it
        try:
            header = await self._process.stdout.readexactly(protocol.HEADER)
            length = protocol.body_length(header)
            return protocol.decode(await self._process.stdout.readexactly(length))
        except asyncio.IncompleteReadError:
            raise await self._died() from None

    def _deadline(self) -> _Deadline:
        return _Deadline(self, self._settings.wall_seconds)

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.returncode is None

    async def _died(self) -> SealwrightError:
        await self._end(patience=1.0)  # its streams close a moment before the process has ended
        code = self._process.returncode or 0
        if code == -signal.SIGKILL:
            # its own limits end it otherwise: this came from outside, and may not come again
            message = "The process that read the artifact was killed from outside."
            return UnavailableError(message, advice="The machine may be short of memory.")
        cause = f"ended with status {code}"
        if code < 0:
            name = signal.Signals(-code).name
            cause = {
                "SIGXCPU": "used up its processor time",
                "SIGXFSZ": "wrote a file larger than allowed",
            }.get(name, f"was ended by {name}")
        message = f"The process that read the artifact {cause}."
        advice = "The artifact is too demanding or malformed; submit a smaller or corrected one."
        error = ArtifactError(message, advice=advice)
        error.add_note(self._complaints.decode("utf-8", "replace"))
        return error

    async def _keep_complaints(self) -> None:
        """Keep the end of what the child says on standard error, for the operator's log."""
        assert self._process.stderr is not None  # noqa: S101 - a child has it
        while part := await self._process.stderr.read(_ERROR_TAIL):
            self._complaints = (self._complaints + part)[-_ERROR_TAIL:]


async def _new_interpreter(folder: Path, settings: SandboxSettings) -> asyncio.subprocess.Process:
    arguments = {"parent": os.getpid(), "limits": asdict(settings.child)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-s", "-P", "-B", "-m", "sealwright.signing.child"),
        str(folder),
        json.dumps(arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=ENVIRONMENT,
        cwd=folder,
        close_fds=True,
        start_new_session=True,
    )


class _Deadline:
    """Kills the child when an operation fails or takes too long: it is in no known state then."""

    def __init__(self, child: ChildProcess, seconds: float) -> None:
        self._child = child
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            await asyncio.shield(self._child.kill())
        try:
            await self._timeout.__aexit__(kind, *rest)  # type: ignore[arg-type]
        except TimeoutError:
            message = f"Processing the artifact took longer than {self._seconds:.0f} s."
            advice = "Submit a smaller artifact, or have the server's limit raised."
            raise ArtifactError(message, advice=advice) from None


def _prepare(folder: Path) -> None:
    """Everything that the child may write must exist before it is confined."""
    (folder / WORK).mkdir()
    (folder / OUTPUT).touch(exist_ok=False)
