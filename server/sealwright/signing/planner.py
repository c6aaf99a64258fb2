"""Makes plans: walks an artifact against its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from sealwright.errors import ArtifactError, InvalidInputError
from sealwright.model.member_tree import Listing
from sealwright.signing.artifact import (
    Container,
    Entry,
    Identity,
    SealedFormat,
    TimestampForm,
)
from sealwright.signing.authenticode_trust import Judge, Trust
from sealwright.signing.budget import Budget, Limits
from sealwright.signing.configuration import Configuration, Element, Include
from sealwright.signing.elements import (
    LANGUAGE,
    OUTPUT_FILE_NAME,
    Language,
)
from sealwright.signing.matching import claims_on, for_file
from sealwright.signing.member_listing import MemberListing
from sealwright.signing.plan import (
    INSIDE,
    Plan,
    PlanNode,
    at,
    check_outputs,
    member_signing_format,
)
from sealwright.signing.shard import WHOLE, Shard
from sealwright.signing.signable import check_signable
from sealwright.signing.spool import KeptFiles, Spool
from sealwright.signing.streams import sha256_of, size_of
from sealwright.signing.terms import check_terms
from sealwright.signing.wheel_record import record_among


def build_plan(
    source: BinaryIO,
    artifact_name: str,
    configuration: Configuration,
    *,
    signing_time: int,
    timestamp: TimestampForm = TimestampForm.NONE,
    spool: Spool,
    limits: Limits | None = None,
    language: Language = LANGUAGE,
    trust: Trust | None = None,
    identity: Identity | None = None,
    kept: KeptFiles | None = None,
    share: Share | None = None,
    source_sha256: str = "",
) -> Plan:
    """Apply a configuration to an artifact.

    Args:
        source: the artifact, seekable.
        artifact_name: its file name.
        configuration: resolved, see `Configuration.resolve`.
        signing_time: POSIX seconds.
        timestamp: what signatures are to get.
        spool: for extracted members; empty again afterwards, but for what is `kept`.
        trust: roots that ``authenticode-verify`` demands; without them it trusts nothing.
        identity: who will sign; what depends on that is left to signing without it.
        kept: takes files that will be signed.
        share: plan only these members of the outermost container.
        source_sha256: of the artifact where the caller has computed it; empty: it is computed.

    Raises:
        ArtifactError: the artifact is malformed, over a limit, or does not fit the configuration;
            `where` is the member.
        VerificationError: a signature that must be there is not, or does not verify.
    """
    if configuration.values is None:
        message = "The configuration's parameters have not been resolved."
        raise ValueError(message)
    if not artifact_name or any(c in "/\\" or ord(c) < 32 for c in artifact_name):
        message = "The artifact needs a plain file name."
        raise InvalidInputError(
            message,
            where=artifact_name[:120],
            advice="Name it without folders and control characters.",
        )
    root = configuration.root
    include = root.includes[0]
    if include.pattern is not None and not include.pattern.matches(artifact_name):
        message = f'The artifact\'s name does not match path="{include.path}" ({include.where}).'
        advice = "Submit the file under that name, or change the artifact configuration."
        raise ArtifactError(message, advice=advice, where=artifact_name)
    judge = Judge(trust) if trust else None
    limits, size = limits or Limits(), size_of(source)
    planner = Planner(language, limits, spool, size, judge, identity, kept, share, source_sha256)
    with at(artifact_name):
        node = planner.node(source, Place(artifact_name, "", 0, 1), root, include)
    if share is not None:
        share.extracted = planner.budget.extracted
        share.members = planner.budget.members
        share.listing = planner.listed.listing
    return Plan(
        artifact_name=artifact_name,
        configuration_sha256=configuration.sha256,
        parameters=configuration.values,
        signing_time=signing_time,
        timestamp=timestamp,
        root=node,
    )


@dataclass
class Share:
    """A shard's part of a plan, and what making it has used of the limits.

    Attributes:
        shard: whose.
        extracted: bytes, set by `build_plan`.
        members: of all containers that were opened, set by `build_plan`.
        listing: what is in them, set by `build_plan`; the outermost one's is with the first shard.
    """

    shard: Shard
    extracted: int = 0
    members: int = 0
    listing: Listing = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a file lies: see `PlanNode`; `depth` counts from 1."""

    path: str
    member: str
    order: int
    depth: int

    @property
    def name(self) -> str:
        """File name."""
        return (self.member or self.path).rpartition("/")[2]


class Planner:
    """Walks one artifact against its configuration."""

    def __init__(
        self,
        language: Language,
        limits: Limits,
        spool: Spool,
        size: int,
        judge: Judge | None,
        identity: Identity | None = None,
        kept: KeptFiles | None = None,
        share: Share | None = None,
        source_sha256: str = "",
    ) -> None:
        self.language = language
        self.judge = judge
        self.identity = identity
        self.spool = spool
        self.kept = kept
        self.shard = share.shard if share else WHOLE
        self.source_sha256 = source_sha256
        self.budget = Budget(limits, size)
        self.listed = MemberListing()

    def node(self, file: BinaryIO, place: Place, element: Element, include: Include) -> PlanNode:
        """Check one file and everything below that the configuration means."""
        kind = self.language.types[element.name]
        check_terms(file, place.name, kind, element, include, self.judge)
        node = PlanNode(
            path=place.path,
            member=place.member,
            order=place.order,
            size=size_of(file),
            sha256=(self.source_sha256 if place.depth == 1 else "") or sha256_of(file),
            element=element.name,
            where=include.where,
            directives=tuple(for_file(d, place.name) for d in element.directives),
            depth=place.depth,
        )
        if kind.format is not None and self._leads(place):
            check_signable(file, kind.format, node.signs, place.name, self.identity)
        if kind.container is None:
            return node
        opened = self.budget.open_container(kind.container.open, file, place.depth)
        if self.kept is not None and place.depth == 1:
            self.kept.opened = opened
        covers = member_signing_format(node, self.language) is not None
        children = self.children(*opened, place, element, covers_all=covers)
        record = record_among(entry.path for entry in opened[1])
        node = replace(node, children=children, members=len(opened[1]), record=record)
        _check_signature_members(node, self.language)
        for output in (output for child in node.children for output in child.outputs):
            with at(place.path):
                opened[0].added_fingerprint(output)  # not every container takes further members
        self._check_seal(file, node, [entry.path for entry in opened[1]])
        self._check_index(file, node)
        if self._leads(place):
            self.listed.add(place.path, opened[1], member_signing_format(node, self.language))
        return node

    def _check_seal(self, file: BinaryIO, node: PlanNode, paths: Sequence[str]) -> None:
        """A container that is signed stays as it is, or is signed again."""
        signed_again = any(
            OUTPUT_FILE_NAME not in each.options and each.options.get("append") != "true"
            for each in node.signs
        )
        if signed_again or not any(child.is_replaced or child.outputs for child in node.children):
            return
        for kind in self.language.file_types:
            format_ = kind.format
            if format_ is None or not isinstance(format_, SealedFormat):
                continue
            if format_.is_signed(file, paths) and format_.recognize(file):
                message = (
                    f"It is signed already ({kind.name}), and signing its members would break that."
                )
                advice = (
                    f"Have it signed again, in the element at {node.where}, without append; or "
                    "leave its members alone."
                )
                raise ArtifactError(message, advice=advice)

    def _check_index(self, file: BinaryIO, node: PlanNode) -> None:
        """A container that says what is in its members is opened as what writes that anew."""
        if not any(child.is_replaced or child.outputs for child in node.children):
            return
        own = self.language.types[node.element].container
        for kind in self.language.file_types:
            other = kind.container
            if other is None or own is None or not other.has_index or other.open is own.open:
                continue
            if other.recognize(file):
                message = f"It is an app package: as <{node.element}> its block map would be wrong."
                advice = f"Use <{kind.name}> at {node.where}."
                raise ArtifactError(message, advice=advice)

    def _leads(self, place: Place) -> bool:
        """Whether this is for this shard to do: the artifact itself is every shard's."""
        return place.depth > 1 or self.shard.number == 0

    def _read_others(self, container: Container, others: Mapping[int, Entry], place: Place) -> None:
        """Read what the configuration does not name but the container's signature covers: damage in
        it is found before anything is signed."""
        mine: Iterable[int] = others
        if place.depth == 1:
            mine = self.shard.orders((each.order, each.size) for each in others.values())
        with at(place.path):
            for order in sorted(mine):
                self.budget.read(container, others[order])

    def children(
        self,
        container: Container,
        entries: Sequence[Entry],
        place: Place,
        element: Element,
        *,
        covers_all: bool,
    ) -> tuple[PlanNode, ...]:
        """Plan the members that the element's children mean.

        Args:
            covers_all: a signature will cover the others as well, so that they are read.
        """
        with at(place.path):
            claimed = claims_on(entries, element.children)
        nodes = []
        if covers_all:
            others = {each.order: each for each in entries if not each.is_directory}
            for claim in claimed:
                others.pop(claim.entry.order, None)
            self._read_others(container, others, place)
        if place.depth == 1:
            mine = self.shard.orders(
                ((claim.entry.order, claim.entry.size) for claim in claimed),
                in_sequence=self.language.types[element.name].is_sequence,
            )
            claimed = [claim for claim in claimed if claim.entry.order in mine]
        for claim in claimed:
            entry = claim.entry
            path = f"{place.path}{INSIDE}{entry.path}"
            inside = Place(path, entry.path, entry.order, place.depth + 1)
            with at(place.path):
                extracted = self.budget.extract(container, entry, self.spool)
            try:
                with at(path), extracted.open() as file:
                    node = self.node(file, inside, claim.element, claim.include)
            except BaseException:
                self.spool.release(extracted)
                raise
            nodes.append(node)
            if self.kept is not None and self._is_kept(node, element):
                self.kept.keep(path, node.sha256, extracted)
            else:
                self.spool.release(extracted)
        check_outputs(nodes, (entry.path for entry in entries))
        return tuple(nodes)

    def _is_kept(self, node: PlanNode, parent: Element) -> bool:
        """Whether signing would extract the file again: one to sign; or a container with such ones,
        where what is in front of it would have to be read again as well."""
        if node.children:
            return node.has_work and self.language.types[parent.name].is_sequence
        return bool(node.signs)


def _check_signature_members(node: PlanNode, language: Language) -> None:
    format_ = member_signing_format(node, language)
    for child in node.children:
        if format_ is not None and child.has_work and format_.is_signature_member(child.member):
            message = "The file belongs to the signature of its container, so it is not signed."
            advice = f"Leave it out of the configuration ({child.where})."
            raise ArtifactError(message, advice=advice, where=child.path)
