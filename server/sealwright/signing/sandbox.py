"""The parent's side of format children: use once, never trust, never wait forever.

A child opens what users have submitted, in a process (`child_process`) without network, keys or
credentials (`confinement`), and asks for signatures over its streams. Use each for one request::

    child = await FormatChild.start(folder)          # ahead of time, or take one from a ChildPool
    ...put the artifact at child.input...
    plan = await child.plan(...)
    results = await child.deep_sign(plan, identity, answer)
    await child.close()

and a fresh one, with the same input and the output put at its `output`, for `verify`.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sealwright.errors import (
    ArtifactConfigurationError,
    InternalError,
    InvalidInputError,
)
from sealwright.model.member_tree import Listing
from sealwright.signing import child_protocol as protocol
from sealwright.signing.artifact import Identity, TimestampForm
from sealwright.signing.authenticode_trust import Trust, asks_for_trust
from sealwright.signing.child_conversation import Answer, Conversation, Progress
from sealwright.signing.child_process import ChildProcess
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.confinement import INPUT, OUTPUT
from sealwright.signing.file_result import StageReport
from sealwright.signing.parts import Part
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.plan import Plan
from sealwright.signing.shard import WHOLE, Shard
from sealwright.signing.verify_result import Verdict


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


class FormatChild(ChildProcess):
    """One child process and what it can be asked. Make it with `start`.

    Attributes:
        input_sha256: of ``input``, hexadecimal, where who has put it there has computed it.
    """

    input_sha256 = ""

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
            extracted, members = (
                protocol.count_from_json(reply.get(name)) for name in ("extracted", "members")
            )
            listing = protocol.listing_from_json(reply.get("listing"))
        return PlannedShare(plan, extracted, members, listing)

    async def deep_sign(
        self, plan: Plan, identity: Identity, answer: Answer, progress: Progress | None = None
    ) -> tuple[StageReport, ...]:
        """Sign ``input`` into ``output`` by the plan.

        Args:
            identity: whose signatures; the signing time is the plan's.
            answer: makes the signatures of one batch, in its order. It is called again while
                earlier calls are still running. What it raises ends the child and is raised here.
            progress: called with the number of finished and of all files to sign.

        Raises:
            ArtifactError: the artifact, or the child that processed it, failed.
        """
        reports, _ = await self.sign_share(WHOLE, plan, identity, answer, progress)
        return reports

    async def sign_share(
        self,
        shard: Shard,
        share: Plan,
        identity: Identity,
        answer: Answer,
        progress: Progress | None = None,
    ) -> tuple[tuple[StageReport, ...], Part]:
        """`deep_sign` for one shard's part of the plan; unless it is the whole, its members are
        packed into a file for `assemble`."""
        request = {"op": "sign", "shard": protocol.shard_to_json(shard)}
        conversation = Conversation(share, answer, progress)
        reply = await self._converse(request, share, identity, conversation)
        part = protocol.part_from_json(reply.get("part"))
        return protocol.reports_from_json(reply.get("reports")), part

    async def assemble(
        self, plan: Plan, identity: Identity, answer: Answer, parts: Sequence[Part]
    ) -> tuple[StageReport, ...]:
        """Put together in ``output`` what all shards have made, and sign the outermost container.

        Args:
            parts: of all shards; the first is this child's own, the files of the others are at
                `part_of`.
        """
        request = {"op": "assemble", "parts": [protocol.part_to_json(part) for part in parts]}
        alone = replace(plan, root=replace(plan.root, children=()))
        conversation = Conversation(alone, answer)
        reply = await self._converse(request, plan, identity, conversation)
        return protocol.reports_from_json(reply.get("reports"))

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
        self,
        plan: Plan,
        configuration_xml: bytes,
        parameters: Mapping[str, str],
        certificate: bytes,
        shard: Shard = WHOLE,
    ) -> Verdict:
        """Compare ``output`` with ``input`` by the plan; see `verify_result.verify_result`.

        Use a child that signed nothing.

        Args:
            configuration_xml: what the plan was made by, with its parameters.
            certificate: DER of the expected signer.
            shard: compare only these members of the outermost container.
        """
        request = {
            "op": "verify",
            "shard": protocol.shard_to_json(shard),
            "plan": plan.to_json(),
            "configuration": protocol.blob_to_json(configuration_xml),
            "parameters": dict(parameters),
            "certificate": protocol.blob_to_json(certificate),
            "trust": protocol.trust_to_json(self._trust(configuration_xml)),
            "limits": asdict(self._settings.artifact),
        }
        async with self._deadline():
            reply = await self._ask(request, "verified")
            return protocol.verdict_from_json(reply)

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

    async def _answer(self, conversation: Conversation, batch: list[PendingSignature]) -> None:
        results = await conversation.answer(batch)
        numbers = [pending.number for pending in batch]
        answers = protocol.answers_to_json(zip(numbers, results, strict=True))
        await self._send({"op": "answers", "results": answers})

    def _trust(self, configuration_xml: bytes) -> Trust | None:
        """Roots are many, so they are sent only where they are needed."""
        settings = self._settings
        if not settings.roots or not asks_for_trust(configuration_xml):
            return None
        return Trust(settings.roots, settings.timestamp_roots, int(time.time()))


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that matters: the others follow from it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
