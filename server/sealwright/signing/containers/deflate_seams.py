"""Where a deflate stream (RFC 1951) can be cut: found while it is inflated.

zlib-ng stops at the end of a block if it is asked to (``Z_BLOCK``), which the `zlib_ng` package
does not offer; so the library in its wheel, which is pinned to one version, is called directly.
With another build of it streams are inflated as ever, and no seams are found.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from zlib_ng import zlib_ng

from sealwright.signing.containers.deflate import MAX_WBITS, DeflateError, Inflater, crc32, inflater

_VERSION = b"2.3.3"  # whose structure `_Stream` is
_NO_FLUSH, _BLOCK = 0, 5
_OK, _STREAM_END, _BUFFER_ERROR = 0, 1, -5
_BITS, _IN_LAST, _AT_END_OF_BLOCK = 0x3F, 0x40, 0x80  # of data_type
_SPACING = 32 << 10  # bytes of content between two seams at least
_FREE_BLOCKS = 256  # that may be small
_USUAL_BLOCK = 2 << 10
HEAD = 4 << 10  #: bytes at the start of a content which no CRC of a seam is over


class _Stream(ctypes.Structure):
    """zng_stream of zlib-ng.h."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint32),
        ("total_in", ctypes.c_size_t),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint32),
        ("total_out", ctypes.c_size_t),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_uint32),
        ("reserved", ctypes.c_ulong),
    )


def _load() -> ctypes.CDLL | None:
    library = ctypes.CDLL(zlib_ng.__file__)
    try:
        version = library.zlibng_version
        version.restype = ctypes.c_char_p
        stream = ctypes.POINTER(_Stream)
        library.zng_inflateInit2.argtypes = (stream, ctypes.c_int32)
        library.zng_inflate.argtypes = (stream, ctypes.c_int32)
        library.zng_inflateEnd.argtypes = (stream,)
        same = version() == _VERSION and ctypes.sizeof(ctypes.c_void_p) == ctypes.sizeof(
            ctypes.c_ulong
        )
    except AttributeError:
        return None
    return library if same else None


_LIBRARY = _load()


@dataclass(frozen=True)
class Seam:
    """The end of a block that is not the last.

    Attributes:
        content: bytes of content up to here.
        bit: bits of the stream up to here.
        crc: CRC-32 of the content since the seam before; for the first one, since `HEAD` bytes.
    """

    content: int
    bit: int
    crc: int


@dataclass(frozen=True)
class Seams:
    """The seams of one stream, at least 32 KiB of content apart."""

    _numbers: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, seam: Seam) -> None:
        """Add the next one."""
        self._numbers.extend((seam.content, seam.bit, seam.crc))

    def __iter__(self) -> Iterator[Seam]:
        numbers = iter(self._numbers)
        return (Seam(*each) for each in zip(numbers, numbers, numbers, strict=True))


def seam_inflater(seams: Seams) -> Inflater:
    """An inflater of a raw stream that notes the seams which it comes to."""
    return inflater() if _LIBRARY is None else _SeamInflater(_LIBRARY, seams)


class _SeamInflater:
    def __init__(self, library: ctypes.CDLL, seams: Seams) -> None:
        self.eof = False
        self.unused_data = b""
        self.unconsumed_tail = b""
        self._library = library
        self._seams = seams
        self._flush = _BLOCK
        self._blocks = 0
        self._last = 0  # content up to the last seam
        self._crc = 0  # of the content since
        self._room = ctypes.create_string_buffer(0)
        self._stream = _Stream()
        self._open = library.zng_inflateInit2(self._stream, -MAX_WBITS) == _OK
        if not self._open:
            raise MemoryError

    def __del__(self) -> None:
        if self._open:
            self._library.zng_inflateEnd(self._stream)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` bytes more. Raises `DeflateError`."""
        if len(self._room) < max_length:
            self._room = ctypes.create_string_buffer(max_length)
        stream, start = self._stream, ctypes.addressof(self._room)
        stream.next_in = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
        stream.avail_in = len(data)
        stream.next_out = start
        stream.avail_out = max_length
        made = 0
        status, stopped = _OK, True
        while status == _OK and stream.avail_out and (stream.avail_in or stopped):
            status = self._library.zng_inflate(stream, self._flush)
            stopped = bool(stream.data_type & _AT_END_OF_BLOCK)
            before, made = made, max_length - stream.avail_out
            self._digest(before, made)
            if stopped and status == _OK:
                self._end_of_block()
        if status not in (_OK, _STREAM_END, _BUFFER_ERROR):
            raise DeflateError((stream.msg or b"malformed").decode("ascii", "replace"))
        self.eof = status == _STREAM_END
        rest = data[len(data) - stream.avail_in :]
        self.unconsumed_tail, self.unused_data = (b"", rest) if self.eof else (rest, b"")
        stream.next_in = stream.next_out = None
        return ctypes.string_at(start, made)

    def _digest(self, start: int, end: int) -> None:
        """Take what was put at `start` to `end` of the room into the seam's CRC."""
        at = self._stream.total_out - (end - start)
        start += max(0, HEAD - at)
        if start < end:
            self._crc = crc32(memoryview(self._room)[start:end], self._crc)

    def _end_of_block(self) -> None:
        stream = self._stream
        if stream.data_type & _IN_LAST or self._flush != _BLOCK:
            return
        self._blocks += 1
        if self._blocks > _FREE_BLOCKS + stream.total_out // _USUAL_BLOCK:
            self._flush = _NO_FLUSH  # this one is not worth the stops
        elif stream.total_out - self._last >= _SPACING:
            bit = 8 * stream.total_in - (stream.data_type & _BITS)
            self._seams.add(Seam(stream.total_out, bit, self._crc))
            self._last, self._crc = stream.total_out, 0
