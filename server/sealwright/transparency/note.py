"""Signed notes with Ed25519 keys (C2SP signed-note)."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealwright.errors import InvalidInputError, VerificationError

MAX_NOTE = 1_000_000  #: bytes
MAX_SIGNATURES = 100
KEY_SIZE = 32

_ED25519 = b"\x01"
_DASH = "\N{EM DASH}"
_KEY_ID_SIZE = 4
_NAME = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]{1,255}")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True)
class VerifierKey:
    """A public key that signs notes.

    Attributes:
        name: of the key; a log's key is named like the log's origin.
        public_key: 32 bytes (RFC 8032, 5.1.5).

    Raises:
        InvalidInputError: the name is empty or has a space, plus or control character, or the key
            is not of that size.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            message = f"{self.name[:80]!r} cannot name a key."
            advice = "Use a name such as log.example.com/sealwright: no spaces, no plus."
            raise InvalidInputError(message, advice=advice)
        if len(self.public_key) != KEY_SIZE:
            message = f"An Ed25519 public key has {KEY_SIZE} bytes, not {len(self.public_key)}."
            raise InvalidInputError(message)

    @functools.cached_property
    def key_id(self) -> bytes:
        """Four bytes: SHA-256(name || 0x0A || 0x01 || public key)[:4]."""
        return hashlib.sha256(f"{self.name}\n".encode() + _ED25519 + self.public_key).digest()[:4]

    def encode(self) -> str:
        """Write the *vkey*: ``<name>+<hex key id>+<base64(0x01 || public key)>``."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(_ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Read a vkey.

        Raises:
            InvalidInputError: malformed, not Ed25519, or its key id is not that of its key.
        """
        name, key_id, material = _split_key(vkey)
        key = cls(name, material)
        if key_id != key.key_id.hex():
            message = "The key id of the verifier key does not fit its name and key."
            raise InvalidInputError(message, advice="Copy the whole vkey again from its source.")
        return key

    def verify(self, text: str, signature: bytes) -> None:
        """Check the Ed25519 signature of the note's text.

        Raises:
            VerificationError: it is not this key's signature of `text`.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            message = f"The signature of {self.name} does not verify."
            raise VerificationError(message) from None


@dataclass(frozen=True)
class SigningKey:
    """A private key that signs notes. `seed` is 32 secret bytes (RFC 8032, 5.1.5)."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != KEY_SIZE:
            message = f"The seed of an Ed25519 key has {KEY_SIZE} bytes, not {len(self.seed)}."
            raise InvalidInputError(message)
        VerifierKey(self.name, bytes(KEY_SIZE))  # refuses a bad name

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """Make a new key from the system's randomness."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, skey: str) -> SigningKey:
        """Read what `encode` wrote. No message of an error repeats any of it.

        Raises:
            InvalidInputError: malformed, not Ed25519, or its key id is not that of its key.
        """
        prefix = "PRIVATE+KEY+"
        if not skey.startswith(prefix):
            message = "A signing key starts with PRIVATE+KEY+."
            raise InvalidInputError(message)
        name, key_id, seed = _split_key(skey.removeprefix(prefix))
        key = cls(name, seed)
        if key_id != key.verifier.key_id.hex():
            message = "The key id of the signing key does not fit its name and key."
            raise InvalidInputError(message, advice="Restore the key file from its backup.")
        return key

    def encode(self) -> str:
        """Write the *skey*, a secret: ``PRIVATE+KEY+<name>+<key id>+<base64(0x01 || seed)>``."""
        key_id = self.verifier.key_id.hex()
        return f"PRIVATE+KEY+{self.name}+{key_id}+{encode_base64(_ED25519 + self.seed)}"

    @functools.cached_property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self._private.public_key().public_bytes_raw())

    def sign(self, text: str) -> bytes:
        """Sign the note's text: 64 bytes."""
        return self._private.sign(text.encode())

    @functools.cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def sign_note(text: str, key: SigningKey) -> str:
    """Write the note of `text`, which ends in a newline, signed by `key`.

    Raises:
        InvalidInputError: the text does not end in a newline, or has other control characters.
    """
    if not text.endswith("\n") or _has_controls(text):
        message = "A note's text ends in a newline and has no other control characters."
        raise InvalidInputError(message)
    signature = encode_base64(key.verifier.key_id + key.sign(text))
    return f"{text}\n{_DASH} {key.name} {signature}\n"


def open_note(note: str | bytes, key: VerifierKey) -> str:
    """Give the text of a note that `key` signed. Signatures of other keys are ignored.

    Raises:
        VerificationError: malformed, or not signed by `key` exactly once, or wrongly.
    """
    content = decode_text(note, MAX_NOTE)
    text, gap, lines = content.rpartition("\n\n")
    if _has_controls(content):
        message = "Not a signed note: it has control characters."
        raise VerificationError(message)
    if not gap or not lines.endswith("\n"):
        message = "Not a signed note: a text, an empty line and signature lines."
        raise VerificationError(message)
    text += "\n"
    known = [
        signature
        for name, key_id, signature in map(_parse_signature, _signature_lines(lines))
        if (name, key_id) == (key.name, key.key_id)
    ]
    if len(known) != 1:
        message = f"The note has {len(known)} signatures of {key.name} instead of one."
        advice = "Check that the verifier key belongs to this log."
        raise VerificationError(message, advice=advice)
    key.verify(text, known[0])
    return text


def decode_text(text: str | bytes, limit: int) -> str:
    """Give text from elsewhere as a string.

    Raises:
        VerificationError: longer than `limit`, or not UTF-8.
    """
    if len(text) > limit:
        message = f"The text is longer than {limit}."
        raise VerificationError(message)
    try:
        return text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError:
        message = "The text is not UTF-8."
        raise VerificationError(message) from None


def encode_base64(raw: bytes) -> str:
    """Write standard base64 (RFC 4648, 4)."""
    return base64.b64encode(raw).decode()


def decode_base64(text: str) -> bytes:
    """Read standard base64 in its one canonical form: padding present, unused bits zero.

    Raises:
        ValueError: any other form.
    """
    raw = base64.b64decode(text, validate=True)
    if encode_base64(raw) != text:
        message = "base64 that is not canonical"
        raise ValueError(message)
    return raw


def _signature_lines(lines: str) -> list[str]:
    found = lines[:-1].split("\n")
    if len(found) > MAX_SIGNATURES:
        message = f"The note has more than {MAX_SIGNATURES} signatures."
        raise VerificationError(message)
    return found


def _parse_signature(line: str) -> tuple[str, bytes, bytes]:
    """Read ``<em dash> <name> <base64(key id || signature)>``."""
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    try:
        raw = decode_base64(encoded)
    except ValueError:
        raw = b""
    if dash != _DASH or not _is_name(name) or len(raw) <= _KEY_ID_SIZE:
        message = f"The note has a malformed signature line: {line[:80]!r}."
        raise VerificationError(message)
    return name, raw[:_KEY_ID_SIZE], raw[_KEY_ID_SIZE:]


def _split_key(text: str) -> tuple[str, str, bytes]:
    """Read ``<name>+<key id>+<base64(0x01 || key)>``; standard base64 may hold a plus itself."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        material = decode_base64(encoded)
    except ValueError:
        material = b""
    if material[:1] != _ED25519 or len(material) != 1 + KEY_SIZE:
        message = "Not an Ed25519 key in the form of signed notes."
        advice = "It reads <name>+<8 hex digits>+<base64>; see C2SP signed-note."
        raise InvalidInputError(message, advice=advice)
    return name, key_id, material[1:]


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name))


def _has_controls(text: str) -> bool:
    return bool(_CONTROLS.search(text))
