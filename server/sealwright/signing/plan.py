"""What will be done to an artifact: the artifact configuration applied to its members.

The plan is made before anything is signed, is what people see and approve, and is all that the
signed result is compared with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sealwright.errors import ArtifactError, InternalError, InvalidInputError, VerificationError
from sealwright.signing.advice import REPORT
from sealwright.signing.artifact import Directive, MemberSigningFormat, TimestampForm
from sealwright.signing.elements import (
    OUTPUT_FILE_NAME,
    Language,
    is_embedded,
    is_verification,
)
from sealwright.signing.file_result import FileDigest
from sealwright.signing.wheel_record import stale
from sealwright.signing.wildcard import fold

INSIDE = "!/"  # between a container's path and a member's
PLAN_VERSION = 1
_MAX_JSON_DEPTH = 64


@dataclass(frozen=True)
class PlanNode:
    """One file of the plan.

    Attributes:
        path: for people: ``release.zip!/bin/app.exe``.
        member: path inside its container; empty for the artifact itself.
        order: handle inside its container; 0 for the artifact itself.
        size: bytes.
        sha256: of the content, hexadecimal.
        element: ``pe-file``, ...
        where: line and column of the element that matched.
        directives: what is done to it, options complete.
        children: files inside that the configuration means, in the container's order.
        members: number of all members inside, 0 for a file that is not opened.
        record: path of the member with the digests of the others, of a wheel; else empty.
        depth: containers that it is opened inside, itself included. Not told by the path: names of
            folders may hold what stands between containers.
    """

    path: str
    member: str
    order: int
    size: int
    sha256: str
    element: str
    where: str
    directives: tuple[Directive, ...]
    children: tuple[PlanNode, ...] = ()
    members: int = 0
    record: str = ""
    depth: int = 1

    def to_json(self) -> dict[str, Any]:
        """As it is in the plan's JSON."""
        return _node_to_json(self)

    @property
    def file_name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]

    @property
    def content(self) -> FileDigest:
        """What it holds before anything is done to it."""
        return FileDigest(self.sha256, self.size)

    @property
    def signs(self) -> tuple[Directive, ...]:
        """Directives that make a signature."""
        return tuple(d for d in self.directives if not is_verification(d.name))

    @property
    def lasting(self) -> tuple[Directive, ...]:
        """Of `signs`, those whose signatures are there at the end: one that is put into the file
        and not appended takes the place of those before it."""
        first = 0
        for number, directive in enumerate(self.signs):
            if is_embedded(directive) and directive.options.get("append") != "true":
                first = number
        return tuple(
            directive
            for number, directive in enumerate(self.signs)
            if number >= first or not is_embedded(directive)
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Paths, inside the same container, of the files that signing adds."""
        names = [d.options.get(OUTPUT_FILE_NAME, "") for d in self.directives]
        return tuple(self.beside(name) for name in names if name)

    @property
    def has_work(self) -> bool:
        """Whether anything is signed in it or below."""
        return bool(self.signs) or any(child.has_work for child in self.children)

    @property
    def is_replaced(self) -> bool:
        """Whether its content changes (a detached signature leaves it alone)."""
        embedded = any(map(is_embedded, self.directives))
        return embedded or any(c.is_replaced or c.outputs for c in self.children)

    def beside(self, name: str) -> str:
        """Path, inside the same container, of a file in the same folder."""
        folder = self.member.rpartition("/")[0]
        return f"{folder}/{name}" if folder else name

    def walk(self) -> Iterator[PlanNode]:
        """This node and all below, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Plan:
    """The plan for one artifact.

    Attributes:
        artifact_name: file name as submitted.
        configuration_sha256: of the configuration's XML, hexadecimal.
        parameters: name -> value, defaults included.
        signing_time: POSIX seconds for every signature, so that a repetition gives the same bytes.
        timestamp: the time stamp that every signature gets whose format can carry one.
        root: the artifact.
    """

    artifact_name: str
    configuration_sha256: str
    parameters: Mapping[str, str]
    signing_time: int
    timestamp: TimestampForm
    root: PlanNode

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; equal plans give equal text."""
        value = {
            "version": PLAN_VERSION,
            "artifactName": self.artifact_name,
            "configurationSha256": self.configuration_sha256,
            "parameters": dict(self.parameters),
            "signingTime": self.signing_time,
            "timestamp": self.timestamp,
            "root": _node_to_json(self.root),
        }
        if self.warnings:
            value["warnings"] = list(self.warnings)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            InvalidInputError: it is not a plan.
        """
        try:
            value = json.loads(text)
            if value["version"] != PLAN_VERSION:
                message = f"The plan has version {value['version']!r}, not {PLAN_VERSION}."
                raise InvalidInputError(message, advice="Make the plan again.")
            return cls(
                artifact_name=_text(value["artifactName"]),
                configuration_sha256=_text(value["configurationSha256"]),
                parameters={_text(k): _text(v) for k, v in value["parameters"].items()},
                signing_time=_number(value["signingTime"]),
                timestamp=TimestampForm(value["timestamp"]),
                root=_node_from_json(value["root"], 1),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            message = "The plan is malformed."
            raise InvalidInputError(message, advice="Make the plan again.") from None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is done as asked, and may not be what is meant."""
        return tuple(
            stale(f"{node.path}{INSIDE}{node.record}")
            for node in self.root.walk()
            if node.record and any(child.is_replaced for child in node.children)
        )

    @property
    def files_to_sign(self) -> int:
        """How many files are signed themselves, not only below."""
        return sum(1 for node in self.root.walk() if node.signs)

    @property
    def plan_hash(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


class Located(Protocol):
    """Something that is told of a file."""

    @property
    def path(self) -> str:
        """The file's, as in the plan."""
        ...


OfFile = TypeVar("OfFile", bound=Located)


def in_order(plan: Plan, told: Iterable[OfFile]) -> tuple[OfFile, ...]:
    """What is told of files, in the plan's order.

    Raises:
        InternalError: it is of a file that is not planned.
    """
    positions = {node.path: position for position, node in enumerate(plan.root.walk())}
    every = list(told)
    if any(one.path not in positions for one in every):
        message = "A format child told of a file that is not planned."
        raise InternalError(message)
    return tuple(sorted(every, key=lambda one: positions[one.path]))


@contextmanager
def at(path: str) -> Iterator[None]:
    """Say in errors which file they are about: members are inside `path`."""
    try:
        yield
    except (ArtifactError, VerificationError, InternalError) as error:
        if error.where != path and not error.where.startswith(path + INSIDE):
            error.where = f"{path}{INSIDE}{error.where}" if error.where else path
        raise


@contextmanager
def at_member(node: PlanNode) -> Iterator[None]:
    """As `at`, for a planned member, of which its container speaks by its path in there."""
    with at(node.path):
        try:
            yield
        except (ArtifactError, VerificationError) as error:
            error.where = "" if error.where == node.member else error.where
            raise


def require(condition: bool, message: str, where: str = "") -> None:  # noqa: FBT001
    """Refuse a result that is not what was planned, or a plan that is not what was asked for.

    Raises:
        VerificationError: unless the condition holds.
    """
    if not condition:
        raise VerificationError(message, advice=REPORT, where=where)


def member_signing_format(node: PlanNode, language: Language) -> MemberSigningFormat | None:
    """The format that signs this container by means of members; None if nothing does."""
    signed = any(map(is_embedded, node.directives))
    return language.types[node.element].member_signing if signed else None


def check_outputs(nodes: Collection[PlanNode], taken: Iterable[str] = ()) -> None:
    """Refuse outputs that would replace a file of their container, or one another.

    Args:
        nodes: of one container.
        taken: paths that are there.

    Raises:
        ArtifactError: one does.
    """
    if not any(node.outputs for node in nodes):
        return
    present = {fold(parent) for path in taken for parent in _with_parents(path)}
    for node in nodes:
        for output in node.outputs:
            if fold(output) in present:
                message = f'Its output "{output}" would replace another file.'
                advice = f"Choose another {OUTPUT_FILE_NAME}, or remove the old file."
                raise ArtifactError(message, advice=advice, where=node.path)
            present.add(fold(output))


def _with_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _node_to_json(node: PlanNode) -> dict[str, Any]:
    value = {
        "path": node.path,
        "member": node.member,
        "order": node.order,
        "size": node.size,
        "sha256": node.sha256,
        "element": node.element,
        "where": node.where,
        "directives": [
            {"name": d.name, "options": dict(d.options), "where": d.where} for d in node.directives
        ],
        "children": [_node_to_json(child) for child in node.children],
        "members": node.members,
    }
    return value | {"record": node.record} if node.record else value


def _node_from_json(value: Mapping[str, Any], depth: int) -> PlanNode:
    if depth > _MAX_JSON_DEPTH:
        raise ValueError(depth)
    return PlanNode(
        path=_text(value["path"]),
        member=_text(value["member"]),
        order=_number(value["order"]),
        size=_number(value["size"]),
        sha256=_text(value["sha256"]),
        element=_text(value["element"]),
        where=_text(value["where"]),
        directives=tuple(
            Directive(
                _text(each["name"]),
                {_text(k): _text(v) for k, v in each["options"].items()},
                _text(each["where"]),
            )
            for each in value["directives"]
        ),
        children=tuple(_node_from_json(child, depth + 1) for child in value["children"]),
        members=_number(value["members"]),
        record=_text(value.get("record", "")),
        depth=depth,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(value)
    return value
