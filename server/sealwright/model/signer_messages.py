"""What goes over the signer's socket: frames of JSON, each after its length.

A frame is a big-endian 32-bit length and that many bytes of UTF-8 JSON, an object. The client sends
``{"id", "operation", "arguments"}`` and is answered ``{"id", "result"}`` or ``{"id", "error"}``, in
any order. Binary values are base64. Neither side trusts the other: every length is bounded and
every field is checked.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sealwright.errors import InvalidInputError, SealwrightError, UnavailableError
from sealwright.model.mechanism import Mechanism

MAX_FRAME = 1 << 20  #: bytes; `MAX_ITEMS` signatures of RSA-4096 fit
MAX_ITEMS = 1024  #: digests in one ``sign``
MAX_TEXT = 4096  #: characters of any other string

_LENGTH = struct.Struct(">I")

#: Hash algorithms that are signed, with the length of their digests in bytes.
DIGEST_SIZES: Mapping[str, int] = {"sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True)
class DigestToSign:
    """One digest, raw bytes of `hash_algorithm`'s length, and how the key is to sign it."""

    digest: bytes
    hash_algorithm: str
    mechanism: Mechanism


@dataclass(frozen=True)
class Checkpoint:
    """A signed checkpoint of the log (C2SP tlog-checkpoint) and the size that it states."""

    size: int
    text: str


@dataclass(frozen=True)
class Call:
    """What a client asks for. `id` is its own, and comes back with the answer."""

    id: int
    operation: str
    arguments: Mapping[str, Any]

    def encode(self) -> bytes:
        """Write the frame."""
        return encode_frame(
            {"id": self.id, "operation": self.operation, "arguments": self.arguments}
        )

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Call:
        """Read the message. Raises InvalidInputError."""
        number = integer(message, "id", 1 << 53)
        return cls(number, text(message, "operation"), mapping(message, "arguments"))


def encode_frame(message: Mapping[str, Any]) -> bytes:
    """Write one frame.

    Raises:
        InvalidInputError: larger than `MAX_FRAME`.
    """
    content = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    if len(content) > MAX_FRAME:
        message_ = f"A message of {len(content)} bytes does not fit the signer's socket."
        raise InvalidInputError(message_, advice=f"At most {MAX_FRAME} bytes fit; send less.")
    return _LENGTH.pack(len(content)) + content


async def read_frame(reader: asyncio.StreamReader) -> Mapping[str, Any] | None:
    """Read one frame; None where the other side has closed the connection between two.

    Raises:
        InvalidInputError: too long, or not a JSON object; the connection is of no more use.
        UnavailableError: the connection broke.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_FRAME:
            _malformed(f"a frame of {length} bytes")
        content = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        message = "The connection between signer and client was cut inside a message."
        raise UnavailableError(message) from None
    except OSError as error:
        message = f"The connection between signer and client broke ({error.strerror})."
        raise UnavailableError(message) from None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _malformed("a frame that is not a JSON object")
    return value


def encode_error(error: SealwrightError) -> dict[str, str]:
    """Write an error."""
    return {
        "code": error.code,
        "message": error.message[:MAX_TEXT],
        "advice": error.advice[:MAX_TEXT],
        "where": error.where[:MAX_TEXT],
    }


def parse_error(message: Mapping[str, Any]) -> SealwrightError:
    """Read an error back as the class that has its code, or as the family's base."""
    code = text(message, "code")
    kind = next((kind for kind in _family(SealwrightError) if kind.code == code), SealwrightError)
    return kind(
        text(message, "message"), advice=text(message, "advice"), where=text(message, "where")
    )


def encode_items(items: Sequence[DigestToSign]) -> list[dict[str, str]]:
    """Write the digests of a ``sign``."""
    return [
        {
            "digest": encode_bytes(item.digest),
            "hash_algorithm": item.hash_algorithm,
            "mechanism": item.mechanism.value,
        }
        for item in items
    ]


def parse_items(message: Mapping[str, Any]) -> list[DigestToSign]:
    """Read the digests of a ``sign``; each is as long as its hash algorithm says.

    Raises:
        InvalidInputError: malformed, none, or more than `MAX_ITEMS`.
    """
    items = message.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        _malformed(f"a 'sign' without 1 to {MAX_ITEMS} items")
    return [_item(item) for item in items]


def _item(message: Any) -> DigestToSign:
    if not isinstance(message, dict):
        _malformed("an item that is not an object")
    hash_algorithm = text(message, "hash_algorithm")
    digest = parse_bytes(message.get("digest"))
    if DIGEST_SIZES.get(hash_algorithm) != len(digest):
        _malformed(f"a digest of {len(digest)} bytes that is not one of {hash_algorithm[:20]!r}")
    try:
        mechanism = Mechanism(text(message, "mechanism"))
    except ValueError:
        _malformed("an unknown mechanism")
    return DigestToSign(digest, hash_algorithm, mechanism)


def encode_bytes(value: bytes) -> str:
    """Write bytes."""
    return base64.b64encode(value).decode()


def parse_bytes(value: Any) -> bytes:
    """Read bytes. Raises InvalidInputError."""
    if not isinstance(value, str):
        _malformed("a field that is not base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        _malformed("a field that is not base64")


def text(message: Mapping[str, Any], name: str) -> str:
    """Read a string of at most `MAX_TEXT` characters. Raises InvalidInputError."""
    value = message.get(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        _malformed(f"no text {name!r}, or one that is too long")
    return value


def optional_text(message: Mapping[str, Any], name: str) -> str | None:
    """Read a string that may be null. Raises InvalidInputError."""
    return None if message.get(name) is None else text(message, name)


def integer(message: Mapping[str, Any], name: str, limit: int) -> int:
    """Read an integer from 0 up to `limit`. Raises InvalidInputError."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        _malformed(f"no integer {name!r} from 0 to {limit}")
    return value


def mapping(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read an object. Raises InvalidInputError."""
    value = message.get(name)
    if not isinstance(value, dict):
        _malformed(f"no object {name!r}")
    return value


def _malformed(what: str) -> NoReturn:
    message = f"A message on the signer's socket is malformed: {what}."
    raise InvalidInputError(message, advice="Run the same version on both sides of the socket.")


def _family(kind: type[SealwrightError]) -> Iterator[type[SealwrightError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _family(subclass)
