"""OpenPGP, as far as keys on a token need it (RFC 9580; version 4 keys and signatures, as every
implementation of RFC 4880 reads them): public keys with one user id, and detached signatures.

Signing is by digest: `prepare` gives what the key has to sign, `Prepared.finish` the packet.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sealwright.errors import ArtifactError, InvalidInputError, VerificationError
from sealwright.model.ascii_armor import crc24
from sealwright.model.certificate import RevocationReason
from sealwright.model.mechanism import Mechanism
from sealwright.signing.advice import CHANGED, SIGN_ANEW
from sealwright.signing.artifact import SignatureRequest, SignatureResult
from sealwright.signing.streams import chunks, size_of

MAX_USER_ID = 200
MAX_COMMENT = 150  #: so that the subpacket's length takes one byte (5.2.3.7)
MAX_SIGNATURE = 16 * 1024
_RSA, _ECDSA = 1, 19  # public-key algorithms (9.1)
_HASHES = {"sha256": 8, "sha384": 9, "sha512": 10}  # hash algorithms (9.5)
_HASH_NAMES = {number: name for name, number in _HASHES.items()}
_SIGNATURE_TAG, _KEY_TAG, _USER_ID_TAG = 2, 6, 13  # packets (5)
# signature types (5.2.1)
_BINARY, _GENERIC_CERTIFICATION, _POSITIVE_CERTIFICATION, _REVOCATION = 0x00, 0x10, 0x13, 0x20
_CREATED, _KEY_EXPIRES, _ISSUER, _KEY_FLAGS, _FINGERPRINT = 2, 9, 16, 27, 33  # subpackets
_REVOCATION_REASON = 29
#: Codes of reasons for revocation (5.2.3.31).
_REASONS = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.SUPERSEDED: 1,
    RevocationReason.COMPROMISED: 2,
    RevocationReason.RETIRED: 3,
}
_PREFERRED_HASHES, _FEATURES = 21, 30
_CURVES: dict[str, tuple[bytes, ec.EllipticCurve]] = {  # object identifiers (9.2)
    "secp256r1": (bytes.fromhex("2a8648ce3d030107"), ec.SECP256R1()),
    "secp384r1": (bytes.fromhex("2b81040022"), ec.SECP384R1()),
}
_ALGORITHMS: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class OpenPgpKey:
    """A version 4 public key (5.5.2).

    Attributes:
        body: of its packet.
        public: the key itself.
        created: POSIX seconds.
    """

    body: bytes
    public: PublicKey
    created: int

    @classmethod
    def make(cls, public_key: bytes, created: int) -> OpenPgpKey:
        """From the DER of a SubjectPublicKeyInfo.

        Raises:
            InvalidInputError: a kind of key that OpenPGP implementations do not all know.
        """
        public = serialization.load_der_public_key(public_key)
        head = struct.pack(">BI", 4, created)
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            body = head + bytes([_RSA]) + _mpi(numbers.n) + _mpi(numbers.e)
            return cls(body, public, created)
        if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
            identifier = _CURVES[public.curve.name][0]
            point = public.public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            curve = bytes([_ECDSA, len(identifier)]) + identifier
            return cls(head + curve + _mpi(int.from_bytes(point)), public, created)
        message = "An OpenPGP key is RSA, P-256 or P-384 here."
        raise InvalidInputError(message, advice="Choose a key of one of these kinds.")

    @classmethod
    def parse(cls, transferable: bytes) -> OpenPgpKey:
        """The primary key of a transferable public key that `certify` made.

        Raises:
            InvalidInputError: it is none.
        """
        try:
            tag, body = next(_packets(transferable))
            if tag != _KEY_TAG or body[0] != 4:
                raise ValueError
            created = int.from_bytes(body[1:5])
            return cls(body, _public(body[5], body[6:]), created)
        except (ValueError, IndexError, StopIteration, KeyError):
            message = "The certificate is not an OpenPGP key."
            raise InvalidInputError(
                message, advice="Let the policy use an OpenPGP key for OpenPGP signatures."
            ) from None

    @property
    def fingerprint(self) -> bytes:
        """20 bytes (5.5.4.2)."""
        return hashlib.sha1(_hashed_key(self.body), usedforsecurity=False).digest()

    @property
    def least_hash(self) -> str:
        """The weakest hash algorithm that implementations accept with it (5.2.3.2 of RFC 9580 and
        FIPS 186: as long as the curve's order)."""
        curve = isinstance(self.public, ec.EllipticCurvePublicKey)
        return "sha384" if curve and self.public.key_size > 256 else "sha256"

    @property
    def mechanism(self) -> Mechanism:
        """How the token signs with it."""
        return Mechanism.RSA_PKCS1 if isinstance(self.public, rsa.RSAPublicKey) else Mechanism.ECDSA


@dataclass(frozen=True)
class Prepared:
    """A signature that waits for its value.

    Attributes:
        request: what the key has to sign.
        finish: the result -> the signature packet.
    """

    request: SignatureRequest
    finish: Callable[[SignatureResult], bytes]


def prepare_document(
    key: OpenPgpKey, source: BinaryIO, hash_algorithm: str, created: int
) -> Prepared:
    """A detached signature over the bytes of `source`, from its beginning.

    Args:
        created: POSIX seconds, which the signature asserts.

    Raises:
        InvalidInputError: the hash algorithm is too weak for the key.
    """
    if _HASHES[hash_algorithm] < _HASHES[key.least_hash]:
        message = f"This OpenPGP key signs {key.least_hash} or better, not {hash_algorithm}."
        raise InvalidInputError(message, advice=f"Set hash-algorithm to {key.least_hash}.")
    subpackets = _subpacket(_CREATED, struct.pack(">I", created))
    return _prepare(key, _BINARY, hash_algorithm, subpackets, chunks(source, 0, size_of(source)))


def prepare_certification(key: OpenPgpKey, user_id: str, created: int, seconds: int) -> Prepared:
    """The key's own certification of its user id (5.2.1.7): it may certify and sign.

    A later one over the same key takes the place of an earlier one (5.2.3.10): so the key's end is
    moved.

    Args:
        created: of the certification, POSIX seconds.
        seconds: how long the key is valid from its own creation on.

    Raises:
        InvalidInputError: longer than a subpacket can say.
    """
    if not 0 < seconds < 1 << 32:
        message = "An OpenPGP key cannot be valid for so long."
        raise InvalidInputError(message, advice="Ask for a shorter validity, or make a new key.")
    subpackets = (
        _subpacket(_CREATED, struct.pack(">I", created))
        + _subpacket(_KEY_FLAGS, b"\x03")
        + _subpacket(_KEY_EXPIRES, struct.pack(">I", seconds))
        + _subpacket(_PREFERRED_HASHES, bytes([10, 9, 8]))
        + _subpacket(_FEATURES, b"\x01")
    )
    material = _certified(key, user_id)
    return _prepare(key, _POSITIVE_CERTIFICATION, key.least_hash, subpackets, material)


def prepare_endorsement(by: OpenPgpKey, key: OpenPgpKey, user_id: str, created: int) -> Prepared:
    """One key's certification of its successor and its user id (5.2.1.4): who trusts the one has a
    reason to trust the other."""
    subpackets = _subpacket(_CREATED, struct.pack(">I", created))
    material = _certified(key, user_id)
    return _prepare(by, _GENERIC_CERTIFICATION, by.least_hash, subpackets, material)


def prepare_revocation(
    key: OpenPgpKey, reason: RevocationReason, comment: str, created: int
) -> Prepared:
    """The key's own revocation (5.2.1.11), with its reason (5.2.3.31).

    Args:
        comment: for people; at most `MAX_COMMENT` characters.

    Raises:
        InvalidInputError: the comment is too long, or not printable.
    """
    if len(comment) > MAX_COMMENT or not (comment.isprintable() and comment.isascii()):
        message = f"The comment has more than {MAX_COMMENT} characters, or others than ASCII's."
        raise InvalidInputError(message, advice="Shorten it, and use plain letters.")
    subpackets = _subpacket(_CREATED, struct.pack(">I", created)) + _subpacket(
        _REVOCATION_REASON, bytes([_REASONS[reason]]) + comment.encode()
    )
    material = iter((_hashed_key(key.body),))
    return _prepare(key, _REVOCATION, key.least_hash, subpackets, material)


def transferable(key: OpenPgpKey, user_id: str, certification: bytes) -> bytes:
    """A transferable public key (10.1.1): key, user id, and what certifies both: the key's own
    certification first."""
    return _packet(_KEY_TAG, key.body) + _packet(_USER_ID_TAG, user_id.encode()) + certification


def certified_at(transferable: bytes) -> int:
    """When the key has certified its user id, in POSIX seconds.

    Raises:
        InvalidInputError: `transferable` did not make it.
    """
    try:
        body = next(body for tag, body in _packets(transferable) if tag == _SIGNATURE_TAG)
        hashed = body[6 : 6 + int.from_bytes(body[4:6])]
        return int.from_bytes(dict(_subpackets(hashed))[_CREATED])
    except (ValueError, IndexError, StopIteration, KeyError):
        message = "The certificate is not an OpenPGP key."
        raise InvalidInputError(
            message, advice="Use a certificate that was made with kind openpgp."
        ) from None


def check_user_id(user_id: str) -> None:
    """Refuse a user id that is none.

    Raises:
        InvalidInputError
    """
    if (
        not 0 < len(user_id) <= MAX_USER_ID
        or not user_id.isprintable()
        or user_id != user_id.strip()
    ):
        message = f"A user id has 1 to {MAX_USER_ID} printable characters."
        raise InvalidInputError(message, advice="Write it like 'Acme <releases@example.com>'.")


def unarmor(text: bytes) -> bytes:
    """The content of an armor; the checksum is checked where there is one.

    Raises:
        ArtifactError: it is none.
    """
    try:
        lines = text.decode("ascii").strip().splitlines()
        body = lines[lines.index("") + 1 : -1]
        checksum = body.pop()[1:] if body and body[-1].startswith("=") else None
        content = base64.b64decode("".join(body), validate=True)
        wanted = base64.b64decode(checksum) if checksum is not None else None
    except (ValueError, UnicodeDecodeError):
        _malformed("no ASCII armor")
    if wanted is not None and wanted != crc24(content).to_bytes(3):
        _malformed("another checksum than its own")
    return content


def verify_document(source: BinaryIO, signature: bytes, key: OpenPgpKey) -> str:
    """Strictly verify a detached signature, armored or binary; its hash algorithm.

    Raises:
        VerificationError: it is not of this key, or does not verify.
        ArtifactError: malformed, or anything but one version 4 signature over a binary document.
    """
    if len(signature) > MAX_SIGNATURE:
        _malformed(f"{len(signature)} bytes")
    content = unarmor(signature) if signature.startswith(b"-----") else signature
    try:
        [(tag, body)] = list(_packets(content))
        if tag != _SIGNATURE_TAG or body[:2] != bytes([4, _BINARY]):
            _malformed("no version 4 signature of a binary document")
        hash_algorithm = _HASH_NAMES[body[3]]
        end = 6 + int.from_bytes(body[4:6])
        hashed, rest = body[:end], body[end:]
        unhashed = 2 + int.from_bytes(rest[:2])
        left, values = rest[unhashed : unhashed + 2], rest[unhashed + 2 :]
        issuer = dict(_subpackets(hashed[6:]))[_FINGERPRINT]
    except (ValueError, IndexError, KeyError):
        _malformed("a signature packet that cannot be read")
    if issuer != b"\x04" + key.fingerprint:
        message = "The OpenPGP signature is of another key."
        raise VerificationError(message, advice=SIGN_ANEW)
    digest = _digest(hash_algorithm, chunks(source, 0, size_of(source)), hashed)
    if digest[:2] != left or body[2] != key.body[5]:
        message = "The OpenPGP signature is over another file."
        raise VerificationError(message, advice=CHANGED)
    try:
        _check_value(key.public, values, digest, _ALGORITHMS[hash_algorithm])
    except (InvalidSignature, ValueError):
        message = "The OpenPGP signature does not verify."
        raise VerificationError(message, advice=SIGN_ANEW) from None
    return hash_algorithm


def _check_value(
    public: PublicKey, values: bytes, digest: bytes, algorithm: hashes.HashAlgorithm
) -> None:
    prehashed = utils.Prehashed(algorithm)
    if isinstance(public, rsa.RSAPublicKey):
        value, rest = _read_mpi(values)
        size = (public.key_size + 7) // 8
        public.verify(value.to_bytes(size), digest, padding.PKCS1v15(), prehashed)
    else:
        r, rest = _read_mpi(values)
        s, rest = _read_mpi(rest)
        public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(prehashed))
    if rest:
        raise ValueError


def _prepare(
    key: OpenPgpKey,
    kind: int,
    hash_algorithm: str,
    subpackets: bytes,
    material: Iterator[bytes],
) -> Prepared:
    subpackets += _subpacket(_FINGERPRINT, b"\x04" + key.fingerprint)
    algorithm = key.body[5]
    hashed = struct.pack(">BBBBH", 4, kind, algorithm, _HASHES[hash_algorithm], len(subpackets))
    hashed += subpackets
    digest = _digest(hash_algorithm, material, hashed)

    def finish(result: SignatureResult) -> bytes:
        if algorithm == _RSA:
            value = _mpi(int.from_bytes(result.signature))
        else:
            value = b"".join(map(_mpi, utils.decode_dss_signature(result.signature)))
        unhashed = _subpacket(_ISSUER, key.fingerprint[-8:])
        tail = struct.pack(">H", len(unhashed)) + unhashed + digest[:2] + value
        return _packet(_SIGNATURE_TAG, hashed + tail)

    return Prepared(SignatureRequest(digest, hash_algorithm, key.mechanism), finish)


def _certified(key: OpenPgpKey, user_id: str) -> Iterator[bytes]:
    """What a certification is over (5.2.4)."""
    name = user_id.encode()
    return iter((_hashed_key(key.body), struct.pack(">BI", 0xB4, len(name)) + name))


def _digest(hash_algorithm: str, material: Iterator[bytes], hashed: bytes) -> bytes:
    """What is signed (5.2.4)."""
    digest = hashlib.new(hash_algorithm)
    for part in material:
        digest.update(part)
    digest.update(hashed)
    digest.update(struct.pack(">BBI", 4, 0xFF, len(hashed)))
    return digest.digest()


def _hashed_key(body: bytes) -> bytes:
    return struct.pack(">BH", 0x99, len(body)) + body


def _public(algorithm: int, material: bytes) -> PublicKey:
    if algorithm == _RSA:
        n, rest = _read_mpi(material)
        e, rest = _read_mpi(rest)
        if rest:
            raise ValueError
        return rsa.RSAPublicNumbers(e, n).public_key()
    if algorithm != _ECDSA:
        raise ValueError
    identifier = material[1 : 1 + material[0]]
    curve = dict(_CURVES.values())[identifier]
    point, rest = _read_mpi(material[1 + len(identifier) :])
    if rest:
        raise ValueError
    size = 1 + 2 * ((curve.key_size + 7) // 8)
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point.to_bytes(size))


def _packet(tag: int, body: bytes) -> bytes:
    """A packet with the older of the two formats of headers (4.2.2), which everything reads."""
    if len(body) < 256:
        return bytes([0x80 | tag << 2, len(body)]) + body
    return bytes([0x80 | tag << 2 | 1]) + struct.pack(">H", len(body)) + body


def _packets(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Packets as `_packet` writes them, and with headers of the newer format (4.2.1).

    Raises:
        ValueError, IndexError: malformed.
    """
    while content:
        head = content[0]
        if head & 0xC0 == 0xC0:
            tag, (length, start) = head & 0x3F, _new_length(content, 1)
        elif head & 0x80 and head & 3 < 3:
            tag, size = head >> 2 & 0xF, 1 << (head & 3)
            length, start = int.from_bytes(content[1 : 1 + size]), 1 + size
        else:
            raise ValueError
        body = content[start : start + length]
        if len(body) != length:
            raise ValueError
        yield tag, body
        content = content[start + length :]


def _new_length(content: bytes, at: int) -> tuple[int, int]:
    """A length of the newer format, and where what it measures begins."""
    first = content[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return (first - 192 << 8) + content[at + 1] + 192, at + 2
    if first == 255:
        return int.from_bytes(content[at + 1 : at + 5]), at + 5
    raise ValueError


def _subpacket(kind: int, content: bytes) -> bytes:
    return bytes([len(content) + 1, kind]) + content


def _subpackets(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        length, start = _new_length(content, 0)
        if length < 1 or start + length > len(content):
            raise ValueError
        yield content[start] & 0x7F, content[start + 1 : start + length]
        content = content[start + length :]


def _mpi(number: int) -> bytes:
    """A multiprecision integer (3.2)."""
    return struct.pack(">H", number.bit_length()) + number.to_bytes((number.bit_length() + 7) // 8)


def _read_mpi(content: bytes) -> tuple[int, bytes]:
    size = (int.from_bytes(content[:2]) + 7) // 8
    number = int.from_bytes(content[2 : 2 + size])
    if len(content) < 2 + size or number.bit_length() != int.from_bytes(content[:2]):
        raise ValueError
    return number, content[2 + size :]


def _malformed(what: str) -> NoReturn:
    message = f"The OpenPGP signature is malformed: {what}."
    raise ArtifactError(message, advice=SIGN_ANEW)
