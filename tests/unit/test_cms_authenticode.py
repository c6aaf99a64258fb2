"""Authenticode signatures that are properly signed and yet not what they should be."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests import keys

from sealwright.errors import ArtifactError, SealwrightError, VerificationError
from sealwright.signing import algorithms, authenticode, cms, cms_writing, der
from sealwright.signing.artifact import Directive, Identity, SignatureFact, SignatureResult
from sealwright.signing.x509 import Certificate, verify_chain

KIND = "1.3.6.1.4.1.311.2.1.15"
DIGEST = bytes(range(32))
SIGN = Directive("authenticode-sign")


def indirect(hash_algorithm: str = "sha256") -> authenticode.IndirectData:
    return authenticode.IndirectData(KIND, der.null(), hash_algorithm, DIGEST)


def signed(prepared: cms_writing.Prepared, *unsigned: bytes) -> bytes:
    signature = keys.answer(prepared.request, keys.pki().leaf().key)
    return prepared.finish(SignatureResult(signature), unsigned)


def signature(*unsigned: bytes) -> bytes:
    return signed(authenticode.prepare(indirect(), SIGN, keys.pki().identity()), *unsigned)


def check(data: cms.SignedData) -> str:
    found = authenticode.indirect_data(data, KIND)
    assert found.digest == DIGEST
    return found.hash_algorithm


def verify(encoding: bytes) -> list[SignatureFact]:
    return authenticode.verify(encoding, check)


def test_round_trip() -> None:
    assert authenticode.IndirectData.parse(der.single(indirect().encode())) == indirect()
    without_value = replace(indirect(), value=b"")
    parsed = authenticode.IndirectData.parse(der.single(without_value.encode()))
    assert parsed == without_value
    assert len(verify(signature())) == 1


def test_digest_of_another_algorithm_than_the_signer_is_refused() -> None:
    content = indirect("sha384").encode()
    prepared = authenticode.prepare_content(
        authenticode.SPC_INDIRECT_DATA, content, "sha256", SIGN, keys.pki().identity()
    )
    with pytest.raises(VerificationError, match="different algorithms"):
        verify(signed(prepared))


def test_other_content_is_refused() -> None:
    prepared = authenticode.prepare_content(
        cms.DATA, der.octet_string(b""), "sha256", SIGN, keys.pki().identity()
    )
    with pytest.raises(VerificationError, match="SpcIndirectDataContent"):
        verify(signed(prepared))


def test_two_signers_are_refused() -> None:
    data = cms.parse(signature())
    signers = [entry.encoding for entry in data._signer_encodings]
    body = der.sequence(*data._fields, der.set_of(signers * 2))
    twice = der.sequence(der.object_identifier(cms.SIGNED_DATA), der.explicit(0, body))
    with pytest.raises(VerificationError, match="exactly one signer"):
        verify(twice)
    with pytest.raises(ArtifactError, match="single signer"):
        authenticode.append(twice, signature())


def test_too_many_nested_are_refused() -> None:
    nested = cms.attribute(authenticode.SPC_NESTED_SIGNATURE, *[signature()] * 17)
    with pytest.raises(ArtifactError, match="too many nested"):
        verify(signature(nested))


# --- countersignatures (PKCS #9), the time stamps of the past ------------------------------------


def countersigned(signer: keys.Issued, *, signing_time: int, over: bytes | None = None) -> bytes:
    """An Authenticode signature whose value `signer` has countersigned."""
    prepared = authenticode.prepare(indirect(), SIGN, keys.pki().identity())
    value = keys.answer(prepared.request, keys.pki().leaf().key)
    content = cms_writing.Content(
        cms.DATA, algorithms.digest("sha256", value if over is None else over)
    )
    counter = cms_writing.prepare(content, "sha256", Identity(signer.der, (), signing_time))
    answered = SignatureResult(keys.answer(counter.request, signer.key))
    info = cms.parse(counter.finish(answered))._signer_encodings[0].encoding
    carrying = replace(
        prepared, _certificates=(*prepared._certificates, Certificate.parse(signer.der))
    )
    attribute = cms.attribute(cms.COUNTERSIGNATURE, info)
    return carrying.finish(SignatureResult(value), [attribute])


def test_countersignature() -> None:
    (fact,) = verify(countersigned(keys.pki().tsa, signing_time=1_700_000_000))
    assert fact.timestamp == 1_700_000_000
    assert fact.timestamp_signer == keys.pki().tsa.der


def test_odd_countersignatures_are_refused() -> None:
    with pytest.raises(VerificationError, match="not for time stamps"):
        verify(countersigned(keys.pki().leaf(), signing_time=1_700_000_000))
    with pytest.raises(VerificationError, match="has no time"):
        verify(countersigned(keys.pki().tsa, signing_time=0))
    with pytest.raises(VerificationError, match="has been changed"):
        verify(countersigned(keys.pki().tsa, signing_time=1_700_000_000, over=b"other"))


def test_two_kinds_of_time_stamps_are_refused() -> None:
    data = cms.parse(countersigned(keys.pki().tsa, signing_time=1_700_000_000))
    token = keys.software_tsa(data.signers[0].signature, "sha256")
    both = data.with_unsigned_attributes(
        [
            *(entry.encoding for entry in data.signers[0].unsigned_attributes),
            cms.attribute(authenticode.SPC_RFC3161_TIMESTAMP, token),
        ]
    )
    with pytest.raises(VerificationError, match="two kinds"):
        verify(both)


def test_token_of_another_signature_is_refused() -> None:
    token = keys.software_tsa(b"another signature", "sha256")
    attribute = cms.attribute(authenticode.SPC_RFC3161_TIMESTAMP, token)
    with pytest.raises(VerificationError, match="belongs to another"):
        verify(signature(attribute))


# --- paths to roots -----------------------------------------------------------------------------


def path(
    leaf: keys.Issued, *issuers: keys.Issued, at: int | None = None
) -> tuple[Certificate, ...]:
    return verify_chain(
        Certificate.parse(leaf.der),
        [Certificate.parse(issuer.der) for issuer in issuers],
        [Certificate.parse(keys.pki().root.der)],
        at=int(time.time()) if at is None else at,
        purpose=ExtendedKeyUsageOID.CODE_SIGNING,
    )


def test_path_leads_from_leaf_to_root() -> None:
    trusted = keys.pki()
    found = path(trusted.leaf(), trusted.intermediate)
    expected = (trusted.leaf(), trusted.intermediate, trusted.root)
    assert [entry.encoding for entry in found] == [issued.der for issued in expected]


def test_paths_that_are_refused() -> None:
    trusted = keys.pki()
    key = keys.new_key("p256")
    purpose = [(keys.CODE_SIGNING, True)]
    stamping_only = keys.issue(
        "CA for time stamps",
        key,
        trusted.root,
        authority=True,
        extensions=[(keys.TIME_STAMPING, False)],
    )
    not_an_authority = keys.issue("No CA", key, trusted.root, extensions=purpose)
    unknown_critical = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    odd = [
        (trusted.leaf(),),
        (trusted.tsa, trusted.tsa_issuer),
        (keys.issue("x", key, stamping_only, extensions=purpose), stamping_only),
        (keys.issue("x", key, not_an_authority, extensions=purpose), not_an_authority),
        (keys.issue("x", key, trusted.intermediate), trusted.intermediate),
        (
            keys.issue(
                "x", key, trusted.intermediate, extensions=[*purpose, (unknown_critical, True)]
            ),
            trusted.intermediate,
        ),
        (
            keys.issue("x", keys.new_key("rsa-1024"), trusted.intermediate, extensions=purpose),
            trusted.intermediate,
        ),
    ]
    for leaf, *issuers in odd:
        with pytest.raises(VerificationError):
            path(leaf, *issuers)
    with pytest.raises(VerificationError):
        path(trusted.leaf(), trusted.intermediate, at=int(time.time()) + 400 * 86400)


def test_malformed_certificates_are_errors_of_the_artifact() -> None:
    leaf = keys.pki().leaf().der
    for position in range(len(leaf)):
        spoilt = bytearray(leaf)
        spoilt[position] ^= 0x42
        try:
            certificate = Certificate.parse(bytes(spoilt))
            assert certificate.name
            _ = certificate.public_key, certificate.extended_key_usage
            certificate.is_valid_at(0)
        except SealwrightError:
            continue
