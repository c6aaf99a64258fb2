"""SignedData: what is written is exact, and what deviates is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import example, given
from hypothesis import strategies as st
from tests import keys

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    ConfigurationError,
    InternalError,
    SealwrightError,
    VerificationError,
)
from sealwright.model.mechanism import Mechanism
from sealwright.signing import algorithms, cms, cms_writing, der
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureResult,
    TimestampForm,
)
from sealwright.signing.formats import file as plain
from sealwright.signing.x509 import Certificate

CONTENT = b"some content"


def finish(prepared: cms_writing.Prepared, kind: str = "p256") -> bytes:
    signature = keys.answer(prepared.request, keys.pki().leaf(kind).key)
    return prepared.finish(SignatureResult(signature))


def detached(kind: str = "p256", hash_algorithm: str = "sha256", **options: str) -> bytes:
    content = cms_writing.Content(cms.DATA, algorithms.digest(hash_algorithm, CONTENT))
    identity = keys.pki().identity(kind)
    return finish(cms_writing.prepare(content, hash_algorithm, identity, **options), kind)  # type: ignore[arg-type]


def check(encoding: bytes, content: bytes = CONTENT) -> tuple[cms.Signer, ...]:
    return cms.verify(cms.parse(encoding), lambda name: algorithms.digest(name, content))


# --- writing and reading ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
@pytest.mark.parametrize("rsa_padding", ["pkcs1", "pss"])
def test_every_key_hash_and_padding(kind: str, hash_algorithm: str, rsa_padding: str) -> None:
    encoding = detached(kind, hash_algorithm, rsa_padding=rsa_padding)
    (signer,) = check(encoding)
    assert signer.hash_algorithm == hash_algorithm
    assert signer.certificate.encoding == keys.pki().leaf(kind).der
    with pytest.raises(VerificationError, match="has been changed"):
        check(encoding, CONTENT + b"!")


def test_structure() -> None:
    """RFC 5652: versions, order of sets, what is embedded."""
    identity = keys.pki().identity(signing_time=1_700_000_000)
    content = cms_writing.Content(cms.DATA, algorithms.digest("sha256", CONTENT))
    prepared = cms_writing.prepare(content, "sha256", identity)
    assert prepared.request.mechanism is Mechanism.ECDSA
    data = cms.parse(finish(prepared))
    assert (data.version, data.content_type, data.content) == (1, cms.DATA, None)
    assert data.digest_algorithms == ("sha256",)
    certificates = [entry.encoding for entry in data.certificates]
    assert certificates == sorted(certificates)
    assert set(certificates) == {keys.pki().leaf().der, keys.pki().intermediate.der}
    (info,) = data.signers
    assert {entry.oid for entry in info.signed_attributes} == {
        cms.CONTENT_TYPE,
        cms.MESSAGE_DIGEST,
        cms.SIGNING_TIME,
        cms.SIGNING_CERTIFICATE_V2,
    }
    encodings = [entry.encoding for entry in info.signed_attributes]
    assert encodings == sorted(encodings)
    assert prepared.request.digest == algorithms.digest("sha256", info.signed_attributes_set)
    (signer,) = check(finish(prepared))
    assert signer.signing_time == 1_700_000_000


def test_embedded_content_has_version_3_unless_it_is_data() -> None:
    for content_type, version in ((cms.DATA, 1), ("1.2.3.4", 3)):
        value = der.octet_string(CONTENT)
        content = cms_writing.Content.embedded(content_type, value, "sha256")
        data = cms.parse(finish(cms_writing.prepare(content, "sha256", keys.pki().identity())))
        assert data.version == version
        assert data.content is not None
        assert data.content.content == CONTENT
        cms.verify(data)


def test_signing_time_beyond_2049_and_none() -> None:
    content = cms_writing.Content(cms.DATA, algorithms.digest("sha256", CONTENT))
    far = int(datetime(2050, 1, 1, tzinfo=UTC).timestamp())
    for moment, expected in ((far - 1, far - 1), (far, far), (0, None)):
        prepared = cms_writing.prepare(content, "sha256", keys.pki().identity(signing_time=moment))
        assert check(finish(prepared))[0].signing_time == expected


def test_same_results_give_same_bytes() -> None:
    assert detached("rsa-3072") == detached("rsa-3072")


def test_key_that_cannot_sign_is_refused() -> None:
    issued = keys.issue("Ed25519", ed25519.Ed25519PrivateKey.generate(), keys.pki().intermediate)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="Ed25519PublicKey"):
        cms_writing.prepare(
            cms_writing.Content(cms.DATA, bytes(32)), "sha256", Identity(issued.der)
        )


def test_time_stamp_must_come_exactly_when_asked_for() -> None:
    content = cms_writing.Content(cms.DATA, bytes(32))
    plain_one = cms_writing.prepare(content, "sha256", keys.pki().identity())
    with pytest.raises(InternalError):
        plain_one.finish(SignatureResult(b"", b"token"))
    stamped = cms_writing.prepare(
        content, "sha256", keys.pki().identity(), timestamp=TimestampForm.RFC3161
    )
    with pytest.raises(InternalError):
        stamped.finish(SignatureResult(b""))


def test_subject_key_identifier_names_the_signer() -> None:
    """Others identify signers so; version 3 goes with it (RFC 5652, 5.3)."""
    data = cms.parse(detached())
    certificate = Certificate.parse(keys.pki().leaf().der)
    assert certificate.subject_key_identifier is not None

    def identified(version: int) -> bytes:
        identifier = der.encode(
            der.context(0, constructed=False), certificate.subject_key_identifier or b""
        )
        return rebuilt(data, {0: der.integer(version), 1: identifier})

    assert check(identified(3))[0].certificate == certificate
    with pytest.raises(ArtifactError, match="contradicts"):
        check(identified(1))


def test_pem() -> None:
    encoding = detached("rsa-3072")
    text = cms.to_pem(encoding)
    assert cms.from_pem(text) == encoding
    assert max(map(len, text.splitlines())) == 64
    for spoilt in (b"", b"x" + text, text.replace(b"CMS", b"TXT"), text.replace(b"\nM", b"\n?", 1)):
        with pytest.raises(ArtifactError):
            cms.from_pem(spoilt)


# --- what is refused ----------------------------------------------------------------------------


def rebuilt(data: cms.SignedData, fields: dict[int, bytes]) -> bytes:
    """The signature with fields of its SignerInfo replaced, by position."""
    parts = [part.encoding for part in data._signer_encodings[0].children().rest()]
    for position, encoding in fields.items():
        parts[position] = encoding
    body = der.sequence(*data._fields, der.set_of([der.sequence(*parts)]))
    return der.sequence(der.object_identifier(cms.SIGNED_DATA), der.explicit(0, body))


def resigned(change: Callable[[list[bytes]], list[bytes]], *, ordered: bool = True) -> bytes:
    """Other signed attributes than `prepare` makes, properly signed by the right key."""
    data = cms.parse(detached())
    attributes = change([entry.encoding for entry in data.signers[0].signed_attributes])
    if ordered:
        attributes.sort()
    signed_set = der.encode(der.SET, *attributes)
    content = cms_writing.Content(cms.DATA, b"")
    request = replace(
        cms_writing.prepare(content, "sha256", keys.pki().identity()).request,
        digest=algorithms.digest("sha256", signed_set),
    )
    signature = keys.answer(request, keys.pki().leaf().key)
    implicit = der.encode(der.context(0), *attributes)
    return rebuilt(data, {3: implicit, 5: der.octet_string(signature)})


def without(oid: str) -> Callable[[list[bytes]], list[bytes]]:
    start = der.object_identifier(oid)
    return lambda attributes: [entry for entry in attributes if start not in entry]


def with_instead(oid: str, *values: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda attributes: [*without(oid)(attributes), cms.attribute(oid, *values)]


def test_attributes_can_be_signed_anew() -> None:
    """The refusals below are for what they change."""
    check(resigned(lambda attributes: attributes))
    check(resigned(without(cms.SIGNING_TIME)))


DIGEST = der.octet_string(algorithms.digest("sha256", CONTENT))
OTHER_CERTIFICATE = der.sequence(der.sequence(der.sequence(der.octet_string(bytes(32)))))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without(cms.CONTENT_TYPE), "content-type attribute is missing"),
        (without(cms.MESSAGE_DIGEST), "message-digest attribute is missing"),
        (with_instead(cms.CONTENT_TYPE, der.object_identifier("1.2.3")), "names another type"),
        (with_instead(cms.MESSAGE_DIGEST, der.octet_string(bytes(32))), "has been changed"),
        (with_instead(cms.MESSAGE_DIGEST, DIGEST, DIGEST), "has 2 values"),
        (with_instead(cms.MESSAGE_DIGEST), "has no value"),
        (lambda attributes: [*attributes, attributes[0]], "repeated"),
        (lambda attributes: [cms.attribute(f"1.2.{n}", der.null()) for n in range(99)], "too many"),
        (lambda attributes: [*attributes, der.octet_string(b"")], "Malformed DER"),
        (with_instead(cms.SIGNING_CERTIFICATE_V2, OTHER_CERTIFICATE), "another certificate"),
        (with_instead(cms.SIGNING_CERTIFICATE, OTHER_CERTIFICATE), "another certificate"),
    ],
)
def test_odd_attributes_are_refused(
    change: Callable[[list[bytes]], list[bytes]], reason: str
) -> None:
    with pytest.raises(SealwrightError, match=reason):
        check(resigned(change))


def test_attributes_are_hashed_in_the_order_in_which_they_are() -> None:
    """relic does not sort them; sorting them afterwards breaks the signature."""
    data = cms.parse(resigned(lambda attributes: attributes[::-1], ordered=False))
    check(rebuilt(data, {}))
    found = sorted(entry.encoding for entry in data.signers[0].signed_attributes)
    with pytest.raises(VerificationError):
        check(rebuilt(data, {3: der.encode(der.context(0), *found)}))


def test_without_signed_attributes_only_where_they_are_not_needed() -> None:
    data = cms.parse(detached())
    request = replace(
        cms_writing.prepare(
            cms_writing.Content(cms.DATA, b""), "sha256", keys.pki().identity()
        ).request,
        digest=algorithms.digest("sha256", CONTENT),
    )
    signature = der.octet_string(keys.answer(request, keys.pki().leaf().key))
    bare = cms.parse(rebuilt(data, {3: b"", 5: signature}))
    with pytest.raises(VerificationError, match="Signed attributes are missing"):
        cms.verify(bare, lambda algorithm: algorithms.digest(algorithm, CONTENT))
    cms.verify(bare, lambda algorithm: algorithms.digest(algorithm, CONTENT), bare=True)
    with pytest.raises(VerificationError):
        cms.verify(bare, lambda algorithm: algorithms.digest(algorithm, b"other"), bare=True)


SHA384 = algorithms.digest_algorithm("sha384")
RSA_WITH_SHA256 = der.sequence(der.object_identifier("1.2.840.113549.1.1.11"), der.null())
ECDSA_WITH_SHA384 = der.sequence(der.object_identifier("1.2.840.10045.4.3.3"))
MD5 = der.sequence(der.object_identifier("1.2.840.113549.2.5"), der.null())
ODD_PARAMETERS = der.sequence(
    der.object_identifier("2.16.840.1.101.3.4.2.1"), der.encode(der.NULL, b"x")
)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({2: SHA384}, "has been changed"),
        ({2: MD5}, "is not acceptable"),
        ({2: ODD_PARAMETERS}, "is not acceptable"),
        ({4: RSA_WITH_SHA256}, "does not fit the signer's key"),
        ({4: ECDSA_WITH_SHA384}, "does not fit the digest"),
        ({4: der.sequence(der.object_identifier("1.3.101.112"))}, "does not fit the digest"),
        ({5: der.octet_string(b"")}, "signature value is not"),
        ({0: der.integer(3)}, "contradicts"),
        ({1: der.sequence(der.sequence(), der.integer(1))}, "missing or ambiguous"),
    ],
)
def test_odd_signer_infos_are_refused(fields: dict[int, bytes], reason: str) -> None:
    with pytest.raises(SealwrightError, match=reason):
        check(rebuilt(cms.parse(detached()), fields))


def test_pss_parameters_must_fit() -> None:
    data = cms.parse(detached("rsa-3072", rsa_padding="pss"))
    other = cms.parse(detached("rsa-3072", "sha384", rsa_padding="pss"))
    with pytest.raises(VerificationError, match="PSS parameters"):
        check(rebuilt(data, {4: other.signers[0].signature_algorithm.encoding}))
    rsa = der.sequence(der.object_identifier("1.2.840.113549.1.1.1"), der.null())
    with pytest.raises(VerificationError, match="signature value is not"):
        check(rebuilt(data, {4: rsa}))
    salt = data.signers[0].signature_algorithm.encoding.replace(b"\x02\x01\x20", b"\x02\x01\x21")
    with pytest.raises(VerificationError, match="signature value is not"):
        check(rebuilt(data, {4: salt}))
    endless = data.signers[0].signature_algorithm.children().rest()[1].children().rest()
    parameters = der.sequence(
        *(part.encoding for part in endless[:2]), der.explicit(2, der.integer(513))
    )
    pss = der.sequence(der.object_identifier("1.2.840.113549.1.1.10"), parameters)
    with pytest.raises(VerificationError, match="513"):
        check(rebuilt(data, {4: pss}))


def test_digest_algorithm_must_be_declared() -> None:
    data = cms.parse(detached())
    fields = (data._fields[0], der.set_of([SHA384]), *data._fields[2:])
    with pytest.raises(VerificationError, match="declared"):
        check(rebuilt(replace(data, _fields=fields), {}))


def test_certificate_must_be_there() -> None:
    data = cms.parse(detached())
    with pytest.raises(VerificationError, match="missing or ambiguous"):
        check(rebuilt(replace(data, _fields=data._fields[:3]), {}))


def test_content_inside_is_not_detached_and_the_other_way_round() -> None:
    value = der.octet_string(CONTENT)
    content = cms_writing.Content.embedded(cms.DATA, value, "sha256")
    embedded = finish(cms_writing.prepare(content, "sha256", keys.pki().identity()))
    with pytest.raises(VerificationError, match="should be detached"):
        check(embedded)
    with pytest.raises(VerificationError, match="should be detached"):
        cms.verify(cms.parse(detached()))


@pytest.mark.parametrize(
    "encoding",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        detached() + b"\0",
        detached()[:-1],
        der.sequence(der.object_identifier(cms.DATA), der.explicit(0, der.octet_string(b""))),
        der.sequence(der.object_identifier(cms.SIGNED_DATA)),
        der.sequence(
            der.object_identifier(cms.SIGNED_DATA),
            der.explicit(
                0,
                der.sequence(
                    der.integer(1),
                    der.set_of([]),
                    der.sequence(der.object_identifier(cms.DATA)),
                    der.set_of([]),
                ),
            ),
        ),
    ],
)
def test_what_is_not_signed_data_is_refused(encoding: bytes) -> None:
    with pytest.raises(ArtifactError):
        cms.parse(encoding)


# --- DER ----------------------------------------------------------------------------------------


@given(st.integers(-(1 << 500), 1 << 500))
@example(0)
@example(127)
@example(128)
@example(-128)
@example(-129)
def test_integers(value: int) -> None:
    assert der.read_integer(der.single(der.integer(value))) == value


@given(
    st.integers(0, 2),
    st.integers(0, 39),
    st.lists(st.integers(0, 1 << 40), max_size=8),
)
def test_object_identifiers(first: int, second: int, others: list[int]) -> None:
    dotted = ".".join(map(str, (first, second, *others)))
    assert der.read_oid(der.single(der.object_identifier(dotted))) == dotted


def test_object_identifiers_of_the_joint_arc() -> None:
    assert der.object_identifier("2.999.1").hex() == "0603883701"
    assert der.read_oid(der.single(bytes.fromhex("060388 3701"))) == "2.999.1"


@given(st.binary(max_size=70_000))
def test_lengths(content: bytes) -> None:
    assert der.single(der.octet_string(content)).content == content


@given(st.binary(max_size=60))
def test_nothing_but_der_is_read(data: bytes) -> None:
    """Whatever is read comes out the same when it is written."""
    try:
        element = der.single(data)
    except ArtifactError:
        return
    assert der.encode(element.tag, element.content) == data


@pytest.mark.parametrize(
    "encoding",
    [
        "0281010105",
        "02820001ff",
        "0480",
        "04850000000001",
        "048400ffffff",
        "1f0100",
        "0402ff",
        "04",
    ],
)
def test_odd_lengths_and_tags_are_refused(encoding: str) -> None:
    with pytest.raises(ArtifactError, match="Malformed DER"):
        der.single(bytes.fromhex(encoding))


@pytest.mark.parametrize("encoding", ["020100", "02020080", "0202ff7f"])
def test_minimal_integers_are_read(encoding: str) -> None:
    der.read_integer(der.single(bytes.fromhex(encoding)))


@pytest.mark.parametrize("encoding", ["0200", "0202007f", "0202ff80", "040101"])
def test_other_integers_are_refused(encoding: str) -> None:
    with pytest.raises(ArtifactError, match="integer"):
        der.read_integer(der.single(bytes.fromhex(encoding)))


@pytest.mark.parametrize("encoding", ["0600", "060180", "06028001", "060381", "040100"])
def test_odd_object_identifiers_are_refused(encoding: str) -> None:
    with pytest.raises(ArtifactError):
        der.read_oid(der.single(bytes.fromhex(encoding)))


@pytest.mark.parametrize(
    ("tag", "text", "posix"),
    [
        (der.UTC_TIME, "700101000000Z", 0),
        (der.UTC_TIME, "491231235959Z", 2524607999),
        (der.GENERALIZED_TIME, "20500101000000Z", 2524608000),
        (der.GENERALIZED_TIME, "19700101000001.25Z", 1),
    ],
)
def test_times(tag: int, text: str, posix: int) -> None:
    assert der.read_time(der.single(der.encode(tag, text.encode()))) == posix


@pytest.mark.parametrize(
    "text",
    ["", "Z", "20500101000000", "20501301000000Z", "20500101000000.0Z", "20500101000000.Z",
     "205001010000Z", "20500101000000+0100", "2050010100000xZ", "20500101000060Z", "\xff" * 15],
)  # fmt: skip
def test_odd_times_are_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        der.read_time(der.single(der.encode(der.GENERALIZED_TIME, text.encode("latin-1"))))


# --- the format of any file ---------------------------------------------------------------------


def make(name: str, kind: str = "p256", **options: str) -> Outcome:
    settings = {key.replace("_", "-"): value for key, value in options.items()}
    target = io.BytesIO()
    generator = plain.sign(
        io.BytesIO(CONTENT), Directive(name, settings), keys.pki().identity(kind), target
    )
    outcome = keys.drive(generator, keys.pki().leaf(kind).key)
    assert not outcome.replaced
    assert target.getvalue() == b""
    return outcome


@pytest.mark.parametrize("encoding", ["pem", "der"])
@pytest.mark.parametrize("timestamp", ["none", "rfc3161"])
def test_create_cms_signature(encoding: str, timestamp: str) -> None:
    outcome = make(
        "create-cms-signature",
        "rsa-3072",
        output_encoding=encoding,
        hash_algorithm="sha512",
        rsa_padding="pss",
        timestamp=timestamp,
        output_file_name="a.p7s",
    )
    signature = outcome.side_files["a.p7s"]
    assert signature.startswith(b"-----BEGIN CMS-----" if encoding == "pem" else b"\x30\x82")
    (fact,) = plain.verify_cms(io.BytesIO(CONTENT), signature)
    assert (fact.format, fact.hash_algorithm) == ("cms", "sha512")
    assert (fact.timestamp is not None) == (timestamp == "rfc3161")
    if fact.timestamp_signer:
        assert {fact.timestamp_signer, fact.signer} <= set(fact.certificates)
    with pytest.raises(VerificationError, match="has been changed"):
        plain.verify_cms(io.BytesIO(b"other content"), signature)


def test_default_names() -> None:
    assert list(make("create-cms-signature").side_files) == ["${file.name}.p7s"]
    assert list(make("create-raw-signature").side_files) == ["${file.name}.sig"]


def test_defaults_are_the_first_values() -> None:
    (signature,) = make("create-cms-signature").side_files.values()
    assert signature.startswith(b"-----BEGIN CMS-----")
    assert plain.verify_cms(io.BytesIO(CONTENT), signature)[0].hash_algorithm == "sha256"


def test_unknown_directive_is_refused() -> None:
    with pytest.raises(ArtifactConfigurationError, match="jar-sign"):
        make("jar-sign")


def test_any_file_is_recognized_and_unsigned() -> None:
    assert plain.recognize(io.BytesIO(b""))
    assert plain.verify(io.BytesIO(b"")) == []
    assert plain.metadata(io.BytesIO(b"")) == {}
