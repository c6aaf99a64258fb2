"""Compound files, written: the same storages and streams always give the same bytes.

Streams come first, in the order of the directory, each in one piece; then what is below 4 KiB in
the mini stream, then mini FAT, directory, FAT and DIFAT ([MS-CFB] leaves the order open). Nothing
of what lay in unused sectors is taken over.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.advice import SHORTEN_NAMES
from sealwright.signing.containers.compound_file import CompoundFile, Node
from sealwright.signing.containers.compound_records import (
    BLACK,
    DIFAT_SECTOR,
    END_OF_CHAIN,
    ENTRY_SIZE,
    FAT_SECTOR,
    FREE,
    HEADER_FAT_SECTORS,
    MAX_NAME,
    MINI_CUTOFF,
    MINI_SECTOR,
    NO_ENTRY,
    RANGE_LOCK,
    RED,
    SECTOR_SIZES,
    STREAM,
    DirectoryEntry,
    Header,
    order_of,
)
from sealwright.signing.containers.stream_views import Extent, Region
from sealwright.signing.streams import copy_range

#: A stream's new content: bytes, or what writes it to the empty file that it is given.
Content = bytes | Callable[[BinaryIO], object]

_HEADER_SIZE = 512
_MAX_VERSION_3 = 2 << 30


@dataclass
class _Planned:
    """A directory entry on its way, with its content if it is a stream."""

    entry: DirectoryEntry
    content: Content | Sequence[Extent] = ()
    children: list[_Planned] = field(default_factory=list)
    number: int = 0


def rewrite(
    source: CompoundFile,
    target: BinaryIO,
    contents: Mapping[bytes, Content],
    removed: Collection[bytes] = (),
) -> None:
    """Write a compound file anew, with other streams in its root storage.

    Args:
        source: what is taken over: storages, streams, class identifiers, times.
        target: empty, open for reading and writing, seekable.
        contents: name (UTF-16LE) -> content of new streams, and of those that are replaced.
        removed: names of streams in the root storage that are left out.

    Raises:
        ArtifactError: the result would be too large for its version.
    """
    root = _planned(source.root)
    kept = {each.entry.name: each for each in root.children if each.entry.name not in removed}
    for name, content in contents.items():
        if len(name) > MAX_NAME:
            message = "A stream's name is too long."
            raise ArtifactError(message, advice=SHORTEN_NAMES)
        entry = kept[name].entry if name in kept else DirectoryEntry(name, STREAM)
        kept[name] = _Planned(entry, content)
    root.children = sorted(kept.values(), key=lambda each: order_of(each.entry.name))
    _Writer(source.file, target, source.version).write(root)


def _planned(node: Node) -> _Planned:
    return _Planned(node.entry, node.extents, [_planned(each) for each in node.children])


class _Writer:
    """Writes one file.

    Attributes:
        sectors: number of sectors written so far, header not counted.
    """

    def __init__(self, source: BinaryIO, target: BinaryIO, version: int) -> None:
        self.source = source
        self.target = target
        self.version = version
        self.sector_size = SECTOR_SIZES[version]
        self.sectors = 0
        self.fat = array("I")
        lock = RANGE_LOCK // self.sector_size
        self.hole = (lock * self.sector_size, self.sector_size)
        self.mini_fat = array("I")

    def write(self, root: _Planned) -> None:
        everything = list(_numbered(root))
        self.target.seek(0)
        self.target.write(bytes(self.sector_size))
        small: list[_Planned] = []
        for each in everything[1:]:
            if each.entry.kind == STREAM:
                self._write_stream(each, small)
        start, size = self._write_mini_stream(small)
        root.entry = replace(root.entry, start=start, size=size)
        _link(root)
        mini_fat, _ = self._write_table(self.mini_fat)
        directory, directory_sectors = self._write_directory(everything)
        self._write_end(
            Header(
                version=self.version,
                directory_sectors=directory_sectors,
                fat_sectors=0,
                directory=directory,
                mini_fat=mini_fat,
                mini_fat_sectors=len(self.mini_fat) * 4 // self.sector_size,
                difat=END_OF_CHAIN,
                difat_sectors=0,
            )
        )

    # Streams

    def _write_stream(self, planned: _Planned, small: list[_Planned]) -> None:
        """Write a stream at the end, or put it on the list of the small ones."""
        content = planned.content
        region = self._region()
        if callable(content):
            content(region.file)
            if region.length < MINI_CUTOFF:
                region.seek(0)
                content = region.read()
                self.target.seek(self._offset(self.sectors))
        elif not isinstance(content, bytes):
            size = sum(length for _, length in content)
            if size >= MINI_CUTOFF:
                self._copy(content, region)
        elif len(content) >= MINI_CUTOFF:
            region.write(content)
        if region.length >= MINI_CUTOFF:
            size = region.length
            planned.entry = replace(planned.entry, start=self._finish(region), size=size)
            return
        planned.content = content
        small.append(planned)

    def _copy(self, extents: Sequence[Extent], region: Region) -> None:
        for start, size in extents:
            offset, length = start, size
            while length:
                place, room = region.place(region.length)
                piece = min(length, room)
                self.target.seek(place)
                copy_range(self.source, offset, piece, self.target)
                region.length += piece
                offset += piece
                length -= piece

    def _write_mini_stream(self, small: list[_Planned]) -> Extent:
        """First sector and size of the mini stream with these streams, one after another."""
        region = self._region()
        for each in small:
            content = each.content
            if callable(content):
                raise TypeError(content)
            if not isinstance(content, bytes):
                content = b"".join(_read(self.source, part) for part in content)
            if not content:
                each.entry = replace(each.entry, start=END_OF_CHAIN, size=0)
                continue
            first = len(self.mini_fat)
            _extend_chain(self.mini_fat, -(-len(content) // MINI_SECTOR))
            each.entry = replace(each.entry, start=first, size=len(content))
            region.write(content + bytes(-len(content) % MINI_SECTOR))
        self.mini_fat.extend([FREE] * (-len(self.mini_fat) % (self.sector_size // 4)))
        return self._finish(region), region.length

    # Sectors

    def _offset(self, sector: int) -> int:
        return (sector + 1) * self.sector_size

    def _region(self) -> Region:
        if self._offset(self.sectors) == self.hole[0]:
            self._skip_hole()
        return Region(self.target, self._offset(self.sectors), self.hole)

    def _skip_hole(self) -> None:
        self.fat.append(END_OF_CHAIN)
        self.sectors += 1

    def _finish(self, region: Region) -> int:
        """Pad what was written to whole sectors, and give its first sector."""
        if not region.length:
            return END_OF_CHAIN
        region.seek(region.length)
        region.write(bytes(-region.length % self.sector_size))
        first = self.sectors
        lock = self.hole[0] // self.sector_size - 1
        count = region.length // self.sector_size
        if first < lock < first + count:
            _extend_chain(self.fat, lock - first)
            self.fat[-1] = lock + 1
            self._skip_hole()
            count -= lock - first
            self.sectors += lock - first
        _extend_chain(self.fat, count)
        self.sectors += count
        self._check_size(self.sectors)
        return first

    def _check_size(self, sectors: int) -> None:
        if self.version == 3 and self._offset(sectors) > _MAX_VERSION_3:
            message = "The package would have more than 2 GiB, with sectors of 512 bytes."
            raise ArtifactError(message, advice="Put the files into an external cabinet.")

    def _write_table(self, table: array[int]) -> tuple[int, int]:
        region = self._region()
        region.write(_encoded(table))
        return self._finish(region), region.length // self.sector_size

    def _write_directory(self, everything: Sequence[_Planned]) -> tuple[int, int]:
        region = self._region()
        encoded = b"".join(each.entry.encode() for each in everything)
        unused = DirectoryEntry(b"", 0).encode()
        region.write(encoded + unused * (-len(encoded) % self.sector_size // ENTRY_SIZE))
        return self._finish(region), region.length // self.sector_size

    def _write_end(self, header: Header) -> None:
        """FAT, DIFAT and header. They are counted until nothing changes: the FAT lists itself."""
        per_sector = self.sector_size // 4
        self._region()  # may skip the hole
        lock = self.hole[0] // self.sector_size - 1
        fat_sectors = difat_sectors = 0
        while True:
            total = self.sectors + fat_sectors + difat_sectors
            hole = self.sectors < lock < total
            needed = -(-(total + hole) // per_sector)
            needed_difat = -(-max(0, needed - HEADER_FAT_SECTORS) // (per_sector - 1))
            if (needed, needed_difat) == (fat_sectors, difat_sectors):
                break
            fat_sectors, difat_sectors = needed, needed_difat
        self._check_size(self.sectors + fat_sectors + difat_sectors)
        numbers = []
        for index in range(fat_sectors + difat_sectors):
            if self.sectors == lock:
                self._skip_hole()
            self.fat.append(FAT_SECTOR if index < fat_sectors else DIFAT_SECTOR)
            numbers.append(self.sectors)
            self.sectors += 1
        fat, difat = numbers[:fat_sectors], numbers[fat_sectors:]
        self.fat.extend([FREE] * (-len(self.fat) % per_sector))
        self._write_sectors(fat, self.fat)
        rows = array("I")
        for index, start in enumerate(range(HEADER_FAT_SECTORS, fat_sectors, per_sector - 1)):
            row = fat[start : start + per_sector - 1]
            rows.extend([*row, *[FREE] * (per_sector - 1 - len(row))])
            rows.append(difat[index + 1] if index + 1 < difat_sectors else END_OF_CHAIN)
        self._write_sectors(difat, rows)
        header = replace(
            header,
            fat_sectors=fat_sectors,
            difat=difat[0] if difat else END_OF_CHAIN,
            difat_sectors=difat_sectors,
        )
        first = fat[:HEADER_FAT_SECTORS]
        first += [FREE] * (HEADER_FAT_SECTORS - len(first))
        self.target.seek(0)
        self.target.write(header.encode() + struct.pack(f"<{HEADER_FAT_SECTORS}I", *first))
        self.target.truncate(self._offset(self.sectors))
        self.target.flush()

    def _write_sectors(self, places: Sequence[int], content: array[int]) -> None:
        per_sector = self.sector_size // 4
        for index, sector in enumerate(places):
            self.target.seek(self._offset(sector))
            self.target.write(_encoded(content[index * per_sector : (index + 1) * per_sector]))


def _extend_chain(table: array[int], count: int) -> None:
    """Append a chain of adjacent sectors that ends with its last one."""
    first = len(table)
    table.extend(range(first + 1, first + count))
    table.append(END_OF_CHAIN)


def _read(file: BinaryIO, extent: Extent) -> bytes:
    file.seek(extent[0])
    return file.read(extent[1])


def _encoded(table: array[int]) -> bytes:
    if sys.byteorder == "big":
        table = table[:]
        table.byteswap()
    return table.tobytes()


def _numbered(root: _Planned) -> Iterator[_Planned]:
    """Everything in the order of the directory's entries: each storage before its members."""
    number = 0
    waiting = [root]
    while waiting:
        planned = waiting.pop()
        planned.number = number
        number += 1
        yield planned
        waiting += reversed(planned.children)


def _link(storage: _Planned) -> None:
    """Make the members of each storage a red-black tree (2.6.4).

    It is as balanced as can be, so only its lowest level can have gaps: red there and black above,
    each way down has the same number of black entries, and no red one follows another.
    """
    waiting = [storage]
    while waiting:
        planned = waiting.pop()
        members = planned.children
        levels = len(members).bit_length()
        is_full = len(members) + 1 == 1 << levels
        top = _balance(members, 1, 0 if is_full else levels)
        planned.entry = replace(planned.entry, child=top)
        waiting += [each for each in members if each.entry.kind != STREAM]


def _balance(members: Sequence[_Planned], level: int, red: int) -> int:
    """Link members below the middle one, whose number is returned; `red` is the red level."""
    if not members:
        return NO_ENTRY
    middle = len(members) // 2
    left = _balance(members[:middle], level + 1, red)
    right = _balance(members[middle + 1 :], level + 1, red)
    top = members[middle]
    color = RED if level == red else BLACK
    top.entry = replace(top.entry, color=color, left=left, right=right)
    return top.number
