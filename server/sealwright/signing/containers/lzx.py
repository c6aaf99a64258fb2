"""LZX as cabinets have it, read only ([MS-PATCH] section 2; window of 32 KiB to 2 MiB).

The compressed data comes in frames of at most 32 KiB of output, each of which begins at a word.
Trees and recent offsets live on from frame to frame, and blocks of the format cross frames.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

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
_MAX_BLOCKS = 64  # that begin in one frame; each costs the time to make its tables
_SPARE = FRAME  # words behind a frame's data that may be looked at


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
        self._main: list[int] = []
        self._length: list[int] = []
        self._aligned: list[int] = []
        self._recent = (1, 1, 1)
        self._kind = 0
        self._left = 0  # bytes of the block under way
        self._is_odd = False  # whether it ends with a byte of padding
        self._frames = 0
        self._file_size = 0  # for translated calls
        self._translates = False

    def block(self, data: bytes, size: int) -> bytes:
        """Decompress one frame of `size` bytes.

        Raises:
            ArtifactError: it is malformed, or of another size.
        """
        try:
            return self._frame(_Bits(data), size)
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
                if blocks > _MAX_BLOCKS:
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
        if not self._left and self._is_odd and bits.left:
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
        if self._kind == _ALIGNED:
            self._aligned = _table([bits.take(3) for _ in range(8)], may_be_empty=False)
        _read_lengths(bits, self._main_lengths, 0, 256)
        _read_lengths(bits, self._main_lengths, 256, len(self._main_lengths))
        self._main = _table(self._main_lengths)
        _read_lengths(bits, self._length_lengths, 0, _LENGTHS)
        self._length = _table(self._length_lengths)
        self._translates = self._translates or bool(self._main_lengths[_CALL])

    def _decode(self, bits: _Bits, until: int) -> None:  # noqa: C901, PLR0912, PLR0915 - see below
        """Decode literals and matches; a match may go past `until`, which the caller refuses."""
        out, main, length_table = self._out, self._main, self._length
        aligned = self._aligned if self._kind == _ALIGNED else None
        window = self._window
        first, second, third = self._recent
        position = len(out)
        # One loop over local variables, with the bits' state among them: here the time goes.
        buffer, count, words, word = bits.buffer, bits.count, bits.words, bits.word
        while position < until:
            while count < 16:
                buffer = (buffer & 0xFFFF) << 16 | words[word]
                word += 1
                count += 16
            entry = main[buffer >> (count - 16) & 0xFFFF]
            count -= entry & 31
            symbol = entry >> 5
            if symbol < 256:
                out.append(symbol)
                position += 1
                continue
            symbol -= 256
            length = symbol & 7
            if length == 7:
                while count < 16:
                    buffer = (buffer & 0xFFFF) << 16 | words[word]
                    word += 1
                    count += 16
                entry = length_table[buffer >> (count - 16) & 0xFFFF]
                count -= entry & 31
                length += entry >> 5
            length += 2
            slot = symbol >> 3
            if slot == 0:
                offset = first
            elif slot == 1:
                offset, second, first = second, first, second
            elif slot == 2:
                offset, third, first = third, first, third
            else:
                extra = _EXTRA_BITS[slot]
                offset = _BASES[slot]
                plain = extra - 3 if aligned is not None and extra >= 3 else extra
                while count < 32:
                    buffer = (buffer & 0xFFFF_FFFF) << 16 | words[word]
                    word += 1
                    count += 16
                if plain:
                    count -= plain
                    value = buffer >> count & ((1 << plain) - 1)
                    offset += value << (extra - plain)
                if plain != extra and aligned is not None:
                    while count < 16:
                        buffer = (buffer & 0xFFFF) << 16 | words[word]
                        word += 1
                        count += 16
                    entry = aligned[buffer >> (count - 16) & 0xFFFF]
                    count -= entry & 31
                    offset += entry >> 5
                first, second, third = offset, first, second
            if offset > position or offset > window or offset < 1:
                raise _malformed()
            start = position - offset
            if offset >= length:
                out += out[start : start + length]
            else:
                pattern = out[start:]
                out += (pattern * (length // offset + 1))[:length]
            position += length
        self._recent = (first, second, third)
        bits.buffer, bits.count, bits.word = buffer & ((1 << count) - 1), count, word


class _Bits:
    """A frame's data: words of 16 bits, little-endian, the most significant bit first.

    Attributes:
        words: all of them, and zeros behind, which `check_end` notices if they were used.
        word: index of the next one.
        buffer: bits that have been taken from words, of which
        count: are still unread, at its low end.
    """

    def __init__(self, data: bytes) -> None:
        self._start(data)

    def _start(self, data: bytes) -> None:
        self._data = data
        padded = data + bytes(len(data) % 2 + 2 * _SPARE)
        self.words: Sequence[int] = struct.unpack(f"<{len(padded) // 2}H", padded)
        self.word = 0
        self.buffer = 0
        self.count = 0
        self._raw: int | None = None  # position while bytes are taken

    def take(self, number: int) -> int:
        """The next bits, at most 16."""
        while self.count < number:
            self._load()
        self.count -= number
        return self.buffer >> self.count & ((1 << number) - 1)

    def symbol(self, table: list[int]) -> int:
        """The next symbol of a code."""
        while self.count < 16:
            self._load()
        entry = table[self.buffer >> (self.count - 16) & 0xFFFF]
        self.count -= entry & 31
        return entry >> 5

    def align(self) -> None:
        """Skip 1 to 16 bits, up to a word."""
        if not self.count % 16:
            self.take(16)
        self.count -= self.count % 16

    def take_bytes(self, number: int) -> bytes:
        """Bytes from a word on."""
        at = self.position
        taken = self._data[at : at + number]
        if len(taken) != number:
            raise _malformed()
        self._raw = at + number
        return taken

    def resume(self) -> None:
        """Take bits again after bytes, at whichever of them."""
        if self._raw is not None:
            self._start(self._data[self._raw :])

    @property
    def position(self) -> int:
        """Bytes that have been read; words that were read ahead are not counted."""
        return 2 * (self.word - self.count // 16) if self._raw is None else self._raw

    @property
    def left(self) -> int:
        """Bytes that have not been read; negative if more were than there are."""
        return len(self._data) - self.position

    def _load(self) -> None:
        self.buffer = (self.buffer & 0xFFFF) << 16 | self.words[self.word]
        self.word += 1
        self.count += 16


def _table(lengths: Sequence[int], *, may_be_empty: bool = True) -> list[int]:
    """The canonical code with these lengths, by the next 16 bits: symbol << 5 | length.

    A code is complete; or it has no symbols, and using it fails.
    """
    used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    if not used and may_be_empty:
        return []
    if sum(1 << (16 - length) for length, _ in used) != 1 << 16:
        raise _malformed()
    table: list[int] = []
    for length, symbol in used:
        table += [symbol << 5 | length] * (1 << (16 - length))
    return table


def _read_lengths(bits: _Bits, lengths: list[int], at: int, end: int) -> None:
    """Update the lengths of a part of a code, which are told as differences to the last ones."""
    table = _table([bits.take(4) for _ in range(20)], may_be_empty=False)
    while at < end:
        code = bits.symbol(table)
        if code <= 16:
            lengths[at] = (lengths[at] - code) % 17
            at += 1
            continue
        value = 0
        if code == 19:
            run = 4 + bits.take(1)
            code = bits.symbol(table)
            if code > 16:
                raise _malformed()
            value = (lengths[at] - code) % 17
        else:
            run = 4 + bits.take(4) if code == 17 else 20 + bits.take(5)
        if at + run > end:
            raise _malformed()
        lengths[at : at + run] = [value] * run
        at += run


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
