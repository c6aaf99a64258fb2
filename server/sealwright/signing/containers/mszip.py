"""MSZIP: blocks of at most 32 KiB, deflated one by one with the 32 KiB before them as history.

[MS-MCI] section 2. A block is "CK" and one whole deflate stream (RFC 1951).
"""

from __future__ import annotations

import struct
import zlib

from sealwright.errors import ArtifactError

HISTORY = 32768  # bytes
_MARK = b"CK"
_LEVEL = 6
_STORED = struct.Struct("<BHH")  # header of a stored deflate block, the last of its stream


def compress_block(data: bytes, history: bytes) -> bytes:
    """Compress at most 32 KiB; the same bytes on every run.

    Args:
        history: what came before in the same folder, at most `HISTORY` bytes.
    """
    compressor = zlib.compressobj(
        _LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, 8, zlib.Z_DEFAULT_STRATEGY, history
    )
    packed = compressor.compress(data) + compressor.flush()
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
        raise ArtifactError(message)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, zdict=history)
    try:
        data = inflater.decompress(memoryview(block)[2:], size + 1)
    except zlib.error:
        message = "A block of compressed data is malformed."
        raise ArtifactError(message) from None
    if len(data) != size or not inflater.eof or inflater.unused_data:
        message = "A block of compressed data is longer or shorter than declared."
        raise ArtifactError(message)
    return data
