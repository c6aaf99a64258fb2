"""X.509 certificates and requests whose signature is made on a token (RFC 5280, RFC 2986).

`cryptography` builds and encodes them. Its builders take any implementation of its private key
interfaces, so a key on the token is one whose `sign` goes there and that can do nothing else.
"""

from __future__ import annotations

import datetime as dt
from typing import NoReturn, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwright.errors import InvalidInputError, KeyStoreError
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.model.certificate import CertificateUsage
from sealwright.model.mechanism import Mechanism

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_MAX_SUBJECT = 1024
_MAX_VALIDITY = dt.timedelta(days=365 * 30)


class SigningToken(Protocol):
    """What is needed of a `Token`."""

    def key(self, key_id: bytes) -> KeyInfo:
        """Describe one key pair."""
        ...

    def sign(
        self, key_id: bytes, mechanism: Mechanism, hash_algorithm: str, digest: bytes
    ) -> bytes:
        """Sign a digest."""
        ...


def self_signed_certificate(
    token: SigningToken,
    key_id: bytes,
    subject: str,
    validity: dt.timedelta,
    *,
    usage: CertificateUsage = CertificateUsage.CODE_SIGNING,
    not_before: dt.datetime | None = None,
) -> bytes:
    """Certify a key by itself: not a CA, and for its usage only.

    Args:
        subject: distinguished name as text (RFC 4514), such as ``CN=Example,O=Example Ltd``.
        validity: from `not_before` (aware; default: now), at most 30 years.
        usage: code signing or time stamping.

    Returns:
        DER of the certificate.

    Raises:
        InvalidInputError: the subject or the validity is unusable.
        KeyStoreError, NotFoundError, UnavailableError: see `Token.sign`.
    """
    key = _token_key(token, key_id)
    name = _name(subject)
    period = _period(validity, not_before)
    builder = _end_entity(_certificate(name, name, key.public_key(), period), usage)
    return _sign_certificate(builder, key)


def certificate_authority(
    token: SigningToken,
    key_id: bytes,
    subject: str,
    validity: dt.timedelta,
    *,
    not_before: dt.datetime | None = None,
) -> bytes:
    """Certify a key by itself as a root that issues leaf certificates only.

    Arguments, result and errors are those of `self_signed_certificate`.
    """
    key = _token_key(token, key_id)
    name = _name(subject)
    builder = (
        _certificate(name, name, key.public_key(), _period(validity, not_before))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certifies=True), critical=True)
    )
    return _sign_certificate(builder, key)


def issue_certificate(
    token: SigningToken,
    issuer_key_id: bytes,
    issuer_certificate: bytes,
    *,
    public_key: bytes,
    subject: str,
    validity: dt.timedelta,
    usage: CertificateUsage = CertificateUsage.CODE_SIGNING,
    not_before: dt.datetime | None = None,
) -> bytes:
    """Issue an end entity's certificate with a CA's key on the token.

    Args:
        issuer_certificate: DER of the CA's certificate, which must be of the issuer's key and
            outlive what it issues.
        public_key: DER of the SubjectPublicKeyInfo that is certified.

    The other arguments, the result and the errors are those of `self_signed_certificate`.
    """
    issuer = x509.load_der_x509_certificate(issuer_certificate)
    issuer_key = _token_key(token, issuer_key_id)
    if issuer.public_key() != issuer_key.public_key():
        message = "The issuer's certificate is not of the issuer's key."
        raise InvalidInputError(message)
    period = _period(validity, not_before)
    if period[1] > issuer.not_valid_after_utc:
        message = "The certificate would be valid for longer than its issuer's."
        raise InvalidInputError(message, advice="Ask for a shorter validity.")
    certified = _supported(serialization.load_der_public_key(public_key))
    builder = _certificate(issuer.subject, _name(subject), certified, period)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = _end_entity(builder, usage).add_extension(authority, critical=False)
    return _sign_certificate(builder, issuer_key)


def certificate_signing_request(token: SigningToken, key_id: bytes, subject: str) -> bytes:
    """Ask a certification authority for a certificate of a key on the token.

    Returns:
        DER of a PKCS #10 CertificationRequest. Errors are those of `self_signed_certificate`.
    """
    key = _token_key(token, key_id)
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(subject))
    request = builder.sign(key, _hash_for(key.public_key()))
    return request.public_bytes(serialization.Encoding.DER)


def _name(subject: str) -> x509.Name:
    try:
        name = x509.Name.from_rfc4514_string(subject) if len(subject) <= _MAX_SUBJECT else None
    except ValueError:
        name = None
    if not name or not name.rdns:
        message = f"The subject {subject[:80]!r} is not a distinguished name."
        raise InvalidInputError(message, advice="Write it like 'CN=Example,O=Example Ltd,C=AT'.")
    return name


def _period(
    validity: dt.timedelta, not_before: dt.datetime | None
) -> tuple[dt.datetime, dt.datetime]:
    if not dt.timedelta(0) < validity <= _MAX_VALIDITY:
        message = f"A validity of {validity.days} days is not between 1 and {_MAX_VALIDITY.days}."
        raise InvalidInputError(message)
    start = (not_before or dt.datetime.now(dt.UTC)).replace(microsecond=0)
    return start, start + validity


def _certificate(
    issuer: x509.Name,
    subject: x509.Name,
    public_key: PublicKey,
    period: tuple[dt.datetime, dt.datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _end_entity(
    builder: x509.CertificateBuilder, usage: CertificateUsage
) -> x509.CertificateBuilder:
    # RFC 3161, 2.3: a time stamping certificate has this one extended usage, and it is critical
    stamps = usage is CertificateUsage.TIMESTAMPING
    extended = ExtendedKeyUsageOID.TIME_STAMPING if stamps else ExtendedKeyUsageOID.CODE_SIGNING
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certifies=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([extended]), critical=stamps)
    )


def _key_usage(*, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _sign_certificate(builder: x509.CertificateBuilder, key: _TokenKey) -> bytes:
    certificate = builder.sign(key, _hash_for(key.public_key()))
    return certificate.public_bytes(serialization.Encoding.DER)


def _hash_for(public: PublicKey) -> hashes.SHA256 | hashes.SHA384:
    large = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.key_size > 256
    return hashes.SHA384() if large else hashes.SHA256()


def _supported(public: object) -> PublicKey:
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        message = "Only RSA and elliptic curve keys can be certified."
        raise InvalidInputError(message)
    return public


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _locked(*_: object, **__: object) -> NoReturn:
    message = "A key on a token does nothing but sign."
    raise KeyStoreError(message)


class _TokenRSAKey(rsa.RSAPrivateKey):
    """An RSA key on the token, as `cryptography`'s builders want it."""

    def __init__(self, token: SigningToken, key_id: bytes, public: rsa.RSAPublicKey) -> None:
        self._token = token
        self._key_id = key_id
        self._public = public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def sign(
        self,
        data: bytes | bytearray | memoryview,
        padding: padding.AsymmetricPadding,
        algorithm: utils.Prehashed | hashes.HashAlgorithm | utils.NoDigestInfo,
    ) -> bytes:
        if not isinstance(algorithm, hashes.HashAlgorithm) or padding.name != "EMSA-PKCS1-v1_5":
            _locked()
        digest = _digest(algorithm, bytes(data))
        return self._token.sign(self._key_id, Mechanism.RSA_PKCS1, algorithm.name, digest)

    decrypt = private_numbers = private_bytes = __copy__ = __deepcopy__ = _locked


class _TokenECKey(ec.EllipticCurvePrivateKey):
    """An elliptic curve key on the token, as `cryptography`'s builders want it."""

    def __init__(
        self, token: SigningToken, key_id: bytes, public: ec.EllipticCurvePublicKey
    ) -> None:
        self._token = token
        self._key_id = key_id
        self._public = public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(
        self,
        data: bytes | bytearray | memoryview,
        signature_algorithm: ec.EllipticCurveSignatureAlgorithm,
    ) -> bytes:
        algorithm = signature_algorithm.algorithm
        if not isinstance(algorithm, hashes.HashAlgorithm):
            _locked()
        digest = _digest(algorithm, bytes(data))
        return self._token.sign(self._key_id, Mechanism.ECDSA, algorithm.name, digest)

    exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = _locked


_TokenKey = _TokenRSAKey | _TokenECKey


def _token_key(token: SigningToken, key_id: bytes) -> _TokenKey:
    public = _supported(serialization.load_der_public_key(token.key(key_id).public_key))
    if isinstance(public, rsa.RSAPublicKey):
        return _TokenRSAKey(token, key_id, public)
    return _TokenECKey(token, key_id, public)
