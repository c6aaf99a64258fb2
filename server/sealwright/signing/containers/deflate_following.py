"""Inflating a deflate stream (RFC 1951) whose earlier version has just been inflated.

What a block gives is a function of its bits and of the 32 KiB of content before it. Where a block
of the new stream begins at the same content and behind the same 32 KiB as one of the old stream,
the content of as many blocks as have equal bits is known already. All of that is compared, byte for
byte; nothing is believed of who has made the new stream, neither where blocks begin nor that they
are the same. See docs/decisions/0026.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from sealwright.signing.containers.deflate import Inflater
from sealwright.signing.containers.deflate_blocks import LIBRARY, WINDOW, BlockInflater, Start
from sealwright.signing.containers.deflate_seams import DeflateStream, Seam, Seams
from sealwright.signing.streams import chunks, read_at

_MAX_KEPT = 32 << 20  # bytes of content of an old stream that are kept in memory


class InflatedStream:
    """A stream that has been inflated, with its seams and its content. Of a very long one only the
    first content is kept.

    Attributes:
        stream: itself.
        seams: where it can be cut.
    """

    def __init__(self, stream: DeflateStream) -> None:
        self.stream = stream
        self.seams = Seams()
        self._pieces: list[bytes] = []
        self._starts = [0]  # of the pieces; the last is where the content ends
        self._is_full = False

    def keep(self, piece: bytes) -> None:
        """Keep the next piece of content, and none behind one for which there is no room."""
        end = self._starts[-1] + len(piece)
        self._is_full = self._is_full or end > _MAX_KEPT
        if piece and not self._is_full:
            self._pieces.append(piece)
            self._starts.append(end)

    def usable_seams(self) -> list[Seam]:
        """Those up to which the content is there."""
        return [seam for seam in self.seams if seam.content <= self._starts[-1]]

    def content(self, start: int, end: int) -> Iterator[bytes]:
        """The content between two positions that are there."""
        at = bisect_right(self._starts, start) - 1
        while start < end:
            piece = self._pieces[at][start - self._starts[at] : end - self._starts[at]]
            yield piece
            start += len(piece)
            at += 1


@dataclass(frozen=True)
class Leap:
    """A stretch of content that is the same in both streams.

    Attributes:
        pieces: the content,
        size: and its bytes.
        offset: bytes of the new stream up to the first that is to be fed after it,
        inflating: to this.
    """

    pieces: Iterator[bytes]
    size: int
    offset: int
    inflating: Inflater


class Follower:
    """Finds what a stream has in common with its earlier version, while it is inflated.

    Use: feed `inflating`, and call `leap` after each of its pieces.
    """

    def __init__(self, library: ctypes.CDLL, old: InflatedStream, new: DeflateStream) -> None:
        self._library = library
        self._old = old
        self._new = new
        self._seams = old.usable_seams()
        self._bits = {seam.content: seam.bit for seam in self._seams}
        self._tail = b""
        self.inflating = self._inflater(Start())

    def leap(self, piece: bytes) -> Leap | None:
        """What is known from here on, if anything is.

        Args:
            piece: what `inflating` has given last.
        """
        self._tail = (self._tail + piece)[-WINDOW:]
        if not self.inflating.is_at_seam:
            return None
        content, bit = self.inflating.content, self.inflating.bit
        if self._tail != self._window(content):
            return None
        number = next(at for at, seam in enumerate(self._seams) if seam.content == content)
        first = self._seams[number]
        equal = _equal_bits(self._old.stream, first.bit, self._new, bit, self._seams[-1].bit)
        reached = [seam for seam in self._seams[number:] if seam.bit - first.bit <= equal]
        last = reached[-1]
        if last is first:
            return None
        end = bit + last.bit - first.bit
        shared = read_at(self._new.file, self._new.offset + end // 8, 1)[0] if end % 8 else 0
        self._tail = self._window(last.content)
        self.inflating = self._inflater(Start(last.content, end, shared, self._tail))
        pieces = self._old.content(content, last.content)
        return Leap(pieces, last.content - content, -(-end // 8), self.inflating)

    def _window(self, content: int) -> bytes:
        return b"".join(self._old.content(max(0, content - WINDOW), content))

    def _inflater(self, start: Start) -> _StoppingInflater:
        return _StoppingInflater(self._library, start, self._bits)


def follower(old: InflatedStream, new: DeflateStream) -> Follower | None:
    """A follower; None where the library is another one."""
    return None if LIBRARY is None else Follower(LIBRARY, old, new)


class _StoppingInflater(BlockInflater):
    """Stops where a block begins at the same content, and at the same bit of a byte, as an old one.

    Args:
        bits: of the old stream, by content.
    """

    def __init__(self, library: ctypes.CDLL, start: Start, bits: dict[int, int]) -> None:
        super().__init__(library, start)
        self._bits = bits
        self.is_at_seam = False

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        self.is_at_seam = False
        return super().decompress(data, max_length)

    def at_end_of_block(self) -> bool:
        old = self._bits.get(self.content)
        self.is_at_seam = old is not None and (self.bit - old) % 8 == 0
        return self.is_at_seam


def _equal_bits(
    old: DeflateStream, old_bit: int, new: DeflateStream, new_bit: int, limit: int
) -> int:
    """How many bits are the same from two places on, which are at the same bit of a byte.

    Args:
        limit: bits of the old stream behind which nothing matters.
    """
    equal = 0
    old_at, new_at = old_bit // 8, new_bit // 8
    if lead := old_bit % 8:
        ours, theirs = (
            read_at(each.file, each.offset + at, 1)[0] >> lead
            for each, at in ((old, old_at), (new, new_at))
        )
        if ours != theirs:
            return _equal_low_bits(ours, theirs)
        equal, old_at, new_at = 8 - lead, old_at + 1, new_at + 1
    length = min(min(-(-limit // 8), old.size) - old_at, new.size - new_at)
    both = zip(
        chunks(old.file, old.offset + old_at, length),
        chunks(new.file, new.offset + new_at, length),
        strict=True,
    )
    for some, others in both:
        if some != others:
            at = _first_difference(some, others)
            return equal + 8 * at + _equal_low_bits(some[at], others[at])
        equal += 8 * len(some)
    return equal


def _first_difference(some: bytes, others: bytes) -> int:
    """Where two unequal strings of the same length differ first."""
    low, high = 0, len(some)  # the first `low` bytes are equal, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if some[low:middle] == others[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _equal_low_bits(one: int, other: int) -> int:
    """How many bits of two unequal numbers are equal below the first that is not."""
    difference = one ^ other
    return (difference & -difference).bit_length() - 1
