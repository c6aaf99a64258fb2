"""Compound files for tests, written by other means than the product's: sectors lie anywhere."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

PACKAGE = bytes.fromhex("84100c0000000000c000000000000046")
PATCH = bytes.fromhex("86100c0000000000c000000000000046")
FREE, END, FAT, DIFAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
NONE = 0xFFFFFFFF

Tree = Mapping[str, "bytes | Tree"]


@dataclass
class Layout:
    """Where things came to lie, for tests that damage them.

    Attributes:
        content: the file.
        entries: path, such as ``a/b``, or empty for the root -> offset of the directory entry.
        fat: offset in the file of the FAT's entry for each sector.
        sector: bytes of a sector.
    """

    content: bytes = b""
    entries: dict[str, int] = field(default_factory=dict)
    fat: list[int] = field(default_factory=list)
    sector: int = 512

    def patched(self, offset: int, layout: str, *values: int) -> bytes:
        changed = bytearray(self.content)
        struct.pack_into(layout, changed, offset, *values)
        return bytes(changed)


def build(
    tree: Tree,
    version: int = 3,
    *,
    class_id: bytes = PACKAGE,
    seed: int | None = None,
    spare: int = 0,
) -> Layout:
    """A file with these streams (bytes) and storages (mappings).

    Args:
        seed: scatters the sectors of everything; None leaves them in order.
        spare: unused sectors, filled with noise, that are mixed in.
    """
    return _Builder(version, seed, spare).build(tree, class_id)


class _Builder:
    def __init__(self, version: int, seed: int | None, spare: int) -> None:
        self.size = 512 if version == 3 else 4096
        self.version = version
        self.random = random.Random(seed)
        self.scatters = seed is not None
        self.spare = spare
        self.pieces: list[tuple[str, bytes]] = []  # owner and one sector's content
        self.entries: list[list[object]] = []
        self.paths: dict[str, int] = {}
        self.minis: list[bytes] = []
        self.mini_fat: list[int] = []

    def build(self, tree: Tree, class_id: bytes) -> Layout:
        self._entry("", "Root Entry", 5, class_id)
        self.entries[0][6] = self._storage(tree, "")
        mini = b"".join(self.minis)
        per = self.size // 4
        self._pieces("mini", mini)
        rows = self.mini_fat + [FREE] * (-len(self.mini_fat) % per)
        self._pieces("minifat", struct.pack(f"<{len(rows)}I", *rows))
        count = -(-len(self.entries) * 128 // self.size)
        for number in range(count):
            self.pieces.append((f"directory {number}", b""))
        self.pieces += [("", self.random.randbytes(self.size)) for _ in range(self.spare)]
        fat_count = difat_count = 0
        while True:
            total = len(self.pieces) + fat_count + difat_count
            wanted = -(-total // per)
            needed = -(-max(0, wanted - 109) // (per - 1))
            if (wanted, needed) == (fat_count, difat_count):
                break
            fat_count, difat_count = wanted, needed
        self.pieces += [(f"fat {number}", b"") for number in range(fat_count)]
        self.pieces += [(f"difat {number}", b"") for number in range(difat_count)]
        order = list(range(len(self.pieces)))
        if self.scatters:
            self.random.shuffle(order)
        place = {piece: sector for sector, piece in enumerate(order)}
        return self._lay_out(place, len(mini), fat_count, difat_count, count)

    def _lay_out(
        self, place: dict[int, int], mini_size: int, fat_count: int, difat_count: int, count: int
    ) -> Layout:
        chains: dict[str, list[int]] = {}
        for index, (owner, _) in enumerate(self.pieces):
            chains.setdefault(owner.partition(" ")[0], []).append(place[index])
        fat = [FREE] * (fat_count * self.size // 4)
        for owner, chain in chains.items():
            if owner in ("fat", "difat"):
                for sector in chain:
                    fat[sector] = FAT if owner == "fat" else DIFAT
            elif owner:
                for sector, following in zip(chain, [*chain[1:], END], strict=True):
                    fat[sector] = following
        fats, difats = chains.get("fat", []), chains.get("difat", [])
        sectors = [b""] * len(self.pieces)
        for index, (_, data) in enumerate(self.pieces):
            sectors[place[index]] = data.ljust(self.size, b"\0")
        per = self.size // 4
        for number, sector in enumerate(fats):
            sectors[sector] = struct.pack(f"<{per}I", *fat[number * per : (number + 1) * per])
        for number, sector in enumerate(difats):
            row = fats[109 + number * (per - 1) :][: per - 1]
            row += [FREE] * (per - 1 - len(row))
            row.append(difats[number + 1] if number + 1 < len(difats) else END)
            sectors[sector] = struct.pack(f"<{per}I", *row)
        self.entries[0][11] = chains["mini"][0] if mini_size else END
        self.entries[0][12] = mini_size
        for path, number in self.paths.items():
            if f"s{number}" in chains:
                self.entries[number][11] = chains[f"s{number}"][0]
            del path
        table = b"".join(self._encode(each) for each in self.entries)
        table += (bytes(68) + b"\xff" * 12 + bytes(48)) * (-len(table) % self.size // 128)
        directory = chains["directory"]
        for number, sector in enumerate(directory):
            sectors[sector] = table[number * self.size : (number + 1) * self.size]
        mini_fat = chains.get("minifat", [])
        head = struct.pack(
            "<8s16x5H6x9I",
            bytes.fromhex("d0cf11e0a1b11ae1"),
            0x3E,
            self.version,
            0xFFFE,
            9 if self.version == 3 else 12,
            6,
            count if self.version == 4 else 0,
            fat_count,
            directory[0],
            0,
            4096,
            mini_fat[0] if mini_fat else END,
            len(mini_fat),
            difats[0] if difats else END,
            difat_count,
        )
        first = fats[:109] + [FREE] * (109 - len(fats[:109]))
        head = (head + struct.pack("<109I", *first)).ljust(self.size, b"\0")
        at = lambda sector: (sector + 1) * self.size  # noqa: E731
        return Layout(
            head + b"".join(sectors),
            {
                path: at(directory[number * 128 // self.size]) + number * 128 % self.size
                for path, number in self.paths.items()
            },
            [at(fats[sector // per]) + sector % per * 4 for sector in range(len(sectors))],
            self.size,
        )

    def _storage(self, tree: Tree, path: str) -> int:
        """The entries of a storage as a list that leans to the right; the first one's number."""
        names = sorted(tree, key=lambda name: (len(name), name.upper()))
        following = NONE
        for name in reversed(names):
            value = tree[name]
            inside = f"{path}/{name}" if path else name
            number = self._entry(inside, name, 2 if isinstance(value, bytes) else 1, bytes(16))
            entry = self.entries[number]
            entry[5], following = following, number
            if isinstance(value, bytes):
                entry[11], entry[12] = self._stream(number, value), len(value)
            else:
                entry[6], entry[7] = self._storage(value, inside), bytes([number]) * 16
                entry[9], entry[10] = bytes([1] * 8), bytes([2] * 8)
        return following

    def _entry(self, path: str, name: str, kind: int, class_id: bytes) -> int:
        self.paths[path] = len(self.entries)
        raw = name.encode("utf-16-le")
        self.entries.append(
            [raw, len(raw) + 2, kind, 1, NONE, NONE, NONE, class_id, 0, bytes(8), bytes(8), END, 0]
        )
        return len(self.entries) - 1

    def _encode(self, entry: list[object]) -> bytes:
        return struct.pack("<64sHBBIII16sI8s8sIQ", *entry)

    def _stream(self, number: int, content: bytes) -> int:
        if len(content) >= 4096:
            self._pieces(f"s{number}", content)
            return 0  # known when sectors have their places
        count = -(-len(content) // 64)
        if not count:
            return END
        first = len(self.mini_fat)
        self.mini_fat += [*range(first + 1, first + count), END]
        self.minis.append(content.ljust(64 * count, b"\0"))
        return first

    def _pieces(self, owner: str, content: bytes) -> None:
        for start in range(0, len(content), self.size):
            self.pieces.append((owner, content[start : start + self.size]))
