"""Compressed blocks of an app package that its new version takes over.

Each block of a member can be inflated by itself, and begins at the same bytes of the content in the
new version. So a block that still has the same content needs not be compressed again.
"""

from __future__ import annotations

from itertools import accumulate
from typing import BinaryIO

from sealwright.signing.artifact import Entry
from sealwright.signing.containers.appx_block_map import MAX_BLOCK, BlockMap
from sealwright.signing.containers.deflate import FLUSHED, DeflateError, inflater
from sealwright.signing.containers.zip import ZipContainer
from sealwright.signing.containers.zip_records import DEFLATED
from sealwright.signing.streams import read_at


class OldBlocks:
    """The blocks of compressed members as they lie in a package.

    Args:
        file: the package.
        archive: it, opened.
        block_map: says where the blocks begin. It is not believed.
        mapped: the members that it lists, by path.

    Attributes:
        hash_algorithm: of the block map.
    """

    def __init__(
        self,
        file: BinaryIO,
        archive: ZipContainer,
        block_map: BlockMap,
        mapped: dict[str, Entry],
    ) -> None:
        self._file = file
        self._archive = archive
        self.hash_algorithm = block_map.hash_algorithm
        self._block_map = block_map
        self._mapped = {entry.order: (path, entry) for path, entry in mapped.items()}
        self._places: tuple[int, list[int]] = (-1, [])  # of one member: offsets

    def find(self, order: int, number: int, content: bytes) -> bytes:
        """A member's block as it is compressed, if it has this content; else nothing."""
        if order != self._places[0]:
            self._places = (order, self._places_of(order))
        places = self._places[1]
        if number + 1 >= len(places):
            return b""
        packed = read_at(self._file, places[number], places[number + 1] - places[number])
        stream = inflater()
        try:
            found = stream.decompress(packed, len(content) + 1)
        except DeflateError:
            return b""
        is_same = found == content and not (stream.unconsumed_tail or stream.unused_data)
        # What follows in the new stream must be read as a block of its own.
        return packed if is_same and not stream.eof and packed.endswith(FLUSHED) else b""

    def _places_of(self, order: int) -> list[int]:
        """Where a member's blocks begin, and where the last one ends; empty if that is unknown."""
        path, entry = self._mapped.get(order, ("", None))
        if entry is None or not self._block_map.lists(path):
            return []
        extent = self._archive.extent(entry)
        sizes = self._block_map.sizes(path)
        known = [size for size in sizes if size is not None and 0 < size <= MAX_BLOCK]
        if extent.method != DEFLATED or len(known) != len(sizes) or sum(known) > extent.size:
            return []
        return list(accumulate(known, initial=extent.data))
