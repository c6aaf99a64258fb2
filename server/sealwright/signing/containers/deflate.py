"""Deflate (RFC 1951) and CRC-32 for archives: the one place that decides with what.

zlib-ng, pinned to one version and linked into its wheel: several times as fast as zlib, a little
less dense, and the same bytes on every machine, which Python's own module, linked to whatever zlib
the system has, does not promise. See docs/decisions/0008.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from zlib_ng import zlib_ng

MAX_WBITS = zlib_ng.MAX_WBITS
#: what an inflater raises for malformed data
DeflateError: type[Exception] = zlib_ng.error  # type: ignore[assignment] # its stub names a value
crc32 = zlib_ng.crc32

_LEVEL = 5
FLUSHED = b"\x00\x00\xff\xff"  #: at the end of what can be followed at a byte by anything


class Inflater(Protocol):
    """Decompresses one stream; as `zlib.decompressobj`."""

    eof: bool
    unused_data: bytes
    unconsumed_tail: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` bytes more. Raises `DeflateError`."""
        ...


def inflater(history: bytes = b"") -> Inflater:
    """An inflater of a raw stream, which may refer to what came before it."""
    made: Inflater = zlib_ng.decompressobj(-MAX_WBITS, zdict=history)
    return made


def deflate_block(data: bytes, history: bytes) -> bytes:
    """Compress a short stream that may refer to the `history`: the same bytes on every run."""
    compressor = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -MAX_WBITS, zdict=history)
    return compressor.compress(data) + compressor.flush()


def deflate(pieces: Iterable[bytes], history: bytes = b"") -> Iterator[bytes]:
    """Compress a stream, which may be given in pieces of 1 MiB: the same bytes on every run.

    It may refer to the `history`.
    """
    compressor = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -MAX_WBITS, zdict=history)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()


def deflate_start(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`deflate` without an end: the stream stops at a byte, and its next block can follow."""
    compressor = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -MAX_WBITS)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush(zlib_ng.Z_SYNC_FLUSH)


class BlockDeflater:
    """Compresses a stream so that each of its blocks can be inflated by itself."""

    def __init__(self) -> None:
        self._compressor = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -MAX_WBITS)

    def block(self, content: bytes) -> bytes:
        """A block, which ends with a full flush: `FLUSHED`."""
        packed: bytes = self._compressor.compress(content)
        return packed + self._compressor.flush(zlib_ng.Z_FULL_FLUSH)

    def end(self) -> bytes:
        """What ends the stream."""
        return self._compressor.flush()
