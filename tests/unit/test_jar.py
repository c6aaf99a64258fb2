"""Signatures of Java archives; what jarsigner made: see vectors/jar/README.md."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import cms as asn1_cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys
from tests.artifacts_signed import sign_deeply
from tests.toy import archive

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing import algorithms, cms, formats, jar_signature
from sealwright.signing.artifact import Directive
from sealwright.signing.formats import jar
from sealwright.signing.formats import zip as zip_format
from sealwright.signing.jar_manifest import Manifest

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "jar"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
MANIFEST = b"Manifest-Version: 1.0\nMain-Class: a.B\n\nName: a/\nSealed: true\n\n"
MEMBERS = {
    "a/B.class": b"\xca\xfe",
    "META-INF/services/x": b"a.B\n",
    "META-INF/MANIFEST.MF": MANIFEST,
}


def signed(
    content: bytes, kind: str = "p256", hash_algorithm: str = "sha256", timestamp: str = "none"
) -> bytes:
    target = io.BytesIO()
    directive = Directive(
        "jar-sign", {"hash-algorithm": hash_algorithm, "timestamp": timestamp}, "line 1"
    )
    identity = keys.pki().identity(kind, 1_700_000_000)
    keys.drive(
        jar.sign(io.BytesIO(content), directive, identity, target), keys.pki().leaf(kind).key
    )
    return target.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist()}


def spoilt(content: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """The archive with members replaced, added or (None) removed."""
    return archive({k: v for k, v in {**members(content), **changes}.items() if v is not None})


SIGNED = signed(archive(MEMBERS))


# --- signing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa-3072", "p384"])
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_signed_and_verified(kind: str, hash_algorithm: str) -> None:
    before = archive(MEMBERS)
    after = signed(before, kind, hash_algorithm, "rfc3161")
    (fact,) = jar.verify(io.BytesIO(after))
    assert (fact.format, fact.hash_algorithm) == ("jar", hash_algorithm)
    assert fact.signer == keys.pki().leaf(kind).der
    assert fact.timestamp is not None
    assert fact.timestamp_signer == keys.pki().tsa.der
    assert jar.content_digest(io.BytesIO(before)) == jar.content_digest(io.BytesIO(after))
    assert jar.kept_attributes(io.BytesIO(before)) == jar.kept_attributes(io.BytesIO(after))
    block = "META-INF/SIGNER." + ("RSA" if kind == "rsa-3072" else "EC")
    assert list(members(after)) == [
        "META-INF/MANIFEST.MF",
        "META-INF/SIGNER.SF",
        block,
        "a/B.class",
        "META-INF/services/x",
    ]


def test_the_folder_entry_stays_first_and_signing_again_replaces() -> None:
    once = signed(archive({"META-INF/": b"", **MEMBERS}), "rsa-3072")
    twice = signed(once, "p256")
    assert list(members(twice))[:4] == [
        "META-INF/",
        "META-INF/MANIFEST.MF",
        "META-INF/SIGNER.SF",
        "META-INF/SIGNER.EC",
    ]
    assert "META-INF/SIGNER.RSA" not in members(twice)
    (fact,) = jar.verify(io.BytesIO(twice))
    assert fact.signer == keys.pki().leaf("p256").der
    assert members(once)["META-INF/MANIFEST.MF"] == members(twice)["META-INF/MANIFEST.MF"]


def test_repeating_gives_the_same_bytes() -> None:
    assert signed(archive(MEMBERS), "rsa-3072") == signed(archive(MEMBERS), "rsa-3072")


def test_attributes_are_kept_and_stale_digests_go() -> None:
    manifest = (
        MANIFEST + b"Name: gone\nSHA-256-Digest: x\n\nName: a/B.class\nX: y\nMD5-Digest: z\n\n"
    )
    after = members(signed(archive({**MEMBERS, "META-INF/MANIFEST.MF": manifest})))
    parsed = Manifest.parse(after["META-INF/MANIFEST.MF"])
    assert parsed.main.attributes == (("Manifest-Version", "1.0"), ("Main-Class", "a.B"))
    assert list(parsed.sections) == ["a/", "a/B.class", "META-INF/services/x"]
    assert parsed.sections["a/"].kept == (("Sealed", "true"),)
    assert parsed.sections["a/B.class"].kept == (("X", "y"),)
    assert parsed.sections["a/B.class"].value("MD5-Digest") is None


def test_an_archive_without_manifest_gets_one() -> None:
    before = archive({"base/x": b"1", "grüße": b"2"})
    after = signed(before)
    assert len(jar.verify(io.BytesIO(after))) == 1
    assert jar.content_digest(io.BytesIO(before)) == jar.content_digest(io.BytesIO(after))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,69}", fullmatch=True),
            st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=200),
        ),
        max_size=5,
    ),
    st.lists(st.text("abc/é€ ", min_size=1, max_size=200), unique=True, max_size=5),
)
def test_manifests_are_read_as_written(main: list[tuple[str, str]], names: list[str]) -> None:
    first = [("Manifest-Version", "1.0"), *main]
    made = Manifest.build(first, [[("Name", name), ("X-Digest", "y")] for name in names])
    assert Manifest.parse(made.encoding) == made
    assert all(len(line) <= 72 for line in made.encoding.split(b"\r\n"))
    assert Manifest.parse(made.encoding.replace(b"\r\n", b"\n")).main.attributes == tuple(first)


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-zé]{1,80})?\.x", fullmatch=True),
        st.binary(max_size=300),
        max_size=6,
    )
)
def test_any_archive_is_signed_and_keeps_its_content(content: dict[str, bytes]) -> None:
    before = archive(content)
    after = signed(before)
    assert {k: v for k, v in members(after).items() if k in content} == content
    assert len(jar.verify(io.BytesIO(after))) == 1
    assert jar.content_digest(io.BytesIO(before)) == jar.content_digest(io.BytesIO(after))


# --- refusing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", list(members(SIGNED)))
@pytest.mark.untraced
def test_every_changed_byte_of_a_member_is_refused(path: str) -> None:
    content = members(SIGNED)[path]
    # No signature covers the issuer's certificate, which only helps to find a way to a root.
    issuer = keys.pki().intermediate.der
    start = content.find(issuer)
    unsigned = range(start, start + len(issuer)) if start >= 0 else range(0)
    for position in set(range(len(content))) - set(unsigned):
        changed = bytearray(content)
        changed[position] ^= 0x01
        with pytest.raises(SealwrightError):
            jar.verify(io.BytesIO(spoilt(SIGNED, {path: bytes(changed)})))


@pytest.mark.parametrize(
    "changes",
    [
        {"new": b"unsigned"},
        {"a/B.class": None},
        {"META-INF/MANIFEST.MF": None},
        {"META-INF/SIGNER.SF": None},
        {"META-INF/SIGNER.EC": None},
        {"META-INF/OTHER.EC": b""},
        {"META-INF/SIGNER.RSA": b""},
        {"META-INF/SIG-X": b""},
        {"META-INF/services/x": b"a.C\n"},
    ],
    ids=str,
)
def test_changed_archives_are_refused(changes: dict[str, bytes | None]) -> None:
    with pytest.raises(VerificationError):
        jar.verify(io.BytesIO(spoilt(SIGNED, changes)))


@pytest.mark.parametrize("kind", ["rsa-3072", "p384"])
def test_blocks_without_signed_attributes(kind: str) -> None:
    """Older JDKs make such blocks: the signature is over the signature file itself."""
    leaf, after = keys.pki().leaf(kind), signed(archive(MEMBERS), kind)
    block = f"META-INF/SIGNER.{'EC' if kind == 'p384' else 'RSA'}"
    text = members(after)["META-INF/SIGNER.SF"]
    options = [pkcs7.PKCS7Options[each] for each in ("Binary", "DetachedSignature", "NoAttributes")]
    bare = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(text)
        .add_signer(x509.load_der_x509_certificate(leaf.der), leaf.key, hashes.SHA256())
        .sign(Encoding.DER, options)
    )
    assert not cms.parse(bare).signers[0].signed_attributes
    (fact,) = jar.verify(io.BytesIO(spoilt(after, {block: bare})))
    assert (fact.signer, fact.hash_algorithm) == (leaf.der, "sha256")
    changed = {block: bare, "META-INF/SIGNER.SF": text.replace(b"Created-By: S", b"Created-By: T")}
    with pytest.raises(VerificationError):
        jar.verify(io.BytesIO(spoilt(after, changed)))


def test_signed_attributes_are_not_taken_for_a_signature_file() -> None:
    """A signature over attributes verifies as a bare one over their bytes (RFC 5652, 5.4), which
    must therefore never pass for a signature file."""
    block = asn1_cms.ContentInfo.load(members(SIGNED)["META-INF/SIGNER.EC"])
    (info,) = block["content"]["signer_infos"]
    attributes = info["signed_attrs"].untag().dump(force=True)
    kept = ("version", "sid", "digest_algorithm", "signature_algorithm", "signature")
    block["content"]["signer_infos"] = [{name: info[name] for name in kept}]
    forged = block.dump(force=True)
    data = cms.parse(forged)
    assert cms.verify(data, lambda algorithm: algorithms.digest(algorithm, attributes), bare=True)
    changes = {"META-INF/SIGNER.SF": attributes, "META-INF/SIGNER.EC": forged}
    with pytest.raises(ArtifactError, match="line"):
        jar.verify(io.BytesIO(spoilt(SIGNED, changes)))
    # whatever the lengths in it: in an attribute's place no header can be
    for length in range(256):
        header = bytes((0x31, length, 0x30, length, 0x06, 0x09))
        with pytest.raises(ArtifactError):
            Manifest.parse(header + attributes[6:])


def test_a_weak_digest_is_no_digest() -> None:
    weak = members(SIGNED)["META-INF/MANIFEST.MF"].replace(b"SHA-256-Digest", b"SHA1-Digest")
    with pytest.raises(VerificationError, match="missing"):
        jar.verify(io.BytesIO(spoilt(SIGNED, {"META-INF/MANIFEST.MF": weak})))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"\nManifest-Version: 1.0\n\n",
        b"Main-Class: x\n\n",
        b"Manifest-Version: 1.0\n\nName: a\n\nName: a\n\n",
        b"Manifest-Version: 1.0\n\nSealed: true\n\n",
        b"Manifest-Version:1.0\n\n",
        b"Manifest-Version: 1.0\nX: \xff\n\n",
        b"Manifest-Version: 1.0\nX\xc3: \n\n",
        b" Manifest-Version: 1.0\n\n",
        b"Name: a\n\n",
    ],
)
def test_malformed_manifests_are_refused(manifest: bytes) -> None:
    with pytest.raises(ArtifactError):
        signed(archive({**MEMBERS, "META-INF/MANIFEST.MF": manifest}))


def test_names_that_java_reads_otherwise_are_refused() -> None:
    content = archive({"grüße": b""})
    legacy = content.replace("grüße".encode(), b"gr\x81\xe1e__").replace(b"\0\x08", b"\0\0", 2)
    with pytest.raises(ArtifactError):
        signed(legacy)
    assert jar.verify(io.BytesIO(legacy)) == []  # nobody has to read it as Java does


def test_bombs_are_refused() -> None:
    with pytest.raises(ArtifactError, match="accepted"):
        signed(archive({"zeros": bytes(70 << 20)}))


def test_unsigned_and_other_files() -> None:
    assert jar.verify(io.BytesIO(archive(MEMBERS))) == []
    assert jar.verify(io.BytesIO(b"MZ")) == []
    assert formats.recognize(io.BytesIO(archive(MEMBERS))) is jar
    stub = b"#!/bin/sh\n" + archive(MEMBERS)
    assert zip_format.recognize(io.BytesIO(stub))
    assert not zip_format.recognize(io.BytesIO(b"text"))
    with pytest.raises(ArtifactError, match="in front"):
        signed(stub)
    with pytest.raises(ArtifactConfigurationError):
        jar.sign(io.BytesIO(), Directive("apk-sign"), keys.pki().identity(), io.BytesIO())


# --- vectors ------------------------------------------------------------------------------------


def test_every_vector_is_expected() -> None:
    assert {path.name for path in FOLDER.glob("*.jar")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_vector(name: str) -> None:
    content = (FOLDER / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == EXPECTED[name]["sha256"]
    found = [
        {
            "hash_algorithm": fact.hash_algorithm,
            "signer_sha256": hashlib.sha256(fact.signer).hexdigest(),
        }
        for fact in jar.verify(io.BytesIO(content))
    ]
    assert found == EXPECTED[name]["signatures"]
    assert found
    for path, data in members(content).items():
        if data:
            with pytest.raises(SealwrightError):
                jar.verify(io.BytesIO(spoilt(content, {path: b"x" + data})))


# --- through the engine -------------------------------------------------------------------------


@pytest.mark.parametrize("element", ["jar-file", "zip-file"])
def test_deep_signing(element: str, tmp_path: Path) -> None:
    before = archive({**MEMBERS, "lib/in.jar": archive({"x": b"1"})})
    inner = '<jar-file path="lib/*.jar"><jar-sign hash-algorithm="sha384"/></jar-file>'
    output, found = sign_deeply(before, f"<{element}>{inner}<jar-sign/></{element}>", tmp_path)
    assert [each.fact.hash_algorithm for each in found] == ["sha384", "sha256"]
    manifest = "META-INF/MANIFEST.MF"
    has_one = manifest in MEMBERS
    expected = {"META-INF/SIGNER.SF": "added", "META-INF/SIGNER.RSA": "added"}
    for each, change in zip(found, ("added", "changed" if has_one else "added"), strict=True):
        assert {one.path: one.change for one in each.members} == expected | {manifest: change}
    assert {one.what.partition(":")[0] for one in found[0].members} == {
        "manifest", "signature file", "signature block",
    }  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(output)) as opened:
        assert all(opened.getinfo(one.path).file_size == one.size for one in found[1].members)
    (fact,) = jar.verify(io.BytesIO(members(output)["lib/in.jar"]))
    assert fact.hash_algorithm == "sha384"


def test_members_of_the_signature_cannot_be_signed(tmp_path: Path) -> None:
    file = '<file path="META-INF/MANIFEST.MF"><create-raw-signature output-file-name="s"/></file>'
    with pytest.raises(ArtifactError, match="belongs to the signature"):
        sign_deeply(archive(MEMBERS), f"<jar-file>{file}<jar-sign/></jar-file>", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"Main-Class: a.B", b"Main-Class: a.C"),
        lambda content: content.replace(b"Sealed: true", b"Sealed: fals"),
    ],
)
def test_a_signer_that_changes_the_manifest_is_found_out(
    change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = jar_signature._signed_manifest

    def dishonest(*arguments: Any) -> Manifest:
        return Manifest.parse(change(honest(*arguments).encoding))

    monkeypatch.setattr(jar_signature, "_signed_manifest", dishonest)
    inner = '<jar-file path="in.jar"><jar-sign/></jar-file>'
    before = archive({**MEMBERS, "in.jar": archive(MEMBERS)})
    for body in ("<jar-file><jar-sign/></jar-file>", f"<jar-file>{inner}<jar-sign/></jar-file>"):
        with pytest.raises(VerificationError, match="more than the signature"):
            sign_deeply(before, body, tmp_path)
