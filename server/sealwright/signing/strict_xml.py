"""XML documents inside of artifacts: bounded, without document types, and canonical when hashed.

Without a document type there are no entities and nothing external. lxml is loaded on first use: the
processes that only read artifact configurations have no use for it.
"""

from __future__ import annotations

import copy
import io
from typing import Any
from xml.parsers import expat

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW, MAKE_SMALLER

Node = Any  #: an lxml element; lxml carries no types

_XML = "{http://www.w3.org/XML/1998/namespace}"
_MAX_MARKUP = 2_500_000  # elements and attributes, which take more memory than their text
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
        raise ArtifactError(message, where=what, advice=MAKE_SMALLER)
    if document.count(b"<") + document.count(b"=") > _MAX_MARKUP:
        message = "The document has more elements and attributes than are accepted."
        raise ArtifactError(message, where=what, advice=MAKE_ANEW)
    _refuse_document_type(document, what)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        return etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(str(error.msg), what) from None


def write(root: Node) -> bytes:
    """The document in UTF-8 with a declaration; equal trees give equal bytes."""
    from lxml import etree

    text: bytes = etree.tostring(root, encoding="UTF-8")
    return _DECLARATION + text


def canonical(node: Node, *, exclusive: bool = False, with_comments: bool = False) -> bytes:
    """Canonical XML 1.0 (W3C, 2001), or Exclusive XML Canonicalization 1.0, of an element.

    The namespaces and ``xml:`` attributes that the element inherits are part of the first.

    Raises:
        ArtifactError: a namespace is relative, for which there is no canonical form.
    """
    from lxml import etree

    target = io.BytesIO()
    apex = node if exclusive or node.getparent() is None else _with_context(node)
    try:
        etree.ElementTree(apex).write_c14n(target, exclusive=exclusive, with_comments=with_comments)
    except etree.C14NError:
        message = "The document has relative namespaces, so it cannot be hashed."
        raise ArtifactError(message, where=local_name(node), advice=MAKE_ANEW) from None
    return target.getvalue()


def _with_context(node: Node) -> Node:
    """A copy that has for itself what the element inherits from those around it."""
    from lxml import etree

    apex = etree.Element(node.tag, nsmap=node.nsmap)
    for ancestor in [*reversed(list(node.iterancestors())), node]:
        for name, value in ancestor.attrib.items():
            if ancestor is node or name.startswith(_XML):
                apex.set(name, value)
    apex.text = node.text
    apex.extend(copy.deepcopy(child) for child in node)
    return apex


def local_name(node: Node) -> str:
    """Name without namespace; empty for comments and processing instructions."""
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _refuse_document_type(document: bytes, what: str) -> None:
    def refuse(*_: object) -> None:
        message = "The document has a document type declaration, which is not accepted."
        raise ArtifactError(message, where=what, advice="Have it written without <!DOCTYPE>.")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)  # noqa: FBT003 - expat takes no keywords
    except expat.ExpatError as error:
        raise _not_well_formed(expat.ErrorString(error.code), what) from None
    except (ValueError, LookupError):  # an encoding that Python does not know
        message = "The document's encoding is not supported."
        raise ArtifactError(message, where=what, advice="Use UTF-8.") from None


def _not_well_formed(why: str, what: str) -> ArtifactError:
    message = f"The document is not well-formed XML: {why[:200]}."
    return ArtifactError(message, where=what, advice=MAKE_ANEW)
