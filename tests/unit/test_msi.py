"""Windows Installer files: signing, verifying, and refusing."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys
from tests.fakes.compound_files import PATCH, build
from tests.shared import sample

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing import algorithms, authenticode, formats, summary_information
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.containers.compound_file import CompoundFile
from sealwright.signing.containers.compound_writer import Content, rewrite
from sealwright.signing.containers.msi_names import (
    SIGNATURE,
    SIGNATURE_EX,
    read_stream_name,
    stream_name,
    table_name,
)
from sealwright.signing.formats import msi

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "msi"
UNSIGNED = (VECTORS / "wixl.msi").read_bytes()
STORAGES = (VECTORS / "storages.msp").read_bytes()
EX = msi.EX_OPTION.replace("-", "_")


def sign(content: bytes, kind: str = "p256", **options: str) -> bytes:
    directive = Directive(
        "authenticode-sign", {name.replace("_", "-"): value for name, value in options.items()}
    )
    trusted = keys.pki()
    target = io.BytesIO()
    identity = trusted.identity(kind, 1700000000)
    generator = msi.sign(io.BytesIO(content), directive, identity, target)
    assert keys.drive(generator, trusted.leaf(kind).key).replaced
    return target.getvalue()


def verify(content: bytes) -> list[SignatureFact]:
    return msi.verify(io.BytesIO(content))


def with_streams(content: bytes, streams: dict[bytes, Content], removed: bytes = b"") -> bytes:
    target = io.BytesIO()
    rewrite(CompoundFile(io.BytesIO(content)), target, streams, [removed])
    return target.getvalue()


def streams(content: bytes) -> dict[bytes, bytes]:
    package = CompoundFile(io.BytesIO(content))
    return {
        node.name: package.read(node, 1 << 30) for node in package.root.children if node.is_stream
    }


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_every_key_and_hash(kind: str, hash_algorithm: str) -> None:
    assert verify(UNSIGNED) == []
    signed = sign(UNSIGNED, kind, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    (fact,) = verify(signed)
    assert (fact.format, fact.hash_algorithm) == ("authenticode", hash_algorithm)
    assert fact.signer == keys.pki().leaf(kind).der
    assert fact.timestamp_signer == keys.pki().tsa.der
    digest = msi.content_digest
    assert digest(io.BytesIO(UNSIGNED)) == digest(io.BytesIO(signed))


@pytest.mark.parametrize("content", [UNSIGNED, STORAGES])
@pytest.mark.parametrize("extended", ["true", "false"])
def test_append_and_replace(content: bytes, extended: str) -> None:
    options = {EX: extended}
    once = sign(content, "rsa-3072", append="true", **options)
    assert (SIGNATURE_EX in streams(once)) is (extended == "true")
    twice = sign(once, append="true", **options)
    assert [fact.signer for fact in verify(twice)] == [
        keys.pki().leaf("rsa-3072").der,
        keys.pki().leaf("p256").der,
    ]
    assert sign(twice, "rsa-3072", **options) == once == sign(content, "rsa-3072", **options)
    before, after = streams(content), streams(twice)
    assert {name: after[name] for name in before} == before
    if extended == "true":
        with pytest.raises(ArtifactError, match="Only a sha256 signature"):
            sign(once, append="true", hash_algorithm="sha384")
    else:
        assert len(verify(sign(once, append="true", hash_algorithm="sha384"))) == 2


def test_extended_digest_can_be_kept_as_it_is() -> None:
    for extended in ("true", "false"):
        signed = sign(UNSIGNED, **{EX: extended})
        again = sign(signed, "rsa-3072", **{EX: "keep"}, hash_algorithm="sha512")
        assert (SIGNATURE_EX in streams(again)) is (extended == "true")
        assert len(verify(again)) == 1


def test_what_windows_signed_verifies() -> None:
    content = sample("minimal-signed-with-signtool.msi").read_bytes()
    assert formats.recognize(io.BytesIO(content)) is msi
    (fact,) = verify(content)
    assert fact.hash_algorithm == "sha1"
    assert SIGNATURE_EX in streams(content)
    unsigned = sample("minimal.msi").read_bytes()
    assert msi.content_digest(io.BytesIO(content)) == msi.content_digest(io.BytesIO(unsigned))
    assert len(verify(sign(content))) == 1


@pytest.mark.parametrize("name", ["authenticode-verify", "jar-sign"])
def test_other_directives_sign_nothing(name: str) -> None:
    with pytest.raises(ArtifactConfigurationError, match=name):
        msi.sign(io.BytesIO(SIGNED), Directive(name), keys.pki().identity(), io.BytesIO())


# --- what is refused ----------------------------------------------------------------------------

SIGNED = sign(UNSIGNED)
PLAIN = sign(UNSIGNED, **{EX: "false"})
M_ENTRY = b"m" + bytes(63) + b"\4\0"  # a directory entry's name and its length


@pytest.mark.parametrize("content", [SIGNED, PLAIN])
def test_every_changed_stream_is_noticed(content: bytes) -> None:
    for name, data in streams(content).items():
        changed = data[:-1] + bytes([data[-1] ^ 1]) if data else b"x"
        with pytest.raises(SealwrightError):
            verify(with_streams(content, {name: changed}))
        if name == SIGNATURE:
            assert verify(with_streams(content, {}, name)) == []
        elif data:
            with pytest.raises(VerificationError, match=r"differ|changed"):
                verify(with_streams(content, {}, name))


def test_names_and_times_are_covered_by_the_extended_digest() -> None:
    signed = sign(STORAGES)
    entry = signed.index(M_ENTRY)
    renamed = signed[:entry] + b"n" + signed[entry + 1 :]
    with pytest.raises(VerificationError, match="Names, sizes or times"):
        verify(renamed)
    plain = sign(STORAGES, **{EX: "false"})
    entry = plain.index(M_ENTRY)
    assert len(verify(plain[:entry] + b"n" + plain[entry + 1 :])) == 1


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (SIGNED + b"PK\3\4 an archive", ArtifactError, "appended"),
        (with_streams(SIGNED, {SIGNATURE_EX: b"short"}), ArtifactError, "no digest"),
        (with_streams(SIGNED, {SIGNATURE_EX: bytes(100)}), ArtifactError, "more than 64"),
        (with_streams(SIGNED, {SIGNATURE: b"\0" * 8}), ArtifactError, "ASN.1|DER"),
        (
            with_streams(SIGNED, {SIGNATURE: streams(SIGNED)[SIGNATURE] + b"smuggled"}),
            ArtifactError,
            "hides data",
        ),
        (with_streams(SIGNED, {SIGNATURE_EX: bytes(32)}), VerificationError, "Names, sizes"),
        (with_streams(SIGNED, {}, SIGNATURE_EX), VerificationError, "was changed"),
        (build({"\5DigitalSignature": {}}).content, ArtifactError, "name of a signature"),
    ],
)
def test_odd_signatures_are_refused(content: bytes, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        verify(content)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("1.3.6.1.4.1.311.2.1.15", b""),
        (authenticode.SPC_SIP_INFO, authenticode.sip_info(bytes(16), 2)),
    ],
)
def test_signature_for_another_kind_of_file_is_refused(kind: str, value: bytes) -> None:
    indirect = authenticode.IndirectData(kind, value, "sha256", bytes(32))
    prepared = authenticode.prepare(indirect, Directive("authenticode-sign"), keys.pki().identity())
    result = keys.SignatureResult(keys.answer(prepared.request, keys.pki().leaf().key))
    with pytest.raises(VerificationError, match="another kind of file"):
        verify(with_streams(PLAIN, {SIGNATURE: prepared.finish(result)}))


def test_recognition() -> None:
    for content in (UNSIGNED, SIGNED, STORAGES):
        assert formats.recognize(io.BytesIO(content)) is msi
    for content in (b"", UNSIGNED[:8], UNSIGNED[1:], build({}, class_id=bytes(16)).content):
        assert not msi.recognize(io.BytesIO(content))
    assert msi.recognize(io.BytesIO(build({}, 4, class_id=PATCH).content))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.integers(0, len(SIGNED)), st.booleans())
def test_never_more_than_a_refusal(noise: bytes, offset: int, cuts: bool) -> None:
    spoilt = SIGNED[:offset] + noise + (b"" if cuts else SIGNED[offset + len(noise) :])
    for attempt in (msi.recognize, msi.content_digest, msi.metadata, msi.verify):
        with contextlib.suppress(SealwrightError):
            attempt(io.BytesIO(spoilt))


# --- metadata -----------------------------------------------------------------------------------


def test_metadata() -> None:
    known = {"subject": "Vector", "author": "Example"}
    assert msi.metadata(io.BytesIO(UNSIGNED)) == msi.metadata(io.BytesIO(SIGNED)) == known
    assert msi.metadata(io.BytesIO(STORAGES)) == {}


def property_set(*properties: tuple[int, bytes]) -> bytes:
    rows, values = b"", b""
    start = 8 + 8 * len(properties)
    for number, value in properties:
        rows += struct.pack("<II", number, start + len(values))
        values += value
    section = struct.pack("<II", start + len(values), len(properties)) + rows + values
    head = struct.pack("<HHI16xI", 0xFFFE, 0, 0, 1)
    return (
        head + bytes.fromhex("e0859ff2f94f6810ab9108002b27b3d9") + struct.pack("<I", 48) + section
    )


def ansi(text: bytes) -> bytes:
    return struct.pack("<II", 30, len(text) + 1) + text + b"\0"


def code_page(number: int) -> tuple[int, bytes]:
    return 1, struct.pack("<IHH", 2, number, 0)


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        (property_set(code_page(1252), (3, ansi(b"Caf\xe9"))), "Café"),
        (property_set((3, ansi(b"Caf\xe9"))), "Café"),
        (property_set(code_page(65001), (3, ansi("Größe".encode()))), "Größe"),
        (property_set(code_page(932), (3, ansi("日本".encode("cp932")))), "日本"),
        (property_set(code_page(1251), (3, ansi("Да".encode("cp1251")))), "Да"),
        (property_set((3, struct.pack("<II", 31, 3) + "Да\0".encode("utf-16-le"))), "Да"),
        (property_set((4, ansi(b"only an author"))), None),
    ],
)
def test_summary_information(stream: bytes, subject: str | None) -> None:
    assert summary_information.read(stream).get("subject") == subject


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"", "malformed"),
        (property_set()[:44] + b"\xff\xff\xff\x7f", "malformed"),
        (property_set((3, struct.pack("<II", 30, 999))), "malformed"),
        (property_set((3, struct.pack("<II", 3, 1))), "malformed"),
        (property_set((3, b"\x1e")), "malformed"),
        (property_set(code_page(9999), (3, ansi(b"a"))), "code page 9999"),
        (bytes(2) + property_set()[2:], "malformed"),
        (property_set()[:52] + b"\xff\xff\0\0", "malformed"),
    ],
)
def test_malformed_summary_information(stream: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        summary_information.read(stream)


@pytest.mark.parametrize(
    "name", ["Binary.Tool", "product.cab", "a", "", "_Tables", "ä b", "Icon.a-b.exe", "x" * 60]
)
def test_names_of_streams(name: str) -> None:
    assert read_stream_name(stream_name(name)) == name
    assert read_stream_name(table_name(name)) is None


def test_names_are_those_of_others() -> None:
    assert {table_name("File"), stream_name("product.cab")} < streams(UNSIGNED).keys()
