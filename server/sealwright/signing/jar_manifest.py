"""Manifests and signature files of JAR archives (JAR File Specification, "JAR Manifest").

A manifest is a main section and one section for each named entry, ended by empty lines. Signature
files digest sections as they stand in the file, so that each keeps its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_SMALLER

MAX_SIZE = 64 << 20  #: bytes of a manifest or signature file
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|\Z)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,69}")
_LINE_BYTES = 72  # without the line's end
_ADVICE = "Make the archive again with a common tool."

Attribute = tuple[str, str]


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        attributes: (name, value) in their order, ``Name`` included.
        raw: its bytes, the empty line that ends it included.
    """

    attributes: tuple[Attribute, ...]
    raw: bytes

    @property
    def name(self) -> str:
        """The entry that the section is about; empty for a main section."""
        name, value = self.attributes[0] if self.attributes else ("", "")
        return value if name.lower() == "name" else ""

    @property
    def kept(self) -> tuple[Attribute, ...]:
        """The attributes that are neither ``Name`` nor digests."""
        return tuple(
            each
            for each in self.attributes
            if each[0].lower() != "name" and not each[0].lower().endswith("-digest")
        )

    def value(self, name: str) -> str | None:
        """The value of an attribute, whose name's case does not matter; None if it is absent."""
        found = [value for each, value in self.attributes if each.lower() == name.lower()]
        if len(found) > 1:
            message = f"The attribute {name} is repeated."
            raise ArtifactError(message, advice=_ADVICE, where=self.name)
        return found[0] if found else None


@dataclass(frozen=True)
class Manifest:
    """A manifest or a signature file.

    Attributes:
        main: the main section.
        sections: the others by name, in their order.
    """

    main: Section
    sections: dict[str, Section]

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Raises ArtifactError if it is malformed or names an entry twice."""
        main, *others = _sections(content) or [Section((), b"")]
        if main.name:
            message = "The manifest has no main section."
            raise ArtifactError(message, advice=_ADVICE)
        sections: dict[str, Section] = {}
        for section in others:
            if not section.name or section.name in sections:
                message = "A section of the manifest has no name, or one that occurred before."
                raise ArtifactError(message, advice=_ADVICE, where=section.name)
            sections[section.name] = section
        return cls(main, sections)

    @classmethod
    def build(cls, main: Iterable[Attribute], sections: Iterable[Iterable[Attribute]]) -> Manifest:
        """A manifest of these attributes; each of `sections` begins with its ``Name``."""
        made = [_build(attributes) for attributes in sections]
        return cls(_build(main), {section.name: section for section in made})

    @property
    def encoding(self) -> bytes:
        """The bytes of all sections; of a parsed manifest without further empty lines."""
        return b"".join((self.main.raw, *(each.raw for each in self.sections.values())))


def _build(attributes: Iterable[Attribute]) -> Section:
    listed = tuple(attributes)
    lines = [part for name, value in listed for part in _folded(f"{name}: {value}".encode())]
    return Section(listed, b"".join(line + b"\r\n" for line in (*lines, b"")))


def _folded(line: bytes) -> Iterator[bytes]:
    """Lines of at most 72 bytes; a character may be cut in two, since readers join bytes."""
    yield line[:_LINE_BYTES]
    for start in range(_LINE_BYTES, len(line), _LINE_BYTES - 1):
        yield b" " + line[start : start + _LINE_BYTES - 1]


def _sections(content: bytes) -> list[Section]:
    if len(content) > MAX_SIZE:
        message = f"The manifest has more than {MAX_SIZE} bytes."
        raise ArtifactError(message, advice=MAKE_SMALLER)
    sections: list[Section] = []
    lines: list[bytearray] = []
    start = 0
    for match in _LINE.finditer(content):
        line = match[1]
        if line.startswith(b" ") and lines:
            lines[-1] += line[1:]
        elif line:
            lines.append(bytearray(line))
        elif lines:
            attributes = tuple(_attribute(bytes(each)) for each in lines)
            sections.append(Section(attributes, content[start : match.end()]))
            lines, start = [], match.end()
        else:
            # Further empty lines belong to no section, but for one in front of the main section,
            # which leaves that one empty for most readers.
            if not sections and match.end() > match.start():
                message = "The manifest begins with an empty line."
                raise ArtifactError(message, advice=_ADVICE)
            start = match.end()
    return sections


def _attribute(line: bytes) -> Attribute:
    try:
        name, colon, value = line.decode("utf-8").partition(": ")
    except UnicodeDecodeError:
        name = colon = value = ""
    if not colon or not _NAME.fullmatch(name) or "\0" in value:
        shown = line[:80].decode("utf-8", "backslashreplace")
        message = f"The manifest has a malformed line: {shown!r}."
        raise ArtifactError(message, advice=_ADVICE)
    return name, value
