"""LZX as cabinets have it, read only ([MS-PATCH] section 2; window of 32 KiB to 2 MiB).

The compressed data comes in frames of at most 32 KiB of output, each of which begins at a word.
Trees and recent offsets live on from frame to frame, and blocks of the format cross frames.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW

FRAME = 32768
_VERBATIM, _ALIGNED, _UNCOMPRESSED = 1, 2, 3
_LENGTHS = 249
_POSITION_SLOTS = {15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}
_EXTRA_BITS = [0, 0, *(min(slot // 2, 17) for slot in range(48))]
_BASES = [sum(1 << bits for bits in _EXTRA_BITS[:slot]) - 2 for slot in range(50)]
_MAX_TRANSLATED_FRAMES = 32768
_CALL = 0xE8
_RECENT = 3  # offsets that are kept
_LONG_HEAD = 7  # of a match whose length follows,
_LONG = _LONG_HEAD + 2  # and is no shorter
_MAX_BLOCKS = 64  # that begin in one frame; each costs the time to make its tables
_MEAN_BLOCKS = 8  # that have tables, in a frame of a long folder
_SPARE = 6  # bytes behind a frame's data that are zeros

Symbol: TypeAlias = tuple[int, int]  # bits of its code, value
#: Length, None if a symbol of the code for lengths follows; then one of
#: - offset, place of further bits of it among the next 16, number of these bits;
#: - offset, None, number of further bits in front of the three that the aligned code stands for;
#: - number of a recent offset, None, None.
Match: TypeAlias = tuple[int | None, int, int | None, int | None]
Element: TypeAlias = tuple[int, int, Match | None]  # bits of its code; a literal, or a match
Entry = TypeVar("Entry", Symbol, Element)


class Lzx:
    """Decompresses one folder.

    Args:
        window_bits: size of the window as a power of two, 15 to 21.

    Raises:
        ArtifactError: there is no such window.
    """

    def __init__(self, window_bits: int) -> None:
        if window_bits not in _POSITION_SLOTS:
            message = f"A folder is compressed by LZX with an impossible window ({window_bits})."
            raise ArtifactError(message, advice=MAKE_ANEW)
        self._window = 1 << window_bits
        self._out = bytearray()  # the window and what follows it
        self._main_lengths = [0] * (256 + 8 * _POSITION_SLOTS[window_bits])
        self._length_lengths = [0] * _LENGTHS
        self._main: list[Element] = []
        self._length: list[Symbol] = []
        self._aligned = _UNIFORM
        self._recent = (1, 1, 1)
        self._kind = 0
        self._left = 0  # bytes of the block under way
        self._is_odd = False  # whether it ends with a byte of padding
        self._frames = 0
        self._blocks = 0  # with tables
        self._bits = _Bits()
        self._file_size = 0  # for translated calls
        self._translates = False

    def block(self, data: bytes, size: int) -> bytes:
        """Decompress one frame of `size` bytes.

        Raises:
            ArtifactError: it is malformed, or of another size.
        """
        try:
            self._bits.start(data)
            return self._frame(self._bits, size)
        except IndexError:  # a code without symbols, or bits behind the end
            raise _malformed() from None

    def _frame(self, bits: _Bits, size: int) -> bytes:
        if not self._frames and bits.take(1):
            self._file_size = bits.take(16) << 16 | bits.take(16)
        if len(self._out) > 2 * self._window:
            del self._out[: -self._window]
        start = len(self._out)
        end = start + size
        blocks = 0
        while len(self._out) < end:
            if not self._left:
                self._begin_block(bits)
                blocks += 1
                most = _MAX_BLOCKS + _MEAN_BLOCKS * self._frames
                if blocks > _MAX_BLOCKS or self._blocks > most:
                    raise _malformed()
            before = len(self._out)
            until = min(end, before + self._left)
            if self._kind == _UNCOMPRESSED:
                self._out += bits.take_bytes(until - before)
            else:
                self._decode(bits, until)
            self._left -= len(self._out) - before
            if self._left < 0 or len(self._out) > end:
                raise _malformed()
        if not self._left and self._is_odd and bits.left >= 8:
            bits.take_bytes(1)
            self._is_odd = False
        if bits.left < 0:
            raise _malformed()
        frame = self._out[start:end]
        if self._translates and self._file_size and self._frames < _MAX_TRANSLATED_FRAMES:
            _translate(frame, self._frames * FRAME, self._file_size)
        self._frames += 1
        return bytes(frame)

    def _begin_block(self, bits: _Bits) -> None:
        if self._is_odd:
            bits.take_bytes(1)
            self._is_odd = False
            bits.resume()
        self._kind = bits.take(3)
        self._left = bits.take(16) << 8 | bits.take(8)
        if not self._left or self._kind not in (_VERBATIM, _ALIGNED, _UNCOMPRESSED):
            raise _malformed()
        if self._kind == _UNCOMPRESSED:
            bits.align()
            self._recent = struct.unpack("<III", bits.take_bytes(12))
            self._is_odd = bool(self._left % 2)
            self._translates = True
            return
        self._blocks += 1
        elements, self._aligned = _ELEMENTS, _UNIFORM
        if self._kind == _ALIGNED:
            elements = _ALIGNED_ELEMENTS
            widths = [bits.take(3) for _ in range(8)]
            self._aligned = _table(widths, _SYMBOLS, may_be_empty=False)
        _read_lengths(bits, self._main_lengths, 0, 256)
        _read_lengths(bits, self._main_lengths, 256, len(self._main_lengths))
        self._main = _table(self._main_lengths, elements)
        _read_lengths(bits, self._length_lengths, 0, _LENGTHS)
        self._length = _table(self._length_lengths, _SYMBOLS)
        self._translates = self._translates or bool(self._main_lengths[_CALL])

    def _decode(self, bits: _Bits, until: int) -> None:  # noqa: PLR0912 - see below
        """Decode literals and matches; a match may go past `until`, which the caller refuses."""
        out, main, length_table, aligned = self._out, self._main, self._length, self._aligned
        window = self._window
        first, second, third = self._recent
        position = len(out)
        # One loop over local variables, with the bits' state among them: here the time goes.
        peeks, at, append = bits.peeks, bits.at, out.append
        while position < until:
            width, literal, match = main[peeks[at]]
            at += width
            if match is None:
                append(literal)
                position += 1
                continue
            length, offset, place, extra = match
            if length is None:
                width, length = length_table[peeks[at]]
                length += _LONG
                at += width
            if extra is not None:
                if place is not None:
                    offset += peeks[at] >> place
                    at += extra
                else:
                    if extra:
                        offset += peeks[at] >> (16 - extra) << 3
                        at += extra
                    width, low = aligned[peeks[at]]
                    at += width
                    offset += low
                first, second, third = offset, first, second
            else:
                if offset == 0:
                    offset = first
                elif offset == 1:
                    offset, second, first = second, first, second
                else:
                    offset, third, first = third, first, third
                if not 1 <= offset <= window:
                    raise _malformed()
            start = position - offset
            if start < 0:
                raise _malformed()
            if offset >= length:
                out += out[start : start + length]
            else:
                out += (out[start:] * (length // offset + 1))[:length]
            position += length
        self._recent = (first, second, third)
        bits.at = at


class _Bits:
    """A frame's data: words of 16 bits, little-endian, the most significant bit first.

    Attributes:
        peeks: for each bit the 16 bits from it on, which costs less than to keep a buffer of bits.
            Behind the data are some zeros, and whatever an earlier frame has left: `left` tells
            afterwards whether they were used.
        at: number of bits that have been read.
    """

    def __init__(self) -> None:
        self.peeks = array("H")
        self._start(b"")

    def _start(self, data: bytes) -> None:
        self._data = data
        self._end = 8 * (len(data) & ~1)  # an odd byte at the end can only be taken as such
        self.at = 0

    def start(self, data: bytes) -> None:
        """Begin a frame."""
        self._start(data)
        size = len(data) + len(data) % 2 + _SPARE
        padded = data + bytes(size - len(data))
        swapped = bytearray(size)
        swapped[::2], swapped[1::2] = padded[1::2], padded[::2]
        end = 8 * size
        if len(self.peeks) < end:
            self.peeks.frombytes(bytes(2 * (end - len(self.peeks))))
        number = int.from_bytes(swapped, "big")
        for shift in range(8):
            shifted = (number << shift + 8).to_bytes(size + 2, "big")
            self.peeks[shift:end:16] = _words(shifted[1:-1])
            self.peeks[shift + 8 : end : 16] = _words(shifted[2:])

    def take(self, number: int) -> int:
        """The next bits, at most 16."""
        value = self.peeks[self.at] >> (16 - number)
        self.at += number
        return value

    def align(self) -> None:
        """Skip 1 to 16 bits, up to a word."""
        self.at += 16 - self.at % 16

    def take_bytes(self, number: int) -> bytes:
        """Bytes from a word on."""
        begin = self.at // 8
        taken = self._data[begin : begin + number]
        if len(taken) != number:
            raise _malformed()
        self.at = min(self.at + 8 * number, self._end)
        return taken

    def resume(self) -> None:
        """Take bits again after bytes, at whichever of them."""
        if self.at % 16:
            self.start(self._data[self.at // 8 :])

    @property
    def left(self) -> int:
        """Bits that have not been read; negative if more were than there are."""
        return self._end - self.at


def _words(data: bytes) -> array[int]:
    """Words of 16 bits, big-endian."""
    words = array("H", data)
    if sys.byteorder == "little":
        words.byteswap()
    return words


def _match(symbol: int, *, is_aligned: bool) -> Match:
    """What a symbol of the main code stands for, less the literals."""
    slot, head = divmod(symbol, 8)
    length = None if head == _LONG_HEAD else head + 2
    if slot < _RECENT:
        return length, slot, None, None
    bits = _EXTRA_BITS[slot]
    # 17 bits are more than are looked at: the last three are taken as a code of equal lengths
    if bits > 16 or (is_aligned and bits >= 3):
        return length, _BASES[slot], None, bits - 3
    return length, _BASES[slot], 16 - bits, bits


def _elements(*, is_aligned: bool) -> list[list[Element]]:
    """The main code's symbols by the length of their code."""
    matches = [_match(symbol, is_aligned=is_aligned) for symbol in range(8 * len(_BASES))]
    return [
        [*((width, value, None) for value in range(256)), *((width, 0, each) for each in matches)]
        for width in range(17)
    ]


def _table(
    lengths: Sequence[int], entries: Sequence[Sequence[Entry]], *, may_be_empty: bool = True
) -> list[Entry]:
    """The canonical code with these lengths, by the next 16 bits.

    A code is complete; or it has no symbols, and using it fails.

    Args:
        entries: by the length of the code and the symbol.
    """
    by_length: list[list[int]] = [[] for _ in range(17)]
    for symbol, length in enumerate(lengths):
        by_length[length].append(symbol)
    covered = sum(len(by_length[length]) << (16 - length) for length in range(1, 17))
    if not covered and may_be_empty:
        return []
    if covered != 1 << 16:
        raise _malformed()
    table: list[Entry] = []
    for length in range(1, 17):
        for symbol in by_length[length]:
            table += [entries[length][symbol]] * (1 << (16 - length))
    return table


def _read_lengths(bits: _Bits, lengths: list[int], begin: int, end: int) -> None:
    """Update the lengths of a part of a code, which are told as differences to the last ones."""
    table = _table([bits.take(4) for _ in range(20)], _SYMBOLS, may_be_empty=False)

    def next_code() -> int:
        width, code = table[bits.peeks[bits.at]]
        bits.at += width
        return code

    while begin < end:
        code = next_code()
        if code <= 16:
            lengths[begin] = (lengths[begin] - code) % 17
            begin += 1
            continue
        value = 0
        if code == 19:
            run = 4 + bits.take(1)
            code = next_code()
            if code > 16:
                raise _malformed()
            value = (lengths[begin] - code) % 17
        else:
            run = 4 + bits.take(4) if code == 17 else 20 + bits.take(5)
        if begin + run > end:
            raise _malformed()
        lengths[begin : begin + run] = [value] * run
        begin += run


def _translate(frame: bytearray, position: int, file_size: int) -> None:
    """Turn the targets of calls back from absolute to relative ([MS-PATCH] section 2.2)."""
    at = frame.find(_CALL)
    while 0 <= at < len(frame) - 10:
        current = position + at
        (absolute,) = struct.unpack_from("<i", frame, at + 1)
        if -current <= absolute < file_size:
            relative = absolute - current if absolute >= 0 else absolute + file_size
            struct.pack_into("<I", frame, at + 1, relative & 0xFFFF_FFFF)
        at = frame.find(_CALL, at + 5)


def _malformed() -> ArtifactError:
    message = "A block of data that is compressed by LZX is malformed."
    return ArtifactError(message, advice=MAKE_ANEW)


_SYMBOLS: list[list[Symbol]] = [
    [(width, value) for value in range(_LENGTHS)] for width in range(17)
]
_ELEMENTS = _elements(is_aligned=False)
_ALIGNED_ELEMENTS = _elements(is_aligned=True)
_UNIFORM = _table([3] * 8, _SYMBOLS)
