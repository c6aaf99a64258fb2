"""Where a deflate stream (RFC 1951) can be cut: found while it is inflated.

Where `deflate_blocks` does not know the library, streams are inflated as ever, and no seams are
found.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from sealwright.signing.containers.deflate import Inflater, crc32, inflater
from sealwright.signing.containers.deflate_blocks import LIBRARY, BlockInflater

_SPACING = 32 << 10  # bytes of content between two seams at least
HEAD = 4 << 10  #: bytes at the start of a content which no CRC of a seam is over


@dataclass(frozen=True)
class DeflateStream:
    """A compressed stream in a file; offset and size in bytes."""

    file: BinaryIO
    offset: int
    size: int


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
    return inflater() if LIBRARY is None else _SeamInflater(LIBRARY, seams)


class _SeamInflater(BlockInflater):
    def __init__(self, library: ctypes.CDLL, seams: Seams) -> None:
        super().__init__(library)
        self._seams = seams
        self._last = 0  # content up to the last seam
        self._crc = 0  # of the content since

    def has_made(self, content: memoryview) -> None:
        before = self.content - len(content)
        if len(content) > HEAD - before:
            self._crc = crc32(content[max(0, HEAD - before) :], self._crc)

    def at_end_of_block(self) -> bool:
        if self.content - self._last >= _SPACING:
            self._seams.add(Seam(self.content, self.bit, self._crc))
            self._last, self._crc = self.content, 0
        return False
