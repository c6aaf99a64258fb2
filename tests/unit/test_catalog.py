"""Windows catalogs: signing, verifying, and refusing."""

from __future__ import annotations

import contextlib
import io
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
from sealwright.signing import algorithms, authenticode, cms, cms_writing, der, formats
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.formats import catalog

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "catalog"
UNSIGNED = (VECTORS / "unsigned.cat").read_bytes()


def sign(content: bytes, kind: str = "rsa-3072", **options: str) -> bytes:
    directive = Directive(
        "authenticode-sign", {name.replace("_", "-"): value for name, value in options.items()}
    )
    trusted = keys.pki()
    target = io.BytesIO()
    identity = trusted.identity(kind, 1700000000)
    generator = catalog.sign(io.BytesIO(content), directive, identity, target)
    assert keys.drive(generator, trusted.leaf(kind).key).replaced
    return target.getvalue()


def verify(content: bytes) -> list[SignatureFact]:
    return catalog.verify(io.BytesIO(content))


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_every_key_and_hash(kind: str, hash_algorithm: str) -> None:
    assert verify(UNSIGNED) == []
    signed = sign(UNSIGNED, kind, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    (fact,) = verify(signed)
    assert (fact.format, fact.hash_algorithm) == ("authenticode", hash_algorithm)
    assert fact.signer == keys.pki().leaf(kind).der
    assert fact.timestamp_signer == keys.pki().tsa.der
    digest = catalog.content_digest
    assert digest(io.BytesIO(UNSIGNED)) == digest(io.BytesIO(signed))


def test_append_and_replace() -> None:
    once = sign(UNSIGNED, append="true")
    twice = sign(once, "p256", append="true", hash_algorithm="sha512")
    assert [fact.hash_algorithm for fact in verify(twice)] == ["sha256", "sha512"]
    assert sign(twice) == once


@pytest.mark.parametrize("name", ["hyperv.cat", "wineyes.cat"])
def test_real_catalogs(name: str) -> None:
    content = sample(name).read_bytes()
    assert formats.recognize(io.BytesIO(content)) is catalog
    (fact,) = verify(sign(content))
    assert fact.signer == keys.pki().leaf("rsa-3072").der


def test_real_signature() -> None:
    (fact,) = verify(sample("hyperv.cat").read_bytes())
    assert fact.timestamp is not None


@pytest.mark.parametrize("name", ["authenticode-verify", "jar-sign"])
def test_other_directives_sign_nothing(name: str) -> None:
    with pytest.raises(ArtifactConfigurationError, match=name):
        catalog.sign(io.BytesIO(UNSIGNED), Directive(name), keys.pki().identity(), io.BytesIO())


# --- what is refused ----------------------------------------------------------------------------

SIGNED = sign(UNSIGNED)


def _trust_list(content: bytes) -> bytes:
    held = cms.parse(content).content
    assert held is not None
    return held.encoding


def test_every_changed_byte_of_the_list_is_noticed() -> None:
    trust_list = _trust_list(SIGNED)
    start = SIGNED.index(trust_list)
    for position in range(start, start + len(trust_list)):
        spoilt = bytearray(SIGNED)
        spoilt[position] ^= 0x01
        with pytest.raises(SealwrightError):
            verify(bytes(spoilt))


def test_nested_signature_over_another_list_is_refused() -> None:
    trust_list = _trust_list(SIGNED)
    other = sign(UNSIGNED.replace(trust_list, trust_list[:-1] + bytes([trust_list[-1] ^ 1])))
    assert len(verify(other)) == 1
    with pytest.raises(VerificationError, match="another certificate trust list"):
        verify(authenticode.append(SIGNED, other))


def test_other_signed_data_is_refused() -> None:
    prepared = cms_writing.prepare(
        cms_writing.Content.embedded(cms.DATA, der.octet_string(b"data"), "sha256"),
        "sha256",
        keys.pki().identity(),
    )
    result = keys.SignatureResult(keys.answer(prepared.request, keys.pki().leaf().key))
    content = prepared.finish(result)
    assert not catalog.recognize(io.BytesIO(content))
    for attempt in (verify, sign):
        with pytest.raises(ArtifactError, match="no catalog"):
            attempt(content)


def test_cut_or_longer_files_are_refused() -> None:
    for spoilt in (b"", SIGNED[:1], SIGNED[:-1], SIGNED + b"\0", UNSIGNED + b"\0"):
        for attempt in (verify, sign):
            with pytest.raises(ArtifactError):
                attempt(spoilt)


def test_recognition() -> None:
    for content in (UNSIGNED, SIGNED, sign(SIGNED, "p256", append="true")):
        assert formats.recognize(io.BytesIO(content)) is catalog
    for content in (
        b"",
        b"\x30",
        SIGNED[1:],
        UNSIGNED.replace(b"\x82\x37\x0a\x01", b"\x82\x37\x0a\x02"),
    ):
        assert not catalog.recognize(io.BytesIO(content))
    assert catalog.metadata(io.BytesIO()) == {}


def test_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_MAX_SIZE", len(UNSIGNED) - 1)
    assert not catalog.recognize(io.BytesIO(UNSIGNED))
    with pytest.raises(ArtifactError, match="more than"):
        verify(UNSIGNED)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 2500), st.booleans())
def test_never_more_than_a_refusal(noise: bytes, offset: int, cuts: bool) -> None:
    spoilt = SIGNED[:offset] + noise + (b"" if cuts else SIGNED[offset + len(noise) :])
    for attempt in (catalog.recognize, catalog.content_digest, catalog.verify):
        with contextlib.suppress(SealwrightError):
            attempt(io.BytesIO(spoilt))
