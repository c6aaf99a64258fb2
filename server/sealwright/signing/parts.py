"""Dividing the work on one artifact among format children, and putting their parts together.

The members of the outermost container are divided by size. Each child plans, signs and compresses
its own; one of them then puts all parts into the container and signs that. What comes out does not
depend on how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from sealwright.errors import InternalError
from sealwright.signing.artifact import Container, PackedMember
from sealwright.signing.elements import LANGUAGE, Language
from sealwright.signing.plan import Plan, PlanNode, check_outputs
from sealwright.signing.shard import Shard
from sealwright.signing.spool import SpoolFile
from sealwright.signing.streams import copy_range


@dataclass(frozen=True)
class PartMember:
    """A changed member, packed, in a shard's file."""

    order: int
    offset: int
    packed: PackedMember


@dataclass(frozen=True)
class PartOutput:
    """A file that signing adds, as it is, in a shard's file."""

    path: str
    offset: int
    size: int


@dataclass(frozen=True)
class Part:
    """What a shard has written, in the order of its file."""

    members: tuple[PartMember, ...] = ()
    outputs: tuple[PartOutput, ...] = ()


class PartWriter:
    """Writes what a shard has made, one behind another.

    Args:
        file: empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._members: list[PartMember] = []
        self._outputs: list[PartOutput] = []

    @property
    def part(self) -> Part:
        """Where everything is."""
        return Part(tuple(self._members), tuple(self._outputs))

    def pack(self, container: Container, order: int, content: BinaryIO) -> None:
        """Write a changed member of the outermost container."""
        offset = self._file.tell()
        packed = container.pack(order, content, self._file)
        self._members.append(PartMember(order, offset, packed))

    def add(self, path: str, output: SpoolFile) -> None:
        """Write a file that is added."""
        offset = self._file.tell()
        with output.open() as content:
            copy_range(content, 0, output.size, self._file)
        self._outputs.append(PartOutput(path, offset, output.size))


def share_of(plan: Plan, shard: Shard, language: Language = LANGUAGE) -> Plan:
    """The plan with this shard's members alone."""
    children = plan.root.children
    mine = shard.orders(
        ((child.order, child.size) for child in children),
        in_sequence=language.types[plan.root.element].is_sequence,
    )
    own = tuple(child for child in children if child.order in mine)
    return replace(plan, root=replace(plan.root, children=own))


def join_plans(plans: Sequence[Plan]) -> Plan:
    """The plan that shards have made together.

    Raises:
        ArtifactError: files that two of them add have the same path.
        InternalError: they are not shards of one plan.
    """
    first = plans[0]
    children: list[PlanNode] = []
    for plan in plans:
        if replace(plan, root=replace(plan.root, children=first.root.children)) != first:
            message = "The format children made plans that do not belong together."
            raise InternalError(message)
        children += plan.root.children
    children.sort(key=lambda child: child.order)
    if len({child.order for child in children}) != len(children):
        message = "Two format children planned the same member."
        raise InternalError(message)
    check_outputs(children)
    return replace(first, root=replace(first.root, children=tuple(children)))
