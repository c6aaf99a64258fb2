"""The parent's side of format children: start, use once, never trust, never wait forever.

A child opens what users have submitted, in a process without network, keys or credentials (see
`confinement`), and asks for signatures over its pipe. Use each child for one request::

    child = await FormatChild.start(folder)          # ahead of time, or take one from a ChildPool
    ...put the artifact at child.input...
    plan = await child.plan(...)
    results = await child.deep_sign(plan, identity, answer)
    await child.close()

and a fresh one, with the same input and the output put at its `output`, for `verify`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import sealwright
from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    ConfigurationError,
    InternalError,
    InvalidInputError,
    SealwrightError,
    UnavailableError,
)
from sealwright.model.member_tree import Listing
from sealwright.signing import child_protocol as protocol
from sealwright.signing.artifact import Identity, TimestampForm
from sealwright.signing.authenticode_trust import Trust, asks_for_trust
from sealwright.signing.budget import Limits
from sealwright.signing.child_conversation import Answer, Conversation, Progress
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.confinement import INPUT, OUTPUT, WORK, ChildLimits
from sealwright.signing.deep_sign import FileResult, Pace, PendingSignature
from sealwright.signing.nursery import ForkedChild, Nursery
from sealwright.signing.parts import Part
from sealwright.signing.plan import Plan
from sealwright.signing.shard import WHOLE, Shard
from sealwright.signing.verify_result import VerifiedSignature

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


@dataclass(frozen=True)
class PlannedShare:
    """What planning one shard gave.

    Attributes:
        plan: with the shard's members alone.
        extracted: bytes.
        members: of all containers that were opened.
        listing: what is in them; the outermost one's is with the first shard.
    """

    plan: Plan
    extracted: int
    members: int
    listing: Listing


class FormatChild:
    """One child process and its folder. Make it with `start`.

    Attributes:
        input_sha256: of ``input``, hexadecimal, where who has put it there has computed it.
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
        self.input_sha256 = ""
        self.confinement: Mapping[str, int | bool] = {}

    @classmethod
    async def start(
        cls,
        folder: Path,
        settings: SandboxSettings | None = None,
        nursery: Nursery | None = None,
    ) -> FormatChild:
        """Start a child that may touch nothing but `folder`, and wait until it is confined.

        Args:
            folder: empty, this child's alone; stays the caller's to delete.
            nursery: forks it; None: a new interpreter, which takes longer.

        Raises:
            ConfigurationError: a required layer is not available here.
            InternalError: the child does not start.
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
        except TimeoutError:
            await child.kill()
            message = f"The format child did not start within {_START_SECONDS:.0f} s."
            raise InternalError(message) from None
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def input(self) -> Path:
        """Where the artifact has to be put. The child can read it, not write it."""
        return self.folder / INPUT

    @property
    def output(self) -> Path:
        """Where the signed artifact is written. Read it with `open_output`."""
        return self.folder / OUTPUT

    def open_output(self) -> BinaryIO:
        """Open the output for reading.

        Raises:
            InternalError: it is not a plain file any more.
        """
        descriptor = os.open(self.output, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(descriptor)
            message = "The format child's output is not a plain file."
            raise InternalError(message)
        return os.fdopen(descriptor, "rb")

    async def plan(
        self,
        configuration_xml: bytes,
        parameters: Mapping[str, str],
        *,
        artifact_name: str,
        signing_time: int,
        timestamp: TimestampForm = TimestampForm.NONE,
        identity: Identity | None = None,
    ) -> Plan:
        """Apply an artifact configuration to ``input``; see `planner.build_plan`."""
        share = await self.plan_share(
            WHOLE,
            configuration_xml,
            parameters,
            artifact_name=artifact_name,
            signing_time=signing_time,
            timestamp=timestamp,
            identity=identity,
        )
        return share.plan

    async def plan_share(
        self,
        shard: Shard,
        configuration_xml: bytes,
        parameters: Mapping[str, str],
        *,
        artifact_name: str,
        signing_time: int,
        timestamp: TimestampForm = TimestampForm.NONE,
        identity: Identity | None = None,
    ) -> PlannedShare:
        """`plan` for one shard's members of the outermost container."""
        request = {
            "op": "plan",
            "configuration": protocol.blob_to_json(configuration_xml),
            "parameters": dict(parameters),
            "artifactName": artifact_name,
            "signingTime": signing_time,
            "timestamp": timestamp,
            "limits": asdict(self._settings.artifact),
            "trust": protocol.trust_to_json(self._trust(configuration_xml)),
            "identity": protocol.identity_to_json(identity),
            "shard": protocol.shard_to_json(shard),
            "sourceSha256": self.input_sha256,
        }
        async with self._deadline():
            reply = await self._ask(request, "plan")
            try:
                plan = Plan.from_json(str(reply.get("plan")))
            except InvalidInputError:
                raise protocol.malformed() from None
            asked = (artifact_name, signing_time, timestamp)
            if (plan.artifact_name, plan.signing_time, plan.timestamp) != asked:
                raise protocol.malformed()
            if self.input_sha256 not in {"", plan.root.sha256}:
                raise protocol.malformed()
            extracted, members = reply.get("extracted"), reply.get("members")
            if not isinstance(extracted, int) or not isinstance(members, int):
                raise protocol.malformed()
            listing = protocol.listing_from_json(reply.get("listing"))
        return PlannedShare(plan, extracted, members, listing)

    async def deep_sign(
        self, plan: Plan, identity: Identity, answer: Answer, progress: Progress | None = None
    ) -> tuple[FileResult, ...]:
        """Sign ``input`` into ``output`` by the plan.

        Args:
            identity: whose signatures; the signing time is the plan's.
            answer: makes the signatures of one batch, in its order. It is called again while
                earlier calls are still running. What it raises ends the child and is raised here.
            progress: called with the number of finished and of all files to sign.

        Raises:
            ArtifactError: the artifact, or the child that processed it, failed.
        """
        results, _ = await self.sign_share(WHOLE, plan, identity, answer, progress)
        return results

    async def sign_share(
        self,
        shard: Shard,
        share: Plan,
        identity: Identity,
        answer: Answer,
        progress: Progress | None = None,
    ) -> tuple[tuple[FileResult, ...], Part]:
        """`deep_sign` for one shard's part of the plan; unless it is the whole, its members are
        packed into a file for `assemble`."""
        request = {"op": "sign", "shard": protocol.shard_to_json(shard)}
        conversation = Conversation(share, answer, progress)
        reply = await self._converse(request, share, identity, conversation)
        part = protocol.part_from_json(reply.get("part"))
        return protocol.results_from_json(reply.get("results")), part

    async def assemble(
        self, plan: Plan, identity: Identity, answer: Answer, parts: Sequence[Part]
    ) -> tuple[FileResult, ...]:
        """Put together in ``output`` what all shards have made, and sign the outermost container.

        Args:
            parts: of all shards; the first is this child's own, the files of the others are at
                `part_of`.
        """
        request = {"op": "assemble", "parts": [protocol.part_to_json(part) for part in parts]}
        alone = replace(plan, root=replace(plan.root, children=()))
        conversation = Conversation(alone, answer)
        reply = await self._converse(request, plan, identity, conversation)
        return protocol.results_from_json(reply.get("results"))

    async def _converse(
        self,
        operation: protocol.Message,
        plan: Plan,
        identity: Identity,
        conversation: Conversation,
    ) -> protocol.Message:
        """Have an operation done that asks for signatures; the reply at its end."""
        request = {
            **operation,
            "plan": plan.to_json(),
            "identity": protocol.identity_to_json(identity),
            "limits": asdict(self._settings.artifact),
            "pace": asdict(self._settings.pace),
        }
        async with self._deadline():
            await self._send(request)
            try:
                async with asyncio.TaskGroup() as answering:
                    while True:
                        reply = await self._receive()
                        if reply.get("type") == "progress":
                            conversation.count(reply)
                            continue
                        if reply.get("type") != "requests":
                            self._checked(reply, "signed")
                            break
                        batch = conversation.take(reply)
                        answering.create_task(self._answer(conversation, batch))
            except BaseExceptionGroup as group:
                raise first_error(group) from None
            return reply

    async def verify(
        self, plan: Plan, certificate: bytes, shard: Shard = WHOLE
    ) -> list[VerifiedSignature]:
        """Compare ``output`` with ``input`` by the plan; see `verify_result.verify_result`.

        Use a child that signed nothing.

        Args:
            certificate: DER of the expected signer.
            shard: compare only these members of the outermost container.
        """
        request = {
            "op": "verify",
            "shard": protocol.shard_to_json(shard),
            "plan": plan.to_json(),
            "certificate": protocol.blob_to_json(certificate),
            "limits": asdict(self._settings.artifact),
        }
        async with self._deadline():
            reply = await self._ask(request, "verified")
            return protocol.verified_from_json(reply)

    async def analyze(self, artifact_name: str) -> str:
        """Propose an artifact configuration for ``input``; see `analyze.analyze` for errors.

        Without configured roots, who has signed a file is not judged.
        """
        settings = self._settings
        trust = Trust(
            settings.roots, settings.timestamp_roots, int(time.time()), bool(settings.roots)
        )
        request = {
            "op": "analyze",
            "artifactName": artifact_name,
            "limits": asdict(settings.artifact),
            "trust": protocol.trust_to_json(trust),
        }
        async with self._deadline():
            reply = await self._ask(request, "analysis")
            try:
                document = protocol.blob_from_json(reply.get("configuration"))
                parse_configuration(document)
            except ArtifactConfigurationError:
                raise protocol.malformed() from None
        return document.decode()

    def _trust(self, configuration_xml: bytes) -> Trust | None:
        """Roots are many, so they are sent only where they are needed."""
        settings = self._settings
        if not settings.roots or not asks_for_trust(configuration_xml):
            return None
        return Trust(settings.roots, settings.timestamp_roots, int(time.time()))

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
        await self._listening
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

    async def _answer(self, conversation: Conversation, batch: list[PendingSignature]) -> None:
        results = await conversation.answer(batch)
        numbers = [pending.number for pending in batch]
        answers = protocol.answers_to_json(zip(numbers, results, strict=True))
        await self._send({"op": "answers", "results": answers})

    async def _send(self, message: protocol.Message) -> None:
        assert self._process.stdin is not None  # noqa: S101 - started with a pipe
        try:
            self._process.stdin.write(protocol.encode(message))
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._died() from None

    async def _receive(self) -> protocol.Message:
        assert self._process.stdout is not None  # noqa: S101 - started with a pipe
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
        await self._end(patience=1.0)  # the pipe closes a moment before the process has ended
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
        assert self._process.stderr is not None  # noqa: S101 - started with a pipe
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
        env={"PYTHONPATH": str(Path(sealwright.__file__).parent.parent), "PYTHONUTF8": "1"},
        cwd=folder,
        close_fds=True,
        start_new_session=True,
    )


class _Deadline:
    """Kills the child when an operation fails or takes too long: it is in no known state then."""

    def __init__(self, child: FormatChild, seconds: float) -> None:
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


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that matters: the others follow from it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
