"""What the signer and its session processes say to each other.

A message is its length (4 bytes, big-endian) and JSON; byte strings are hexadecimal in it. A
request is ``{"op": ..., ...}``. ``sign`` is answered by one message for each item, in order and as
soon as it is signed, so that of a process that dies only one item's fate is unknown; everything
else is answered by one. An answer is ``{"result": ...}`` or ``{"error": ...}``, or for a signature
just a string.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sealwright import errors
from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.keystores.faults import SignatureUncertainError
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.model.mechanism import Mechanism

Json = Any

HEADER = 4
MAX_MESSAGE = 1 << 20
MAX_ITEMS = 64

_ERRORS: dict[str, type[SealwrightError]] = {
    error.__name__: error
    for error in (
        errors.ConfigurationError,
        errors.InternalError,
        errors.InvalidInputError,
        errors.KeyStoreError,
        errors.NotFoundError,
        errors.UnavailableError,
        SignatureUncertainError,
    )
}


@dataclass(frozen=True)
class SignItem:
    """One signature that is asked for; the fields are the arguments of `Token.sign`."""

    key_id: bytes
    mechanism: Mechanism
    hash_algorithm: str
    digest: bytes

    def __post_init__(self) -> None:
        if len(self.key_id) > 255 or len(self.hash_algorithm) > 16 or len(self.digest) > 64:
            message = "A key id, hash algorithm or digest is too long."
            raise InvalidInputError(message)

    def encode(self) -> list[str]:
        """Write the item for `decode`."""
        return [
            self.key_id.hex(),
            self.mechanism.value,
            self.hash_algorithm,
            self.digest.hex(),
        ]

    @classmethod
    def decode(cls, fields: list[str]) -> SignItem:
        """Read what `encode` wrote."""
        key_id, mechanism, hash_algorithm, digest = fields
        return cls(
            bytes.fromhex(key_id), Mechanism(mechanism), hash_algorithm, bytes.fromhex(digest)
        )


def encode(message: Json) -> bytes:
    """Frame a message. Raises InternalError if it is too long."""
    body = json.dumps(message, separators=(",", ":")).encode()
    header = len(body).to_bytes(HEADER)
    length(header)
    return header + body


def decode(body: bytes) -> Json:
    """Read what `encode` wrote after the header."""
    return json.loads(body)


def length(header: bytes) -> int:
    """Read a message's length in bytes. Raises InternalError if it is out of bounds."""
    size = int.from_bytes(header)
    if size > MAX_MESSAGE:
        text = f"A message of {size} bytes exceeds {MAX_MESSAGE}."
        raise errors.InternalError(text)
    return size


def encode_error(error: SealwrightError) -> Json:
    """Write an error for `decode_error`; a subclass that the other side lacks becomes its base."""
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS)
    return {"error": [name, error.message, error.advice]}


def decode_error(answer: Json) -> SealwrightError:
    """Read what `encode_error` wrote."""
    name, message, advice = answer["error"]
    return _ERRORS[name](message, advice=advice)


def encode_key(key: KeyInfo) -> Json:
    """Write a key's description for `decode_key`."""
    return [
        key.id.hex(),
        key.label,
        key.algorithm,
        key.public_key.hex(),
        key.exposed,
        key.readable,
    ]


def decode_key(fields: Json) -> KeyInfo:
    """Read what `encode_key` wrote."""
    key_id, label, algorithm, public_key, exposed, readable = fields
    return KeyInfo(
        bytes.fromhex(key_id), label, algorithm, bytes.fromhex(public_key), exposed, readable
    )
