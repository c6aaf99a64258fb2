"""Signing outgoing webhooks: Standard Webhooks 1.0, "Signature scheme", symmetric.

A receiver recomputes ``HMAC-SHA-256(secret, id + "." + timestamp + "." + body)``, compares it in
constant time with each ``v1`` signature, and refuses old timestamps and ids that it has seen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from sealwright.errors import InvalidInputError

_PREFIX = "whsec_"
_BYTES = 32
_LEAST, _MOST = 24, 64  # bytes, as the specification allows


def new_secret() -> str:
    """A secret as receivers' libraries take it: ``whsec_`` and base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def check_secret(text: str) -> None:
    """Refuse what receivers' libraries would refuse.

    Raises:
        InvalidInputError: not of that form.
    """
    _key(text)


def signed_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a message.

    Args:
        message_id: the same for every attempt at the same message.
        timestamp: POSIX seconds of this attempt.

    Raises:
        InvalidInputError: the secret is malformed.
    """
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    mac = hmac.digest(_key(secret), content, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or not _LEAST <= len(key) <= _MOST:
        message = "The secret is not whsec_ followed by the base64 of 24 to 64 bytes."
        raise InvalidInputError(message, advice="Leave it out to have one made.")
    return key
