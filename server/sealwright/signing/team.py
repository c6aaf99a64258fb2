"""Several format children at one artifact: each plans, signs, packs and verifies a part of it.

The children of one team see the same artifact and nothing of each other but the packed parts, which
the first of them puts together. How many there are changes nothing in what comes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from sealwright.errors import ArtifactError, InternalError
from sealwright.model.member_tree import Member
from sealwright.signing.advice import RAISE_LIMIT, SUBMIT_APART
from sealwright.signing.artifact import Identity, TimestampForm
from sealwright.signing.budget import Limits, allowance
from sealwright.signing.child_conversation import Answer, Progress
from sealwright.signing.child_pool import ChildPool
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.confinement import part_of
from sealwright.signing.elements import LANGUAGE
from sealwright.signing.file_result import StageReport
from sealwright.signing.parts import join_plans, share_of
from sealwright.signing.plan import Plan, in_order
from sealwright.signing.sandbox import FormatChild, PlannedShare, first_error
from sealwright.signing.shard import Shard
from sealwright.signing.verify_result import Verdict

T = TypeVar("T")

_DIVIDED_FROM = 1 << 20  # bytes of an artifact; below, another child costs more than it helps


def is_divisible(configuration_xml: bytes, size: int) -> bool:
    """Whether several children can work on an artifact.

    Args:
        configuration_xml: a configuration that was accepted.
        size: of the artifact, in bytes.
    """
    root = parse_configuration(configuration_xml).root
    container = LANGUAGE.types[root.name].container
    return size >= _DIVIDED_FROM and container is not None


class Team:
    """Children for one artifact. Make it with `team_of`; use it as one would a `FormatChild`."""

    def __init__(
        self, children: Sequence[FormatChild], limits: Limits, others: contextlib.AsyncExitStack
    ) -> None:
        self.children = children
        self._limits = limits
        self._others = others
        self.listing: dict[str, Sequence[Member]] = {}

    @property
    def first(self) -> FormatChild:
        """The child whose ``input`` has to be filled, and whose ``output`` holds the result."""
        return self.children[0]

    async def share_input(self) -> None:
        """Give all children the input of the first. It is not copied: none of them can write it."""
        for child in self.children[1:]:
            await asyncio.to_thread(os.link, self.first.input, child.input)
            child.input_sha256 = self.first.input_sha256

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
        """See `FormatChild.plan`. What the opened containers hold is in `listing` afterwards."""
        shares = await together(
            child.plan_share(
                shard,
                configuration_xml,
                parameters,
                artifact_name=artifact_name,
                signing_time=signing_time,
                timestamp=timestamp,
                identity=identity,
            )
            for child, shard in self._shards()
        )
        plan = join_plans([share.plan for share in shares])
        self._check_limits(plan, shares)
        for share in shares:
            self.listing.update(share.listing)
        return plan

    async def deep_sign(
        self, plan: Plan, identity: Identity, answer: Answer, progress: Progress | None = None
    ) -> tuple[StageReport, ...]:
        """See `FormatChild.deep_sign`."""
        if len(self.children) == 1:
            return await self.first.deep_sign(plan, identity, answer, progress)
        files = plan.files_to_sign
        done = [0] * len(self.children)

        def count(number: int, of_shard: int, _files: int) -> None:
            done[number] = of_shard
            if progress is not None:
                progress(sum(done), files)

        made = await together(
            child.sign_share(
                shard, share_of(plan, shard), identity, answer, partial(count, shard.number)
            )
            for child, shard in self._shards()
        )
        for number, child in enumerate(self.children[1:], 1):
            await child.kill()  # what it has written does not change any more
            await asyncio.to_thread(_take, child.output, part_of(self.first.folder, number))
        parts = [part for _, part in made]
        own = await self.first.assemble(plan, identity, answer, parts)
        return in_order(plan, chain(own, *(reports for reports, _ in made)))

    async def end(self) -> None:
        """End the children: what they have written does not change any more. The first one's
        files stay, the places of the others are free."""
        await self.first.kill()
        await self._others.aclose()

    async def verify(
        self,
        plan: Plan,
        configuration_xml: bytes,
        parameters: Mapping[str, str],
        certificate: bytes,
    ) -> Verdict:
        """See `FormatChild.verify`. For children that signed nothing."""
        for child in self.children[1:]:
            await asyncio.to_thread(_link_output, self.first.output, child.output)
        verdicts = await together(
            child.verify(plan, configuration_xml, parameters, certificate, shard)
            for child, shard in self._shards()
        )
        return Verdict(
            in_order(plan, chain.from_iterable(each.signatures for each in verdicts)),
            in_order(plan, chain.from_iterable(each.files for each in verdicts)),
        )

    def _shards(self) -> list[tuple[FormatChild, Shard]]:
        count = len(self.children)
        return [(child, Shard(number, count)) for number, child in enumerate(self.children)]

    def _check_limits(self, plan: Plan, shares: Sequence[PlannedShare]) -> None:
        """The limits hold for the artifact, not for each child. The members of the outermost
        container are counted by every child."""
        repeated = (len(shares) - 1) * plan.root.members
        members = sum(share.members for share in shares) - repeated
        extracted = sum(share.extracted for share in shares)
        if members > self._limits.members:
            message = f"The containers have {members} members; {self._limits.members} are accepted."
            raise ArtifactError(message, advice=RAISE_LIMIT, where=plan.root.path)
        if extracted > allowance(self._limits, plan.root.size):
            message = f"Extracting what is to be signed takes {extracted} bytes, more than allowed."
            raise ArtifactError(message, advice=SUBMIT_APART, where=plan.root.path)


@contextlib.asynccontextmanager
async def team_of(
    pool: ChildPool, room: asyncio.Semaphore, *, divisible: bool
) -> AsyncIterator[Team]:
    """One child, and for a divisible artifact those that are not needed elsewhere now.

    Args:
        room: has a place for each child that may be at work; the caller holds one of them.
    """
    async with pool.child() as first, contextlib.AsyncExitStack() as others:
        children = [first]
        while divisible and len(children) < pool.size and not room.locked():
            await others.enter_async_context(room)
            children.append(await others.enter_async_context(pool.child()))
        yield Team(children, pool.settings.artifact, others)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all; the first error ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    return [task.result() for task in tasks]


def _take(file: Path, target: Path) -> None:
    """Move what an ended child has written to where the first child reads it."""
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        message = "The format child's output is not a plain file."
        raise InternalError(message)
    file.rename(target)


def _link_output(output: Path, target: Path) -> None:
    target.unlink()
    os.link(output, target)
