"""Whether Windows would trust Authenticode signatures: what ``authenticode-verify`` demands.

The rules are those of WinVerifyTrust with its generic policy, less revocation, which needs a
network, and with the weak algorithms of the past refused. Signatures have been verified before;
here certificates, purposes, times and algorithms are judged.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwright.errors import ArtifactError, ConfigurationError, VerificationError
from sealwright.signing import algorithms
from sealwright.signing.advice import VALID_SIGNER, WEAK
from sealwright.signing.artifact import SignatureFact
from sealwright.signing.elements import AUTHENTICODE_VERIFY
from sealwright.signing.x509 import MIN_RSA_BITS, Certificate, verify_chain

LIFETIME_SIGNING = ObjectIdentifier("1.3.6.1.4.1.311.10.3.13")
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_ADVICE = "Have it signed by its publisher, or leave it out of the configuration."
_UNKNOWN_ROOT = f"Add its root to the trusted ones if you trust it. {_ADVICE}"
_TOLERANCE = 300  # seconds by which a time stamp may be ahead of our clock


@dataclass(frozen=True)
class Trust:
    """Whom to trust, and when.

    Attributes:
        roots: DER of the roots that signers may chain to.
        timestamp_roots: DER of the roots that time stamp authorities may chain to.
        now: POSIX seconds.
        judges_chains: False to look at everything but the roots, for previews.
    """

    roots: tuple[bytes, ...]
    timestamp_roots: tuple[bytes, ...]
    now: int
    judges_chains: bool = True


def asks_for_trust(configuration_xml: bytes) -> bool:
    """Whether an artifact configuration, in whichever encoding, may demand trusted signatures."""
    return AUTHENTICODE_VERIFY.encode() in configuration_xml.replace(b"\0", b"")


def read_roots(pem: bytes) -> tuple[bytes, ...]:
    """DER of every certificate in a PEM file, each once, in its order.

    Raises:
        ConfigurationError: there is none, or one is malformed.
    """
    found: dict[bytes, None] = {}
    for block in _BLOCK.findall(pem):
        try:
            encoding = base64.b64decode(block)
            Certificate.parse(encoding)
        except (binascii.Error, ArtifactError):
            message = "A certificate among the roots is malformed."
            raise ConfigurationError(message, advice="Make the PEM file again.") from None
        found[encoding] = None
    if not found:
        message = "The file of roots holds no certificate in PEM."
        raise ConfigurationError(
            message,
            advice="Name a file of certificates that begin with -----BEGIN CERTIFICATE-----.",
        )
    return tuple(found)


class Judge:
    """Judges verified signatures, and remembers: files of one publisher share their certificates.

    Args:
        trust: anchors and time.
    """

    def __init__(self, trust: Trust) -> None:
        self._now = trust.now
        self._judges_chains = trust.judges_chains
        self._roots = _usable(trust.roots)
        self._timestamp_roots = _usable(trust.timestamp_roots)
        self._accepted: set[SignatureFact] = set()

    def check(self, facts: Sequence[SignatureFact]) -> None:
        """Demand that one signature is made with SHA-2, and that all such are trusted.

        Weaker ones beside it prove nothing, and do no harm.

        Raises:
            VerificationError: the reason for which the file is not trusted.
        """
        strong = [fact for fact in facts if fact.hash_algorithm in algorithms.HASH_ALGORITHMS]
        if not strong:
            used = " and ".join(sorted({fact.hash_algorithm for fact in facts}))
            message = f"The file is signed with {used}, which is too weak."
            raise VerificationError(message, advice=_ADVICE)
        for fact in strong:
            case = replace(fact, index=0)
            if case not in self._accepted:
                try:
                    self._check(fact)
                except VerificationError as error:
                    error.advice = error.advice or _ADVICE
                    raise
                self._accepted.add(case)

    def _check(self, fact: SignatureFact) -> None:
        signer = Certificate.parse(fact.signer)
        usage = signer.extended_key_usage
        purposes = list(usage.value) if usage else []
        if ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
            message = f"The certificate of {signer.name} is not for code signing."
            raise VerificationError(message, advice=VALID_SIGNER)
        at, doubt = self._time(fact)
        if LIFETIME_SIGNING in purposes:
            at, doubt = self._now, ", and ends its signatures with itself"
        _check_key(signer)
        if not signer.is_valid_at(at):
            begin, end = signer.loaded.not_valid_before_utc, signer.loaded.not_valid_after_utc
            message = (
                f"The certificate of {signer.name} is valid from {begin:%Y-%m-%d} to "
                f"{end:%Y-%m-%d}, not on {datetime.fromtimestamp(at, UTC):%Y-%m-%d}{doubt}."
            )
            raise VerificationError(message, advice=VALID_SIGNER)
        self._chain(signer, fact, self._roots, at, ExtendedKeyUsageOID.CODE_SIGNING)

    def _time(self, fact: SignatureFact) -> tuple[int, str]:
        """For which time to judge the signer, and why it is the present if it is."""
        if fact.timestamp is None or fact.timestamp_signer is None:
            return self._now, "; it has no time stamp"
        if fact.timestamp_hash_algorithm not in algorithms.HASH_ALGORITHMS:
            weak = fact.timestamp_hash_algorithm or "an unknown algorithm"
            return self._now, f"; its time stamp is made with {weak}, which is too weak"
        if fact.timestamp > self._now + _TOLERANCE:
            message = "The time stamp is from the future."
            raise VerificationError(
                message,
                advice="Check the clock of this server; if it is right, have the file signed anew.",
            )
        authority = Certificate.parse(fact.timestamp_signer)
        _check_key(authority)
        self._chain(
            authority,
            fact,
            self._timestamp_roots,
            fact.timestamp,
            ExtendedKeyUsageOID.TIME_STAMPING,
        )
        return fact.timestamp, ""

    def _chain(
        self,
        leaf: Certificate,
        fact: SignatureFact,
        roots: Sequence[Certificate],
        at: int,
        purpose: ObjectIdentifier,
    ) -> None:
        if not self._judges_chains:
            return
        carried = [Certificate.parse(each) for each in fact.certificates if each != leaf.encoding]
        try:
            verify_chain(leaf, _usable_certificates(carried), roots, at=at, purpose=purpose)
        except VerificationError as error:
            weak = _weakly_signed(leaf, carried)
            if weak is None:
                error.advice = _UNKNOWN_ROOT
                if purpose == ExtendedKeyUsageOID.TIME_STAMPING:
                    error.message = f"The time stamp is not trusted. {error.message}"
                raise
            message = f"The certificate of {weak.name} is signed with a weak algorithm."
            raise VerificationError(message, advice=WEAK) from error


def _check_key(certificate: Certificate) -> None:
    key = certificate.public_key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        message = f"The RSA key of {certificate.name} has {key.key_size} bits, which is too few."
        raise VerificationError(message, advice=WEAK)


def _weakly_signed(leaf: Certificate, carried: Sequence[Certificate]) -> Certificate | None:
    """A certificate on the way up whose own signature is of a hash that is not accepted."""
    by_subject = {each.subject: each for each in carried}
    current: Certificate | None = leaf
    for _ in range(len(carried) + 1):
        if current is None or current.is_self_issued:
            return None
        hash_algorithm = current.loaded.signature_hash_algorithm
        if hash_algorithm is not None and hash_algorithm.name not in algorithms.HASH_ALGORITHMS:
            return current
        current = by_subject.get(current.issuer)
    return None


def _usable(encodings: Sequence[bytes]) -> list[Certificate]:
    return _usable_certificates([Certificate.parse(each) for each in encodings])


def _usable_certificates(certificates: Sequence[Certificate]) -> list[Certificate]:
    """Those that can be read at all: stores of roots hold a few that break the standard."""
    usable = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for certificate in certificates:
            try:
                _ = certificate.loaded
            except ArtifactError:
                continue
            usable.append(certificate)
    return usable
