"""XML documents inside of artifacts: bounded, without document types, and canonical when hashed.

Without a document type there are no entities and nothing external. lxml is loaded on first use: the
processes that only read artifact configurations have no use for it.
"""

from __future__ import annotations

import io
from typing import Any
from xml.parsers import expat

from sealwright.errors import ArtifactError

Node = Any  #: an lxml element; lxml carries no types

_UNKNOWN_ENCODING = "its encoding is not supported"
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def parse(document: bytes, what: str, limit: int) -> Node:
    """The root element.

    Args:
        what: path of the document, for errors.
        limit: most bytes.

    Raises:
        ArtifactError: not well-formed, too large, nested too deeply, or with a document type.
    """
    from lxml import etree

    if len(document) > limit:
        message = f"The document has {len(document)} bytes; at most {limit} are accepted."
        raise ArtifactError(message, where=what)
    _refuse_document_type(document, what)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        return etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        raise _malformed(str(error.msg), what) from None


def write(root: Node) -> bytes:
    """The document in UTF-8 with a declaration; equal trees give equal bytes."""
    from lxml import etree

    text: bytes = etree.tostring(root, encoding="UTF-8")
    return _DECLARATION + text


def canonical(node: Node, *, exclusive: bool = False) -> bytes:
    """Canonical XML 1.0 (W3C, 2001), or Exclusive XML Canonicalization 1.0, without comments.

    The namespaces and ``xml:`` attributes that the node inherits are part of the first.
    """
    from lxml import etree

    target = io.BytesIO()
    etree.ElementTree(node).write_c14n(target, exclusive=exclusive, with_comments=False)
    return target.getvalue()


def local_name(node: Node) -> str:
    """Name without namespace; empty for comments and processing instructions."""
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _refuse_document_type(document: bytes, what: str) -> None:
    def refuse(*_: object) -> None:
        message = "The document has a document type declaration, which is not accepted."
        raise ArtifactError(message, where=what)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)  # noqa: FBT003 - expat takes no keywords
    except expat.ExpatError as error:
        raise _malformed(expat.ErrorString(error.code), what) from None
    except (ValueError, LookupError):  # an encoding that Python does not know
        raise _malformed(_UNKNOWN_ENCODING, what) from None


def _malformed(why: str, what: str) -> ArtifactError:
    message = f"The document is not well-formed XML: {why[:200]}."
    return ArtifactError(message, where=what)
