"""Compound files ([MS-CFB]), read strictly: storages and streams in one file, as MSI packages are.

Nothing of a stream is kept in memory but where it lies, and every sector may belong to one purpose
only. What a file hides in unused sectors is never looked at; see `CompoundFile.check_end`.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_SMALLER
from sealwright.signing.containers.compound_records import (
    DIFAT_SECTOR,
    END_OF_CHAIN,
    ENTRY_SIZE,
    FAT_SECTOR,
    FREE,
    HEADER_FAT_SECTORS,
    MAX_SECTOR,
    MINI_CUTOFF,
    MINI_SECTOR,
    NO_ENTRY,
    RANGE_LOCK,
    ROOT,
    SIGNATURE,
    STORAGE,
    STREAM,
    DirectoryEntry,
    Header,
    order_of,
    refuse,
    text_of,
)
from sealwright.signing.containers.stream_views import Extent, ExtentsReader
from sealwright.signing.streams import chunks, read_at, size_of

MAX_ENTRIES = 200_000  #: storages and streams of one file

_HEADER_SIZE = 512
_MAX_DEPTH = 64
_MAX_PIECES = 1 << 20
_LONG_RUN = 1 << 10
_MAX_VERSION_3 = 2 << 30


def is_compound_file(file: BinaryIO) -> bool:
    """Tell by the first eight bytes."""
    file.seek(0)
    return file.read(len(SIGNATURE)) == SIGNATURE


def root_class(file: BinaryIO) -> bytes:
    """Class identifier of the root storage (16 bytes); empty if there is none to be found."""
    file.seek(0)
    try:
        header = Header.parse(file.read(_HEADER_SIZE))
        place = (header.directory + 1) * header.sector_size
        root = DirectoryEntry.parse(read_at(file, place, ENTRY_SIZE), header.version)
    except ArtifactError:
        return b""
    return root.class_id if root.kind == ROOT else b""


@dataclass(frozen=True)
class Node:
    """A storage or stream.

    Attributes:
        entry: as the directory has it.
        children: of a storage, in the order of the directory.
        extents: (offset in the file, length) of the parts of a stream, in order.
    """

    entry: DirectoryEntry
    children: tuple[Node, ...] = ()
    extents: tuple[Extent, ...] = ()

    @property
    def name(self) -> bytes:
        """UTF-16LE, without NUL."""
        return self.entry.name

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream; else a storage."""
        return self.entry.kind == STREAM

    def child(self, name: bytes) -> Node | None:
        """The child of exactly that name (UTF-16LE), or None."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[bytes, Node]:
        return {node.name: node for node in self.children}


class CompoundFile:
    """A compound file that is open for reading.

    Args:
        file: seekable; stays the caller's and must stay open.
        max_entries: the most storages and streams accepted.

    Raises:
        ArtifactError: malformed or hostile.
    """

    def __init__(self, file: BinaryIO, max_entries: int = MAX_ENTRIES) -> None:
        self.file = file
        self.size = size_of(file)
        file.seek(0)
        head = file.read(_HEADER_SIZE)
        self.header = Header.parse(head)
        if len(head) != _HEADER_SIZE or self.size < self.header.sector_size:
            refuse("it is cut off")
        if self.version == 3 and self.size > _MAX_VERSION_3:
            message = "The compound file has sectors of 512 bytes, but more than 2 GiB."
            raise ArtifactError(message, advice="Put the files into an external cabinet.")
        # The last sector may be cut short.
        self._sectors = -(-self.size // self.sector_size) - 1
        self._claimed = bytearray(self._sectors)
        self._pieces = 0
        self._fat = self._read_fat(head)
        self._claim_range_lock()
        directory = self._chain(self.header.directory, "the directory")
        count = sum(length for _, length in directory) // ENTRY_SIZE
        if count > max_entries:
            message = f"The compound file has more than {max_entries} storages and streams."
            raise ArtifactError(message, advice=MAKE_SMALLER)
        entries = self._read_entries(directory)
        self._mini_fat, self._mini_stream = self._read_mini(entries[0])
        self._mini_ends = list(accumulate(length for _, length in self._mini_stream))
        self._mini_claimed = bytearray(len(self._mini_fat))
        self.root = self._tree(entries)

    @property
    def version(self) -> int:
        """3 or 4."""
        return self.header.version

    @property
    def sector_size(self) -> int:
        """Bytes."""
        return self.header.sector_size

    def open(self, stream: Node) -> BinaryIO:
        """A stream as a file for reading."""
        return ExtentsReader(self.file, stream.extents).file

    def chunks(self, stream: Node) -> Iterator[bytes]:
        """A stream's content in pieces of bounded size."""
        for offset, length in stream.extents:
            yield from chunks(self.file, offset, length)

    def read(self, stream: Node, limit: int) -> bytes:
        """All of a stream. Raises ArtifactError if it has more than `limit` bytes."""
        if stream.entry.size > limit:
            message = f"The stream has {stream.entry.size} bytes, more than {limit}."
            raise ArtifactError(message, where=text_of(stream.name), advice=MAKE_SMALLER)
        return b"".join(self.chunks(stream))

    def check_end(self) -> None:
        """Check that nothing is hidden behind the last used sector.

        Raises:
            ArtifactError: something but zeros is there, such as an appended archive.
        """
        used = len(self._fat)
        while used and self._fat[used - 1] == FREE:
            used -= 1
        end = min((used + 1) * self.sector_size, self.size)
        for piece in chunks(self.file, end, self.size - end):
            if piece.strip(b"\0"):
                message = "Something was appended to the compound file: no signature covers it."
                raise ArtifactError(message, advice="Have the package made anew without it.")

    # Allocation

    def _read_fat(self, head: bytes) -> array[int]:
        """The FAT, put together from the sectors that header and DIFAT name (2.3, 2.5)."""
        per_sector = self.sector_size // 4
        needed = self.header.fat_sectors
        if not 0 < needed <= -(-self._sectors // per_sector) + 1:
            refuse(f"a FAT of {needed} sectors does not fit to its size")
        numbers = _numbers(head[-4 * HEADER_FAT_SECTORS :])
        sector = self.header.difat
        for _ in range(self.header.difat_sectors):
            if len(numbers) >= needed:
                refuse("its DIFAT is longer than needed")
            self._claim(sector, 1, "the DIFAT")
            part = _numbers(self._read_sector(sector))
            numbers.extend(part[:-1])
            sector = part[-1]
        if len(numbers) < needed or (
            self.header.difat_sectors and sector not in (END_OF_CHAIN, FREE)
        ):
            refuse("its DIFAT has another length than the header says")
        if any(number != FREE for number in numbers[needed:]):
            refuse("its DIFAT names more FAT sectors than the header says")
        fat = array("I")
        for number in numbers[:needed]:
            self._claim(number, 1, "the FAT")
            fat.extend(_numbers(self._read_sector(number)))
        for number in numbers[:needed]:
            if number >= len(fat) or fat[number] not in (FAT_SECTOR, DIFAT_SECTOR):
                refuse("a sector of the FAT is not marked as one")
        return fat

    def _claim_range_lock(self) -> None:
        sector = RANGE_LOCK // self.sector_size - 1
        if sector < self._sectors:
            self._claim(sector, 1, "the range lock")

    def _read_sector(self, number: int) -> bytes:
        return read_at(self.file, (number + 1) * self.sector_size, self.sector_size)

    def _claim(self, start: int, count: int, what: str) -> None:
        if start + count > self._sectors:
            refuse(f"{what} lies outside of it")
        if self._claimed.find(1, start, start + count) >= 0:
            refuse(f"{what} overlaps something else")
        self._claimed[start : start + count] = b"\1" * count

    def _count_piece(self) -> None:
        self._pieces += 1
        if self._pieces > _MAX_PIECES:
            refuse(f"its streams lie in more than {_MAX_PIECES} pieces")

    def _chain(self, start: int, what: str, size: int | None = None) -> list[Extent]:
        """Parts of a chain of sectors; with a `size` it must have exactly as many as needed."""
        found = []
        remaining = size
        for sector, count in _runs(self._fat, start, self._sectors, what):
            self._claim(sector, count, what)
            self._count_piece()
            length = count * self.sector_size
            if remaining is not None:
                if remaining <= length - self.sector_size:
                    refuse(f"{what} has more sectors than its size needs")
                length = min(length, remaining)
                remaining -= length
            offset = (sector + 1) * self.sector_size
            if offset + length > self.size:
                refuse(f"{what} is cut off")
            found.append((offset, length))
        if remaining:
            refuse(f"{what} has fewer sectors than its size needs")
        return found

    def _read_mini(self, root: DirectoryEntry) -> tuple[array[int], list[Extent]]:
        """The mini FAT, and where the mini stream lies (2.4, 2.6.3)."""
        mini_fat = array("I")
        if self.header.mini_fat_sectors:
            for offset, length in self._chain(self.header.mini_fat, "the mini FAT"):
                mini_fat.extend(_numbers(read_at(self.file, offset, length)))
        if len(mini_fat) != self.header.mini_fat_sectors * self.sector_size // 4:
            refuse("its mini FAT has another length than the header says")
        if not root.size:
            return mini_fat, []
        return mini_fat, self._chain(root.start, "the mini stream", root.size)

    def _mini_chain(self, start: int, size: int, what: str) -> list[Extent]:
        needed = -(-size // MINI_SECTOR)
        found: list[Extent] = []
        runs = _runs(self._mini_fat, start, len(self._mini_fat), what)
        for sector, count in runs:
            if self._mini_claimed.find(1, sector, sector + count) >= 0:
                refuse(f"{what} overlaps something else")
            self._mini_claimed[sector : sector + count] = b"\1" * count
            self._count_piece()
            found.append((sector * MINI_SECTOR, count * MINI_SECTOR))
        if sum(length for _, length in found) != needed * MINI_SECTOR:
            refuse(f"{what} does not have as many mini sectors as its size needs")
        return self._mapped(found, size, what)

    def _mapped(self, parts: list[Extent], size: int, what: str) -> list[Extent]:
        """Parts of the mini stream as parts of the file, cut to `size` bytes."""
        found: list[Extent] = []
        for offset, length in parts:
            at, left = offset, min(length, size)
            size -= left
            index = bisect_right(self._mini_ends, at)
            while left:
                if index == len(self._mini_ends):
                    refuse(f"{what} lies outside of the mini stream")
                base, extent = self._mini_stream[index]
                inside = at - (self._mini_ends[index] - extent)
                piece = min(left, extent - inside)
                found.append((base + inside, piece))
                at += piece
                left -= piece
                index += 1
        return found

    # Directory

    def _read_entries(self, directory: list[Extent]) -> list[DirectoryEntry]:
        entries = []
        for offset, length in directory:
            for data in chunks(self.file, offset, length):
                entries += [
                    DirectoryEntry.parse(data[at : at + ENTRY_SIZE], self.version)
                    for at in range(0, len(data), ENTRY_SIZE)
                ]
        if not entries or entries[0].kind != ROOT:
            refuse("it has no root storage")
        return entries

    def _tree(self, entries: list[DirectoryEntry]) -> Node:
        """Every storage with its children; each entry is used at most once."""
        used = bytearray(len(entries))
        used[0] = 1

        def node(entry: DirectoryEntry, depth: int) -> Node:
            if entry.kind == STREAM:
                return Node(entry, extents=tuple(self._stream_extents(entry)))
            if depth > _MAX_DEPTH:
                refuse(f"storages are nested more than {_MAX_DEPTH} deep")
            found = [node(each, depth + 1) for each in _siblings(entries, entry.child, used)]
            by_order = {order_of(each.name): each for each in found}
            if len(by_order) < len(found):
                refuse("two entries of a storage have one name", text_of(entry.name))
            return Node(entry, tuple(by_order[order] for order in sorted(by_order)))

        return node(entries[0], 0)

    def _stream_extents(self, entry: DirectoryEntry) -> list[Extent]:
        what = f'the stream "{text_of(entry.name)}"'
        if entry.child != NO_ENTRY:
            refuse(f"{what} has members")
        if not entry.size:
            return []
        if entry.size < MINI_CUTOFF:
            return self._mini_chain(entry.start, entry.size, what)
        if entry.size > self.size:
            refuse(f"{what} is larger than the file")
        return self._chain(entry.start, what, entry.size)


def _siblings(
    entries: list[DirectoryEntry], start: int, used: bytearray
) -> Iterator[DirectoryEntry]:
    """The entries of a storage. They need not be in order: not every writer knows of upper case."""
    path: list[int] = []
    number = start
    while number != NO_ENTRY or path:
        while number != NO_ENTRY:
            if number >= len(entries) or used[number]:
                refuse("its directory has a cycle, or leads outside of it")
            used[number] = 1
            path.append(number)
            number = entries[number].left
        entry = entries[path.pop()]
        if entry.kind not in (STORAGE, STREAM):
            refuse("its directory leads to an unused entry")
        yield entry
        number = entry.right


def _runs(fat: array[int], start: int, limit: int, what: str) -> Iterator[tuple[int, int]]:
    """(first sector, number) of each run of adjacent sectors of a chain."""
    limit = min(limit, len(fat))
    sector, total = start, 0
    while sector != END_OF_CHAIN:
        if sector >= limit or sector > MAX_SECTOR:
            refuse(f"{what} leads outside of it")
        following = _behind_run(fat, sector, limit)
        total += following - sector
        if total > limit:
            refuse(f"{what} is a cycle")
        yield sector, following - sector
        sector = fat[following - 1]


def _behind_run(fat: array[int], sector: int, limit: int) -> int:
    """The sector behind a run of adjacent ones, of which long ones are compared many at a time."""
    following, near = sector + 1, min(sector + _LONG_RUN, limit)
    while following < near and fat[following - 1] == following:
        following += 1
    if following == near:
        while following + _LONG_RUN <= limit and fat[
            following - 1 : following - 1 + _LONG_RUN
        ] == array("I", range(following, following + _LONG_RUN)):
            following += _LONG_RUN
        while following < limit and fat[following - 1] == following:
            following += 1
    return following


def _numbers(data: bytes) -> array[int]:
    numbers = array("I", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
