"""Compares the signed artifact with the artifact that was submitted, by plan and configuration.

Runs in a process that planned and signed nothing. What is planned must be what the configuration
means (`plan_check`). Every planned signature must verify and be the expected
signer's, everything that signing does not touch must be what it was, byte for byte, and nothing may
have been added but the planned files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeAlias

from sealwright.errors import ArtifactError, InternalError, VerificationError
from sealwright.model.signed_member import Change, SignedMember, plain
from sealwright.signing.advice import REPORT
from sealwright.signing.artifact import (
    Container,
    DetachedFormat,
    Directive,
    Entry,
    FollowingContainer,
    Format,
    MemberSigningFormat,
    SignatureFact,
    TimestampForm,
)
from sealwright.signing.authenticode_trust import Judge, Trust
from sealwright.signing.budget import Budget, Limits
from sealwright.signing.configuration import Configuration, Element
from sealwright.signing.elements import LANGUAGE, ElementType, Language, is_embedded
from sealwright.signing.file_result import FileDigest
from sealwright.signing.matching import Claim
from sealwright.signing.plan import (
    Plan,
    PlanNode,
    at,
    at_member,
    in_order,
    member_signing_format,
    require,
)
from sealwright.signing.plan_check import PlanCheck
from sealwright.signing.shard import WHOLE, Shard
from sealwright.signing.spool import Spool, SpoolFile
from sealwright.signing.streams import sha256_of, size_of

OpenedBoth: TypeAlias = tuple[tuple[Container, list[Entry]], tuple[Container, list[Entry]]]

MOST_MEMBERS = 100
_MAX_OUTPUT = 64 << 20  # bytes of a detached signature


@dataclass(frozen=True)
class VerifiedSignature:
    """A signature that was asked for and was found.

    Attributes:
        path: of the signed file, as in the plan.
        directive: that asked for it.
        fact: what the verifier found.
        members: of the signed container, that signing added, changed or removed, no more than
            `MOST_MEMBERS`; for a detached signature its file, in the container of the signed one.
    """

    path: str
    directive: str
    fact: SignatureFact
    members: tuple[SignedMember, ...] = ()


@dataclass(frozen=True)
class VerifiedFile:
    """A file inside the artifact in which something was signed, itself or below.

    Attributes:
        path: as in the plan.
        content: after the last directive, as it was found in the output.
    """

    path: str
    content: FileDigest


@dataclass(frozen=True)
class Verdict:
    """What the output was found to hold, in the plan's order.

    Attributes:
        signatures: that were asked for and are there.
        files: in which something was signed, but for the artifact itself: whoever has that can
            hash it.
    """

    signatures: tuple[VerifiedSignature, ...]
    files: tuple[VerifiedFile, ...]


def verify_result(
    plan: Plan,
    configuration: Configuration,
    source: BinaryIO,
    output: BinaryIO,
    certificate: bytes,
    spool: Spool,
    *,
    limits: Limits | None = None,
    language: Language = LANGUAGE,
    trust: Trust | None = None,
    shard: Shard = WHOLE,
) -> Verdict:
    """Check a signed artifact.

    Args:
        plan: what was to be done.
        configuration: what that was planned by, resolved.
        source: the artifact as submitted.
        output: the artifact as signed.
        certificate: DER of the certificate whose signatures are expected.
        spool: for extracted members; empty again afterwards.
        trust: roots that ``authenticode-verify`` demands; without them it trusts nothing.
        shard: compare only these members of the outermost container. The first shard's verdict
            includes what concerns the container itself.

    Raises:
        VerificationError: anything is not as planned, or not planned as the configuration says;
            `where` is the member.
        ArtifactError: the output is malformed, or the artifact does not fit the configuration.
    """
    with at(plan.root.path):
        check = _Check(plan, certificate, spool, limits or Limits(), language, trust, shard)
        check.planned.root(plan, configuration)
        # once is enough: whoever compares the other members reads the same file
        if shard.number == 0:
            root = configuration.root
            check.planned.content(plan.root, root, root.includes[0], source)
        check.file(plan.root, configuration.root, source, output, [])
    return Verdict(in_order(plan, check.found), tuple(check.files))


class _Check:
    def __init__(
        self,
        plan: Plan,
        certificate: bytes,
        spool: Spool,
        limits: Limits,
        language: Language,
        trust: Trust | None,
        shard: Shard,
    ) -> None:
        self.shard = shard
        self.plan = plan
        self.certificate = certificate
        self.spool = spool
        self.language = language
        self.found: list[VerifiedSignature] = []
        self.files: list[VerifiedFile] = []
        # Both versions are extracted; signatures may add a little to the second.
        self.before = Budget(limits, plan.root.size)
        self.after = Budget(limits, 2 * plan.root.size + limits.ratio_allowance)
        self.planned = PlanCheck(
            Budget(limits, plan.root.size), spool, language, Judge(trust) if trust else None
        )

    def file(
        self,
        node: PlanNode,
        element: Element,
        source: BinaryIO,
        output: BinaryIO,
        outputs: Sequence[SpoolFile],
    ) -> None:
        """Compare one planned file; `outputs` are its side files in the order of `node.outputs`."""
        opened = None
        is_root = node is self.plan.root
        sha256 = "" if is_root and node.is_replaced else sha256_of(output)
        if not is_root:
            self.files.append(VerifiedFile(node.path, FileDigest(sha256, size_of(output))))
        if not node.is_replaced:
            require(sha256 == node.sha256, "The file was changed, against the plan.")
        if any(child.has_work for child in node.children):
            opened = self.open_both(node, source, output)
            self.container(node, element, opened, source, output)
        elif not is_root or self.shard.number == 0:
            self.planned.inside(node, element, source)
        kind = self.language.types[node.element]
        if node.signs and (not is_root or self.shard.number == 0):
            if kind.format is None:
                message = f"<{node.element}> cannot be verified."
                raise InternalError(message)
            self.signatures(node, kind.format, source, output, outputs, opened)

    def signatures(
        self,
        node: PlanNode,
        format_: Format,
        source: BinaryIO,
        output: BinaryIO,
        outputs: Sequence[SpoolFile],
        opened: OpenedBoth | None,
    ) -> None:
        kind = self.language.types[node.element]
        embedded = [d for d in node.signs if is_embedded(d)]
        detached = [d for d in node.signs if not is_embedded(d)]
        if embedded:
            if not any(child.has_work for child in node.children):
                same = _same_content(kind, format_, source, output)
                require(same, "Signing changed more than the signature.")
            # What is replaced need not have been valid.
            appends = all(d.options.get("append") == "true" for d in embedded)
            kept = format_.verify(source) if appends else []
            with _of_output():
                made = format_.verify(output)
            self.embedded(node, kept, made)
            if kind.member_signing is not None:
                versions = opened or self.open_both(node, source, output)
                self.list_members(kind.member_signing, versions)
        for directive, file, path in zip(detached, outputs, node.outputs, strict=True):
            if not isinstance(format_, DetachedFormat):
                message = f"Outputs of <{directive.name}> cannot be verified."
                raise InternalError(message)
            require(file.size <= _MAX_OUTPUT, "The signature file is too large.")
            with file.open() as stream:
                content = stream.read()
            with _of_output():
                facts = format_.verify_detached(output, directive, content, self.certificate)
            require(len(facts) == 1, f"{len(facts)} signatures were found, not one.")
            member = SignedMember(plain(path), file.size, Change.ADDED, "detached signature")
            self.accept(node, directive, facts[0], (member,))

    def embedded(
        self,
        node: PlanNode,
        before: Sequence[SignatureFact],
        after: Sequence[SignatureFact],
    ) -> None:
        """Signatures must be those that were kept and the planned ones, no fewer and no more."""
        kept = [(fact.signer, fact.hash_algorithm) for fact in before]
        made = [directive for directive in node.lasting if is_embedded(directive)]
        mine = [(self.certificate, directive.options["hash-algorithm"]) for directive in made]
        expected = Counter([*kept, *mine])
        actual = Counter((fact.signer, fact.hash_algorithm) for fact in after)
        require(actual == expected, "The signatures in the file are not the planned ones.")
        unused = list(after)
        matching = []
        for directive in reversed(made):
            wanted = (self.certificate, directive.options["hash-algorithm"])
            # Later signatures were made later, so the last match is this directive's.
            fact = next(f for f in reversed(unused) if (f.signer, f.hash_algorithm) == wanted)
            unused.remove(fact)
            matching.append((directive, fact))
        for directive, fact in reversed(matching):
            self.accept(node, directive, fact)

    def list_members(self, format_: MemberSigningFormat, opened: OpenedBoth) -> None:
        """Tell with the signature that was found last what has come, changed and gone with it."""
        (before, old), (after, new) = opened
        left = {entry.path: entry for entry in old if format_.is_signature_member(entry.path)}
        members = []
        for entry in new:
            if entry.is_directory or not format_.is_signature_member(entry.path):
                continue
            earlier = left.pop(entry.path, None)
            if earlier is None:
                change = Change.ADDED
            elif before.fingerprint(earlier) == after.fingerprint(entry):
                continue
            else:
                change = Change.CHANGED
            members.append(_member(format_, entry, change))
        gone = [entry for entry in left.values() if not entry.is_directory]
        members += [_member(format_, entry, Change.REMOVED) for entry in gone]
        self.found[-1] = replace(self.found[-1], members=tuple(members[:MOST_MEMBERS]))

    def accept(
        self,
        node: PlanNode,
        directive: Directive,
        fact: SignatureFact,
        members: tuple[SignedMember, ...] = (),
    ) -> None:
        require(fact.signer == self.certificate, "The signature is another signer's.")
        wanted = directive.options.get("hash-algorithm")
        require(wanted in (None, fact.hash_algorithm), "The hash algorithm is not the planned one.")
        timed = self.plan.timestamp is not TimestampForm.NONE and fact.format not in {
            "raw",
            "openpgp",
        }
        require(not timed or fact.timestamp is not None, "The signature has no time stamp.")
        self.found.append(VerifiedSignature(node.path, directive.name, fact, members))

    def open_both(self, node: PlanNode, source: BinaryIO, output: BinaryIO) -> OpenedBoth:
        """Open two versions of a container."""
        opener = self.language.types[node.element].opener
        before, old = self.before.open_to_read(opener, source, node.depth)
        with _of_output():
            after, new = self.after.open_to_read(opener, output, node.depth)
        if isinstance(after, FollowingContainer) and isinstance(before, type(after)):
            after.follow(before)
        return (before, old), (after, new)

    def container(
        self,
        node: PlanNode,
        element: Element,
        opened: OpenedBoth,
        source: BinaryIO,
        output: BinaryIO,
    ) -> None:
        """Compare two versions of a container member by member."""
        (before, old), (after, new) = opened
        claims = self.planned.claims(node, element, old)
        is_signature = self.signature_members(node)
        old = [entry for entry in old if not is_signature(entry.path)]
        new = [entry for entry in new if not is_signature(entry.path)]
        added = sorted(path for child in node.children for path in child.outputs)
        _compare_paths([*(entry.path for entry in old), *added], [entry.path for entry in new])
        if node is not self.plan.root or self.shard.number == 0:
            same = before.fingerprint(None) == after.fingerprint(None)
            require(same, "What surrounds the members was changed.")
            self.kept_attributes(node, source, output)
        planned = {child.order: child for child in node.children}
        worked = {child.order for child in node.children if child.has_work}
        compared = {entry.order for entry in old}
        require(worked <= compared, "A planned file belongs to the signature.")
        outputs = {entry.path: entry for entry in new[len(old) :]}
        for path, entry in outputs.items():
            same = after.fingerprint(entry, content=False) == before.added_fingerprint(path)
            require(same, "The output has other attributes than it was given.", path)
        mine = self.mine(node, old)
        in_sequence = self.language.types[node.element].is_sequence
        for entry, entry_after in zip(old, new[: len(old)], strict=True):
            if entry.order not in mine:
                continue
            child = planned.get(entry.order)
            # What is extracted below is compared then: a sequence is not read twice.
            whole = child is None or not (child.is_replaced or in_sequence)
            same = before.fingerprint(entry, content=whole) == after.fingerprint(
                entry_after, content=whole
            )
            require(same, "The member was changed, against the plan.", entry.path)
            if child is None:
                continue
            with at(node.path), at_member(child):
                claim = claims[entry.order]
                if child.has_work:
                    self.planned.directives(child, claim.element, claim.include)
                    versions = (before, entry), (after, entry_after)
                    self.member(child, claim, *versions, outputs)
                else:
                    self.planned.member(child, claim, before)
                    if in_sequence:
                        self.unchanged(child, after, entry_after)

    def unchanged(self, node: PlanNode, container: Container, entry: Entry) -> None:
        """A member in which nothing is signed, in the output."""
        with _of_output():
            extracted = self.after.extract(container, entry, self.spool)
        try:
            with extracted.open() as output:
                same = sha256_of(output) == node.sha256
                require(same, "The member was changed, against the plan.")
        finally:
            self.spool.release(extracted)

    def mine(self, node: PlanNode, entries: Sequence[Entry]) -> Collection[int]:
        """Which members are compared here: those of the outermost container are divided."""
        if node is not self.plan.root:
            return {entry.order for entry in entries}
        return self.shard.orders(
            ((entry.order, entry.size) for entry in entries),
            in_sequence=self.language.types[node.element].is_sequence,
        )

    def kept_attributes(self, node: PlanNode, source: BinaryIO, output: BinaryIO) -> None:
        """Compare what the members of a container's signature hold besides it."""
        format_ = member_signing_format(node, self.language)
        if format_ is not None:
            same = format_.kept_attributes(source) == format_.kept_attributes(output)
            require(same, "Signing changed more than the signature.")

    def signature_members(self, node: PlanNode) -> Callable[[str], bool]:
        """Which members of a container belong to its own signature."""
        format_ = member_signing_format(node, self.language)
        return (lambda _path: False) if format_ is None else format_.is_signature_member

    def member(
        self,
        node: PlanNode,
        claim: Claim,
        old: tuple[Container, Entry],
        new: tuple[Container, Entry],
        outputs: dict[str, Entry],
    ) -> None:
        container, entry = new
        extracted = [self.before.extract(*old, self.spool)]
        try:
            with _of_output():
                extracted.extend(
                    self.after.extract(container, each, self.spool)
                    for each in (entry, *(outputs[path] for path in node.outputs))
                )
            with extracted[0].open() as source, extracted[1].open() as output:
                self.planned.content(node, claim.element, claim.include, source)
                self.file(node, claim.element, source, output, extracted[2:])
        finally:
            for file in extracted:
                self.spool.release(file)


@contextmanager
def _of_output() -> Iterator[None]:
    """What is wrong with the result is not the submitter's to mend, whatever the advice is for
    files that were submitted so."""
    try:
        yield
    except (ArtifactError, VerificationError) as error:
        error.advice = REPORT
        raise


def _member(format_: MemberSigningFormat, entry: Entry, change: Change) -> SignedMember:
    return SignedMember(plain(entry.path), entry.size, change, format_.member_role(entry.path))


def _same_content(kind: ElementType, format_: Format, before: BinaryIO, after: BinaryIO) -> bool:
    if kind.compared is not None:
        return kind.compared.same_content(before, after)
    return format_.content_digest(before) == format_.content_digest(after)


def _compare_paths(expected: list[str], paths: list[str]) -> None:
    if paths != expected:
        added, removed = Counter(paths) - Counter(expected), Counter(expected) - Counter(paths)
        message = "Members were added, removed or moved, against the plan."
        where = next(iter([*added, *removed]), "")
        raise VerificationError(message, advice=REPORT, where=where)
