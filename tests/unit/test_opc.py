"""Signatures of Open Packaging files; what others signed: see vectors/opc/README.md."""

from __future__ import annotations

import base64
import io
import json
import random
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.fakes.hostile_archives import Member, build
from tests.toy import archive

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing import algorithms, formats, opc_package, strict_xml
from sealwright.signing.artifact import Directive
from sealwright.signing.containers.zip import NewMember, ZipContainer
from sealwright.signing.formats import jar, opc
from sealwright.signing.signature_value import concatenated

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "opc"
RELIC = (FOLDER / "relic-sha256.vsix").read_bytes()
TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">{}'
    '<Default Extension="xml" ContentType="text/xml"/>'
    '<Default Extension="bin" ContentType="application/octet-stream"/>'
    '<Default Extension="json" ContentType="application/json"/>'
    '<Default Extension="exe" ContentType="application/octet-stream"/>'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    "</Types>"
)
RELS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="b" Type="urn:doc" Target="x.xml"/>\n <!-- no part of it -->'
    '<Relationship Id="a" Type="urn:web" Target="http://example.test/" TargetMode="External"/>'
    "</Relationships>"
)
SMALL: Mapping[str, bytes] = {"x.xml": b"<x/>", "dir/a b.bin": b"text", "LICENSE": b"free"}


def package(members: Mapping[str, bytes] = SMALL, *, types: str = "", rels: str = RELS) -> bytes:
    whole = {"[Content_Types].xml": TYPES.format(types).encode(), **members}
    return archive({**whole, "_rels/.rels": rels.encode()} if rels else whole)


def signed(content: bytes, kind: str = "rsa-3072", **options: str) -> bytes:
    target = io.BytesIO()
    named = {name.replace("_", "-"): value for name, value in options.items()}
    identity = keys.pki().identity(kind, 1_700_000_000)
    generator = opc.sign(io.BytesIO(content), Directive("opc-sign", named), identity, target)
    keys.drive(generator, keys.pki().leaf(kind).key)
    return target.getvalue()


@cache
def signed_small() -> bytes:
    return signed(package())


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def with_members(content: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    container = ZipContainer(io.BytesIO(content), 999)
    removed = [entry.order for entry in container.entries() if entry.path in changes]
    target = io.BytesIO()
    last = [NewMember(path, each) for path, each in changes.items() if each is not None]
    container.rewrite(target, removed, last=last)
    return target.getvalue()


def signature_path(content: bytes) -> str:
    return next(name for name in members(content) if name.endswith(".psdsxs"))


def with_signature(content: bytes, old: bytes, new: bytes) -> bytes:
    path = signature_path(content)
    document = members(content)[path]
    assert old in document
    return with_members(content, {path: document.replace(old, new, 1)})


@pytest.mark.parametrize("kind", ["rsa-3072", "p384"])
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_signed_and_verified(kind: str, hash_algorithm: str) -> None:
    before = package()
    after = signed(before, kind, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    (fact,) = opc.verify(io.BytesIO(after))
    assert (fact.format, fact.hash_algorithm) == ("opc", hash_algorithm)
    assert fact.signer == keys.pki().leaf(kind).der
    assert fact.timestamp_signer == keys.pki().tsa.der
    assert opc.content_digest(io.BytesIO(after)) == opc.content_digest(io.BytesIO(before))
    assert b"2023-11-14T22:13:20.0+00:00" in members(after)[signature_path(after)]


def test_signing_again_replaces_and_repeating_gives_the_same_bytes() -> None:
    once = signed_small()
    assert signed(once) == signed(package()) == once
    assert signed(signed(package(), "p256")) == once  # another signer's name is another part's
    without = package(rels="")
    assert signed(signed(without)) == signed(without)


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-zé %+]{1,8})?(\.bin|\.xml|)", fullmatch=True),
        st.binary(max_size=300),
        max_size=6,
    ),
    st.sets(st.from_regex(r"[A-Za-z_]{1,6}", fullmatch=True), max_size=4),
)
def test_any_package_is_signed_without_a_trace(content: dict[str, bytes], ids: set[str]) -> None:
    rows = "".join(f'<Relationship Id="{each}" Type="t" Target="u"/>' for each in ids)
    rels = f'<Relationships xmlns="{RELS.split(chr(34))[1]}">{rows}</Relationships>'
    content = {path: each for path, each in content.items() if not any(
        other.startswith(path + "/") for other in content)}  # fmt: skip
    before = package(content, rels=rels)
    after = signed(before)
    assert len(opc.verify(io.BytesIO(after))) == 1
    assert opc.content_digest(io.BytesIO(after)) == opc.content_digest(io.BytesIO(before))
    kept = members(after)
    assert {path: kept[path] for path in content} == content


def test_what_relic_signed() -> None:
    (fact,) = opc.verify(io.BytesIO(RELIC))
    assert (fact.hash_algorithm, fact.timestamp) == ("sha256", None)
    replaced = signed(RELIC)
    assert opc.verify(io.BytesIO(replaced))[0].signer == keys.pki().leaf("rsa-3072").der
    assert sum(name.endswith(".psdsxs") for name in members(replaced)) == 1
    for position in range(0, len(RELIC), 997):
        changed = bytearray(RELIC)
        changed[position] ^= 0x40
        try:
            opc.verify(io.BytesIO(changed))
        except SealwrightError:
            continue
        assert members(bytes(changed)) == members(RELIC)  # compressed data may be ambiguous


# --- what is signed -----------------------------------------------------------------------------


def test_relationships_are_transformed() -> None:
    read = opc_package.read_relationships(RELS.encode(), "")
    assert opc_package.transform_relationships(read) == (
        b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        b'<Relationship Id="a" Target="http://example.test/" TargetMode="External" Type="urn:web">'
        b'</Relationship><Relationship Id="b" Target="x.xml" TargetMode="Internal" Type="urn:doc">'
        b"</Relationship></Relationships>"
    )


def test_what_is_written_is_what_is_hashed() -> None:
    """So that verifiers without the relationships transform, such as relic, are right too."""
    content = members(signed_small())
    document = content[next(name for name in content if name.endswith(".psdsxs"))].decode()
    for path in ("_rels/.rels", "package/services/digital-signature/_rels/origin.psdor.rels"):
        digest = base64.b64encode(algorithms.digest("sha256", content[path])).decode()
        reference = document[document.index(f'URI="/{path}?') :]
        assert reference.index(digest) < reference.index("</Reference>")


def test_relationships_to_other_signatures_may_be_added() -> None:
    content = signed_small()
    path = "package/services/digital-signature/_rels/origin.psdor.rels"
    kind = "http://schemas.openxmlformats.org/package/2006/relationships/digital-signature/"
    row = '<Relationship Id="R9" Target="/x.xml" Type="%s"/></Relationships>'
    harmless = row % (kind + "certificate")
    rels = members(content)[path].decode()
    more = with_members(content, {path: rels.replace("</Relationships>", harmless).encode()})
    assert len(opc.verify(io.BytesIO(more))) == 1
    root = members(content)["_rels/.rels"].decode()
    for wrong in (row % "urn:other", row % kind.replace("signature/", "")):
        added = with_members(
            content, {"_rels/.rels": root.replace("</Relationships>", wrong).encode()}
        )
        with pytest.raises(VerificationError, match='"R9" is not signed'):
            opc.verify(io.BytesIO(added))


def test_canonical_form_takes_in_what_is_inherited() -> None:
    root = etree.fromstring(
        '<a xmlns="urn:d" xmlns:u="urn:u" xml:lang="en" xml:space="preserve">'
        '<b xml:lang="de" z="1" a="2"><!-- c --><u:c/>\r\n&#13;</b>tail</a>'
    )
    inclusive = (
        b'<b xmlns="urn:d" xmlns:u="urn:u" a="2" z="1" xml:lang="de" xml:space="preserve">'
        b"%s<u:c></u:c>\n&#xD;</b>"
    )
    assert strict_xml.canonical(root[0]) == inclusive % b""
    assert strict_xml.canonical(root[0], with_comments=True) == inclusive % b"<!-- c -->"
    assert strict_xml.canonical(root[0], exclusive=True) == (
        b'<b xmlns="urn:d" a="2" z="1" xml:lang="de"><u:c xmlns:u="urn:u"></u:c>\n&#xD;</b>'
    )


def test_values_as_xml_holds_them() -> None:
    signature = keys.pki().leaf("p384").key.sign(b"", ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signature)
    assert concatenated(signature, 48) == r.to_bytes(48, "big") + s.to_bytes(48, "big")
    assert concatenated(b"rsa", 0) == b"rsa"
    for wrong, size in ((signature, 32), (b"rsa", 48)):
        with pytest.raises(VerificationError, match="elliptic curve"):
            concatenated(wrong, size)


# --- refusing -----------------------------------------------------------------------------------


def test_every_changed_byte_is_refused() -> None:
    content = signed(package({"x.xml": b"<x/>"}))
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 0x01
        try:
            facts = opc.verify(io.BytesIO(changed))
        except SealwrightError:
            continue
        # Compressed data may be ambiguous.
        same = not facts or members(bytes(changed)) == members(content)
        assert same or _is_free(content, position), position


def _is_free(content: bytes, position: int) -> bool:
    """Versions, times and attributes of members, which no signature covers."""
    at = 0
    while (at := content.find(b"PK\x03\x04", at) + 1) > 0:
        if at + 3 <= position < at + 13:
            return True
    at = 0
    while (at := content.find(b"PK\x01\x02", at) + 1) > 0:
        if at + 3 <= position < at + 15 or at + 33 <= position < at + 41:
            return True
    return False


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"x.xml": b"<y/>"}, "changed"),
        ({"x.xml": None}, "missing"),
        ({"new.xml": b""}, "not signed"),
        ({"dir/_rels/a b.bin.rels": RELS.encode()}, "not signed"),
        ({"_rels/.rels": RELS.replace("x.xml", "y.xml").encode()}, None),
        ({"[Content_Types].xml": TYPES.format("").encode()}, None),
        ({"package/services/digital-signature/origin.psdor": None}, "not there"),
    ],
)
def test_changed_packages_are_refused(changes: dict[str, bytes | None], why: str | None) -> None:
    content = with_members(signed_small(), changes)
    if "_rels/.rels" in changes:
        assert opc.verify(io.BytesIO(content)) == []  # nothing leads to the signature any more
        return
    with pytest.raises(SealwrightError, match=why):
        opc.verify(io.BytesIO(content))


def test_another_content_type_is_refused() -> None:
    content = signed_small()
    types = members(content)["[Content_Types].xml"].replace(b"text/xml", b"text/evil")
    with pytest.raises(VerificationError, match="another content type"):
        opc.verify(io.BytesIO(with_members(content, {"[Content_Types].xml": types})))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'URI="/x.xml', b'URI="/X.XML', "changed"),
        (b'URI="#idPackageObject"', b'URI="#other"', "signature value"),
        (b"<Object Id=", b'<Object Id="idPackageObject"/><Object Id=', "one Id"),
        (b"<SignatureValue>", b"<SignatureValue>A", "base64|signature value"),
        (b"<SignatureValue>", b"<SignatureValue>!", "base64"),
        (b"</SignedInfo>", b"</SignedInfo><SignedInfo/>", "2 elements SignedInfo"),
        (b"xmldsig-more#rsa-sha256", b"xmldsig-more#hmac-sha256", "signature method"),
        (b"<X509Certificate>", b"<X509Certificate>AAAA", "."),
        (b"<Signature ", b"<Signatura ", "well-formed"),
        (b"?>", b"?><!DOCTYPE a [<!ENTITY b 'c'>]>", "document type"),
        (b"<KeyInfo>", b"<KeyInfo><!--", "well-formed"),
    ],
)
def test_changed_signatures_are_refused(old: bytes, new: bytes, why: str) -> None:
    with pytest.raises(SealwrightError, match=why):
        opc.verify(io.BytesIO(with_signature(signed_small(), old, new)))


def test_a_signature_of_another_package_and_a_wrong_time_stamp() -> None:
    other = signed(package({"x.xml": b"<other/>"}))
    path = signature_path(other)
    content = with_members(signed_small(), {path: members(other)[path]})
    with pytest.raises(VerificationError):
        opc.verify(io.BytesIO(content))
    stamped, again = (
        members(signed(package(), timestamp="rfc3161", hash_algorithm=each))[path]
        for each in ("sha256", "sha512")
    )
    stamp = again[again.index(b"<Object><TimeStamp") :]
    mixed = stamped[: stamped.index(b"<Object><TimeStamp")] + stamp
    with pytest.raises(VerificationError):
        opc.verify(io.BytesIO(with_members(signed_small(), {path: mixed})))


def test_odd_packages() -> None:
    assert formats.recognize(io.BytesIO(package())) is opc
    assert not opc.recognize(io.BytesIO(archive({"x": b""})))
    assert not opc.recognize(io.BytesIO(b"MZ"))
    assert opc.verify(io.BytesIO(package())) == []
    with pytest.raises(ArtifactConfigurationError):
        opc.sign(io.BytesIO(), Directive("jar-sign"), keys.pki().identity(), io.BytesIO())
    double = (
        '<Override PartName="/x.xml" ContentType="a"/><Override PartName="/X.xml" ContentType="b"/>'
    )
    origin = RELS.replace("urn:doc", "http://schemas.openxmlformats.org/package/2006/relationships/"
                          "digital-signature/origin")  # fmt: skip
    cases = {
        "given twice": package(types=double),
        "one part": package({"a b.bin": b"", "a%20b.bin": b""}),
        "one id": package(rels=RELS.replace('Id="b"', 'Id="a"')),
        "unusual place": package(rels=origin),
        "several origins": package(rels=origin.replace("urn:web", origin.split('"')[5])),
        "document type": package(rels="<!DOCTYPE a>" + RELS),
        "not list content types": archive({"[Content_Types].xml": b"<a/>"}),
        "plain ZIP": b"stub" + package(),
    }
    for why, content in cases.items():
        with pytest.raises(ArtifactError, match=why):
            signed(content)


def test_hostile_packages_raise_nothing_else() -> None:
    good, rng = signed_small(), random.Random(7)
    path = signature_path(good)
    document = members(good)[path]
    for _ in range(120):
        data = bytearray(document)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.getrandbits(8)
        try:
            opc.verify(io.BytesIO(with_members(good, {path: bytes(data)})))
        except SealwrightError:
            continue


# --- through the engine -------------------------------------------------------------------------


def vsix() -> bytes:
    program = launcher().read_bytes()
    manifest = {
        "id": "é",
        "vsixId": "t",
        "files": [{"fileName": "/tool.exe", "sha256": "00"}, {"fileName": "/gone", "sha256": "11"}],
    }
    files = {"tool.exe": program, "manifest.json": json.dumps(manifest).encode(), "x.xml": b"<x/>"}
    return package({**files, "in.jar": archive({"a": b"1"})}, rels="")


def test_a_vsix_is_signed_deeply(tmp_path: Path) -> None:
    body = (
        '<zip-file><opc-file path="*.vsix"><pe-file path="tool.exe"><authenticode-sign/></pe-file>'
        '<jar-file path="in.jar"><jar-sign/></jar-file><opc-sign/></opc-file></zip-file>'
    )
    output, found = sign_deeply(build([Member(b"a.vsix", vsix())]), body, tmp_path)
    assert [each.fact.format for each in found] == ["authenticode", "jar", "opc"]
    content = members(members(output)["a.vsix"])
    told = {one.path: one.change for one in found[2].members}
    assert told.pop("manifest.json") == told.pop("[Content_Types].xml") == "changed"
    assert set(told.values()) == {"added"}
    assert set(told) == content.keys() - members(vsix()).keys()
    assert all(one.what for one in found[2].members)
    digest = algorithms.digest("sha256", content["tool.exe"]).hex().upper()
    files = json.loads(content["manifest.json"])["files"]
    assert [each["sha256"] for each in files] == [digest, "11"]
    assert json.loads(content["manifest.json"])["id"] == "é"
    again, _ = sign_deeply(output, body, tmp_path)
    assert len(opc.verify(io.BytesIO(members(again)["a.vsix"]))) == 1


def test_a_signed_package_is_not_repacked(tmp_path: Path) -> None:
    body = '<opc-file><jar-file path="in.jar"><jar-sign/></jar-file></opc-file>'
    output, _ = sign_deeply(vsix(), body, tmp_path)
    assert len(jar.verify(io.BytesIO(members(output)["in.jar"]))) == 1
    with pytest.raises(ArtifactError, match="signed already"):
        sign_deeply(signed(vsix()), body, tmp_path)
