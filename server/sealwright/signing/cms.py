"""Cryptographic Message Syntax: SignedData (RFC 5652, section 5), strictly read.

`parse` and `verify` accept DER only, demand signed attributes and know of no lenient mode: each
deviation raises an error that names it. `cms_writing` makes what they read.
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sealwright.errors import ArtifactError, VerificationError
from sealwright.signing import der
from sealwright.signing.advice import CHANGED, SIGN_ANEW
from sealwright.signing.algorithms import digest, read_digest_algorithm, verify_signature
from sealwright.signing.der import Element, Reader
from sealwright.signing.x509 import Certificate

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"

CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
COUNTERSIGNATURE = "1.2.840.113549.1.9.6"
SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
TIMESTAMP_TOKEN = "1.2.840.113549.1.9.16.2.14"  # noqa: S105 - an object identifier

_PEM_BEGIN, _PEM_END = "-----BEGIN CMS-----", "-----END CMS-----"
_MAX_SIGNERS = 16
_MAX_CERTIFICATES = 64
_MAX_ATTRIBUTES = 64

DigestOf = Callable[[str], bytes]  #: hash algorithm -> digest of the content


# --- attributes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attribute:
    """One attribute of a SignerInfo (RFC 5652, 5.3).

    Attributes:
        oid: its type, dotted decimal.
        values: its values, at least one.
        encoding: DER of the whole attribute.
    """

    oid: str
    values: tuple[Element, ...]
    encoding: bytes


def attribute(oid: str, *values: bytes) -> bytes:
    """DER of an Attribute with already encoded values."""
    return der.sequence(der.object_identifier(oid), der.set_of(values))


def _parse_attributes(reader: Reader) -> tuple[Attribute, ...]:
    attributes = []
    for element in reader.rest(der.SEQUENCE):
        fields = element.children()
        oid = der.read_oid(fields.take(der.OBJECT_IDENTIFIER))
        values = fields.take(der.SET).children().rest()
        fields.finish()
        if not values:
            message = f"The attribute {oid} has no value."
            raise ArtifactError(message, advice=SIGN_ANEW)
        attributes.append(Attribute(oid, tuple(values), element.encoding))
    names = [entry.oid for entry in attributes]
    if len(names) > _MAX_ATTRIBUTES or len(names) != len(set(names)):
        message = "Attributes are repeated or too many."
        raise ArtifactError(message, advice=SIGN_ANEW)
    return tuple(attributes)


def _check_signing_certificate(value: Element, certificate: Certificate, default: str) -> None:
    """The first ESSCertID or ESSCertIDv2 must name the signer (RFC 5035, sections 4 and 5)."""
    cert_ids = value.children().take(der.SEQUENCE).children()
    cert_id = cert_ids.take(der.SEQUENCE).children()
    algorithm = cert_id.maybe(der.SEQUENCE) if default != "sha1" else None
    hash_algorithm = read_digest_algorithm(algorithm) if algorithm else default
    matches = cert_id.take(der.OCTET_STRING).content == certificate.fingerprint(hash_algorithm)
    issuer_serial = cert_id.maybe(der.SEQUENCE)
    cert_id.finish()
    if issuer_serial:
        names = der.sequence(der.explicit(4, certificate.issuer))
        matches &= issuer_serial.content == names + certificate.serial_number
    if not matches:
        message = "The signing certificate attribute names another certificate than the signer's."
        raise VerificationError(message, advice=SIGN_ANEW)


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignerInfo:
    """RFC 5652, 5.3. `identifier` is IssuerAndSerialNumber or ``[0]`` subject key identifier."""

    version: int
    identifier: Element
    digest_algorithm: Element
    signed_attributes: tuple[Attribute, ...]
    signed_attributes_set: bytes
    signature_algorithm: Element
    signature: bytes
    unsigned_attributes: tuple[Attribute, ...]

    @classmethod
    def parse(cls, element: Element) -> SignerInfo:
        """Raises ArtifactError for anything but DER.

        Signed attributes may be in any order: RFC 5652, 5.3, demands DER's, but relic writes and
        signs them as they come, and Windows and OpenSSL hash what is there.
        """
        reader = element.children()
        version = der.read_integer(reader.take(der.INTEGER))
        identifier = reader.take(der.SEQUENCE, der.context(0, constructed=False))
        hashed_with = reader.take(der.SEQUENCE)
        signed = reader.maybe(der.context(0))
        signed_with = reader.take(der.SEQUENCE)
        signature = reader.take(der.OCTET_STRING)
        unsigned = reader.maybe(der.context(1))
        reader.finish()
        if version != (1 if identifier.tag == der.SEQUENCE else 3):
            message = f"A signer's version {version} contradicts its kind of identifier."
            raise ArtifactError(message, advice=SIGN_ANEW)
        return cls(
            version,
            identifier,
            hashed_with,
            _parse_attributes(signed.children()) if signed else (),
            der.encode(der.SET, signed.content) if signed else b"",
            signed_with,
            signature.content,
            _parse_attributes(unsigned.children()) if unsigned else (),
        )

    def signed_value(self, oid: str) -> Element | None:
        """The single value of a signed attribute, None if it is absent."""
        return _single_value(self.signed_attributes, oid)

    def unsigned_value(self, oid: str) -> Element | None:
        """The single value of an unsigned attribute, None if it is absent."""
        return _single_value(self.unsigned_attributes, oid)

    def identifies(self, certificate: Certificate) -> bool:
        """Whether the signer identifier names this certificate."""
        if self.identifier.tag == der.SEQUENCE:
            return self.identifier.encoding == certificate.issuer_and_serial_number
        return self.identifier.content == certificate.subject_key_identifier


def _single_value(attributes: Sequence[Attribute], oid: str) -> Element | None:
    for entry in attributes:
        if entry.oid == oid:
            if len(entry.values) != 1:
                message = f"The attribute {oid} has {len(entry.values)} values."
                raise ArtifactError(message, advice=SIGN_ANEW)
            return entry.values[0]
    return None


@dataclass(frozen=True)
class SignedData:
    """RFC 5652, 5.1, parsed; nothing is verified yet.

    Attributes:
        version: of SignedData.
        digest_algorithms: names of the declared hashes.
        content_type: object identifier of the content's type.
        content: the value inside ``[0]``, or None for a detached signature.
        certificates: X.509 certificates that are carried, in their order (other choices of
            CertificateChoices, such as attribute certificates of old time stamps, are left aside).
        signers: at least one.
    """

    version: int
    digest_algorithms: tuple[str, ...]
    content_type: str
    content: Element | None
    certificates: tuple[Certificate, ...]
    signers: tuple[SignerInfo, ...]
    _fields: tuple[bytes, ...] = field(repr=False)
    _signer_encodings: tuple[Element, ...] = field(repr=False)

    def with_unsigned_attributes(self, attributes: Sequence[bytes]) -> bytes:
        """DER of the ContentInfo with the only signer's unsigned attributes replaced.

        Every other byte stays, so that the signature keeps its validity.
        """
        if len(self._signer_encodings) != 1:
            message = "Unsigned attributes can be changed only where there is a single signer."
            raise ArtifactError(message, advice=SIGN_ANEW)
        parts = self._signer_encodings[0].children().rest()
        kept = [part.encoding for part in parts if part.tag != der.context(1)]
        signer = der.sequence(*kept, der.set_of(attributes, tag=der.context(1)))
        signed_data = der.sequence(*self._fields, der.set_of([signer]))
        return der.sequence(der.object_identifier(SIGNED_DATA), der.explicit(0, signed_data))


def parse(encoding: bytes) -> SignedData:
    """Parse a ContentInfo with SignedData, without anything after it.

    Raises:
        ArtifactError: it is not DER, or not SignedData with certificates and signed attributes.
        VerificationError: it names an unknown hash algorithm.
    """
    info = der.single(encoding, der.SEQUENCE).children()
    if der.read_oid(info.take(der.OBJECT_IDENTIFIER)) != SIGNED_DATA:
        message = "The content is not CMS SignedData."
        raise ArtifactError(message, advice=SIGN_ANEW)
    body = der.single(info.take(der.context(0)).content, der.SEQUENCE).children()
    info.finish()
    version = body.take(der.INTEGER)
    algorithms = body.take(der.SET)
    encapsulated = body.take(der.SEQUENCE)
    certificates = body.maybe(der.context(0))
    revocations = body.maybe(der.context(1))
    signers = body.take(der.SET)
    body.finish()
    content_type, content = _parse_encapsulated(encapsulated)
    signer_elements = signers.children().rest(der.SEQUENCE)
    carried = certificates.children().rest() if certificates else []
    certificate_elements = [entry for entry in carried if entry.tag == der.SEQUENCE]
    if not 0 < len(signer_elements) <= _MAX_SIGNERS or len(carried) > _MAX_CERTIFICATES:
        message = "A SignedData without signers, or with too many signers or certificates."
        raise ArtifactError(message, advice=SIGN_ANEW)
    before_signers = (version, algorithms, encapsulated, certificates, revocations)
    return SignedData(
        version=der.read_integer(version),
        digest_algorithms=tuple(
            read_digest_algorithm(entry) for entry in algorithms.children().rest(der.SEQUENCE)
        ),
        content_type=content_type,
        content=content,
        certificates=tuple(Certificate.parse(entry.encoding) for entry in certificate_elements),
        signers=tuple(SignerInfo.parse(entry) for entry in signer_elements),
        _fields=tuple(part.encoding for part in before_signers if part),
        _signer_encodings=tuple(signer_elements),
    )


def _parse_encapsulated(element: Element) -> tuple[str, Element | None]:
    reader = element.children()
    content_type = der.read_oid(reader.take(der.OBJECT_IDENTIFIER))
    wrapper = reader.maybe(der.context(0))
    reader.finish()
    return content_type, der.single(wrapper.content) if wrapper else None


def to_pem(encoding: bytes) -> bytes:
    """Textual encoding of a ContentInfo (RFC 7468, section 9)."""
    lines = textwrap.wrap(base64.b64encode(encoding).decode(), 64)
    return "\n".join((_PEM_BEGIN, *lines, _PEM_END, "")).encode()


def from_pem(text: bytes) -> bytes:
    """DER of a ContentInfo in its textual encoding, without anything around it.

    Raises:
        ArtifactError: it is something else.
    """
    lines = text.decode("ascii", "replace").strip().splitlines()
    if len(lines) < 3 or lines[0] != _PEM_BEGIN or lines[-1] != _PEM_END:
        message = "The text is not a CMS structure in PEM."
        raise ArtifactError(message, advice=SIGN_ANEW)
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError as error:
        message = "The PEM text holds no valid base64."
        raise ArtifactError(message, advice=SIGN_ANEW) from error


@dataclass(frozen=True)
class Signer:
    """A signer whose signature was verified.

    Attributes:
        info: the SignerInfo.
        certificate: the signer's.
        hash_algorithm: of content and signed attributes.
    """

    info: SignerInfo
    certificate: Certificate
    hash_algorithm: str

    @property
    def signing_time(self) -> int | None:
        """POSIX seconds that the signer claims, or None."""
        value = self.info.signed_value(SIGNING_TIME)
        return der.read_time(value) if value else None


def verify(
    data: SignedData, detached: DigestOf | None = None, *, bare: bool = False
) -> tuple[Signer, ...]:
    """Verify every signer: digest of the content, signed attributes and signature value.

    Whether the certificates lead to a trusted root is not judged here.

    Args:
        data: parsed SignedData.
        detached: gives the content's digest; exactly if `data` has no content of its own.
        bare: accept signatures without signed attributes over plain data. The caller's content must
            not be mistakable for a SET of attributes, of which else somebody's signature could be
            passed off as one of such content.

    Raises:
        VerificationError: something does not verify.
        ArtifactError: an attribute is malformed.
    """
    if (data.content is None) == (detached is None):
        message = "The content is missing, or is inside a signature that should be detached."
        raise VerificationError(message, advice=SIGN_ANEW)
    content = data.content

    def digest_of(hash_algorithm: str) -> bytes:
        if content is not None:
            return digest(hash_algorithm, content.content)
        assert detached is not None  # noqa: S101 - shown above, said for the type checker
        return detached(hash_algorithm)

    signers = tuple(
        verify_signer(info, data.certificates, digest_of, data.content_type, bare=bare)
        for info in data.signers
    )
    if not {signer.hash_algorithm for signer in signers} <= set(data.digest_algorithms):
        message = "A signer's digest algorithm is not among the declared ones."
        raise VerificationError(message, advice=SIGN_ANEW)
    return signers


def verify_signer(
    info: SignerInfo,
    certificates: Sequence[Certificate],
    digest_of: DigestOf,
    content_type: str,
    *,
    bare: bool = False,
) -> Signer:
    """Verify one SignerInfo over content of the given type and digest (RFC 5652, 5.6 and 11)."""
    candidates = {entry.encoding: entry for entry in certificates if info.identifies(entry)}
    if len(candidates) != 1:
        message = "The signer's certificate is missing or ambiguous."
        raise VerificationError(message, advice=SIGN_ANEW)
    (certificate,) = candidates.values()
    hash_algorithm = read_digest_algorithm(info.digest_algorithm)
    if info.signed_attributes_set:
        _check_signed_attributes(info, certificate, digest_of(hash_algorithm), content_type)
        signed_digest = digest(hash_algorithm, info.signed_attributes_set)
    elif bare and content_type == DATA:
        signed_digest = digest_of(hash_algorithm)
    else:
        message = "Signed attributes are missing."
        raise VerificationError(message, advice=SIGN_ANEW)
    verify_signature(
        certificate, info.signature_algorithm, hash_algorithm, signed_digest, info.signature
    )
    return Signer(info, certificate, hash_algorithm)


def _check_signed_attributes(
    info: SignerInfo, certificate: Certificate, content_digest: bytes, content_type: str
) -> None:
    claimed_type = info.signed_value(CONTENT_TYPE)
    if claimed_type is None or der.read_oid(claimed_type) != content_type:
        message = "The content-type attribute is missing or names another type."
        raise VerificationError(message, advice=SIGN_ANEW)
    claimed_digest = info.signed_value(MESSAGE_DIGEST)
    if claimed_digest is None or claimed_digest.tag != der.OCTET_STRING:
        message = "The message-digest attribute is missing."
        raise VerificationError(message, advice=SIGN_ANEW)
    if claimed_digest.content != content_digest:
        message = "The digest of the content differs from the signed one: it has been changed."
        raise VerificationError(message, advice=CHANGED)
    for oid, default in ((SIGNING_CERTIFICATE, "sha1"), (SIGNING_CERTIFICATE_V2, "sha256")):
        value = info.signed_value(oid)
        if value is not None:
            _check_signing_certificate(value, certificate, default)
