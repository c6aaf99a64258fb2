"""A public key infrastructure for tests, and software keys that answer signature requests."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealwright.model.mechanism import Mechanism
from sealwright.signing import embedded_tsa, timestamps
from sealwright.signing.artifact import (
    Identity,
    Outcome,
    SignatureRequest,
    SignatureResult,
    TimestampForm,
)
from sealwright.signing.signature_value import stamped_value

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KINDS = ("rsa-3072", "rsa-4096", "p256", "p384")
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

Extension = tuple[x509.ExtensionType, bool]  # value, critical
CODE_SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
TIME_STAMPING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])


def new_key(kind: str) -> PrivateKey:
    """A fresh key: ``rsa-BITS``, ``p256`` or ``p384``."""
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def issue(
    name: str,
    key: PrivateKey,
    issuer: Issued | None,
    *,
    authority: bool = False,
    extensions: Sequence[Extension] = (),
    begin: datetime | None = None,
    end: datetime | None = None,
    hash_algorithm: str = "sha256",
    subject: x509.Name | None = None,
) -> Issued:
    """A certificate signed by `issuer`, self-signed without one; `subject` replaces the name."""
    subject = subject or x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sealwright tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    now = datetime.now(UTC)
    signing_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or now - timedelta(days=1))
        .not_valid_after(end or now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .add_extension(_key_usage(authority), critical=True)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return Issued(key, builder.sign(signing_key, HASHES[hash_algorithm]))  # type: ignore[arg-type]


def named(attributes: Sequence[tuple[str, str]]) -> Issued:
    """A code-signing leaf whose subject has these object identifiers and values, in this order."""
    subject = x509.Name(
        [x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in attributes]
    )
    extensions = [(CODE_SIGNING, True)]
    key = new_key("p256")
    return issue("", key, pki().intermediate, extensions=extensions, subject=subject)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


class Pki:
    """Root and intermediate, code-signing leaves of every kind of key, and a TSA of its own."""

    def __init__(self) -> None:
        self.root = issue("Root", new_key("p384"), None, authority=True)
        self.intermediate = issue("Issuer", new_key("p256"), self.root, authority=True)
        self.tsa_root = issue("TSA root", new_key("p256"), None, authority=True)
        self.tsa_issuer = issue("TSA issuer", new_key("p256"), self.tsa_root, authority=True)
        self.tsa = issue(
            "TSA", new_key("rsa-2048"), self.tsa_issuer, extensions=[(TIME_STAMPING, True)]
        )
        self._leaves: dict[str, Issued] = {}

    def leaf(self, kind: str = "p256") -> Issued:
        """The code-signing certificate with that kind of key."""
        if kind not in self._leaves:
            self._leaves[kind] = issue(
                f"Signer {kind}",
                new_key(kind),
                self.intermediate,
                extensions=[(CODE_SIGNING, True)],
            )
        return self._leaves[kind]

    def identity(self, kind: str = "p256", signing_time: int | None = None) -> Identity:
        """The leaf with its chain; signed now unless told otherwise."""
        return Identity(
            certificate=self.leaf(kind).der,
            chain=(self.intermediate.der, self.root.der),
            signing_time=int(time.time()) if signing_time is None else signing_time,
        )


@cache
def pki() -> Pki:
    """One infrastructure for the whole test run: making RSA keys is slow."""
    return Pki()


def answer(request: SignatureRequest, key: PrivateKey) -> bytes:
    """The signature value that a token would give."""
    algorithm = HASHES[request.hash_algorithm]
    prehashed = Prehashed(algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        assert request.mechanism is Mechanism.ECDSA
        return key.sign(request.digest, ec.ECDSA(prehashed))
    if request.mechanism is Mechanism.RSA_PSS:
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        return key.sign(request.digest, pss, prehashed)
    assert request.mechanism is Mechanism.RSA_PKCS1
    return key.sign(request.digest, padding.PKCS1v15(), prehashed)


Tsa = Callable[[bytes, str], bytes]  # signature value, hash algorithm -> DER of a token


def drive(
    generator: Generator[list[SignatureRequest], list[SignatureResult], Outcome],
    key: PrivateKey,
    tsa: Tsa | None = None,
) -> Outcome:
    """Answer every batch of a signing generator with a software key, and return its outcome."""
    results: Any = None
    while True:
        try:
            requests = generator.send(results)
        except StopIteration as stop:
            outcome = stop.value
            assert isinstance(outcome, Outcome)
            return outcome
        results = [_result(request, key, tsa) for request in requests]


def _result(request: SignatureRequest, key: PrivateKey, tsa: Tsa | None) -> SignatureResult:
    signature = answer(request, key)
    if request.timestamp is TimestampForm.NONE:
        return SignatureResult(signature)
    value = stamped_value(request, signature)
    return SignatureResult(signature, (tsa or software_tsa)(value, request.hash_algorithm))


def software_tsa(signature: bytes, hash_algorithm: str) -> bytes:
    """A token of the test TSA, taken through the real request, reply and checks."""
    trusted = pki()
    stamp = stamps_of(trusted.tsa, trusted.tsa_root, trusted.tsa_issuer)
    return stamp(signature, hash_algorithm)


def stamps_of(tsa: Issued, root: Issued, *issuers: Issued) -> Tsa:
    """What `software_tsa` is, of another authority."""

    def stamp(signature: bytes, hash_algorithm: str) -> bytes:
        nonce = secrets.token_bytes(16)
        request = timestamps.TimestampRequest.over(signature, hash_algorithm, nonce)
        now = int(time.time())
        response = embedded_tsa.respond(
            request.encode(),
            tsa.key,
            tsa.der,
            tuple(issuer.der for issuer in issuers),
            now=now,
            serial=secrets.randbits(64) | 1,
        )
        authority = timestamps.TimestampAuthority("test", "http://127.0.0.1/", (root.der,))
        return timestamps.accept(response, request, authority, now)

    return stamp
