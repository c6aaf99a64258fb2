"""XML documents: signatures beside them, and restrictions on their root element.

Only the start of a document is read, up to its root element's first tag. A document type
declaration could change what that tag means, by entities and default attributes, so there must be
none where the root element is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO
from xml.parsers import expat

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW
from sealwright.signing.detached_signature import (
    content_digest,
    directives,
    sign,
    verify,
    verify_detached,
)

__all__ = [
    "content_digest",
    "directives",
    "metadata",
    "name",
    "recognize",
    "sign",
    "verify",
    "verify_detached",
]

name = "xml-file"

_PIECE = 1 << 16
_MAX_PROLOG = 1 << 20  # bytes up to the end of the root element's first tag
_SEPARATOR = "\x1f"  # not an XML character, so no name can hold it


class _Found(Exception):  # noqa: N818 - no error: it ends the parser
    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.root = root


class _DocumentType(Exception):  # noqa: N818
    pass


def recognize(file: BinaryIO) -> bool:
    """Whether it begins as a well-formed document, with a document type declaration or without."""
    try:
        _root(file)
    except _DocumentType:
        return True
    except ArtifactError:
        return False
    return True


def metadata(file: BinaryIO) -> Mapping[str, str]:
    """Name and namespace of the root element; the namespace is empty where it has none.

    Raises:
        ArtifactError: the document is malformed, or has a document type declaration.
    """
    try:
        namespace, _, local = _root(file).rpartition(_SEPARATOR)
    except _DocumentType:
        message = "The document has a document type declaration, so its root element is not judged."
        advice = "Remove <!DOCTYPE ...>, or the restrictions on the root element."
        raise ArtifactError(message, advice=advice) from None
    return {"root-element-name": local, "root-element-namespace": namespace}


def _root(file: BinaryIO) -> str:
    """The root element's qualified name. Nothing external is read, and no entity resolved."""
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.StartElementHandler = _found
    parser.StartDoctypeDeclHandler = _document_type
    file.seek(0)
    read = 0
    try:
        while (piece := file.read(_PIECE)) and read < _MAX_PROLOG:
            read += len(piece)
            parser.Parse(piece, False)  # noqa: FBT003 - expat takes no keywords
        if not piece:
            parser.Parse(b"", True)  # noqa: FBT003
    except _Found as found:
        return found.root
    except expat.ExpatError as error:
        message = f"The file is not well-formed XML: {expat.ErrorString(error.code)}."
        raise ArtifactError(message, advice=MAKE_ANEW) from None
    except (ValueError, LookupError):  # an encoding that Python does not know
        message = "The document's encoding is not supported."
        raise ArtifactError(message, advice="Use UTF-8.") from None
    message = "The document's root element is not near its start."
    raise ArtifactError(message, advice=MAKE_ANEW)


def _found(root: str, _attributes: object) -> None:
    raise _Found(root)


def _document_type(*_: object) -> None:
    raise _DocumentType
