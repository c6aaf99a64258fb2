"""Names of streams in Windows Installer files.

Storages allow 31 characters of UTF-16. The installer packs two characters of its identifiers into
one beyond U+3800, and marks tables by U+4840 in front. Microsoft does not document it.
"""

from __future__ import annotations

#: The streams of a signature.
SIGNATURE = "\x05DigitalSignature".encode("utf-16-le")
SIGNATURE_EX = "\x05MsiDigitalSignatureEx".encode("utf-16-le")
SIGNATURE_STREAMS = (SIGNATURE, SIGNATURE_EX)

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
_INDEX = {character: index for index, character in enumerate(_ALPHABET)}
_PAIRS, _SINGLES, _TABLE = 0x3800, 0x4800, 0x4840


def stream_name(name: str) -> bytes:
    """The name in the compound file (UTF-16LE) of the stream with this name in the database."""
    return _encode(name).encode("utf-16-le", "surrogatepass")


def table_name(name: str) -> bytes:
    """The name in the compound file of a table's stream."""
    return (chr(_TABLE) + _encode(name)).encode("utf-16-le", "surrogatepass")


def read_stream_name(name: bytes) -> str | None:
    """The inverse of `stream_name`; None for a table's."""
    text = name.decode("utf-16-le", "surrogatepass")
    if text.startswith(chr(_TABLE)):
        return None
    return "".join(_unpacked(ord(character)) for character in text)


def _encode(name: str) -> str:
    packed = []
    at = 0
    while at < len(name):
        first = _INDEX.get(name[at])
        second = _INDEX.get(name[at + 1]) if at + 1 < len(name) else None
        if first is None:
            packed.append(name[at])
        elif second is None:
            packed.append(chr(_SINGLES + first))
        else:
            packed.append(chr(_PAIRS + (second << 6) + first))
            at += 1
        at += 1
    return "".join(packed)


def _unpacked(code: int) -> str:
    if _PAIRS <= code < _SINGLES:
        return _ALPHABET[code & 0x3F] + _ALPHABET[code - _PAIRS >> 6]
    if _SINGLES <= code < _TABLE:
        return _ALPHABET[code - _SINGLES]
    return chr(code)
