"""XML documents: their root element, and signatures beside them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.artifacts_signed import sign_deeply
from tests.toy import archive

from sealwright.errors import ArtifactError
from sealwright.signing import formats
from sealwright.signing.formats import xml

NAMESPACE = "urn:example:settings"
DOCUMENT = f'<?xml version="1.0"?><!-- note --><s:settings xmlns:s="{NAMESPACE}"/>'.encode()
DOCTYPE = b'<!DOCTYPE a [<!ATTLIST a xmlns CDATA #FIXED "urn:other">]><a/>'


def root(content: bytes) -> tuple[str, str]:
    found = xml.metadata(io.BytesIO(content))
    return found["root-element-name"], found["root-element-namespace"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (DOCUMENT, ("settings", NAMESPACE)),
        (b"<a/>", ("a", "")),
        (b"<a>and what is not read", ("a", "")),
        ('<a xmlns="urn:ä"/>'.encode("utf-16"), ("a", "urn:ä")),
        ('\ufeff<a xmlns="urn:b"/>'.encode(), ("a", "urn:b")),
        (b"<!--" + b" " * 500_000 + b"--><a/>", ("a", "")),
    ],
)
def test_the_root_element(content: bytes, expected: tuple[str, str]) -> None:
    assert xml.recognize(io.BytesIO(content))
    assert root(content) == expected


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"text", b"<", b"<a", b"<a b></a>", b"<a:b/>", b"\0<a/>", b"<?xml version='1.0'?>"),
        b"<?xml version='1.0' encoding='ebcdic-of-nowhere'?><a/>",
        b"<!--" + b" " * 2_000_000 + b"--><a/>",
        b"<a x='&undeclared;'/>",
    ],
)
def test_what_is_no_document(content: bytes) -> None:
    assert not xml.recognize(io.BytesIO(content))
    with pytest.raises(ArtifactError):
        root(content)


def test_document_types_are_not_judged() -> None:
    assert xml.recognize(io.BytesIO(DOCTYPE))
    with pytest.raises(ArtifactError, match="document type"):
        root(DOCTYPE)


def test_nothing_external_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.dtd"
    secret.write_text("<!ELEMENT a ANY>")
    content = f'<!DOCTYPE a SYSTEM "{secret.as_uri()}"><a/>'.encode()
    with pytest.raises(ArtifactError, match="document type"):
        root(content)


def test_it_is_any_file_to_the_registry() -> None:
    assert formats.recognize(io.BytesIO(DOCUMENT)).name == "file"


def body(restrictions: str) -> str:
    return (
        f'<zip-file><xml-file-set {restrictions}><include path="*.xml"/><for-each>'
        '<create-raw-signature output-file-name="${file.name}.sig"/>'
        '<create-cms-signature output-file-name="${file.name}.p7s"/></for-each>'
        "</xml-file-set></zip-file>"
    )


def test_signing_by_its_root_element(tmp_path: Path) -> None:
    content = archive({"a.xml": DOCUMENT})
    wanted = f'root-element-name="settings" root-element-namespace="{NAMESPACE}"'
    signed, found = sign_deeply(content, body(wanted), tmp_path)
    assert [each.directive for each in found] == ["create-raw-signature", "create-cms-signature"]
    assert b"a.xml.sig" in signed
    for other in ('root-element-name="other"', 'root-element-namespace=""'):
        with pytest.raises(ArtifactError, match="is required"):
            sign_deeply(content, body(other), tmp_path)
    assert len(sign_deeply(archive({"a.xml": DOCTYPE}), body(""), tmp_path)[1]) == 2
    with pytest.raises(ArtifactError, match="document type"):
        sign_deeply(archive({"a.xml": DOCTYPE}), body('root-element-name="a"'), tmp_path)
    with pytest.raises(ArtifactError, match="another format"):
        sign_deeply(archive({"a.xml": b"no XML"}), body(""), tmp_path)
