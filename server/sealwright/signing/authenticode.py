"""Authenticode (Windows Authenticode Portable Executable Signature Format, Microsoft, 2008).

What all signed formats of Windows share: SpcIndirectDataContent, the signer's description, nested
signatures, time stamps of both kinds. What a digest covers is each format's own affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import algorithms, cms, cms_writing, der, timestamps
from sealwright.signing.advice import MAKE_UNSIGNED, SIGN_ANEW
from sealwright.signing.artifact import Directive, Identity, SignatureFact
from sealwright.signing.x509 import Certificate

SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
SPC_STATEMENT_TYPE = "1.3.6.1.4.1.311.2.1.11"
SPC_SP_OPUS_INFO = "1.3.6.1.4.1.311.2.1.12"
SPC_INDIVIDUAL_CODE_SIGNING = "1.3.6.1.4.1.311.2.1.21"
SPC_SIP_INFO = "1.3.6.1.4.1.311.2.1.30"
SPC_NESTED_SIGNATURE = "1.3.6.1.4.1.311.2.4.1"
SPC_RFC3161_TIMESTAMP = "1.3.6.1.4.1.311.3.3.1"

#: Options of ``authenticode-sign`` that every format with Authenticode has.
SIGN_OPTIONS: dict[str, tuple[str, ...] | None] = {
    "hash-algorithm": algorithms.HASH_ALGORITHMS,
    "description": None,
    "description-url": None,
    "append": ("false", "true"),
}

#: PKCS #7 1.5, with the parameters that Windows' own signer writes.
PROFILE = cms_writing.Profile(
    version=1,
    digest_parameters=der.null(),
    timestamp_attribute=SPC_RFC3161_TIMESTAMP,
    names_signing_certificate=False,
)

_MAX_NESTED = 16


@dataclass(frozen=True)
class IndirectData:
    """SpcIndirectDataContent: a digest of something, and what kind of thing that is.

    Attributes:
        data_type: object identifier of the kind (SpcAttributeTypeAndOptionalValue's type).
        value: DER of the kind's value, empty if it has none.
        hash_algorithm: name of the hash.
        digest: of the file, as its format prescribes.
    """

    data_type: str
    value: bytes
    hash_algorithm: str
    digest: bytes

    def encode(self) -> bytes:
        """DER of the SpcIndirectDataContent."""
        return der.sequence(
            der.sequence(der.object_identifier(self.data_type), self.value),
            der.sequence(
                algorithms.digest_algorithm(self.hash_algorithm, der.null()),
                der.octet_string(self.digest),
            ),
        )

    @classmethod
    def parse(cls, element: der.Element) -> IndirectData:
        """Raises ArtifactError if it is malformed, VerificationError for an unknown hash."""
        reader = element.children()
        data = reader.take(der.SEQUENCE).children()
        message_digest = reader.take(der.SEQUENCE).children()
        reader.finish()
        data_type = der.read_oid(data.take(der.OBJECT_IDENTIFIER))
        value = data.take().encoding if data.peek() is not None else b""
        data.finish()
        algorithm = algorithms.read_digest_algorithm(message_digest.take(der.SEQUENCE))
        digest = message_digest.take(der.OCTET_STRING).content
        message_digest.finish()
        return cls(data_type, value, algorithm, digest)


def sip_info(identifier: bytes, version: int) -> bytes:
    """DER of SpcSipInfo, by which Windows finds the verifier of a kind of file (`SPC_SIP_INFO`).

    Args:
        identifier: of the Subject Interface Package, 16 bytes.
        version: of it. Five reserved numbers follow.
    """
    reserved = [der.integer(0)] * 5
    return der.sequence(der.integer(version), der.octet_string(identifier), *reserved)


def prepare(
    indirect: IndirectData, directive: Directive, identity: Identity
) -> cms_writing.Prepared:
    """An Authenticode signature over `indirect`, ready to be signed.

    Args:
        indirect: the file's digest.
        directive: ``authenticode-sign`` with the options of `SIGN_OPTIONS`, and ``timestamp``
            (``rfc3161`` or ``none``), which the engine sets.
        identity: the signer.
    """
    return prepare_content(
        SPC_INDIRECT_DATA, indirect.encode(), indirect.hash_algorithm, directive, identity
    )


def prepare_content(
    content_type: str,
    value: bytes,
    hash_algorithm: str,
    directive: Directive,
    identity: Identity,
) -> cms_writing.Prepared:
    """`prepare` for content of another type, such as a catalog's certificate trust list.

    `value` is the DER of the content; its digest covers the contents octets alone.
    """
    return cms_writing.prepare(
        cms_writing.Content.embedded(content_type, value, hash_algorithm),
        hash_algorithm,
        identity,
        profile=PROFILE,
        attributes=(_opus_info(directive), _statement_type()),
        timestamp=cms_writing.timestamp_form(directive),
    )


def append(primary: bytes, nested: bytes) -> bytes:
    """`primary` with one more nested signature; both are DER ContentInfos."""
    data = cms.parse(primary)
    kept, values = [], [nested]
    for entry in data.signers[0].unsigned_attributes:
        if entry.oid == SPC_NESTED_SIGNATURE:
            values += [value.encoding for value in entry.values]
        else:
            kept.append(entry.encoding)
    if len(values) > _MAX_NESTED:
        message = f"The file already has {_MAX_NESTED} nested signatures."
        raise ArtifactError(message, advice=MAKE_UNSIGNED)
    return data.with_unsigned_attributes([*kept, cms.attribute(SPC_NESTED_SIGNATURE, *values)])


def verify(
    encoding: bytes, check: Callable[[cms.SignedData], str], *, index: int = 0
) -> list[SignatureFact]:
    """Verify one Authenticode signature and everything nested in it.

    Args:
        encoding: DER of the ContentInfo, without padding.
        check: compares the content with the file and returns the file digest's hash algorithm;
            raises VerificationError (see `indirect_data`).
        index: of the primary among the file's signatures; nested ones count on from it.

    Raises:
        VerificationError: a signature does not verify.
        ArtifactError: a signature is malformed.
    """
    data = cms.parse(encoding)
    facts = [_verify_single(data, check, index)]
    for entry in data.signers[0].unsigned_attributes:
        if entry.oid == SPC_NESTED_SIGNATURE:
            if len(entry.values) > _MAX_NESTED:
                message = "The file has too many nested signatures."
                raise ArtifactError(message, advice=SIGN_ANEW)
            for number, value in enumerate(entry.values, start=index + 1):
                nested = cms.parse(value.encoding)
                if any(
                    a.oid == SPC_NESTED_SIGNATURE for a in nested.signers[0].unsigned_attributes
                ):
                    message = "A nested signature holds nested signatures itself."
                    raise VerificationError(message, advice=SIGN_ANEW)
                facts.append(_verify_single(nested, check, number))
    return facts


def indirect_data(data: cms.SignedData, data_type: str) -> IndirectData:
    """The SpcIndirectDataContent of a signature, which must be of the given kind."""
    if data.content_type != SPC_INDIRECT_DATA or data.content is None:
        message = "The signature does not hold an SpcIndirectDataContent."
        raise VerificationError(message, advice=SIGN_ANEW)
    indirect = IndirectData.parse(data.content)
    if indirect.data_type != data_type:
        message = f"The signature is for another kind of file ({indirect.data_type})."
        raise VerificationError(message, advice=SIGN_ANEW)
    return indirect


def _verify_single(
    data: cms.SignedData, check: Callable[[cms.SignedData], str], index: int
) -> SignatureFact:
    if len(data.signers) != 1:
        message = "An Authenticode signature has exactly one signer."
        raise VerificationError(message, advice=SIGN_ANEW)
    (signer,) = cms.verify(data)
    hash_algorithm = check(data)
    if hash_algorithm != signer.hash_algorithm:
        message = "The file's digest and the signer's have different algorithms."
        raise VerificationError(message, advice=SIGN_ANEW)
    stamp = timestamps.of_signer(signer, SPC_RFC3161_TIMESTAMP)
    older = _countersignature(signer, data)
    if stamp is not None and older is not None:
        message = "The signature has time stamps of two kinds."
        raise VerificationError(message, advice=SIGN_ANEW)
    time, authority, made_with = (
        (stamp.time, stamp.signer, stamp.weaker_hash_algorithm)
        if stamp
        else older or (None, None, None)
    )
    carried = (*data.certificates, *(stamp.certificates if stamp else ()))
    return SignatureFact(
        format="authenticode",
        hash_algorithm=hash_algorithm,
        signer=signer.certificate.encoding,
        certificates=tuple(dict.fromkeys(entry.encoding for entry in carried)),
        timestamp=time,
        timestamp_signer=authority.encoding if authority else None,
        index=index,
        timestamp_hash_algorithm=made_with,
    )


def _countersignature(
    signer: cms.Signer, data: cms.SignedData
) -> tuple[int, Certificate, str] | None:
    """The older kind of time stamp, a countersignature (PKCS #9, 6.6): time, authority, hash."""
    value = signer.info.unsigned_value(cms.COUNTERSIGNATURE)
    if value is None:
        return None
    authority = cms.verify_signer(
        cms.SignerInfo.parse(value),
        data.certificates,
        lambda hash_algorithm: algorithms.digest(hash_algorithm, signer.info.signature),
        cms.DATA,
    )
    usage = authority.certificate.extended_key_usage
    purposes = list(usage.value) if usage else []
    if authority.signing_time is None or ExtendedKeyUsageOID.TIME_STAMPING not in purposes:
        message = "The countersignature has no time, or its signer is not for time stamps."
        raise VerificationError(message, advice=SIGN_ANEW)
    return authority.signing_time, authority.certificate, authority.hash_algorithm


def _statement_type() -> bytes:
    purpose = der.sequence(der.object_identifier(SPC_INDIVIDUAL_CODE_SIGNING))
    return cms.attribute(SPC_STATEMENT_TYPE, purpose)


def _opus_info(directive: Directive) -> bytes:
    """SpcSpOpusInfo: programName as SpcString, moreInfo as SpcLink's url."""
    description = directive.options.get("description", "")
    url = directive.options.get("description-url", "")
    if not url.isascii():
        message = "The description-url has characters beyond ASCII."
        raise ArtifactConfigurationError(
            message, advice="Write it percent-encoded.", where=directive.where
        )
    program_name = der.encode(der.context(0, constructed=False), description.encode("utf-16-be"))
    more_info = der.encode(der.context(0, constructed=False), url.encode("ascii"))
    opus = der.sequence(
        der.explicit(0, program_name) if description else b"",
        der.explicit(1, more_info) if url else b"",
    )
    return cms.attribute(SPC_SP_OPUS_INFO, opus)
