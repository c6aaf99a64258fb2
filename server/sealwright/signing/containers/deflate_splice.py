"""Compressing a new version of a content of which the old version is there, compressed.

A signature changes a few bytes near the start of a file and adds some to its end. What lies in
between need not be compressed again: its blocks are copied from the old stream, from behind a seam
that is more than deflate's window away from the last change, to the last seam before the next one.
In front of them and behind them the new content is compressed as ever. Blocks begin at any bit,
so that empty blocks bring what is in front to the bit at which the first one begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sealwright.signing.containers.deflate import crc32, deflate, deflate_start
from sealwright.signing.containers.deflate_blocks import WINDOW
from sealwright.signing.containers.deflate_seams import HEAD, DeflateStream, Seam, Seams
from sealwright.signing.streams import chunks, copy_range, read_at, size_of

SMALLEST = 128 << 10  #: bytes of content below which nothing is gained
_SMALLEST_MIDDLE = 48 << 10  # bytes of content

_EMPTY_FIXED = (0b0000000_01_0, 10)  # fixed codes, end of block at once: the value and its bits


def _empty_dynamic() -> tuple[int, int]:
    """An empty block with codes of its own, of which each is complete: an odd number of bits.

    Lengths 1, 2, 2 for the symbols 254 to 256, and 1, 1 for two distances (RFC 1951, 3.2.7).
    """
    value = at = 0

    def put(number: int, bits: int) -> None:
        nonlocal value, at
        value |= number << at
        at += bits

    for number, bits in ((0, 1), (2, 2), (0, 5), (1, 5), (14, 4)):
        put(number, bits)
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
    for symbol in order:
        put({18: 1, 1: 2, 2: 2}.get(symbol, 0), 3)
    one, two, zeros = (0b01, 2), (0b11, 2), (0b0, 1)  # Huffman codes, first bit lowest
    for run in (138, 116):
        put(*zeros)
        put(run - 11, 7)
    for code in (one, two, two, one, one):
        put(*code)
    put(0b11, 2)  # end of block
    return value, at


_EMPTY_DYNAMIC = _empty_dynamic()
_EMPTY_STORED = b"\x00\x00\xff\xff"  # behind three zero bits and those that fill their byte


def _to_bit(bit: int) -> int:
    """Empty blocks which end at this bit of a byte if they begin at its start, as a number with a
    one above them."""
    blocks = [_EMPTY_DYNAMIC] * (bit % 2)
    while sum(bits for _, bits in blocks) % 8 != bit:
        blocks.append(_EMPTY_FIXED)
    value = at = 0
    for number, bits in blocks:
        value |= number << at
        at += bits
    return value | 1 << at


_ALIGNMENTS = [_to_bit(bit) for bit in range(8)]


def splice(old: DeflateStream, seams: Seams, content: BinaryIO, target: BinaryIO) -> int | None:
    """Append the compressed content to `target`: the same bytes on every run.

    Args:
        seams: where the old version can be cut.

    Returns:
        CRC-32 of the content; None where too little is as in the old version: nothing is written.
    """
    middle = _unchanged(seams, content)
    if middle is None:
        return None
    target.writelines(deflate_start(chunks(content, 0, middle.first.content)))
    _copy_blocks(old, middle.first.bit, middle.last.bit, target)
    end = middle.last.content
    tail = _Summed(chunks(content, end, size_of(content) - end), middle.crc)
    target.writelines(deflate(tail, read_at(content, end - WINDOW, WINDOW)))
    return tail.crc


@dataclass(frozen=True)
class _Middle:
    """Blocks between two seams whose content, and the window before it, are as they were.

    Attributes:
        crc: CRC-32 of the new content up to `last`.
    """

    first: Seam
    last: Seam
    crc: int


def _unchanged(seams: Seams, content: BinaryIO) -> _Middle | None:
    """The first blocks that can be copied, and whether they are enough."""
    size = size_of(content)
    crc = 0
    for piece in chunks(content, 0, min(HEAD, size)):
        crc = crc32(piece)
    before = run = HEAD  # the last seam, and since where nothing has changed
    first: Seam | None = None
    found: _Middle | None = None
    for seam in seams:
        if seam.content > size:
            break
        of_seam = 0
        for piece in chunks(content, before, seam.content - before):
            of_seam = crc32(piece, of_seam)
            crc = crc32(piece, crc)
        before = seam.content
        if of_seam != seam.crc:
            if found is not None:
                break
            first, run = None, before
        elif first is None:
            first = seam if before - run >= WINDOW else None
        else:
            found = _Middle(first, seam, crc)
    if found is None or found.last.content - found.first.content < _SMALLEST_MIDDLE:
        return None
    return found


class _Summed:
    """Passes pieces on, and has their CRC-32 behind them."""

    def __init__(self, pieces: Iterable[bytes], crc: int) -> None:
        self._pieces = pieces
        self.crc = crc

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.crc = crc32(piece, self.crc)
            yield piece


def _copy_blocks(old: DeflateStream, first: int, last: int, target: BinaryIO) -> None:
    """Append the old stream's bits `first` to `last` at the start of a byte, and fill the byte."""
    at, end = first // 8, last // 8
    before = _ALIGNMENTS[first % 8]
    aligning = before.bit_length() - 1
    number = before ^ 1 << aligning
    if first % 8:
        [shared] = read_at(old.file, old.offset + at, 1)
        number |= (shared >> first % 8) << aligning
        aligning += 8 - first % 8
        at += 1
    target.write(number.to_bytes(aligning // 8, "little"))
    copy_range(old.file, old.offset + at, end - at, target)
    bits = last % 8
    [shared] = read_at(old.file, old.offset + end, 1)
    number = shared & (1 << bits) - 1
    target.write(number.to_bytes((bits + 3 + 7) // 8, "little") + _EMPTY_STORED)
