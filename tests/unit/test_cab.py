"""Cabinets: signing, verifying, and refusing."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys
from tests.shared import sample

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing import algorithms, authenticode, formats
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.formats import cab

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "cab"
UNSIGNED = (VECTORS / "unsigned.cab").read_bytes()


def sign(content: bytes, kind: str = "rsa-3072", **options: str) -> bytes:
    directive = Directive(
        "authenticode-sign", {name.replace("_", "-"): value for name, value in options.items()}
    )
    trusted = keys.pki()
    target = io.BytesIO()
    identity = trusted.identity(kind, 1700000000)
    generator = cab.sign(io.BytesIO(content), directive, identity, target)
    assert keys.drive(generator, trusted.leaf(kind).key).replaced
    return target.getvalue()


def verify(content: bytes) -> list[SignatureFact]:
    return cab.verify(io.BytesIO(content))


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_every_key_and_hash(kind: str, hash_algorithm: str) -> None:
    assert verify(UNSIGNED) == []
    signed = sign(UNSIGNED, kind, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    (fact,) = verify(signed)
    assert (fact.format, fact.hash_algorithm) == ("authenticode", hash_algorithm)
    assert fact.signer == keys.pki().leaf(kind).der
    assert fact.timestamp_signer == keys.pki().tsa.der
    digest = cab.content_digest
    assert digest(io.BytesIO(UNSIGNED)) == digest(io.BytesIO(signed))


def test_append_and_replace() -> None:
    once = sign(UNSIGNED, append="true")
    twice = sign(once, "p256", append="true", hash_algorithm="sha512")
    assert [fact.hash_algorithm for fact in verify(twice)] == ["sha256", "sha512"]
    assert sign(twice) == once


@pytest.mark.parametrize("name", ["dummy.cab", "sample1.cab"])
def test_real_cabinets(name: str) -> None:
    content = sample(name).read_bytes()
    assert formats.recognize(io.BytesIO(content)) is cab
    assert len(verify(sign(content))) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sample2-disk1.cab", "of a set"),
        ("sample2-disk2.cab", "of a set"),
        ("sample3.cab", "areas"),
    ],
)
def test_cabinets_that_cannot_be_signed(name: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        sign(sample(name).read_bytes())


@pytest.mark.parametrize("name", ["authenticode-verify", "jar-sign"])
def test_other_directives_sign_nothing(name: str) -> None:
    with pytest.raises(ArtifactConfigurationError, match=name):
        cab.sign(io.BytesIO(SIGNED), Directive(name), keys.pki().identity(), io.BytesIO())


# --- what is refused ----------------------------------------------------------------------------

SIGNED = sign(UNSIGNED)
LAYOUT = cab.parse(io.BytesIO(SIGNED))


def test_layout() -> None:
    assert LAYOUT.end == len(UNSIGNED) + 24
    assert struct.unpack_from("<II", SIGNED, 44) == (LAYOUT.end, len(SIGNED) - LAYOUT.end)
    assert len(SIGNED[LAYOUT.end :]) % 8 == 0
    assert SIGNED[LAYOUT.body : LAYOUT.end] == UNSIGNED[LAYOUT.body - 24 :]


def test_every_changed_byte_is_noticed() -> None:
    for position in range(LAYOUT.end):
        spoilt = bytearray(SIGNED)
        spoilt[position] ^= 0x01
        with pytest.raises(SealwrightError):
            verify(bytes(spoilt))


def test_removed_signature_is_none() -> None:
    bare = SIGNED[:44] + bytes(8) + SIGNED[52 : LAYOUT.end]
    assert verify(bare) == []
    assert sign(bare) == SIGNED


def _patched(offset: int, layout: str, *values: int) -> bytes:
    content = bytearray(UNSIGNED)
    struct.pack_into(layout, content, offset, *values)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a cabinet"),
        (UNSIGNED[:35], "ends before"),
        (UNSIGNED[:-1], "size"),
        (UNSIGNED + b"appended", "size"),
        (SIGNED + b"appended", "size"),
        (SIGNED[: LAYOUT.end], "size"),
        (_patched(4, "<I", 1), "not a cabinet"),
        (_patched(8, "<I", 0xFFFF_FFFF), "size"),
        (_patched(16, "<I", 0), "list of files"),
        (_patched(26, "<H", 0xFFFF), "list of files"),
        (_patched(30, "<H", 1), "of a set"),
        (_patched(30, "<H", 2), "of a set"),
        (_patched(30, "<H", 4), "reserved areas"),
        (_patched(34, "<H", 1), "of a set"),
        (_patched(36, "<I", 0), "folder"),
        (_patched(36, "<I", 0x7FFF_FFFF), "folder"),
    ],
)
def test_odd_cabinets_are_refused(content: bytes, reason: str) -> None:
    if reason == "reserved areas":  # those of others, and no signature
        assert verify(content) == []
    else:
        with pytest.raises(ArtifactError, match=reason):
            verify(content)
    with pytest.raises(ArtifactError, match=reason):
        sign(content)


def test_hidden_data_is_refused() -> None:
    for hidden in (bytes(8), b"smuggled"):
        size = len(SIGNED) - LAYOUT.end + len(hidden)
        longer = SIGNED[:48] + struct.pack("<I", size) + SIGNED[52:] + hidden
        with pytest.raises(ArtifactError, match="hides data"):
            verify(longer)


def test_signature_for_another_kind_of_file_is_refused() -> None:
    digest = cab.content_digest(io.BytesIO(UNSIGNED))
    indirect = authenticode.IndirectData("1.3.6.1.4.1.311.2.1.15", b"", "sha256", digest)
    prepared = authenticode.prepare(indirect, Directive("authenticode-sign"), keys.pki().identity())
    result = keys.SignatureResult(keys.answer(prepared.request, keys.pki().leaf().key))
    signature = prepared.finish(result)
    signature += bytes(-len(signature) % 8)
    size = struct.pack("<I", len(signature))
    with pytest.raises(VerificationError, match="another kind of file"):
        verify(SIGNED[:48] + size + SIGNED[52 : LAYOUT.end] + signature)


def test_recognition() -> None:
    for content in (UNSIGNED, SIGNED):
        assert formats.recognize(io.BytesIO(content)) is cab
    for content in (b"", b"MSCF", b"MSCF\1\0\0\0", UNSIGNED[1:]):
        assert not cab.recognize(io.BytesIO(content))
    assert cab.metadata(io.BytesIO()) == {}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 2500), st.booleans())
def test_never_more_than_a_refusal(noise: bytes, offset: int, cuts: bool) -> None:
    spoilt = SIGNED[:offset] + noise + (b"" if cuts else SIGNED[offset + len(noise) :])
    for attempt in (cab.recognize, cab.content_digest, cab.verify):
        with contextlib.suppress(SealwrightError):
            attempt(io.BytesIO(spoilt))
