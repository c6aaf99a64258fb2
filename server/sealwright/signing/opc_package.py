"""Open Packaging (ECMA-376, Part 2): parts with content types, and relationships between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote, unquote

from sealwright.errors import ArtifactError
from sealwright.signing import strict_xml
from sealwright.signing.advice import MAKE_SMALLER
from sealwright.signing.artifact import Entry
from sealwright.signing.containers.zip import ZipContainer, is_zip

CONTENT_TYPES = "[Content_Types].xml"
ROOT_RELATIONSHIPS = "_rels/.rels"
RELATIONSHIPS_TYPE = "application/vnd.openxmlformats-package.relationships+xml"
UNKNOWN_TYPE = "application/octet-stream"

_TYPES = "{http://schemas.openxmlformats.org/package/2006/content-types}"
_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
_RELATIONSHIP = f"{{{_RELATIONSHIPS}}}Relationship"
_RELATIONSHIPS_PART = re.compile(r"(?:.*/)?_rels/[^/]*\.rels", re.IGNORECASE)
_SAFE = "/!$&'()*+,;=:@~"
_MAX_XML = 32 << 20
_MAX_MEMBERS = 100_000
_REPACK = "Have the build make the package anew."


@dataclass(frozen=True)
class Relationship:
    """One relationship (ECMA-376-2, 9.3).

    Attributes:
        id: unique in its part.
        type: URI.
        target: URI, relative to the source.
        is_external: whether it is outside of the package.
    """

    id: str
    type: str
    target: str
    is_external: bool = False


def is_opc(file: BinaryIO) -> bool:
    """Whether it is a ZIP archive that lists content types."""
    if not is_zip(file):
        return False
    try:
        return any(e.path == CONTENT_TYPES for e in ZipContainer(file, _MAX_MEMBERS).entries())
    except ArtifactError:
        return False


def is_relationships(path: str) -> bool:
    """Whether a member holds relationships."""
    return _RELATIONSHIPS_PART.fullmatch(path) is not None


def relationships_of(path: str) -> str:
    """The member that holds the relationships of a part; of the package for an empty path."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}_rels/{name}.rels"


def part_name(path: str) -> str:
    """The part name of a member, percent-encoded and with its leading slash (9.1.1)."""
    return "/" + quote(unquote(path), safe=_SAFE)


def part_key(name: str) -> str:
    """The form in which equal part names are equal: decoded, without slash, whatever the case."""
    return unquote(name).removeprefix("/").lower()


class OpcPackage:
    """A package that is open for reading.

    Attributes:
        zip: the archive.
        parts: members by `part_key`, in the archive's order, without content types and folders.

    Raises:
        ArtifactError: it is malformed, or two members are one part.
    """

    def __init__(self, file: BinaryIO) -> None:
        if not is_zip(file):
            message = "The package is not a plain ZIP archive."
            raise ArtifactError(message, advice=_REPACK)
        self.zip = ZipContainer(file, _MAX_MEMBERS)
        self.parts: dict[str, Entry] = {}
        self.content_types: Entry | None = None
        for entry in self.zip.entries():
            if entry.path == CONTENT_TYPES:
                self.content_types = entry
            elif not entry.is_directory:
                if part_key(entry.path) in self.parts:
                    message = "Two members are one part."
                    raise ArtifactError(message, advice=_REPACK, where=entry.path)
                self.parts[part_key(entry.path)] = entry
        self.types = ContentTypes(self._types_root())

    def _types_root(self) -> strict_xml.Node:
        if self.content_types is None:
            message = f"The package does not have {CONTENT_TYPES}."
            raise ArtifactError(message, advice=_REPACK)
        return strict_xml.parse(self.read(self.content_types), CONTENT_TYPES, _MAX_XML)

    def read(self, entry: Entry) -> bytes:
        """Content of a member that holds XML, or is as small."""
        if entry.size > _MAX_XML:
            message = f"The member has more than {_MAX_XML} bytes."
            raise ArtifactError(message, where=entry.path, advice=MAKE_SMALLER)
        return self.zip.read(entry)

    def find(self, name: str) -> Entry | None:
        """The member of a part name or path."""
        return self.parts.get(part_key(name))

    def relationships(self, path: str) -> list[Relationship]:
        """Relationships of a part, of the package for an empty path; none if it has none."""
        entry = self.find(relationships_of(path))
        return [] if entry is None else read_relationships(self.read(entry), entry.path)

    def target(self, source: str, relationship: Relationship) -> Entry:
        """The part that a relationship leads to.

        Raises:
            ArtifactError: there is none in the package.
        """
        target = relationship.target
        if not target.startswith("/"):
            folder = source.rpartition("/")[0]
            target = f"{folder}/{target}" if folder else target
        segments: list[str] = []
        for segment in target.removeprefix("/").split("/"):
            if segment == "..":
                del segments[-1:]
            elif segment != ".":
                segments.append(segment)
        entry = None if relationship.is_external else self.find("/".join(segments))
        if entry is None:
            message = f'A relationship leads to "{relationship.target[:120]}", which is not there.'
            raise ArtifactError(message, advice=_REPACK, where=source or ROOT_RELATIONSHIPS)
        return entry


class ContentTypes:
    """The content types of a package (ECMA-376-2, 10.1.2.2).

    Args:
        root: of the document, which is changed in place.
    """

    def __init__(self, root: strict_xml.Node) -> None:
        self.root = root
        self._defaults: dict[str, str] = {}
        self._overrides: dict[str, str] = {}
        for element in root:
            kind = element.get("ContentType", "")
            if element.tag == f"{_TYPES}Default":
                key, known = element.get("Extension", "").lower(), self._defaults
            elif element.tag == f"{_TYPES}Override":
                key, known = part_key(element.get("PartName", "")), self._overrides
            else:
                continue
            if key in known:
                message = f'The content type of "{key[:120]}" is given twice.'
                raise ArtifactError(message, advice=_REPACK, where=CONTENT_TYPES)
            known[key] = kind
        if root.tag != f"{_TYPES}Types":
            message = "It does not list content types."
            raise ArtifactError(message, advice=_REPACK, where=CONTENT_TYPES)

    def of(self, path: str) -> str | None:
        """The content type of a member, None if it has none and so is no part."""
        key = part_key(path)
        name = key.rpartition("/")[2]
        extension = name.rpartition(".")[2] if "." in name else ""
        return self._overrides.get(key) or self._defaults.get(extension)

    def remove(self, paths: set[str], extensions: set[str]) -> None:
        """Drop what is said of these members (by `part_key`) and extensions."""
        for element in list(self.root):
            if (
                element.tag == f"{_TYPES}Override"
                and part_key(element.get("PartName", "")) in paths
            ) or (
                element.tag == f"{_TYPES}Default"
                and element.get("Extension", "").lower() in extensions
            ):
                self.root.remove(element)
        self._overrides = {k: v for k, v in self._overrides.items() if k not in paths}
        self._defaults = {k: v for k, v in self._defaults.items() if k not in extensions}

    def add_default(self, extension: str, kind: str) -> None:
        """Say it of an extension."""
        self._defaults[extension] = kind
        self._append("Default", {"Extension": extension, "ContentType": kind})

    def add_override(self, path: str, kind: str) -> None:
        """Say it of a member."""
        self._overrides[part_key(path)] = kind
        self._append("Override", {"PartName": part_name(path), "ContentType": kind})

    def _append(self, name: str, attributes: dict[str, str]) -> None:
        self.root.append(self.root.makeelement(f"{_TYPES}{name}", attributes))


def read_relationships(document: bytes, where: str) -> list[Relationship]:
    """Parse a relationships part.

    Raises:
        ArtifactError: it is something else, or two have one id.
    """
    root = strict_xml.parse(document, where, _MAX_XML)
    found = list(_relationships(root))
    if root.tag != f"{{{_RELATIONSHIPS}}}Relationships" or len({r.id for r in found}) < len(found):
        message = "It does not list relationships, or two with one id."
        raise ArtifactError(message, advice=_REPACK, where=where)
    return found


def write_relationships(relationships: list[Relationship]) -> bytes:
    """A relationships part, which is its own transformed form: so verifiers that do not know the
    relationships transform find the digest right as well."""
    return transform_relationships(relationships)


def write_types(types: ContentTypes) -> bytes:
    """The list of content types."""
    return strict_xml.write(types.root)


def transform_relationships(relationships: list[Relationship]) -> bytes:
    """What the relationships transform and canonicalization make of these (13.2.4.24)."""
    ordered = sorted(relationships, key=lambda each: each.id)
    return strict_xml.canonical(_tree(ordered))


def _tree(relationships: list[Relationship]) -> strict_xml.Node:
    from lxml import etree

    root = etree.Element(f"{{{_RELATIONSHIPS}}}Relationships", nsmap={None: _RELATIONSHIPS})
    for each in relationships:
        attributes = {
            "Type": each.type,
            "Target": each.target,
            "Id": each.id,
            "TargetMode": "External" if each.is_external else "Internal",
        }
        etree.SubElement(root, _RELATIONSHIP, attributes)
    return root


def _relationships(root: strict_xml.Node) -> Iterator[Relationship]:
    for element in root:
        if element.tag == _RELATIONSHIP:
            yield Relationship(
                element.get("Id", ""),
                element.get("Type", ""),
                element.get("Target", ""),
                element.get("TargetMode") == "External",
            )
