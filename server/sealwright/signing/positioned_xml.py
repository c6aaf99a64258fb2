"""XML into a tree of elements that know their line and column.

Only what a configuration needs: elements and attributes in one namespace. Document types (and so
entities and everything external) are refused, and size, depth and counts are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from sealwright.errors import ArtifactConfigurationError

MAX_BYTES = 1 << 20
MAX_DEPTH = 48
MAX_ELEMENTS = 20_000
MAX_ATTRIBUTE_LENGTH = 4096
_SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_SEPARATOR = "\x1f"  # not an XML character, so no name can hold it


@dataclass
class XmlElement:
    """One element.

    Attributes:
        name: local name; the namespace has been checked.
        attributes: by local name; ``xsi:`` attributes are left out.
        where: ``line 4, column 9`` of its ``<`` (both from 1, column in characters).
    """

    name: str
    attributes: Mapping[str, str]
    where: str
    children: list[XmlElement] = field(default_factory=list)


def read_xml(document: bytes, namespace: str) -> XmlElement:
    """Parse `document`, all of whose elements must be in `namespace`.

    Raises:
        ArtifactConfigurationError: not well-formed, over a limit, a document type, text where only
            elements belong, or a foreign namespace.
    """
    if len(document) > MAX_BYTES:
        message = f"The configuration has {len(document)} bytes; at most {MAX_BYTES} are accepted."
        raise ArtifactConfigurationError(
            message, advice="Shorten it: wildcards and sets stand for many files."
        )
    return _Builder(namespace).build(document)


class _Builder:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.root: XmlElement | None = None
        self.open: list[XmlElement] = []
        self.count = 0
        self.parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = self.doctype

    def build(self, document: bytes) -> XmlElement:
        try:
            self.parser.Parse(document, True)  # noqa: FBT003 - expat takes no keywords
        except expat.ExpatError as error:
            message = f"The configuration is not well-formed XML: {expat.ErrorString(error.code)}."
            where = f"line {error.lineno}, column {error.offset + 1}"
            raise ArtifactConfigurationError(
                message, where=where, advice="Correct it there; any XML editor marks the place."
            ) from None
        except (ValueError, LookupError):  # an encoding that Python does not know
            message = "The configuration's encoding is not supported."
            raise ArtifactConfigurationError(message, advice="Use UTF-8.") from None
        assert self.root is not None  # noqa: S101 - expat refuses a document without a root
        return self.root

    def where(self) -> str:
        return f"line {self.parser.CurrentLineNumber}, column {self.parser.CurrentColumnNumber + 1}"

    def fail(self, message: str, advice: str = "") -> ArtifactConfigurationError:
        return ArtifactConfigurationError(message, advice=advice, where=self.where())

    def start(self, qualified: str, raw: dict[str, str]) -> None:
        name = self.local_name(qualified)
        self.count += 1
        if self.count > MAX_ELEMENTS:
            message = f"The configuration has more than {MAX_ELEMENTS} elements."
            raise self.fail(message)
        if len(self.open) >= MAX_DEPTH:
            message = f"Elements are nested more than {MAX_DEPTH} deep."
            raise self.fail(message)
        element = XmlElement(name, self.attributes(name, raw), self.where())
        if self.open:
            self.open[-1].children.append(element)
        else:
            self.root = element
        self.open.append(element)

    def local_name(self, qualified: str) -> str:
        namespace, separator, name = qualified.rpartition(_SEPARATOR)
        if namespace == self.namespace:
            return name
        found = f'the namespace "{namespace}"' if separator else "no namespace"
        message = f"<{name}> is in {found}."
        raise self.fail(
            message,
            f'Write xmlns="{self.namespace}" on the root element.',
        )

    def attributes(self, name: str, raw: dict[str, str]) -> dict[str, str]:
        found = {}
        for qualified, value in raw.items():
            namespace, _, attribute = qualified.rpartition(_SEPARATOR)
            if namespace == _SCHEMA_INSTANCE:
                continue
            if namespace:
                message = f'<{name}>: attribute "{attribute}" is in a foreign namespace.'
                raise self.fail(message)
            if len(value) > MAX_ATTRIBUTE_LENGTH:
                message = (
                    f'<{name}>: attribute "{attribute}" is longer than {MAX_ATTRIBUTE_LENGTH} '
                    "characters."
                )
                raise self.fail(message)
            found[attribute] = value
        return found

    def end(self, _qualified: str) -> None:
        self.open.pop()

    def text(self, data: str) -> None:
        if data.strip():
            message = f'Text "{data.strip()[:40]}" is not allowed in <{self.open[-1].name}>.'
            raise self.fail(
                message,
                "The language consists of elements and attributes only.",
            )

    def doctype(self, *_: object) -> None:
        message = "A document type declaration is not allowed."
        raise self.fail(message, "Remove <!DOCTYPE ...>.")
