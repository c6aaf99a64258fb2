"""Compressed blocks that two versions of a cabinet have in common.

A block of MSZIP refers to the block in front of it and to nothing else. Where the content of both
is what it was, the block can be copied: neither compressed again nor given a new checksum. And
where two versions hold the same block behind the same content, who compares them need decompress
it only once.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import BinaryIO

from sealwright.signing.containers.deflate import crc32
from sealwright.signing.streams import read_at

_FIELDS = 4
_MAX_KEPT = 32 << 20  # bytes of a file's blocks that are kept in memory


class NotedBlocks:
    """Where a folder's blocks are and what they hold, as far as it has been decompressed."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def __len__(self) -> int:
        return len(self._numbers) // _FIELDS

    def note(self, offset: int, length: int, content: bytes) -> None:
        """Note the next block.

        Args:
            offset: of its CFDATA in the cabinet,
            length: and its bytes, header included.
            content: decompressed.
        """
        self._numbers.extend((offset, length, len(content), crc32(content)))

    def place(self, number: int) -> tuple[int, int]:
        """Offset and bytes of a CFDATA."""
        offset, length = self._numbers[number * _FIELDS : number * _FIELDS + 2]
        return offset, length

    def holds(self, number: int, content: bytes) -> bool:
        """Whether a block has this content."""
        size, crc = self._numbers[number * _FIELDS + 2 : (number + 1) * _FIELDS]
        return size == len(content) and crc == crc32(content)


class KeptBlocks:
    """An old folder's blocks for the writer of its new version, whose blocks begin where they do.

    Args:
        file: the old cabinet.
        noted: of the old folder,
        count: which has so many blocks.
        first: number of the old block in whose place the first new one is.
        note: has the old folder decompressed until the block with this number is noted.
    """

    def __init__(
        self,
        file: BinaryIO,
        noted: NotedBlocks,
        count: int,
        first: int,
        note: Callable[[int], None],
    ) -> None:
        self._file = file
        self._noted = noted
        self._count = count
        self._first = first
        self._note = note

    @property
    def begins_folder(self) -> bool:
        """Whether nothing is in front of the first block, in the old folder as in the new one."""
        return not self._first

    def holds(self, number: int, content: bytes) -> bool:
        """Whether the old block in the place of a new one has its content."""
        old = self._first + number
        if old >= self._count:
            return False
        self._note(old)
        return self._noted.holds(old, content)

    def record(self, number: int) -> bytes:
        """The CFDATA of the old block in the place of a new one."""
        return read_at(self._file, *self._noted.place(self._first + number))


class LastBlocks:
    """Blocks by MSZIP of the file that was read last in a cabinet, for reading its later version.

    Nothing is believed of where they are: a block is found only if all that decides its content is
    equal, byte for byte. Of a very long file only the first blocks are kept.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[bytes, bytes, bytes]] = {}
        self._left = _MAX_KEPT

    def clear(self) -> None:
        """Another file follows."""
        self._blocks.clear()
        self._left = _MAX_KEPT

    def keep(self, place: int, record: bytes, history: bytes, content: bytes) -> None:
        """Keep a block.

        Args:
            place: of its content behind the beginning of the file; negative if it begins before.
            record: the whole CFDATA, which matches its checksum.
            history: content of the block before, empty for a folder's first.
            content: decompressed.
        """
        self._left -= len(record) + len(content)
        if self._left >= 0:
            self._blocks[place] = record, history, content

    def find(self, place: int, record: bytes, history: bytes) -> bytes | None:
        """The content of an equal block behind equal content; None if there was none there."""
        found = self._blocks.get(place)
        if found is None or found[0] != record or found[1] != history:
            return None
        return found[2]
