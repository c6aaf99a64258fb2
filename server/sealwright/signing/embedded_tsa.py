"""The time stamp authority of the embedded server: RFC 3161 as a pure function.

It makes a single-command installation complete and is meant for tests: its certificate leads to no
public root, and everything it stamps is marked by its policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from sealwright.errors import ArtifactError, VerificationError
from sealwright.signing import algorithms, cms_writing, der, timestamps
from sealwright.signing.artifact import Identity, SignatureRequest, SignatureResult

#: Policy under which the tokens are issued (an arc for examples; 2.999 is in ITU-T X.660, A.6).
POLICY = "2.999.3161.1"

_REJECTION = 2
_BAD_ALGORITHM = 0
_BAD_DATA_FORMAT = 5
_UNACCEPTED_POLICY = 15
_UNACCEPTED_EXTENSION = 16
_MAX_REQUEST = 4096
_HASH_CLASSES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def respond(
    request: bytes,
    key: PrivateKey,
    certificate: bytes,
    chain: Sequence[bytes],
    *,
    now: int,
    serial: int,
) -> bytes:
    """DER of the TimeStampResp to a TimeStampReq, which may be anything.

    Args:
        request: body of the HTTP request.
        key: the authority's private key.
        certificate: DER of its certificate, whose extended key usage is critical and timeStamping.
        chain: DER of its issuers; a root is left out.
        now: POSIX seconds.
        serial: a number that was never used before, positive, at most 160 bits.
    """
    try:
        asked = _parse(request)
    except VerificationError as error:
        return _reject(_BAD_ALGORITHM, error.message)
    except ArtifactError as error:
        return _reject(_BAD_DATA_FORMAT, error.message)
    if asked.has_extensions:
        return _reject(_UNACCEPTED_EXTENSION, "Extensions are not supported.")
    if asked.policy not in (None, POLICY):
        return _reject(_UNACCEPTED_POLICY, f"The only policy is {POLICY}.")
    info = der.octet_string(_tst_info(asked, now, serial))
    identity = Identity(certificate, tuple(chain), signing_time=now)
    prepared = cms_writing.prepare(
        cms_writing.Content.embedded(timestamps.TST_INFO, info, asked.hash_algorithm),
        asked.hash_algorithm,
        identity,
        carries_certificates=asked.wants_certificate,
    )
    token = prepared.finish(SignatureResult(_sign(prepared.request, key)))
    return der.sequence(der.sequence(der.integer(0)), token)


@dataclass(frozen=True)
class _Request:
    hash_algorithm: str
    imprint: bytes
    policy: str | None
    nonce: bytes
    wants_certificate: bool
    has_extensions: bool


def _parse(request: bytes) -> _Request:
    """TimeStampReq (RFC 3161, 2.4.1)."""
    if len(request) > _MAX_REQUEST:
        message = "The request is too large."
        raise ArtifactError(message)
    reader = der.single(request, der.SEQUENCE).children()
    version = der.read_integer(reader.take(der.INTEGER))
    imprint = reader.take(der.SEQUENCE).children()
    algorithm = imprint.take(der.SEQUENCE)
    hashed = imprint.take(der.OCTET_STRING).content
    imprint.finish()
    policy = reader.maybe(der.OBJECT_IDENTIFIER)
    nonce = reader.maybe(der.INTEGER)
    wants_certificate = reader.maybe(der.BOOLEAN)
    extensions = reader.maybe(der.context(0))
    reader.finish()
    if version != 1:
        message = f"Version {version} is not supported."
        raise ArtifactError(message)
    hash_algorithm = algorithms.read_digest_algorithm(algorithm)
    if hash_algorithm not in algorithms.HASH_ALGORITHMS:
        message = f"The hash algorithm {hash_algorithm} is too weak."
        raise VerificationError(message)
    if len(hashed) != hashlib.new(hash_algorithm).digest_size:
        message = "The imprint's length does not fit its algorithm."
        raise ArtifactError(message)
    return _Request(
        hash_algorithm=hash_algorithm,
        imprint=hashed,
        policy=der.read_oid(policy) if policy else None,
        nonce=nonce.encoding if nonce else b"",
        wants_certificate=wants_certificate is not None and der.read_boolean(wants_certificate),
        has_extensions=extensions is not None,
    )


def _tst_info(asked: _Request, now: int, serial: int) -> bytes:
    """TSTInfo (RFC 3161, 2.4.2), accurate to a second."""
    return der.sequence(
        der.integer(1),
        der.object_identifier(POLICY),
        der.sequence(
            algorithms.digest_algorithm(asked.hash_algorithm, der.null()),
            der.octet_string(asked.imprint),
        ),
        der.integer(serial),
        der.generalized_time(now),
        der.sequence(der.integer(1)),
        asked.nonce,
    )


def _sign(request: SignatureRequest, key: PrivateKey) -> bytes:
    prehashed = Prehashed(_HASH_CLASSES[request.hash_algorithm]())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(request.digest, padding.PKCS1v15(), prehashed)
    return key.sign(request.digest, ec.ECDSA(prehashed))


def _reject(failure: int, text: str) -> bytes:
    """TimeStampResp without a token: status, statusString and one bit of failInfo."""
    bits = (1 << (31 - failure)).to_bytes(4, "big").rstrip(b"\0")
    unused = 7 - failure % 8
    return der.sequence(
        der.sequence(
            der.integer(_REJECTION),
            der.sequence(der.encode(der.UTF8_STRING, text.encode())),
            der.encode(der.BIT_STRING, bytes((unused,)), bits),
        )
    )
