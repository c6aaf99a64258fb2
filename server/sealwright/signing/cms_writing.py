"""Cryptographic Message Syntax: SignedData (RFC 5652, section 5), written in two steps.

`prepare` fixes the signed attributes and tells the digest to be signed; `Prepared.finish` takes the
signature and gives the ContentInfo.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sealwright.errors import InternalError
from sealwright.signing import der
from sealwright.signing.algorithms import (
    digest,
    digest_algorithm,
    mechanism_of,
    signature_algorithm,
)
from sealwright.signing.artifact import (
    Directive,
    Identity,
    SignatureRequest,
    SignatureResult,
    TimestampForm,
)
from sealwright.signing.cms import (
    CONTENT_TYPE,
    DATA,
    MESSAGE_DIGEST,
    SIGNED_DATA,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
    TIMESTAMP_TOKEN,
    attribute,
)
from sealwright.signing.x509 import Certificate


@dataclass(frozen=True)
class Profile:
    """The conventions in which dialects of SignedData differ.

    Attributes:
        version: of SignedData, or None for what RFC 5652, 5.1 prescribes.
        digest_parameters: DER of the parameters of digest AlgorithmIdentifiers.
        timestamp_attribute: object identifier of the unsigned attribute that holds the token.
        names_signing_certificate: whether signing-certificate-v2 is among the signed attributes.
    """

    version: int | None = None
    digest_parameters: bytes = b""
    timestamp_attribute: str = TIMESTAMP_TOKEN
    names_signing_certificate: bool = True


RFC5652 = Profile()


@dataclass(frozen=True)
class Content:
    """What is signed.

    Attributes:
        content_type: object identifier of the content's type.
        digest: its digest, with the hash algorithm that `prepare` is given.
        encapsulated: DER of the value inside ``[0]``, or None for a detached signature.
    """

    content_type: str
    digest: bytes
    encapsulated: bytes | None = None

    @classmethod
    def embedded(cls, content_type: str, value: bytes, hash_algorithm: str) -> Content:
        """Content that travels inside; its digest covers the contents octets of `value` only, for
        an OCTET STRING (RFC 5652, 5.4) as for any other type (PKCS #7 1.5, 9.3)."""
        return cls(content_type, digest(hash_algorithm, der.single(value).content), value)


@dataclass(frozen=True)
class Prepared:
    """A SignedData that waits for its signature value; `request` tells what to sign."""

    request: SignatureRequest
    _profile: Profile = field(repr=False)
    _content: Content = field(repr=False)
    _certificates: tuple[Certificate, ...] = field(repr=False)
    _signed_attributes: tuple[bytes, ...] = field(repr=False)
    _carries_certificates: bool = True

    def finish(self, result: SignatureResult, unsigned_attributes: Sequence[bytes] = ()) -> bytes:
        """DER of the ContentInfo.

        Args:
            result: signature and time stamp token as `request` asked for.
            unsigned_attributes: DER of further unsigned attributes.
        """
        wanted = self.request.timestamp is not TimestampForm.NONE
        if wanted != (result.timestamp_token is not None):
            message = "The time stamp was asked for and is missing, or came unasked."
            raise InternalError(message)
        unsigned = list(unsigned_attributes)
        if result.timestamp_token is not None:
            unsigned.append(attribute(self._profile.timestamp_attribute, result.timestamp_token))
        return self._content_info(self._signer_info(result.signature, unsigned))

    def _signer_info(self, signature: bytes, unsigned: list[bytes]) -> bytes:
        hash_algorithm = self.request.hash_algorithm
        return der.sequence(
            der.integer(1),
            self._certificates[0].issuer_and_serial_number,
            digest_algorithm(hash_algorithm, self._profile.digest_parameters),
            der.set_of(self._signed_attributes, tag=der.context(0)),
            signature_algorithm(self.request.mechanism, hash_algorithm),
            der.octet_string(signature),
            der.set_of(unsigned, tag=der.context(1)) if unsigned else b"",
        )

    def _content_info(self, signer_info: bytes) -> bytes:
        content = self._content
        version = self._profile.version or (1 if content.content_type == DATA else 3)
        algorithm = digest_algorithm(self.request.hash_algorithm, self._profile.digest_parameters)
        inside = b"" if content.encapsulated is None else der.explicit(0, content.encapsulated)
        carried = self._certificates if self._carries_certificates else ()
        certificates = [certificate.encoding for certificate in carried]
        signed_data = der.sequence(
            der.integer(version),
            der.set_of([algorithm]),
            der.sequence(der.object_identifier(content.content_type), inside),
            der.set_of(certificates, tag=der.context(0)) if certificates else b"",
            der.set_of([signer_info]),
        )
        return der.sequence(der.object_identifier(SIGNED_DATA), der.explicit(0, signed_data))


def prepare(
    content: Content,
    hash_algorithm: str,
    identity: Identity,
    *,
    profile: Profile = RFC5652,
    attributes: Iterable[bytes] = (),
    timestamp: TimestampForm = TimestampForm.NONE,
    rsa_padding: str = "pkcs1",
    carries_certificates: bool = True,
) -> Prepared:
    """Fix everything but the signature value.

    Args:
        content: what is signed; its digest is of `hash_algorithm`.
        hash_algorithm: one of `algorithms.HASH_ALGORITHMS`, for content and attributes alike.
        identity: signer; self-signed issuers are left out. Without a `signing_time` (0) there is
            no signing-time attribute.
        profile: dialect.
        attributes: DER of further signed attributes.
        timestamp: which time stamp the signature is to get.
        rsa_padding: ``pkcs1`` or ``pss``; without effect for elliptic curves.
        carries_certificates: whether signer and chain are embedded.
    """
    leaf = Certificate.parse(identity.certificate)
    issuers = [Certificate.parse(encoding) for encoding in identity.chain]
    embedded = {entry.encoding: entry for entry in issuers if not entry.is_self_issued}
    embedded.pop(leaf.encoding, None)
    signed = [
        attribute(CONTENT_TYPE, der.object_identifier(content.content_type)),
        attribute(MESSAGE_DIGEST, der.octet_string(content.digest)),
        *attributes,
    ]
    if identity.signing_time:
        signed.append(attribute(SIGNING_TIME, der.time(identity.signing_time)))
    if profile.names_signing_certificate:
        signed.append(_signing_certificate_v2(leaf))
    request = SignatureRequest(
        digest=digest(hash_algorithm, der.set_of(signed)),
        hash_algorithm=hash_algorithm,
        mechanism=mechanism_of(leaf, rsa_padding),
        timestamp=timestamp,
    )
    certificates = (leaf, *embedded.values())
    return Prepared(request, profile, content, certificates, tuple(signed), carries_certificates)


def timestamp_form(directive: Directive) -> TimestampForm:
    """The option ``timestamp`` that the engine sets; without it there is no time stamp."""
    return TimestampForm(directive.options.get("timestamp", TimestampForm.NONE))


def _signing_certificate_v2(certificate: Certificate) -> bytes:
    """SigningCertificateV2 with SHA-256, the default (RFC 5035, section 3)."""
    general_names = der.sequence(der.explicit(4, certificate.issuer))
    cert_id = der.sequence(
        der.octet_string(certificate.fingerprint("sha256")),
        der.sequence(general_names, certificate.serial_number),
    )
    return attribute(SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(cert_id)))
