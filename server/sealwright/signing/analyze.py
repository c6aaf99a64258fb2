"""Proposes an artifact configuration for a sample: what is not signed is to be signed.

Files that others have signed are to be verified instead. The proposal is for people to read and to
correct, so it groups files by folder and extension where that means the same files, and says in
comments what was found. It is accepted for the sample it was made from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing.artifact import (
    Container,
    Directive,
    Entry,
    Format,
    NamedFormat,
    ParticularFormat,
    SealedFormat,
    SignatureFact,
)
from sealwright.signing.authenticode_trust import Judge, Trust
from sealwright.signing.budget import Budget, Limits
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.elements import (
    AUTHENTICODE_VERIFY,
    LANGUAGE,
    NAMESPACE,
    OUTPUT_FILE_NAME,
    ElementType,
    Language,
    is_verification,
)
from sealwright.signing.parameters import FILE_NAME
from sealwright.signing.plan import INSIDE, at
from sealwright.signing.spool import Spool
from sealwright.signing.wheel_record import record_among, stale
from sealwright.signing.wildcard import MAX_PATTERN_LENGTH, escape, fold
from sealwright.signing.x509 import Certificate

_FILE, _ZIP = "file", "zip-file"
_PRODUCT = "product-name"
#: Extensions of files that are hardly ever signed, though they could be: scripts of web pages.
_UNLIKELY = (".js",)
_MAX_NOTE = 160
_MAX_NOTES = 40  # of single files in one container
_MAX_VALUE = 200
_INDENT = "  "


@dataclass
class Proposal:
    """What is proposed for one file.

    Attributes:
        element: name of its file element.
        body: lines of XML inside the element, indented relative to it.
        signers: by whom it is signed, for a file that is to be verified.
        product: the product that its metadata names, for a file that is to be signed.
    """

    element: str
    body: tuple[str, ...]
    signers: str = ""
    product: str | None = None


@dataclass
class _Contents:
    """What was found in one container."""

    proposals: dict[str, Proposal] = field(default_factory=dict)  # by path
    others: list[str] = field(default_factory=list)  # paths that are left alone
    notes: list[str] = field(default_factory=list)


def analyze(
    source: BinaryIO,
    artifact_name: str,
    spool: Spool,
    *,
    trust: Trust,
    limits: Limits | None = None,
    language: Language = LANGUAGE,
) -> str:
    """An artifact configuration for an artifact like this one, as XML.

    Args:
        source: the sample, seekable.
        artifact_name: its file name.
        spool: for extracted members; empty again afterwards.
        trust: whose signatures are proposed for verification.

    Raises:
        ArtifactError: the sample is malformed or over a limit, or nothing in it can be signed.
    """
    limits = limits or Limits()
    analyst = _Analyst(Budget(limits, source.seek(0, 2)), spool, Judge(trust), language)
    with at(artifact_name):
        proposal, note = analyst.file(source, artifact_name, 1)
        if proposal is None:
            message = f"The sample {note}." if note else "Nothing in it can be signed."
            if analyst.left:
                message += f" {analyst.left}."
            advice = "To sign any file detached, put it into a ZIP archive."
            raise ArtifactError(message, advice=advice)
    text = "\n".join(_document(artifact_name, proposal)) + "\n"
    try:
        parse_configuration(text.encode(), language).resolve({})
    except ArtifactConfigurationError as error:
        message = f"The sample gives no usable configuration: {error.message}"
        raise ArtifactError(message, advice="Write one by hand, with wildcards.") from error
    return text


def _document(artifact_name: str, proposal: Proposal) -> list[str]:
    return [
        '<?xml version="1.0" encoding="utf-8"?>',
        *_comment(f"Proposed from {artifact_name}. Read it before you use it:"),
        *_comment("what is signed under your name is what stands here."),
        f'<artifact-configuration xmlns="{NAMESPACE}">',
        *_indented(_element(proposal.element, proposal.body, proposal.product)),
        "</artifact-configuration>",
    ]


class _Analyst:
    def __init__(self, budget: Budget, spool: Spool, judge: Judge, language: Language) -> None:
        self.budget = budget
        self.spool = spool
        self.judge = judge
        self.language = language
        self.left = ""  # the first member that is left alone for a reason, and why

    def file(self, file: BinaryIO, name: str, depth: int) -> tuple[Proposal | None, str]:
        """What to do with one file, or a note about why it is left alone."""
        kind = self.kind(file, name)
        if kind is None or kind.format is None:
            return None, ""
        opened = None
        if kind.container is not None and depth <= self.budget.limits.depth:
            opened = self.budget.open_container(kind.container.open, file, depth)
        own = () if kind.name == _ZIP else _signing(kind)
        body: tuple[str, ...] = ()
        try:
            facts = _facts(kind.format, file, opened)
        except VerificationError as error:
            if not own:
                return None, f"has a signature that does not verify: {_said(error)}"
            facts = []
            body += _comment(f"Its present signature does not verify: {_said(error)}")
        replaced = own and depth == 1 and AUTHENTICODE_VERIFY not in kind.directives
        if facts and not replaced:
            return self.signed(kind, facts)
        if facts:
            body += _comment(f"It is signed by {_signers(facts)}; this replaces the signature")
        if name.lower().endswith(_UNLIKELY):
            return None, ""
        product = kind.format.metadata(file).get(_PRODUCT) if own else None
        if own and (problem := _why_unsignable(kind, file, name)):
            if opened is None:
                return None, f"cannot be signed: {problem}"
            own = ()
            body += _comment(f"It cannot be signed itself: {problem}")
        if opened is not None:
            body += self.container(*opened, name, depth)
        body += own
        if all(line.startswith("<!--") for line in body):
            return None, ""
        return Proposal(kind.name, body, product=_plain(product)), ""

    def kind(self, file: BinaryIO, name: str) -> ElementType | None:
        """The most telling element for a file."""
        extension = _extension(name)
        found = []
        for kind in self.language.file_types:
            format_ = kind.format
            if format_ is None or kind.name == _FILE:
                continue
            if isinstance(format_, NamedFormat) and extension not in format_.extensions:
                continue
            if format_.recognize(file):
                found.append(kind)
        meant = f"{_stem(extension)}-file"
        return next((k for k in found if k.name == meant), found[0] if found else None)

    def signed(
        self, kind: ElementType, facts: Sequence[SignatureFact]
    ) -> tuple[Proposal | None, str]:
        """A file that is signed already: to be verified, if that can be demanded."""
        assert kind.format is not None  # noqa: S101 - it has found the facts
        who = _signers(facts)
        if AUTHENTICODE_VERIFY not in kind.format.directives():
            return None, f"is signed by {who}; left as it is"
        try:
            self.judge.check(facts)
        except VerificationError as error:
            return None, f"is signed by {who}, but not trusted: {_said(error)}"
        return Proposal(kind.name, (f"<{AUTHENTICODE_VERIFY}/>",), who), ""

    def container(
        self, container: Container, entries: Sequence[Entry], path: str, depth: int
    ) -> tuple[str, ...]:
        contents = _Contents()
        for entry in entries:
            if not entry.is_directory:
                self.member(container, entry, path, depth, contents)
        record = record_among(contents.others)
        if record and any(not proposal.signers for proposal in contents.proposals.values()):
            contents.notes.insert(0, stale(record).rstrip("."))
        return tuple(_rendered(contents))

    def member(
        self, container: Container, entry: Entry, path: str, depth: int, contents: _Contents
    ) -> None:
        inside = f"{path}{INSIDE}{entry.path}"
        proposal, note = None, ""
        try:
            with at(path):
                extracted = self.budget.extract(container, entry, self.spool)
            try:
                with at(inside), extracted.open() as file:
                    proposal, note = self.file(file, entry.path, depth + 1)
            finally:
                self.spool.release(extracted)
        except ArtifactError as error:
            note = f"cannot be read: {_said(error)}"
        if proposal is not None and not _can_be_named(entry.path):
            proposal, note = None, "cannot be named in a configuration"
        if proposal is None:
            contents.others.append(entry.path)
        else:
            contents.proposals[entry.path] = proposal
        if note:
            said = f"{entry.path} {note}"
            contents.notes.append(said)
            self.left = self.left or said


def _stem(extension: str) -> str:
    """The element's name, less ``-file``, that an extension suggests: ``appx`` for a bundle."""
    return extension.removeprefix(".").removesuffix("bundle")


# --- grouping -----------------------------------------------------------------------------------


def _rendered(contents: _Contents) -> Iterator[str]:
    """The elements of a container's members."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for path, proposal in contents.proposals.items():
        groups.setdefault((proposal.element, proposal.body), []).append(path)
    everything = [*contents.proposals, *contents.others]
    index = _Index(everything)
    for (element, body), paths in groups.items():
        proposals = [contents.proposals[path] for path in paths]
        yield from _comment(_headline(proposals))
        products = {proposal.product for proposal in proposals}
        product = products.pop() if len(products) == 1 else None
        includes = index.includes(paths)
        if len(includes) == 1 and not includes[0].is_wild:
            yield from _element(element, body, product, [("path", includes[0].path)])
            continue
        yield f"<{element}-set{_attributes([(_PRODUCT, product)])}>"
        for include in includes:
            most = "unbounded" if include.is_wild else None
            place = [("path", include.path), ("max-matches", most)]
            yield f"{_INDENT}<include{_attributes(place)}/>"
        yield from _indented(["<for-each>", *_indented(body), "</for-each>"])
        yield f"</{element}-set>"
    for note in contents.notes[:_MAX_NOTES]:
        yield from _comment(note)
    left = len(contents.others)
    if left:
        yield from _comment(f"{_count(left)} left as {'it is' if left == 1 else 'they are'}")


@dataclass(frozen=True)
class _Place:
    path: str
    is_wild: bool


class _Index:
    """All files of a container by folder and extension, to see what a pattern would match."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.by_extension: Counter[str] = Counter()
        self.by_folder: Counter[tuple[str, str]] = Counter()
        for path in paths:
            folder, extension = _split(path)
            self.by_extension[extension] += 1
            self.by_folder[fold(folder), extension] += 1

    def includes(self, paths: Sequence[str]) -> list[_Place]:
        """Patterns that match just these files, and as few of them as is readable."""
        by_extension: dict[str, dict[str, list[str]]] = {}
        for path in paths:
            folder, extension = _split(path)
            folders = by_extension.setdefault(extension, {})
            folders.setdefault(fold(folder), []).append(path)
        made: list[_Place] = []
        for extension, folders in by_extension.items():
            count = sum(len(files) for files in folders.values())
            if extension and len(folders) > 1 and count == self.by_extension[extension]:
                made.append(_Place(f"**/*{_exactly(extension)}", is_wild=True))
                continue
            for folder, files in folders.items():
                made += self._in_folder(folder, extension, files)
        return made

    def _in_folder(self, folded: str, extension: str, files: Sequence[str]) -> list[_Place]:
        folder = _split(files[0])[0]
        pattern = f"{_exactly(folder)}/" * bool(folder) + f"*{_exactly(extension)}"
        alone = len(files) == self.by_folder[folded, extension]
        if extension and len(files) > 1 and alone and len(pattern) <= MAX_PATTERN_LENGTH:
            return [_Place(pattern, is_wild=True)]
        return [_Place(_exactly(path), is_wild=False) for path in files]


def _split(path: str) -> tuple[str, str]:
    """Folder, and extension with its dot in lower case."""
    folder, _, name = path.rpartition("/")
    return folder, _extension(name)


def _extension(name: str) -> str:
    dot = name.rfind(".", name.rfind("/") + 1)
    return fold(name[dot:]) if dot >= 0 else ""


# --- words --------------------------------------------------------------------------------------


def _headline(proposals: Sequence[Proposal]) -> str:
    if any(proposal.signers for proposal in proposals):
        counts = Counter(proposal.signers for proposal in proposals)
        names = [name for name, _ in counts.most_common(3)]
        more = f" and {len(counts) - 3} others" if len(counts) > 3 else ""
        return f"{_count(len(proposals))} signed already, by {'; '.join(names)}{more}"
    return f"{_count(len(proposals))} to be signed"


def _count(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _facts(
    format_: Format, file: BinaryIO, opened: tuple[Container, list[Entry]] | None
) -> list[SignatureFact]:
    """The file's signatures; packages are only verified if there is one."""
    if opened is not None and isinstance(format_, SealedFormat):
        paths = [entry.path for entry in opened[1]]
        if not format_.is_signed(file, paths):
            return []
    return format_.verify(file)


def _why_unsignable(kind: ElementType, file: BinaryIO, name: str) -> str:
    """Why a file cannot be signed itself though it can be read; empty if it can."""
    format_ = kind.format
    assert format_ is not None  # noqa: S101 - it has been recognized
    try:
        if kind.container is not None:
            format_.content_digest(file)
        if isinstance(format_, ParticularFormat):
            options = {FILE_NAME: name.rpartition("/")[2]}
            format_.check_signable(file, Directive(_own_directive(kind), options))
    except ArtifactError as error:
        return _said(error)
    return ""


def _can_be_named(path: str) -> bool:
    """Whether XML and the language can express this path."""
    is_xml = all(c.isprintable() or c == "\u00a0" or c.isspace() for c in path)
    return is_xml and len(_exactly(path)) <= MAX_PATTERN_LENGTH


def _exactly(text: str) -> str:
    """The pattern for a text, in which nothing looks like a parameter."""
    return escape(text).replace("${", "[$]{")


def _signers(facts: Sequence[SignatureFact]) -> str:
    return ", ".join(dict.fromkeys(Certificate.parse(fact.signer).name for fact in facts))


def _signing(kind: ElementType) -> tuple[str, ...]:
    """The element that signs such a file itself, if there is one."""
    name = _own_directive(kind)
    return (f"<{name}/>",) if name else ()


def _own_directive(kind: ElementType) -> str:
    for name, options in kind.directives.items():
        if not is_verification(name) and OUTPUT_FILE_NAME not in options:
            return name
    return ""


def _element(
    name: str,
    body: Sequence[str],
    product: str | None,
    attributes: Sequence[tuple[str, str | None]] = (),
) -> Iterator[str]:
    yield f"<{name}{_attributes([*attributes, (_PRODUCT, product)])}>"
    yield from _indented(body)
    yield f"</{name}>"


def _attributes(values: Sequence[tuple[str, str | None]]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in values if value is not None)


def _said(error: SealwrightError) -> str:
    """What an error says, without its full stop."""
    return error.message.rstrip(".")


def _plain(value: str | None) -> str | None:
    """Metadata that can stand in an attribute as it is."""
    if not value or len(value) > _MAX_VALUE or not value.isprintable() or "${" in value:
        return None
    return value


def _comment(text: str) -> tuple[str, ...]:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    if len(shown) > _MAX_NOTE:
        shown = shown[: _MAX_NOTE - 3] + "..."
    while "--" in shown:
        shown = shown.replace("--", "- -")
    return (f"<!-- {shown} -->",)


def _indented(lines: Sequence[str] | Iterator[str]) -> list[str]:
    return [_INDENT + line for line in lines]
