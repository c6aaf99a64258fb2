"""Checkpoints: the signed head of the tree (C2SP tlog-checkpoint)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.merkle import HASH_SIZE, MAX_SIZE
from sealwright.transparency.note import (
    SigningKey,
    VerifierKey,
    decode_base64,
    encode_base64,
    open_note,
    sign_note,
)

_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True)
class Checkpoint:
    """The head of a log.

    Attributes:
        origin: the log's name; the key that signs has the same.
        size: leaves in the tree.
        root: the tree's root, 32 bytes.
        extensions: further lines that are signed along and mean nothing here.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note's text: origin, size, root in base64, extensions, each on a line."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Write the signed checkpoint.

    Raises:
        InvalidInputError: the key is another log's, or the checkpoint is malformed.
    """
    if checkpoint.origin != key.name:
        message = f"The key {key.name} cannot sign for the log {checkpoint.origin[:80]}."
        raise InvalidInputError(message)
    text = checkpoint.text
    if _parse_text(text) != checkpoint:
        message = "The checkpoint's size, root or extension lines are malformed."
        raise InvalidInputError(message)
    return sign_note(text, key)


def open_checkpoint(note: str | bytes, key: VerifierKey) -> Checkpoint:
    """Read a checkpoint that the log's `key` signed; cosignatures of others are ignored.

    Raises:
        VerificationError: malformed, not signed by `key`, or of another origin.
    """
    checkpoint = _parse_text(open_note(note, key))
    if checkpoint is None:
        message = "The note is signed but is not a checkpoint: origin, size and root."
        raise VerificationError(message)
    if checkpoint.origin != key.name:
        message = f"The checkpoint is of {checkpoint.origin[:80]!r}, the key of {key.name}."
        raise VerificationError(message)
    return checkpoint


def _parse_text(text: str) -> Checkpoint | None:
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        return None
    origin, size, root, *extensions = lines
    try:
        raw = decode_base64(root)
    except ValueError:
        return None
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE or len(raw) != HASH_SIZE:
        return None
    return Checkpoint(origin, int(size), raw, tuple(extensions))
