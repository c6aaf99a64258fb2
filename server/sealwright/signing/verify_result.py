"""Compares the signed artifact with the artifact that was submitted, by the plan alone.

Runs in a process that signed nothing. Every planned signature must verify and be the expected
signer's, everything that signing does not touch must be what it was, byte for byte, and nothing may
have been added but the planned files.

Members of the outermost container can be judged ahead, as soon as they are packed: the result must
then hold the very bytes that were judged.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from sealwright.errors import InternalError, VerificationError
from sealwright.signing.artifact import (
    ComparedFormat,
    Container,
    DetachedFormat,
    Directive,
    Entry,
    Format,
    PackedMember,
    SignatureFact,
    TimestampForm,
    UnpackingContainer,
)
from sealwright.signing.containers.bulk_copy import chunks
from sealwright.signing.elements import LANGUAGE, OUTPUT_FILE_NAME, Language
from sealwright.signing.parts import PartMember, share_of
from sealwright.signing.plan import (
    INSIDE,
    Budget,
    Limits,
    Plan,
    PlanNode,
    at,
    member_signing_format,
)
from sealwright.signing.shard import WHOLE, Shard
from sealwright.signing.spool import Spool, SpoolFile, sha256_of

_ADVICE = "The result is not released. Report this as a defect, with the signing request."
_MAX_OUTPUT = 64 << 20  # bytes of a detached signature


@dataclass(frozen=True)
class VerifiedSignature:
    """A signature that was asked for and was found.

    Attributes:
        path: of the signed file, as in the plan.
        directive: that asked for it.
        fact: what the verifier found.
    """

    path: str
    directive: str
    fact: SignatureFact


def verify_result(
    plan: Plan,
    source: BinaryIO,
    output: BinaryIO,
    certificate: bytes,
    spool: Spool,
    *,
    limits: Limits | None = None,
    language: Language = LANGUAGE,
    shard: Shard = WHOLE,
) -> list[VerifiedSignature]:
    """Check a signed artifact that is there as a whole; see `Verification`.

    Returns:
        One item for each signature, in the plan's order.

    Raises:
        VerificationError: anything is not as planned; `where` is the member.
        ArtifactError: the output is malformed.
    """
    check = Verification(
        plan, source, certificate, spool, limits=limits, language=language, shard=shard
    )
    return check.finish(output)


@dataclass(frozen=True)
class _Seen:
    """A packed member that was judged ahead.

    Attributes:
        packed: what was told of it, and was true.
        sha256: of the packed bytes.
    """

    packed: PackedMember
    sha256: bytes


class Verification:
    """The verification of one signed artifact.

    Args:
        plan: what was to be done; nothing else is believed.
        source: the artifact as submitted.
        certificate: DER of the certificate whose signatures are expected.
        spool: for extracted members; empty again afterwards.
        shard: compare only these members of the outermost container. The first shard's result
            includes what concerns the container itself.

    Raises:
        VerificationError: the source is not the planned one.
    """

    def __init__(
        self,
        plan: Plan,
        source: BinaryIO,
        certificate: bytes,
        spool: Spool,
        *,
        limits: Limits | None = None,
        language: Language = LANGUAGE,
        shard: Shard = WHOLE,
    ) -> None:
        if sha256_of(source) != plan.root.sha256:
            message = "The submitted artifact is not the planned one."
            raise VerificationError(message, advice="Make the plan again.", where=plan.root.path)
        limits = limits or Limits()
        self.shard = shard
        self.plan = plan
        self.source = source
        self.certificate = certificate
        self.spool = spool
        self.language = language
        self.found: list[VerifiedSignature] = []
        # Both versions are extracted; signatures may add a little to the second.
        self.before = Budget(limits, plan.root.size)
        self.after = Budget(limits, 2 * plan.root.size + limits.ratio_allowance)
        self._submitted: tuple[Container, list[Entry]] | None = None
        self._seen: dict[int, _Seen] = {}  # by order
        self._share = {
            child.order: child
            for child in share_of(plan, shard, language).root.children
            if child.has_work
        }

    def judge(self, member: PartMember, file: BinaryIO) -> None:
        """Judge a member of the outermost container ahead.

        Who packed it may still write to `file`: only a copy is judged, and the result has to hold
        the same bytes. What cannot be judged ahead is left to `finish`.

        Args:
            member: where it is said to lie in `file`.

        Raises:
            VerificationError, ArtifactError: see `verify_result`.
        """
        node = self._share.get(member.order)
        if node is None or not node.is_replaced or node.outputs or member.order in self._seen:
            return
        with at(self.plan.root.path):
            container, entries = self._open_submitted()
            if not isinstance(container, UnpackingContainer) or member.order >= len(entries):
                return
            entry = entries[member.order]
            digest = hashlib.sha256()
            with _keeping(self.spool) as keep:
                copy = partial(_copy, file, member, digest)
                stored = keep(self.spool.create(copy, member.packed.stored))
                with at(node.path), stored.open() as alone:
                    unpack = partial(container.unpack, entry.order, member.packed, alone)
                    size = replace(entry, size=member.packed.size)
                    before = keep(self.before.extract(container, entry, self.spool))
                    after = keep(self.after.write(unpack, size, self.spool))
                    self.compare(node, before, after, [])
        self._seen[member.order] = _Seen(member.packed, digest.digest())

    def finish(self, output: BinaryIO) -> list[VerifiedSignature]:
        """Judge the artifact as signed; all signatures that were found, in whatever was judged
        ahead as well. See `verify_result` for errors."""
        with at(self.plan.root.path):
            self.file(self.plan.root, self.source, output, [])
        return self.found

    def _open_submitted(self) -> tuple[Container, list[Entry]]:
        """The submitted artifact as a container."""
        if self._submitted is None:
            root = self.plan.root
            kind = self.language.types[root.element].container
            if kind is None:
                message = f"<{root.element}> cannot be opened."
                raise InternalError(message)
            self._submitted = _open(self.before, kind.open, self.source, 1)
        return self._submitted

    def file(
        self, node: PlanNode, source: BinaryIO, output: BinaryIO, outputs: Sequence[SpoolFile]
    ) -> None:
        """Compare one planned file; `outputs` are its side files in the order of `node.outputs`."""
        if not node.is_replaced:
            _require(sha256_of(output) == node.sha256, "The file was changed, against the plan.")
        elif any(child.has_work for child in node.children):
            self.container(node, source, output)
        kind = self.language.types[node.element]
        if node.signs and (node is not self.plan.root or self.shard.number == 0):
            if kind.format is None:
                message = f"<{node.element}> cannot be verified."
                raise InternalError(message)
            self.signatures(node, kind.format, source, output, outputs)

    def signatures(
        self,
        node: PlanNode,
        format_: Format,
        source: BinaryIO,
        output: BinaryIO,
        outputs: Sequence[SpoolFile],
    ) -> None:
        embedded = [d for d in node.signs if OUTPUT_FILE_NAME not in d.options]
        detached = [d for d in node.signs if OUTPUT_FILE_NAME in d.options]
        if embedded:
            if not any(child.has_work for child in node.children):
                same = _same_content(format_, source, output)
                _require(same, "Signing changed more than the signature.")
            # What is replaced need not have been valid.
            appends = all(d.options.get("append") == "true" for d in embedded)
            kept = format_.verify(source) if appends else []
            self.embedded(node, embedded, kept, format_.verify(output))
        for directive, file in zip(detached, outputs, strict=True):
            if not isinstance(format_, DetachedFormat):
                message = f"Outputs of <{directive.name}> cannot be verified."
                raise InternalError(message)
            _require(file.size <= _MAX_OUTPUT, "The signature file is too large.")
            with file.open() as stream:
                content = stream.read()
            facts = format_.verify_detached(output, directive, content, self.certificate)
            _require(len(facts) == 1, f"{len(facts)} signatures were found, not one.")
            self.accept(node, directive, facts[0])

    def embedded(
        self,
        node: PlanNode,
        directives: Sequence[Directive],
        before: Sequence[SignatureFact],
        after: Sequence[SignatureFact],
    ) -> None:
        """Signatures must be those that were kept and the planned ones, no fewer and no more."""
        kept: list[tuple[bytes, str]] = [(fact.signer, fact.hash_algorithm) for fact in before]
        made: list[Directive] = []
        for directive in directives:
            if directive.options.get("append") != "true":
                kept, made = [], []
            made.append(directive)
        mine = [(self.certificate, directive.options["hash-algorithm"]) for directive in made]
        expected = Counter([*kept, *mine])
        actual = Counter((fact.signer, fact.hash_algorithm) for fact in after)
        _require(actual == expected, "The signatures in the file are not the planned ones.")
        unused = list(after)
        for directive in reversed(made):
            wanted = (self.certificate, directive.options["hash-algorithm"])
            # Later signatures were made later, so the last match is this directive's.
            fact = next(f for f in reversed(unused) if (f.signer, f.hash_algorithm) == wanted)
            unused.remove(fact)
            self.accept(node, directive, fact)

    def accept(self, node: PlanNode, directive: Directive, fact: SignatureFact) -> None:
        _require(fact.signer == self.certificate, "The signature is another signer's.")
        wanted = directive.options.get("hash-algorithm")
        _require(
            wanted in (None, fact.hash_algorithm), "The hash algorithm is not the planned one."
        )
        timed = self.plan.timestamp is not TimestampForm.NONE and fact.format not in {
            "raw",
            "openpgp",
        }
        _require(not timed or fact.timestamp is not None, "The signature has no time stamp.")
        self.found.append(VerifiedSignature(node.path, directive.name, fact))

    def container(self, node: PlanNode, source: BinaryIO, output: BinaryIO) -> None:
        """Compare two versions of a container member by member."""
        kind = self.language.types[node.element].container
        if kind is None:
            message = f"<{node.element}> cannot be opened."
            raise InternalError(message)
        depth = node.path.count(INSIDE) + 1
        is_root = node is self.plan.root
        before, old = (
            self._open_submitted() if is_root else _open(self.before, kind.open, source, depth)
        )
        after, new = _open(self.after, kind.open, output, depth)
        is_signature = self.signature_members(node)
        old = [entry for entry in old if not is_signature(entry.path)]
        new = [entry for entry in new if not is_signature(entry.path)]
        added = sorted(path for child in node.children for path in child.outputs)
        _compare_paths([*(entry.path for entry in old), *added], [entry.path for entry in new])
        same = before.fingerprint(None) == after.fingerprint(None)
        _require(same, "What surrounds the members was changed.")
        self.kept_attributes(node, source, output)
        planned = {child.order: child for child in node.children if child.has_work}
        compared = {entry.order for entry in old}
        _require(planned.keys() <= compared, "A planned file belongs to the signature.")
        outputs = {entry.path: entry for entry in new[len(old) :]}
        for path, entry in outputs.items():
            same = after.fingerprint(entry, content=False) == before.added_fingerprint(path)
            _require(same, "The output has other attributes than it was given.", path)
        mine = self._mine(old, planned.keys()) if is_root else compared
        for entry, entry_after in zip(old, new[: len(old)], strict=True):
            if entry.order not in mine:
                continue
            child = planned.get(entry.order)
            whole = child is None or not child.is_replaced
            same = before.fingerprint(entry, content=whole) == after.fingerprint(
                entry_after, content=whole
            )
            _require(same, "The member was changed, against the plan.", entry.path)
            if is_root and entry.order in self._seen:
                same = _is_seen(self._seen[entry.order], after, entry_after, output)
                _require(same, "The member is not the one that was verified.", entry.path)
            elif child is not None:
                with at(node.path), at(child.path):
                    self.member(child, (before, entry), (after, entry_after), outputs)

    def _mine(self, entries: Sequence[Entry], planned: Collection[int]) -> set[int]:
        """The shard's members of the outermost container. Planned ones are divided as for signing,
        the others by themselves; where members are read one behind another, all in their order."""
        if self.language.types[self.plan.root.element].is_sequence:
            members = ((each.order, each.size) for each in entries)
            return set(self.shard.orders(members, in_sequence=True))
        others = ((each.order, each.size) for each in entries if each.order not in planned)
        return {*self._share, *self.shard.orders(others)}

    def kept_attributes(self, node: PlanNode, source: BinaryIO, output: BinaryIO) -> None:
        """Compare what the members of a container's signature hold besides it."""
        format_ = member_signing_format(node, self.language)
        if format_ is not None:
            same = format_.kept_attributes(source) == format_.kept_attributes(output)
            _require(same, "Signing changed more than the signature.")

    def signature_members(self, node: PlanNode) -> Callable[[str], bool]:
        """Which members of a container belong to its own signature."""
        format_ = member_signing_format(node, self.language)
        return (lambda _path: False) if format_ is None else format_.is_signature_member

    def member(
        self,
        node: PlanNode,
        old: tuple[Container, Entry],
        new: tuple[Container, Entry],
        outputs: dict[str, Entry],
    ) -> None:
        with _keeping(self.spool) as keep:
            before = keep(self.before.extract(*old, self.spool))
            after = keep(self.after.extract(*new, self.spool))
            side_files = [
                keep(self.after.extract(new[0], outputs[path], self.spool)) for path in node.outputs
            ]
            self.compare(node, before, after, side_files)

    def compare(
        self, node: PlanNode, before: SpoolFile, after: SpoolFile, outputs: Sequence[SpoolFile]
    ) -> None:
        """Compare two versions of a planned member that have been extracted."""
        with before.open() as source, after.open() as output:
            _require(sha256_of(source) == node.sha256, "The file is not the planned one.")
            self.file(node, source, output, outputs)


def _open(
    budget: Budget, open_: Callable[[BinaryIO, int], Container], file: BinaryIO, depth: int
) -> tuple[Container, list[Entry]]:
    container, entries = budget.open_container(open_, file, depth)
    if isinstance(container, UnpackingContainer):
        container.only_read()
    return container, entries


@contextmanager
def _keeping(spool: Spool) -> Iterator[Callable[[SpoolFile], SpoolFile]]:
    """Releases at the end the files that the function was called with."""
    with ExitStack() as files:

        def keep(file: SpoolFile) -> SpoolFile:
            files.callback(spool.release, file)
            return file

        yield keep


def _copy(file: BinaryIO, member: PartMember, digest: hashlib._Hash, target: BinaryIO) -> None:
    """Copy packed bytes, and digest what was copied."""
    for piece in chunks(file, member.offset, member.packed.stored):
        digest.update(piece)
        target.write(piece)


def _is_seen(seen: _Seen, container: Container, entry: Entry, file: BinaryIO) -> bool:
    """Whether a member consists of the packed bytes that were judged."""
    if not isinstance(container, UnpackingContainer):
        return False
    packed, offset = container.packed(entry)
    if packed != seen.packed:
        return False
    digest = hashlib.sha256()
    for piece in chunks(file, offset, packed.stored):
        digest.update(piece)
    return digest.digest() == seen.sha256


def _same_content(format_: Format, before: BinaryIO, after: BinaryIO) -> bool:
    if isinstance(format_, ComparedFormat):
        return format_.same_content(before, after)
    return format_.content_digest(before) == format_.content_digest(after)


def _compare_paths(expected: list[str], paths: list[str]) -> None:
    if paths != expected:
        added, removed = Counter(paths) - Counter(expected), Counter(expected) - Counter(paths)
        message = "Members were added, removed or moved, against the plan."
        where = next(iter([*added, *removed]), "")
        raise VerificationError(message, advice=_ADVICE, where=where)


def _require(condition: bool, message: str, where: str = "") -> None:  # noqa: FBT001
    if not condition:
        raise VerificationError(message, advice=_ADVICE, where=where)
