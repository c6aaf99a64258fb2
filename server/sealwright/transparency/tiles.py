"""Tiles and entry bundles: how the tree is stored and served (C2SP tlog-tiles).

A tile holds up to 256 consecutive hashes of every eighth level of the tree; an entry bundle holds
the leaves themselves. Full ones never change; a partial one is named by its width and so never
changes either.
"""

from __future__ import annotations

import re
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.leaf import MAX_LEAF
from sealwright.transparency.merkle import HASH_SIZE, MAX_SIZE, subtree_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
ENTRIES = -1  #: the level of entry bundles
MAX_LEVEL = (MAX_SIZE.bit_length() - 1) // HEIGHT  #: tile level
MAX_TILE = WIDTH * HASH_SIZE  #: bytes
MAX_BUNDLE = WIDTH * (2 + MAX_LEAF)  #: bytes
CHECKPOINT_PATH = "checkpoint"

_PATH = re.compile(r"tile/(entries|\d)/((?:x\d{3}/){0,5}\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


class TileStore(Protocol):
    """Where tiles, entry bundles and the checkpoint are kept, by their C2SP path."""

    def read(self, path: str) -> bytes | None:
        """Give the content at `path` whole, or None where there is none.

        Raises:
            VerificationError: what is there cannot be a file of a log.
            UnavailableError: the store cannot be read now.
        """
        ...

    def write(self, path: str, content: bytes) -> None:
        """Keep `content` at `path`; it must be fully persisted when this returns, and visible
        whole or not at all. Only ``checkpoint`` may be replaced: the same content again is fine
        elsewhere, different content is not.

        Raises:
            ConflictError: the path is immutable and holds something else.
            UnavailableError: the store cannot be written now.
        """
        ...

    def remove_partials(self, path: str) -> None:
        """Delete the partial tiles ``<path>.p/*``, if any; the full one at `path` is there."""
        ...


@dataclass(frozen=True, order=True)
class Tile:
    """Coordinates of a tile, or of an entry bundle where `level` is `ENTRIES`.

    Attributes:
        level: of the tiling: each is `HEIGHT` levels of the tree.
        index: of the tile within the level.
        width: hashes (or leaves) in it, 1 to `WIDTH`; below `WIDTH` it is partial.
    """

    level: int
    index: int
    width: int = WIDTH

    @property
    def is_partial(self) -> bool:
        """Whether the tile can still grow."""
        return self.width < WIDTH

    @property
    def path(self) -> str:
        """The path under the log's prefix: ``tile/0/x001/234.p/56``, ``tile/entries/000``."""
        rest, last = divmod(self.index, 1000)
        elements = [f"{last:03}"]
        while rest:
            rest, group = divmod(rest, 1000)
            elements.append(f"x{group:03}")
        level = "entries" if self.level == ENTRIES else str(self.level)
        suffix = f".p/{self.width}" if self.is_partial else ""
        return f"tile/{level}/{'/'.join(reversed(elements))}{suffix}"

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Read a path; exactly one path names each tile.

        Raises:
            InvalidInputError: not the path of a tile of a tree of at most `MAX_SIZE` leaves.
        """
        if match := _PATH.fullmatch(path):
            level, index, width = match.groups()
            tile = cls(
                ENTRIES if level == "entries" else int(level),
                int(index.replace("x", "").replace("/", "")),
                int(width or WIDTH),
            )
            in_tree = tile.level <= MAX_LEVEL and tile.index <= MAX_SIZE >> HEIGHT
            if in_tree and tile.path == path:
                return tile
        message = f"{path[:80]!r} is not the path of a tile."
        raise InvalidInputError(message, advice="See C2SP tlog-tiles: tile/<L>/<N>[.p/<W>].")


def tile_at(level: int, index: int, size: int) -> Tile:
    """Give the tile as the tree of `size` leaves has it: full, or partial at the right edge.

    Raises:
        InvalidInputError: the tree does not reach that tile.
    """
    hashes = size >> HEIGHT * max(level, 0)
    width = min(WIDTH, hashes - index * WIDTH)
    if index < 0 or width <= 0:
        message = f"A tree of {size} leaves has no tile {index} at level {level}."
        raise InvalidInputError(message)
    return Tile(level, index, width)


def levels(size: int) -> range:
    """Give the levels at which a tree of `size` leaves has tiles, entry bundles not counted."""
    return range((size.bit_length() + HEIGHT - 1) // HEIGHT)


def new_tiles(old_size: int, size: int) -> list[Tile]:
    """List what changes when a tree grows: bundles first, then tiles from the leaves upwards.

    Raises:
        InvalidInputError: the tree does not grow.
    """
    if not 0 <= old_size <= size <= MAX_SIZE:
        message = f"A tree of {old_size} leaves does not grow to {size}."
        raise InvalidInputError(message)
    tiles = []
    for level in (ENTRIES, *levels(size)):
        old, new = (count >> HEIGHT * max(level, 0) for count in (old_size, size))
        if old < new:
            last = (new - 1) // WIDTH
            tiles += [tile_at(level, index, size) for index in range(old // WIDTH, last + 1)]
    return tiles


def encode_tile(hashes: Sequence[bytes]) -> bytes:
    """Write a tile: its hashes, one after the other."""
    return b"".join(hashes)


def decode_tile(content: bytes, width: int) -> list[bytes]:
    """Read a tile of `width` hashes.

    Raises:
        VerificationError: another length.
    """
    if len(content) != width * HASH_SIZE:
        message = f"The tile has {len(content)} bytes instead of {width * HASH_SIZE}."
        raise VerificationError(message)
    return [content[at : at + HASH_SIZE] for at in range(0, len(content), HASH_SIZE)]


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """Write an entry bundle: each leaf after its length, a big-endian 16-bit integer.

    Raises:
        InvalidInputError: a leaf is longer than `MAX_LEAF`.
    """
    check_leaves(leaves)
    return b"".join(part for leaf in leaves for part in (struct.pack(">H", len(leaf)), leaf))


def check_leaves(leaves: Sequence[bytes]) -> None:
    """Raise InvalidInputError where a leaf is longer than `MAX_LEAF`."""
    if any(len(leaf) > MAX_LEAF for leaf in leaves):
        message = f"A leaf is longer than {MAX_LEAF} bytes."
        raise InvalidInputError(message)


def decode_bundle(content: bytes, width: int) -> list[bytes]:
    """Read an entry bundle of `width` leaves.

    Raises:
        VerificationError: it is cut short, or has bytes after the last leaf.
    """
    leaves: list[bytes] = []
    at = 0
    for _ in range(width):
        begin = at + 2
        at = begin + int.from_bytes(content[at:begin])
        if begin > len(content) or at > len(content):
            message = f"The entry bundle is cut short after {len(leaves)} of {width} leaves."
            raise VerificationError(message)
        leaves.append(content[begin:at])
    if at != len(content):
        message = f"The entry bundle has {len(content) - at} bytes after its {width} leaves."
        raise VerificationError(message)
    return leaves


def read_hashes(store: TileStore, tile: Tile) -> list[bytes]:
    """Read a tile's hashes; a partial tile that is gone is taken from the full one.

    Raises:
        VerificationError: missing or malformed; `where` is its path.
    """
    content, found = _find(store, tile)
    try:
        return decode_tile(content, found.width)[: tile.width]
    except VerificationError as error:
        raise VerificationError(error.message, where=found.path) from None


def read_leaves(store: TileStore, tile: Tile) -> list[bytes]:
    """Read an entry bundle's leaves; a partial bundle that is gone is taken from the full one.

    Raises:
        VerificationError: missing or malformed; `where` is its path.
    """
    content, found = _find(store, tile)
    try:
        return decode_bundle(content, found.width)[: tile.width]
    except VerificationError as error:
        raise VerificationError(error.message, where=found.path) from None


def _find(store: TileStore, tile: Tile) -> tuple[bytes, Tile]:
    content = store.read(tile.path)
    if content is not None:
        return content, tile
    if tile.is_partial:
        full = Tile(tile.level, tile.index)
        content = store.read(full.path)
        if content is not None:
            return content, full
    message = "The log lacks this tile, which its size requires."
    raise VerificationError(message, where=tile.path)


class TileHashes:
    """A `HashReader` over the tiles of the tree of `size` leaves. Keeps the last tiles it read.

    The hashes are as trustworthy as the store: check what is made of them against a root.
    """

    _KEPT = 64

    def __init__(self, store: TileStore, size: int) -> None:
        self._store = store
        self._size = size
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()

    def node(self, level: int, index: int) -> bytes:
        """Give the root of the complete subtree `index` at `level`; see `HashReader.node`."""
        tile_level, inner = divmod(level, HEIGHT)
        tile_index, offset = divmod(index << inner, WIDTH)
        hashes = self._hashes(tile_level, tile_index)[offset : offset + (1 << inner)]
        return subtree_hash(hashes)

    def _hashes(self, level: int, index: int) -> list[bytes]:
        key = (level, index)
        if key not in self._tiles:
            self._tiles[key] = read_hashes(self._store, tile_at(level, index, self._size))
            if len(self._tiles) > self._KEPT:
                self._tiles.popitem(last=False)
        self._tiles.move_to_end(key)
        return self._tiles[key]
