"""Time-Stamp Protocol (RFC 3161): requests, strictly judged replies and tokens. No network.

A token is accepted only if everything in it answers the request: status, message imprint, nonce,
policy, the authority's certificate (critical extended key usage timeStamping and no other,
identified by ESSCertID), the token's own signature, a path to a configured root, and a time near
the present. SHA-1 and older hashes are refused in new tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwright.errors import ArtifactError, SealwrightError, TimestampError, VerificationError
from sealwright.signing import algorithms, cms, der
from sealwright.signing.advice import STAMP_ANEW
from sealwright.signing.x509 import Certificate, VerifiedPaths

TST_INFO = "1.2.840.113549.1.9.16.1.4"

_STATUS = {
    0: "granted",
    1: "grantedWithMods",
    2: "rejection",
    3: "waiting",
    4: "revocationWarning",
    5: "revocationNotification",
}
_FAILURES = {
    0: "badAlg",
    2: "badRequest",
    5: "badDataFormat",
    14: "timeNotAvailable",
    15: "unacceptedPolicy",
    16: "unacceptedExtension",
    17: "addInfoNotAvailable",
    25: "systemFailure",
}
_MIN_NONCE_BITS = 64
_MAX_NONCE_BITS = 256
_PATHS = VerifiedPaths()


@dataclass(frozen=True)
class TimestampAuthority:
    """A time stamp authority that is configured.

    Attributes:
        name: for messages.
        url: http or https address that takes POSTed requests.
        trusted_roots: DER of the roots that its certificate may lead to.
        timeout: seconds for one request.
        policy: object identifier of the policy to ask for, or None for the authority's own.
        tolerance: seconds by which its clock may differ from ours.
        concurrency: requests under way at the same time.
    """

    name: str
    url: str
    trusted_roots: tuple[bytes, ...]
    timeout: float = 10.0
    policy: str | None = None
    tolerance: int = 300
    concurrency: int = 8


@dataclass(frozen=True)
class TimestampRequest:
    """TimeStampReq (RFC 3161, 2.4.1) over `imprint`, always with nonce and certReq.

    Attributes:
        imprint: digest of the signature value.
        hash_algorithm: of the imprint, ``sha256``, ``sha384`` or ``sha512``.
        nonce: random, at least 64 bits wide: bit 63 or a higher one is set.
        policy: object identifier, or None.
    """

    imprint: bytes
    hash_algorithm: str
    nonce: int
    policy: str | None = None

    @classmethod
    def over(
        cls, signature: bytes, hash_algorithm: str, random: bytes, policy: str | None = None
    ) -> TimestampRequest:
        """Request for a signature value, with at least 8 random bytes for the nonce."""
        nonce = int.from_bytes(random, "big") | 1 << (8 * len(random) - 1)
        return cls(algorithms.digest(hash_algorithm, signature), hash_algorithm, nonce, policy)

    def __post_init__(self) -> None:
        if not _MIN_NONCE_BITS <= self.nonce.bit_length() <= _MAX_NONCE_BITS:
            message = "A nonce has 64 to 256 bits."
            raise ValueError(message)
        if self.hash_algorithm not in algorithms.HASH_ALGORITHMS:
            message = f"{self.hash_algorithm} is not a hash algorithm for time stamps."
            raise ValueError(message)

    def encode(self) -> bytes:
        """DER of the TimeStampReq."""
        algorithm = algorithms.digest_algorithm(self.hash_algorithm, der.null())
        return der.sequence(
            der.integer(1),
            der.sequence(algorithm, der.octet_string(self.imprint)),
            der.object_identifier(self.policy) if self.policy else b"",
            der.integer(self.nonce),
            der.boolean(True),  # noqa: FBT003 - certReq
        )


@dataclass(frozen=True)
class Timestamp:
    """What a verified token asserts (TSTInfo; RFC 3161, 2.4.2).

    Attributes:
        time: POSIX seconds, fractions cut off.
        policy: object identifier.
        hash_algorithm: of the imprint.
        imprint: digest that was stamped.
        nonce: as in the request, or None.
        signer: the authority's certificate.
        certificates: all that the token carries.
        token_hash_algorithm: with which the token itself is signed.
    """

    time: int
    policy: str
    hash_algorithm: str
    imprint: bytes
    nonce: int | None
    signer: Certificate
    certificates: tuple[Certificate, ...]
    token_hash_algorithm: str

    @property
    def weaker_hash_algorithm(self) -> str:
        """Of imprint and token, the one that is not of SHA-2 if there is such a one."""
        if self.hash_algorithm in algorithms.HASH_ALGORITHMS:
            return self.token_hash_algorithm
        return self.hash_algorithm


def read_token(encoding: bytes) -> Timestamp:
    """Parse a TimeStampToken and verify its signature and its signer's purpose and validity.

    The path to a root is not judged here.

    Raises:
        VerificationError: a check fails.
        ArtifactError: it is malformed.
    """
    data = cms.parse(encoding)
    if data.content_type != TST_INFO or data.content is None or len(data.signers) != 1:
        message = "The token does not hold a TSTInfo with one signer."
        raise VerificationError(message, advice=STAMP_ANEW)
    (signer,) = cms.verify(data)
    _check_purpose(signer.certificate)
    _check_identified(signer.info)
    stamp = _parse_tst_info(data.content, signer, data.certificates)
    if not signer.certificate.is_valid_at(stamp.time):
        message = "The authority's certificate was not valid at the time of the stamp."
        raise VerificationError(message, advice=STAMP_ANEW)
    return stamp


def verify_token(encoding: bytes, signature: bytes) -> Timestamp:
    """`read_token`, and its message imprint must be that of `signature`."""
    stamp = read_token(encoding)
    if stamp.imprint != algorithms.digest(stamp.hash_algorithm, signature):
        message = "The time stamp belongs to another signature."
        raise VerificationError(message, advice=STAMP_ANEW)
    return stamp


def of_signer(signer: cms.Signer, attribute: str) -> Timestamp | None:
    """The verified time stamp in an unsigned attribute of a verified signer, None without one."""
    token = signer.info.unsigned_value(attribute)
    return verify_token(token.encoding, signer.info.signature) if token else None


def accept(
    response: bytes, request: TimestampRequest, authority: TimestampAuthority, now: int
) -> bytes:
    """DER of the token in a TimeStampResp, after every check of RFC 3161, 2.4.2 and 2.2.

    Args:
        response: body of the reply.
        request: what was asked.
        authority: who was asked.
        now: POSIX seconds.

    Raises:
        TimestampError: the first check that fails.
    """
    try:
        token = _token_of(response)
        _check_answers(read_token(token), request, authority, now)
    except TimestampError:
        raise
    except SealwrightError as error:
        raise TimestampError(error.message) from error
    return token


def _token_of(response: bytes) -> bytes:
    """TimeStampResp: PKIStatusInfo, and a token exactly if it was granted (RFC 3161, 2.4.2)."""
    reader = der.single(response, der.SEQUENCE).children()
    info = reader.take(der.SEQUENCE).children()
    token = reader.maybe(der.SEQUENCE)
    reader.finish()
    status = der.read_integer(info.take(der.INTEGER))
    texts = info.maybe(der.SEQUENCE)
    failures = info.maybe(der.BIT_STRING)
    info.finish()
    if status not in (0, 1) or failures is not None or token is None:
        reasons = [_STATUS.get(status, str(status)), *_failure_names(failures), *_texts(texts)]
        message = f"The authority did not grant the request: {', '.join(reasons)}."
        raise TimestampError(message)
    return token.encoding


def _failure_names(failures: der.Element | None) -> list[str]:
    bits = failures.content[1:5] if failures else b""
    numbered = int.from_bytes(bits.ljust(4, b"\0"), "big")
    return [name for bit, name in _FAILURES.items() if numbered >> (31 - bit) & 1]


def _texts(texts: der.Element | None) -> list[str]:
    strings = texts.children().rest(der.UTF8_STRING)[:4] if texts else []
    return [repr(entry.content[:200].decode("utf-8", "replace")) for entry in strings]


def _check_answers(
    stamp: Timestamp, request: TimestampRequest, authority: TimestampAuthority, now: int
) -> None:
    if stamp.hash_algorithm != request.hash_algorithm or stamp.imprint != request.imprint:
        message = "The message imprint is not the requested one."
        raise TimestampError(message)
    if stamp.nonce != request.nonce:
        message = "The nonce is not the requested one."
        raise TimestampError(message)
    if request.policy is not None and stamp.policy != request.policy:
        message = f"The policy is {stamp.policy}, not the requested {request.policy}."
        raise TimestampError(message)
    if stamp.token_hash_algorithm not in algorithms.HASH_ALGORITHMS:
        message = f"The token is signed with {stamp.token_hash_algorithm}, which is too weak."
        raise TimestampError(message)
    usage = stamp.signer.extended_key_usage
    if usage is None or not usage.critical:
        message = "The purpose in the authority's certificate is not marked critical."
        raise TimestampError(message)
    if abs(stamp.time - now) > authority.tolerance:
        message = f"The time differs by {stamp.time - now} s from ours, more than is tolerated."
        raise TimestampError(message)
    _PATHS.verify(
        stamp.signer,
        [entry for entry in stamp.certificates if entry.encoding != stamp.signer.encoding],
        [Certificate.parse(encoding) for encoding in authority.trusted_roots],
        at=stamp.time,
        purpose=ExtendedKeyUsageOID.TIME_STAMPING,
    )
    if not stamp.signer.is_valid_at(now):
        message = "The authority's certificate is not valid now."
        raise TimestampError(message)


def _check_purpose(certificate: Certificate) -> None:
    """timeStamping is the only extended key usage (RFC 3161, 2.3). That it has to be critical, some
    authorities of the past did not heed: `accept` sees to it for new tokens."""
    usage = certificate.extended_key_usage
    if usage is None or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        message = "The authority's certificate is not for time stamps alone."
        raise VerificationError(message, advice=STAMP_ANEW)


def _check_identified(info: cms.SignerInfo) -> None:
    """An ESSCertID or ESSCertIDv2 is there (RFC 3161, 2.4.2; RFC 5816); `cms` compares it."""
    names = (cms.SIGNING_CERTIFICATE, cms.SIGNING_CERTIFICATE_V2)
    if all(info.signed_value(name) is None for name in names):
        message = "The token does not identify the authority's certificate."
        raise VerificationError(message, advice=STAMP_ANEW)


def _parse_tst_info(
    content: der.Element, signer: cms.Signer, certificates: tuple[Certificate, ...]
) -> Timestamp:
    if content.tag != der.OCTET_STRING:
        message = "The TSTInfo is not in an OCTET STRING."
        raise ArtifactError(message, advice=STAMP_ANEW)
    reader = der.single(content.content, der.SEQUENCE).children()
    version = der.read_integer(reader.take(der.INTEGER))
    policy = der.read_oid(reader.take(der.OBJECT_IDENTIFIER))
    imprint = reader.take(der.SEQUENCE).children()
    hash_algorithm = algorithms.read_digest_algorithm(imprint.take(der.SEQUENCE))
    hashed = imprint.take(der.OCTET_STRING).content
    imprint.finish()
    reader.take(der.INTEGER)
    time = der.read_time(reader.take(der.GENERALIZED_TIME))
    reader.maybe(der.SEQUENCE)
    reader.maybe(der.BOOLEAN)
    nonce = reader.maybe(der.INTEGER)
    reader.maybe(der.context(0))
    reader.maybe(der.context(1))
    reader.finish()
    if version != 1:
        message = f"The TSTInfo has version {version}."
        raise VerificationError(message, advice=STAMP_ANEW)
    return Timestamp(
        time=time,
        policy=policy,
        hash_algorithm=hash_algorithm,
        imprint=hashed,
        nonce=None if nonce is None else der.read_integer(nonce),
        signer=signer.certificate,
        certificates=certificates,
        token_hash_algorithm=signer.hash_algorithm,
    )
