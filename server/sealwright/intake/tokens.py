"""API and session tokens: made here, shown once, kept as a hash.

``swt_<kind>_<30 base62 characters><6 base62 characters of CRC-32>``: by the prefix secret scanners
find a leaked token, by the checksum a mistyped or made-up one is refused without a look-up.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

from sealwright.errors import UnauthenticatedError
from sealwright.model.user import TokenKind

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_LENGTH = 30  # log2(62) * 30 = 178 bits
_CHECKSUM_LENGTH = 6  # 62**6 > 2**32
_TOKEN = re.compile(
    rf"swt_({'|'.join(kind.value for kind in TokenKind)})_"
    rf"[0-9A-Za-z]{{{_SECRET_LENGTH}}}[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}}"
)


def new_token(kind: TokenKind) -> str:
    """Make a token. Nothing can bring its text back later: only `token_hash` of it is kept."""
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    text = f"swt_{kind.value}_{secret}"
    return text + _checksum(text)


def token_hash(token: str) -> str:
    """Give the hex SHA-256 by which a token is looked up.

    A slow hash would add nothing: the token has more entropy than the hash.

    Raises:
        UnauthenticatedError: not a token of ours, or mistyped.
    """
    body, checksum = token[:-_CHECKSUM_LENGTH], token[-_CHECKSUM_LENGTH:]
    if not _TOKEN.fullmatch(token) or checksum != _checksum(body):
        message = "The token is not one of this server's."
        raise UnauthenticatedError(message, advice="Check that it was copied whole.")
    return hashlib.sha256(token.encode()).hexdigest()


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
