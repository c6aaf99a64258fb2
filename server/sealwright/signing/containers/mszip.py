"""MSZIP: blocks of at most 32 KiB, deflated one by one with the 32 KiB before them as history.

[MS-MCI] section 2. A block is "CK" and one whole deflate stream (RFC 1951).
"""

from __future__ import annotations

import struct

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW
from sealwright.signing.containers.deflate import DeflateError, deflate_block, inflater

HISTORY = 32768  # bytes
_MARK = b"CK"
_STORED = struct.Struct("<BHH")  # header of a stored deflate block, the last of its stream


def compress_block(data: bytes, history: bytes) -> bytes:
    """Compress at most 32 KiB; the same bytes on every run.

    Args:
        history: what came before in the same folder, at most `HISTORY` bytes.
    """
    packed = deflate_block(data, history)
    if len(packed) > len(data) + _STORED.size:
        # The format allows 12 bytes more than the content, which deflate does not promise.
        packed = _STORED.pack(1, len(data), len(data) ^ 0xFFFF) + data
    return _MARK + packed


def decompress_block(block: bytes, size: int, history: bytes) -> bytes:
    """Decompress a block of `size` bytes.

    Raises:
        ArtifactError: it is malformed, of another size, or has bytes behind its end.
    """
    if not block.startswith(_MARK):
        message = "A block of data has no MSZIP mark."
        raise ArtifactError(message, advice=MAKE_ANEW)
    stream = inflater(history)
    try:
        data = stream.decompress(block[2:], size + 1)
    except DeflateError:
        message = "A block of compressed data is malformed."
        raise ArtifactError(message, advice=MAKE_ANEW) from None
    if len(data) != size or not stream.eof or stream.unused_data:
        message = "A block of compressed data is longer or shorter than declared."
        raise ArtifactError(message, advice=MAKE_ANEW)
    return data
