"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under a key that is a file, never in the database.

A sealed text belongs to the place it was sealed for (row and field): moved to another it does not
open. So who can write to the database cannot make the server send one system's secret to another.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwright.errors import ConfigurationError

KEY_BYTES = 32
_NONCE_BYTES = 12
_PURPOSE = b"sealwright credential v1"


class Vault:
    """Seals and opens with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, row_id: str, credentials: Mapping[str, str]) -> dict[str, str]:
        """Each value of `credentials` as base64 of nonce, ciphertext and tag."""
        return {name: self._seal(row_id, name, text) for name, text in credentials.items()}

    def reseal(
        self, row_id: str, sealed: Mapping[str, str], given: Mapping[str, str]
    ) -> dict[str, str]:
        """`sealed` with what is given in its place; what is given as empty is taken away."""
        kept = dict(sealed) | self.seal(row_id, given)
        return {name: text for name, text in kept.items() if given.get(name) != ""}

    def open(self, row_id: str, sealed: Mapping[str, str]) -> dict[str, str]:
        """What `seal` was given.

        Raises:
            ConfigurationError: sealed under another key or for another place, or damaged.
        """
        return {name: self._open(row_id, name, text) for name, text in sealed.items()}

    def _seal(self, row_id: str, name: str, text: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), _place(row_id, name))
        return base64.b64encode(nonce + sealed).decode()

    def _open(self, row_id: str, name: str, text: str) -> str:
        try:
            raw = base64.b64decode(text, validate=True)
            nonce, sealed = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, sealed, _place(row_id, name)).decode()
        except (InvalidTag, ValueError, binascii.Error):
            message = f"The credential {name[:60]!r} does not open with this server's key."
            raise ConfigurationError(
                message,
                advice="Restore the secrets key that belongs to the database, or set it anew.",
            ) from None


def open_vault(file: Path) -> Vault:
    """The vault whose key `file` holds; a missing one is made, readable by its owner alone.

    Raises:
        ConfigurationError: unreadable, of another length, or open to others.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _make(file)
        if file.stat().st_mode & 0o077:
            message = f"The secrets key {file} may be read by other users."
            raise ConfigurationError(message, advice="Set its mode to 0600.")
        key = file.read_bytes()
    except OSError as error:
        message = f"The secrets key {file} cannot be read: {error.strerror}."
        raise ConfigurationError(message, advice="Check secrets_key.") from None
    if len(key) != KEY_BYTES:
        message = f"The secrets key {file} has {len(key)} bytes instead of {KEY_BYTES}."
        raise ConfigurationError(message, advice="Restore it from the backup.")
    return Vault(key)


def _make(file: Path) -> None:
    """Write a new key whole or not at all; of several processes that start at once one wins."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_bytes(KEY_BYTES))
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()


def _place(row_id: str, name: str) -> bytes:
    return b"\x00".join((_PURPOSE, row_id.encode(), name.encode()))
