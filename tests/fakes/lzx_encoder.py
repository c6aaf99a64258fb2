"""A plain LZX encoder for cabinets, written from the format alone: no window is used up well.

Makes blocks of every kind, of any length, with repeated offsets and translated calls, so that the
decoder is tested with what cabextract and 7-Zip accept.
"""

from __future__ import annotations

import heapq
import struct
from collections import Counter
from collections.abc import Sequence
from itertools import count, pairwise

FRAME = 32768
VERBATIM, ALIGNED, UNCOMPRESSED = 1, 2, 3
SLOTS = {15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}
Token = tuple[int, int]  # (0, literal) or (length, offset)
Item = tuple[int, int, int, int]  # main symbol, length symbol or -1, extra bits, their width


class Writer:
    """Bits into words."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.buffer = 0
        self.used = 0

    def put(self, value: int, width: int) -> None:
        self.buffer = self.buffer << width | value
        self.used += width
        while self.used >= 16:
            self.used -= 16
            self.data += struct.pack("<H", self.buffer >> self.used & 0xFFFF)
        self.buffer &= (1 << self.used) - 1

    def align(self, *, always: bool = False) -> None:
        if self.used or always:
            self.put(0, 16 - self.used)

    def raw(self, data: bytes) -> None:
        assert not self.used
        self.data += data


def lengths_of(counts: Counter[int], size: int) -> list[int]:
    """Lengths of a complete prefix code, at most 16 bits, for the symbols that occur."""
    if not counts:
        return [0] * size
    weights = {
        symbol: max(number, 1 + sum(counts.values()) >> 10) for symbol, number in counts.items()
    }
    for filler in range(size):
        if len(weights) > 1:
            break
        weights.setdefault(filler, 1)
    order = count()
    heap = [(weight, next(order), [symbol]) for symbol, weight in sorted(weights.items())]
    heapq.heapify(heap)
    lengths = [0] * size
    while len(heap) > 1:
        one, two = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in one[2] + two[2]:
            lengths[symbol] += 1
        heapq.heappush(heap, (one[0] + two[0], next(order), one[2] + two[2]))
    assert max(lengths) <= 16
    return lengths


def codes_of(lengths: Sequence[int]) -> list[int]:
    code, codes = 0, [0] * len(lengths)
    for width in range(1, 17):
        for symbol, length in enumerate(lengths):
            if length == width:
                codes[symbol] = code
                code += 1
        code <<= 1
    return codes


def slot_of(offset: int) -> tuple[int, int, int]:
    """Position slot of an offset, and its extra bits: value and width."""
    base = 0
    for slot in range(50):
        width = 0 if slot < 2 else min(slot // 2 - 1, 17)
        if base <= offset + 2 < base + (1 << width):
            return slot, offset + 2 - base, width
        base += 1 << width
    raise ValueError(offset)


class Encoder:
    """Compresses one folder.

    Args:
        window_bits: of the window.
        kinds: of the blocks, over and over.
        block_length: decompressed bytes of each.
        file_size: for translated calls; 0: none are.
    """

    def __init__(
        self, window_bits: int, kinds: Sequence[int], block_length: int, file_size: int = 0
    ) -> None:
        self.window = 1 << window_bits
        self.main_size = 256 + 8 * SLOTS[window_bits]
        self.kinds = kinds
        self.block_length = block_length
        self.file_size = file_size
        self.main = [0] * self.main_size
        self.lengths = [0] * 249

    def compress(self, content: bytes) -> list[tuple[bytes, int]]:
        """One block of CFDATA for each frame: data and decompressed size."""
        blocks = [
            (self.kinds[number % len(self.kinds)], at, min(at + self.block_length, len(content)))
            for number, at in enumerate(range(0, len(content), self.block_length))
        ]
        frames: list[tuple[bytes, int]] = []
        writer = Writer()
        writer.put(bool(self.file_size), 1)
        if self.file_size:
            writer.put(self.file_size >> 16, 16)
            writer.put(self.file_size & 0xFFFF, 16)
        recent = [1, 1, 1]
        for kind, start, end in blocks:
            cuts = [start, *range((start // FRAME + 1) * FRAME, end, FRAME), end]
            parts = list(pairwise(cuts))
            tokens = [self.tokens(content, first, last) for first, last in parts]
            coded = [self.symbols(part, recent) for part in tokens] if kind != UNCOMPRESSED else []
            self.header(writer, kind, end - start, coded, recent)
            main, lengths = codes_of(self.main), codes_of(self.lengths)
            for number, (first, last) in enumerate(parts):
                if kind == UNCOMPRESSED:
                    writer.raw(content[first:last])
                    if last == end and (end - start) % 2:
                        writer.raw(b"\0")
                else:
                    for item in coded[number]:
                        self.put(writer, item, main, lengths, kind)
                if last % FRAME == 0 or last == len(content):
                    writer.align()
                    frames.append((bytes(writer.data), (last - 1) % FRAME + 1))
                    writer = Writer()
        return frames

    def tokens(self, content: bytes, start: int, end: int) -> list[Token]:
        """Greedy matches within the window, none over the end of the frame."""
        seen: dict[bytes, int] = {}
        for at in range(max(0, start - self.window + 3, start - 5000), start):
            seen[content[at : at + 3]] = at
        found: list[Token] = []
        at = start
        while at < end:
            before = seen.get(content[at : at + 3])
            length = 0
            if before is not None and at - before <= self.window - 3:
                while (
                    length < 257
                    and at + length < end
                    and content[before + length] == content[at + length]
                ):
                    length += 1
            step = length if length >= 3 else 1
            found.append((length, at - (before or 0)) if length >= 3 else (0, content[at]))
            for each in range(at, at + step):
                seen[content[each : each + 3]] = each
            at += step
        return found

    def symbols(self, tokens: Sequence[Token], recent: list[int]) -> list[Item]:
        """(main symbol, length symbol or -1, extra bits, their width)."""
        made = []
        for length, value in tokens:
            if not length:
                made.append((value, -1, 0, 0))
                continue
            if value in recent:
                slot, extra, width = recent.index(value), 0, 0
                recent[0], recent[slot] = recent[slot], recent[0]
            else:
                slot, extra, width = slot_of(value)
                recent[:] = [value, recent[0], recent[1]]
            head = min(length - 2, 7)
            made.append((256 + 8 * slot + head, length - 9 if head == 7 else -1, extra, width))
        return made

    def header(self, writer: Writer, kind: int, length: int, coded: list[list[Item]],
               recent: Sequence[int]) -> None:  # fmt: skip
        writer.put(kind, 3)
        writer.put(length >> 8, 16)
        writer.put(length & 0xFF, 8)
        if kind == UNCOMPRESSED:
            writer.align(always=True)
            writer.raw(struct.pack("<III", *recent))
            return
        if kind == ALIGNED:
            for width in (1, 2, 3, 4, 5, 6, 7, 7):
                writer.put(width, 3)
        main = lengths_of(Counter(each[0] for part in coded for each in part), self.main_size)
        long = lengths_of(Counter(e[1] for part in coded for e in part if e[1] >= 0), 249)
        self.deltas(writer, self.main[:256], main[:256])
        self.deltas(writer, self.main[256:], main[256:])
        self.deltas(writer, self.lengths, long)
        self.main, self.lengths = main, long

    def deltas(self, writer: Writer, old: Sequence[int], new: Sequence[int]) -> None:
        """New lengths as differences, with runs of zeros and of equal lengths."""
        items: list[tuple[int, ...]] = []
        at = 0
        while at < len(new):
            run = 1
            while at + run < len(new) and new[at + run] == new[at] and run < 51:
                run += 1
            if not new[at] and run >= 20:
                items.append((18, run - 20, 5))
            elif not new[at] and run >= 4:
                run = min(run, 19)
                items.append((17, run - 4, 4))
            elif run >= 4:
                run = min(run, 5)
                items.append((19, run - 4, 1, (old[at] - new[at]) % 17))
            else:
                run = 1
                items.append(((old[at] - new[at]) % 17,))
            at += run
        used = Counter(item[0] for item in items) + Counter(i[3] for i in items if len(i) > 3)
        lengths = lengths_of(used, 20)
        codes = codes_of(lengths)
        for length in lengths:
            writer.put(length, 4)
        for item in items:
            writer.put(codes[item[0]], lengths[item[0]])
            if len(item) > 1:
                writer.put(item[1], item[2])
            if len(item) > 3:
                writer.put(codes[item[3]], lengths[item[3]])

    def put(self, writer: Writer, item: Item, main: Sequence[int],
            lengths: Sequence[int], kind: int) -> None:  # fmt: skip
        symbol, length, extra, width = item
        writer.put(main[symbol], self.main[symbol])
        if length >= 0:
            writer.put(lengths[length], self.lengths[length])
        if kind == ALIGNED and width >= 3:
            writer.put(extra >> 3, width - 3)
            widths = (1, 2, 3, 4, 5, 6, 7, 7)
            low = extra & 7
            writer.put(codes_of(widths)[low], widths[low])
        else:
            writer.put(extra, width)
