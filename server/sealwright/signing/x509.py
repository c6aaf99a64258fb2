"""X.509 certificates as CMS needs them: exact names and serial numbers, and paths to roots."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
)

from sealwright.errors import ArtifactError, VerificationError
from sealwright.signing import der
from sealwright.signing.advice import CERTIFICATE, WEAK

_MAX_ISSUERS = 6
_KNOWN_PATHS = 64  # which take up to a megabyte
MIN_RSA_BITS = 2048
#: What the library raises for certificates that are malformed in one way or another.
_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_ExtensionType = TypeVar("_ExtensionType", bound=x509.ExtensionType)


@dataclass(frozen=True)
class Certificate:
    """A certificate (RFC 5280, 4.1) with the parts that CMS compares byte by byte.

    Attributes:
        encoding: DER of the certificate.
        serial_number: DER of its INTEGER.
        issuer: DER of the issuer's Name.
        subject: DER of the subject's Name.
    """

    encoding: bytes
    serial_number: bytes
    issuer: bytes
    subject: bytes

    @classmethod
    def parse(cls, encoding: bytes) -> Certificate:
        """Raises ArtifactError if `encoding` is not the DER of a certificate.

        Thousands of signatures and tokens carry the same few, which are parsed and loaded once.
        """
        return _parse(encoding) if len(encoding) <= _CACHED_SIZE else cls._read(encoding)

    @classmethod
    def _read(cls, encoding: bytes) -> Certificate:
        body = der.single(encoding, der.SEQUENCE).children().take(der.SEQUENCE).children()
        body.maybe(der.context(0))
        serial_number = body.take(der.INTEGER)
        body.take(der.SEQUENCE)
        issuer = body.take(der.SEQUENCE)
        body.take(der.SEQUENCE)
        subject = body.take(der.SEQUENCE)
        return cls(encoding, serial_number.encoding, issuer.encoding, subject.encoding)

    @property
    def issuer_and_serial_number(self) -> bytes:
        """DER of IssuerAndSerialNumber (RFC 5652, 10.2.4)."""
        return der.sequence(self.issuer, self.serial_number)

    @property
    def is_self_issued(self) -> bool:
        """Subject and issuer are the same name, as in every root."""
        return self.subject == self.issuer

    @cached_property
    def loaded(self) -> x509.Certificate:
        """The certificate with its extensions. Raises ArtifactError if it does not parse."""
        try:
            return x509.load_der_x509_certificate(self.encoding)
        except _MALFORMED as error:
            message = f"A certificate is malformed: {error}."
            raise ArtifactError(message, advice=CERTIFICATE) from error

    @property
    def name(self) -> str:
        """The subject as RFC 4514 writes it, for messages."""
        try:
            return self.loaded.subject.rfc4514_string()
        except _MALFORMED:
            return "a certificate with a malformed name"

    def is_valid_at(self, posix: int) -> bool:
        """Whether the moment lies within the validity period, ends included."""
        try:
            begin, end = self.loaded.not_valid_before_utc, self.loaded.not_valid_after_utc
        except _MALFORMED:
            return False
        return begin.timestamp() <= posix <= end.timestamp()

    @cached_property
    def extended_key_usage(self) -> x509.Extension[x509.ExtendedKeyUsage] | None:
        """The extension (RFC 5280, 4.2.1.12), None without one."""
        return self._extension(x509.ExtendedKeyUsage)

    @cached_property
    def public_key(self) -> CertificatePublicKeyTypes:
        """The subject's public key. Raises ArtifactError if its algorithm is not known."""
        try:
            return self.loaded.public_key()
        except _MALFORMED as error:
            message = f"A certificate has a public key that cannot be used: {error}."
            raise ArtifactError(message, advice=CERTIFICATE) from error

    @property
    def subject_key_identifier(self) -> bytes | None:
        """Content of the extension (RFC 5280, 4.2.1.2), None without one."""
        extension = self._extension(x509.SubjectKeyIdentifier)
        return extension.value.digest if extension else None

    def fingerprint(self, hash_algorithm: str) -> bytes:
        """Digest of the whole certificate."""
        return hashlib.new(hash_algorithm, self.encoding, usedforsecurity=False).digest()

    def _extension(self, kind: type[_ExtensionType]) -> x509.Extension[_ExtensionType] | None:
        try:
            return self.loaded.extensions.get_extension_for_class(kind)
        except x509.ExtensionNotFound:
            return None
        except _MALFORMED as error:
            message = f"A certificate has malformed extensions: {error}."
            raise ArtifactError(message, advice=CERTIFICATE) from error


_CACHED_SIZE = 16 << 10  # bytes: real ones have two or three thousand


@lru_cache(maxsize=64)
def _parse(encoding: bytes) -> Certificate:
    return Certificate._read(encoding)


def verify_chain(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    roots: Sequence[Certificate],
    *,
    at: int,
    purpose: x509.ObjectIdentifier,
) -> tuple[Certificate, ...]:
    """Build and verify a path to a trusted root (RFC 5280, section 6).

    Every certificate must be valid at the given time. The leaf must carry `purpose` in its extended
    key usage, and so must each issuer that has this extension at all. Keys and signature algorithms
    must be as strong as browsers ask for (RSA from 2048 bits, SHA-2).

    Args:
        leaf: certificate to be judged.
        intermediates: untrusted issuers to choose from.
        roots: trust anchors.
        at: POSIX seconds.
        purpose: an extended key usage such as ``ExtendedKeyUsageOID.CODE_SIGNING``.

    Returns:
        The path, leaf first, root last.

    Raises:
        VerificationError: there is no such path.
    """
    key = leaf.public_key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        message = f"The RSA key of {leaf.name} has {key.key_size} bits, which is too few."
        raise VerificationError(message, advice=WEAK)
    if not roots:
        message = "There is no trusted root to verify against."
        raise VerificationError(message, advice="Name the roots that signers may chain to.")
    verifier = (
        PolicyBuilder()
        .store(Store([root.loaded for root in roots]))
        .time(datetime.fromtimestamp(at, UTC).replace(tzinfo=None))
        .max_chain_depth(_MAX_ISSUERS)
        .extension_policies(ca_policy=_issuer_policy(purpose), ee_policy=_leaf_policy(purpose))
        .build_client_verifier()
    )
    try:
        path = verifier.verify(leaf.loaded, [entry.loaded for entry in intermediates])
    except (verification.VerificationError, *_MALFORMED) as error:
        message = f"No path to a trusted root for {leaf.name}: {error}."
        raise VerificationError(
            message,
            advice="Trust its root if that is right, or have the file signed by another signer.",
        ) from error
    return tuple(Certificate.parse(entry.public_bytes(Encoding.DER)) for entry in path.chain)


class VerifiedPaths:
    """`verify_chain` for many signatures by the same few certificates.

    What leads from given certificates to given roots depends on nothing but the time, and that only
    by the validity of the certificates on the path: a path that was verified is one at every moment
    at which all of them are valid. Only those are remembered; whatever is refused is judged anew.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[float, float]] = {}  # first and last second

    def verify(
        self,
        leaf: Certificate,
        intermediates: Sequence[Certificate],
        roots: Sequence[Certificate],
        *,
        at: int,
        purpose: x509.ObjectIdentifier,
    ) -> None:
        """See `verify_chain`."""
        key = (
            leaf.encoding,
            tuple(entry.encoding for entry in intermediates),
            tuple(entry.encoding for entry in roots),
            purpose,
        )
        begin, end = self._known.get(key, (1.0, 0.0))
        if begin <= at <= end:
            return
        path = verify_chain(leaf, intermediates, roots, at=at, purpose=purpose)
        if len(self._known) >= _KNOWN_PATHS:
            self._known.clear()
        self._known[key] = (
            max(entry.loaded.not_valid_before_utc.timestamp() for entry in path),
            min(entry.loaded.not_valid_after_utc.timestamp() for entry in path),
        )


def _leaf_policy(purpose: x509.ObjectIdentifier) -> ExtensionPolicy:
    def check(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
        if purpose not in usage:
            message = f"the extended key usage lacks {purpose.dotted_string}"
            raise ValueError(message)

    return _any_policies().require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, check)


def _issuer_policy(purpose: x509.ObjectIdentifier) -> ExtensionPolicy:
    def check_usage(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
        anything = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
        if usage is not None and purpose not in usage and anything not in usage:
            message = f"an issuer's extended key usage lacks {purpose.dotted_string}"
            raise ValueError(message)

    def check_key_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is not None and not usage.key_cert_sign:
            message = "an issuer's key usage lacks keyCertSign"
            raise ValueError(message)

    return (
        _any_policies()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, check_usage)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, check_key_usage)
    )


def _any_policies() -> ExtensionPolicy:
    """Certificate policies may be critical, as in those of Microsoft's time stamp authorities.

    With any policy accepted and no explicit one demanded (RFC 5280, 6.1.1 c and e), they decide
    nothing. Policy constraints, which could demand one and are critical, are refused.
    """
    permitting = ExtensionPolicy.permit_all()
    return permitting.may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
