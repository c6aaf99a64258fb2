"""From what a certification authority sent to a leaf with its chain (RFC 5280), checked. Pure.

The certificates come in any order, with or without root, and with others among them. The leaf is
the one that was issued for our key; its chain is completed from the others and from chains that the
organization has already.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwright.errors import InvalidInputError

T = TypeVar("T", bound=x509.ExtensionType)

MAX_CHAIN = 8
_WEAK_HASHES = frozenset({"md5", "sha1"})
_ANY_USAGE = "2.5.29.37.0"


@dataclass(frozen=True)
class IssuedChain:
    """A code-signing certificate and its issuers, the leaf's first."""

    leaf: x509.Certificate
    issuers: tuple[x509.Certificate, ...]

    @property
    def leaf_der(self) -> bytes:
        """DER of the leaf."""
        return self.leaf.public_bytes(Encoding.DER)

    @property
    def issuer_ders(self) -> tuple[bytes, ...]:
        """DER of the issuers."""
        return tuple(one.public_bytes(Encoding.DER) for one in self.issuers)


def parse_certificates(ders: Iterable[bytes]) -> list[x509.Certificate]:
    """Read DER certificates.

    Raises:
        InvalidInputError: one of them is none.
    """
    found = []
    for number, der in enumerate(ders, 1):
        try:
            found.append(x509.load_der_x509_certificate(der))
            found[-1].extensions  # noqa: B018 - read here, or they would fail somewhere later
        except ValueError as error:
            message = f"Certificate {number} of the upload cannot be read: {error}."
            raise InvalidInputError(
                message, advice="Have the certification authority issue it anew."
            ) from None
    return found


def complete_chain(
    uploaded: Sequence[x509.Certificate],
    public_key: bytes,
    now: dt.datetime,
    known: Sequence[x509.Certificate] = (),
) -> IssuedChain:
    """Find the leaf and build its chain, and check that it can sign code.

    Args:
        public_key: DER of the SubjectPublicKeyInfo on the token.
        known: certification authorities of other certificates, to complete the chain from.

    Raises:
        InvalidInputError: no certificate is for the key, or it is not for signing code, or not
            valid now, or its chain is broken; the message tells which, and the advice what to do.
    """
    leaf = _leaf(uploaded, public_key)
    _check_leaf(leaf, now)
    issuers: list[x509.Certificate] = []
    last = leaf
    while not _is_self_issued(last):
        issuer = _issuer(last, uploaded, known)
        if issuer is None:
            break
        _check_issuer(issuer, len(issuers), now)
        issuers.append(issuer)
        last = issuer
        if len(issuers) > MAX_CHAIN:
            message = f"The chain is longer than {MAX_CHAIN} certificates."
            raise InvalidInputError(message, advice="Upload the leaf and its issuers alone.")
    if last is leaf and not _is_self_issued(leaf):
        name = leaf.issuer.rfc4514_string()
        message = f"The upload lacks the issuer of the certificate, {name}."
        raise InvalidInputError(
            message,
            advice="Upload the leaf together with the intermediate certificates of its "
            "certification authority, as one PEM or PKCS #7 file.",
        )
    if last is leaf:
        _verify(leaf, leaf)
    return IssuedChain(leaf, tuple(issuers))


def _leaf(uploaded: Sequence[x509.Certificate], public_key: bytes) -> x509.Certificate:
    ours = [one for one in uploaded if _key_of(one) == public_key]
    if ours:
        return max(ours, key=lambda one: one.not_valid_before_utc)
    subjects = "; ".join(one.subject.rfc4514_string() for one in uploaded[:3]) or "none"
    message = f"No certificate of the upload is for this key (found: {subjects})."
    raise InvalidInputError(
        message[:800],
        advice="Upload what was issued for this certificate's own request: every request has a "
        "key of its own.",
    )


def _check_leaf(leaf: x509.Certificate, now: dt.datetime) -> None:
    name = leaf.subject.rfc4514_string()
    if _is_authority(leaf):
        message = f"The certificate {name} is one of a certification authority."
        raise InvalidInputError(message, advice="Ask for a code-signing certificate.")
    usages = _extension(leaf, x509.ExtendedKeyUsage)
    if usages is None or ExtendedKeyUsageOID.CODE_SIGNING not in usages:
        found = ", ".join(one.dotted_string for one in usages or ()) or "none"
        message = f"The certificate {name} is not for signing code (extended key usage: {found})."
        raise InvalidInputError(
            message, advice="Ask for a code-signing certificate (1.3.6.1.5.5.7.3.3)."
        )
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        message = f"The key usage of the certificate {name} lacks digitalSignature."
        raise InvalidInputError(message, advice="Ask for a code-signing certificate.")
    _check_hash(leaf)
    if now >= leaf.not_valid_after_utc:
        message = f"The certificate {name} expired on {leaf.not_valid_after_utc:%Y-%m-%d}."
        raise InvalidInputError(message, advice="Have a new one issued.")
    if now < leaf.not_valid_before_utc - dt.timedelta(minutes=5):
        begin = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        message = f"The certificate {name} is not valid before {begin}."
        raise InvalidInputError(message, advice="Upload it then, or check this server's clock.")


def _check_issuer(issuer: x509.Certificate, below: int, now: dt.datetime) -> None:
    name = issuer.subject.rfc4514_string()
    constraints = _extension(issuer, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        message = f"The issuer {name} is not a certification authority."
        raise InvalidInputError(message, advice="Upload the certificates of the real issuer.")
    if constraints.path_length is not None and below > constraints.path_length:
        message = f"The issuer {name} allows fewer authorities below it than the chain has."
        raise InvalidInputError(message, advice="Ask the certification authority.")
    usage = _extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        message = f"The issuer {name} may not sign certificates (key usage)."
        raise InvalidInputError(message, advice="Ask the certification authority.")
    usages = _extension(issuer, x509.ExtendedKeyUsage)
    allowed = {ExtendedKeyUsageOID.CODE_SIGNING.dotted_string, _ANY_USAGE}
    if usages is not None and allowed.isdisjoint(one.dotted_string for one in usages):
        message = f"The issuer {name} may not issue code-signing certificates."
        raise InvalidInputError(message, advice="Ask the certification authority.")
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
        message = f"The issuer {name} is not valid now."
        raise InvalidInputError(
            message, advice="Upload the issuer's newer certificate, if there is one."
        )
    if not _is_self_issued(issuer):
        _check_hash(issuer)


def _check_hash(certificate: x509.Certificate) -> None:
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK_HASHES:
        name = certificate.subject.rfc4514_string()
        message = f"The certificate {name} is signed with {algorithm.name.upper()}."
        raise InvalidInputError(message, advice="Have it issued with SHA-256 or better.")


def _issuer(
    certificate: x509.Certificate, *sources: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """Who issued it: by name, and by its signature. A root that is there in two forms, also
    cross-signed, is taken as the self-signed one."""
    named = [
        one
        for source in sources
        for one in source
        if one.subject == certificate.issuer and one != certificate and _verifies(certificate, one)
    ]
    return min(named, key=lambda one: not _is_self_issued(one), default=None)


def _verifies(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _verify(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    if not _verifies(certificate, issuer):
        message = "The certificate says that it is self-signed, and its signature does not verify."
        raise InvalidInputError(message, advice="Have it issued anew.")


def _is_self_issued(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _key_of(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except (ValueError, TypeError):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
