"""Inflating a deflate stream (RFC 1951) block by block, from any of its blocks on.

zlib-ng stops at the end of a block if it is asked to (``Z_BLOCK``), which the `zlib_ng` package
does not offer; so the library in its wheel, which is pinned to one version, is called directly.
With another build of it `LIBRARY` is None.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from zlib_ng import zlib_ng

from sealwright.signing.containers.deflate import MAX_WBITS, DeflateError

WINDOW = 32 << 10  #: bytes of content that a block may refer back to

_VERSION = b"2.3.3"  # whose structure `_Stream` is
_NO_FLUSH, _BLOCK = 0, 5
_OK, _STREAM_END, _BUFFER_ERROR = 0, 1, -5
_BITS, _IN_LAST, _AT_END_OF_BLOCK = 0x3F, 0x40, 0x80  # of data_type
_FREE_BLOCKS = 256  # that may be small
_USUAL_BLOCK = 2 << 10


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
        library.zng_inflatePrime.argtypes = (stream, ctypes.c_int32, ctypes.c_int32)
        library.zng_inflateSetDictionary.argtypes = (stream, ctypes.c_char_p, ctypes.c_uint32)
        library.zng_inflate.argtypes = (stream, ctypes.c_int32)
        library.zng_inflateEnd.argtypes = (stream,)
        same = version() == _VERSION and ctypes.sizeof(ctypes.c_void_p) == ctypes.sizeof(
            ctypes.c_ulong
        )
    except AttributeError:
        return None
    return library if same else None


#: zlib-ng, if it is the build that is known
LIBRARY = _load()


@dataclass(frozen=True)
class Start:
    """Where in a stream to begin: at its own beginning, or behind the end of a block.

    Attributes:
        content: bytes of content in front.
        bit: bits of the stream in front.
        shared: the byte in which that bit is, if it is not the first of a byte.
        window: the content in front, as much as there is of the last `WINDOW` bytes.
    """

    content: int = 0
    bit: int = 0
    shared: int = 0
    window: bytes = b""


class BlockInflater:
    """An `Inflater` of a raw stream that looks up at the end of each block but the last.

    What is fed to it first is the byte behind the one that `start` shares.
    """

    def __init__(self, library: ctypes.CDLL, start: Start | None = None) -> None:
        start = start or Start()
        self.eof = False
        self.unused_data = b""
        self.unconsumed_tail = b""
        self._library = library
        self._content = start.content
        self._bit = -(-start.bit // 8) * 8
        self._blocks = 0
        self._flush = _BLOCK
        self._room = ctypes.create_string_buffer(0)
        self._stream = _Stream()
        self._open = library.zng_inflateInit2(self._stream, -MAX_WBITS) == _OK
        if not self._open:
            raise MemoryError
        if start.bit % 8:
            library.zng_inflatePrime(self._stream, 8 - start.bit % 8, start.shared >> start.bit % 8)
        if start.window:
            library.zng_inflateSetDictionary(self._stream, start.window, len(start.window))

    def __del__(self) -> None:
        if self._open:
            self._library.zng_inflateEnd(self._stream)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` bytes more; fewer where `at_end_of_block` says so. Raises
        `DeflateError`."""
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
            self.has_made(memoryview(self._room)[before:made])
            if stopped and status == _OK and self._looks_up() and self.at_end_of_block():
                break
        if status not in (_OK, _STREAM_END, _BUFFER_ERROR):
            raise DeflateError((stream.msg or b"malformed").decode("ascii", "replace"))
        self.eof = status == _STREAM_END
        rest = data[len(data) - stream.avail_in :]
        self.unconsumed_tail, self.unused_data = (b"", rest) if self.eof else (rest, b"")
        stream.next_in = stream.next_out = None
        return ctypes.string_at(start, made)

    @property
    def content(self) -> int:
        """Bytes of content up to here, those in front of the start included."""
        return self._content + int(self._stream.total_out)

    @property
    def bit(self) -> int:
        """Bits of the stream up to here, at the end of a block."""
        unread = int(self._stream.data_type) & _BITS
        return self._bit + 8 * int(self._stream.total_in) - unread

    def has_made(self, content: memoryview) -> None:
        """Told of each piece of content, which may be empty; it does not stay."""

    def at_end_of_block(self) -> bool:
        """Told of the end of each block that is not the last; whether to stop here."""
        return False

    def _looks_up(self) -> bool:
        if self._stream.data_type & _IN_LAST or self._flush != _BLOCK:
            return False
        self._blocks += 1
        if self._blocks > _FREE_BLOCKS + self._stream.total_out // _USUAL_BLOCK:
            self._flush = _NO_FLUSH  # this one is not worth the stops
            return False
        return True
