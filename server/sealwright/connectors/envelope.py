"""Secrets on their way to the signer: sealed to a key that only the running signer has.

X25519 (RFC 7748) with a key pair of its own for each message, HKDF-SHA-256 (RFC 5869) and
AES-256-GCM (NIST SP 800-38D). A sealed text belongs to the order that it was sealed for. The
signer's private key lives in its memory alone: what was sealed to an earlier signer is lost.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealwright.errors import InvalidInputError

_KEY_BYTES = 32
_NONCE_BYTES = 12
_PURPOSE = b"sealwright envelope v1"


class Envelope:
    """The receiving side: a fresh key pair, and what opens with it."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return _raw(self._private.public_key())

    def open(self, order_id: str, sealed: bytes) -> bytes:
        """What `seal` was given.

        Raises:
            InvalidInputError: sealed to another key or for another order, or damaged.
        """
        sender, nonce = sealed[:_KEY_BYTES], sealed[_KEY_BYTES : _KEY_BYTES + _NONCE_BYTES]
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(sender))
            cipher = AESGCM(_derive(shared, sender, self.public_key))
            return cipher.decrypt(nonce, sealed[_KEY_BYTES + _NONCE_BYTES :], order_id.encode())
        except (InvalidTag, ValueError):
            message = "The upload was sealed for a signer that does not run any more."
            raise InvalidInputError(message, advice="Upload the file once more.") from None


def seal(public_key: bytes, order_id: str, secret: bytes) -> bytes:
    """Seal `secret` so that only the signer with that key opens it, and for that order only."""
    ours = X25519PrivateKey.generate()
    shared = ours.exchange(X25519PublicKey.from_public_bytes(public_key))
    sender = _raw(ours.public_key())
    nonce = secrets.token_bytes(_NONCE_BYTES)
    cipher = AESGCM(_derive(shared, sender, public_key))
    return sender + nonce + cipher.encrypt(nonce, secret, order_id.encode())


def _derive(shared: bytes, sender: bytes, receiver: bytes) -> bytes:
    hkdf = HKDF(hashes.SHA256(), _KEY_BYTES, salt=sender + receiver, info=_PURPOSE)
    return hkdf.derive(shared)


def _raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
