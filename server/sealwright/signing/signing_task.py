"""What `deep_sign` keeps of each file while it is worked on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import BinaryIO

from sealwright.signing.artifact import (
    Container,
    Entry,
    PackedMember,
    SignatureRequest,
    SignatureResult,
    SignGenerator,
)
from sealwright.signing.file_result import StageReport
from sealwright.signing.plan import PlanNode
from sealwright.signing.spool import SpoolFile

Key = tuple[str, str, str, tuple[tuple[str, tuple[tuple[str, str], ...]], ...]]


@dataclass(eq=False)
class Task:
    """One node of the plan while it is worked on."""

    node: PlanNode
    parent: Task | None
    position: int  # in the plan, for the order of results
    content: SpoolFile | None = None  # None: the artifact itself, or not extracted yet
    opened: Opened | None = None
    unfinished: int = 0  # children with work
    packed: dict[int, Packed] = field(default_factory=dict)  # changed members
    added: dict[str, SpoolFile] = field(default_factory=dict)
    outputs: dict[str, SpoolFile] = field(default_factory=dict)
    replaced: bool = False
    stage: int = 0  # directive under way
    signing: Signing | None = None
    leads: Equals | None = None
    reports: list[StageReport] = field(default_factory=list)


@dataclass(frozen=True)
class Packed:
    """A changed member as its container will hold it, in a file."""

    member: PackedMember
    file: SpoolFile
    offset: int = 0


@dataclass
class Equals:
    """Files with equal content and directives: one is signed, the others get what it got."""

    followers: int
    leader: Task | None = None
    finished: bool = False
    waiting: list[Task] = field(default_factory=list)


@dataclass(frozen=True)
class Opened:
    """A container while its members are worked on."""

    file: BinaryIO
    container: Container
    entries: list[Entry]


@dataclass
class Signing:
    """One directive under way on one file."""

    generator: SignGenerator
    source: BinaryIO
    target: BinaryIO
    requests: list[SignatureRequest] = field(default_factory=list)
    waiting: dict[int, int] = field(default_factory=dict)  # request number -> position in the batch
    answers: dict[int, SignatureResult] = field(default_factory=dict)  # position -> result


def made_by(task: Task) -> list[SpoolFile]:
    """Files that signing made, for the container to take in."""
    content = [task.content] if task.replaced and task.content else []
    return [*task.outputs.values(), *content]


def key_of(node: PlanNode) -> Key:
    """What files must have in common to be signed only once."""
    directives = tuple((d.name, tuple(sorted(d.options.items()))) for d in node.directives)
    extension = node.file_name.lower().rpartition(".")[2]
    return node.element, extension, node.sha256, directives


def find_equals(root: PlanNode) -> dict[Key, Equals]:
    """Groups of files that need to be signed only once."""
    counts = Counter(
        key_of(node)
        for node in root.walk()
        if node.has_work and not any(child.has_work for child in node.children)
    )
    return {key: Equals(count - 1) for key, count in counts.items() if count > 1}
