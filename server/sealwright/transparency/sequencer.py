"""How the log grows: from its end and new leaves to the files to publish and the next end. Pure.

The caller numbers the pending leaves in one transaction that moves the head by compare-and-set.
Who publishes, one publisher at a time:

1. `advance`s from the end that was *published* last to all leaves that have a number;
2. writes every file of `Advance.files`, then the partial ones of `Tail.files`;
3. signs `Advance.checkpoint(origin)` and writes it to ``checkpoint``;
4. removes the partial tiles of the tiles that are full now.

After a crash anywhere, all of it is done again: the same head and leaves give the same bytes, and a
step that was cut off is part of the next one. `Head.from_tiles` gives the head published last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.checkpoint import Checkpoint
from sealwright.transparency.merkle import (
    HASH_SIZE,
    MAX_SIZE,
    frontier,
    leaf_hash,
    root_of,
    subtree_hash,
)
from sealwright.transparency.tiles import (
    ENTRIES,
    HEIGHT,
    WIDTH,
    Tile,
    TileStore,
    check_leaves,
    decode_tile,
    encode_bundle,
    encode_tile,
    levels,
    read_hashes,
    tile_at,
)

_SIZE_BYTES = 8


@dataclass(frozen=True)
class Head:
    """Where the tree ends: all that is needed to append, at most 8 KiB for each level of tiles.

    Attributes:
        size: leaves in the tree.
        edges: for each level of tiles, leaves' first, the hashes of its partial tile, none to 255.

    Raises:
        InvalidInputError: the edges are not those of a tree of that size.
    """

    size: int = 0
    edges: tuple[tuple[bytes, ...], ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or _widths(self.size) != [len(e) for e in self.edges]:
            message = f"The edges do not belong to a tree of {self.size} leaves."
            raise InvalidInputError(message)

    @property
    def root(self) -> bytes:
        """The root of the tree, 32 bytes."""
        return edges_root(self.edges)

    @property
    def bundle(self) -> Tile | None:
        """The partial entry bundle that the next leaf goes into; None at a multiple of 256."""
        width = self.size % WIDTH
        return Tile(ENTRIES, self.size // WIDTH, width) if width else None

    @property
    def files(self) -> tuple[tuple[Tile, bytes], ...]:
        """The partial tiles of hashes, leaves' level first."""
        return tuple(
            (tile_at(level, self.size >> HEIGHT * (level + 1), self.size), encode_tile(edge))
            for level, edge in enumerate(self.edges)
            if edge
        )

    def encode(self) -> bytes:
        """Write the head: the size as 8 big-endian bytes, then the edges' hashes."""
        hashes = (encode_tile(edge) for edge in self.edges)
        return self.size.to_bytes(_SIZE_BYTES) + b"".join(hashes)

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Read what `encode` wrote.

        Raises:
            InvalidInputError: another length than its size requires.
        """
        size = int.from_bytes(raw[:_SIZE_BYTES])
        widths = _widths(min(size, MAX_SIZE))
        if size > MAX_SIZE or len(raw) != _SIZE_BYTES + HASH_SIZE * sum(widths):
            message = "The stored head of the log is damaged."
            advice = "Rebuild it from the tiles and the last checkpoint."
            raise InvalidInputError(message, advice=advice)
        edges = []
        at = _SIZE_BYTES
        for width in widths:
            end = at + width * HASH_SIZE
            edges.append(tuple(decode_tile(raw[at:end], width)))
            at = end
        return cls(size, tuple(edges))

    @classmethod
    def from_tiles(cls, store: TileStore, checkpoint: Checkpoint) -> Head:
        """Rebuild the head of a verified checkpoint from the published tiles.

        Raises:
            VerificationError: a tile is missing or malformed, or they do not give its root.
        """
        size = checkpoint.size
        edges = tuple(
            tuple(read_hashes(store, tile_at(level, size >> HEIGHT * (level + 1), size)))
            if width
            else ()
            for level, width in enumerate(_widths(size))
        )
        head = cls(size, edges)
        if head.root != checkpoint.root:
            message = "The tiles do not give the root that the checkpoint signs."
            raise VerificationError(message, advice="Verify the log to find the tile at fault.")
        return head


@dataclass(frozen=True)
class Tail:
    """Where the log ends: its head, and the leaves that its last, partial entry bundle holds.

    Made by `of`, which looks whether they belong together, and by `advance`.
    """

    head: Head = field(default_factory=Head)
    leaves: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, head: Head, leaves: Sequence[bytes]) -> Tail:
        """The end of the log from what was stored of it.

        Raises:
            VerificationError: the head's hashes are not of these leaves.
        """
        edge = head.edges[0] if head.edges else ()
        if tuple(map(leaf_hash, leaves)) != edge:
            message = "The last leaves of the log do not belong to its head."
            where = head.bundle.path if head.bundle else ""
            raise VerificationError(message, advice="Verify the log before it grows.", where=where)
        return cls(head, tuple(leaves))

    @property
    def files(self) -> tuple[tuple[Tile, bytes], ...]:
        """The partial tiles: the entry bundle first, then those of hashes, leaves' level first."""
        bundle = self.head.bundle
        bundles = [(bundle, encode_bundle(self.leaves))] if bundle else []
        return (*bundles, *self.head.files)


@dataclass(frozen=True)
class Advance:
    """One step of the log.

    Attributes:
        tail: where it ends now.
        files: those that are full now: bundles first, then tiles from the leaves upwards.
    """

    tail: Tail
    files: tuple[tuple[Tile, bytes], ...]

    @property
    def head(self) -> Head:
        """The new head."""
        return self.tail.head

    def checkpoint(self, origin: str) -> Checkpoint:
        """Give the checkpoint to sign."""
        return Checkpoint(origin, self.head.size, self.head.root)


def advance(tail: Tail, leaves: Sequence[bytes]) -> Advance:
    """Append `leaves`. Costs two hashes a leaf, and at most 255 a level for the root.

    Args:
        tail: of the log so far.
        leaves: bodies in their order, of at most 65,535 bytes each. Leaf i gets the index
            ``tail.head.size + i``, which the caller has written into it. All files are held at
            once: give a few thousand at a time.

    Raises:
        InvalidInputError: a leaf is too long, or the tree would be too large.
    """
    head = tail.head
    if head.size + len(leaves) > MAX_SIZE:
        message = f"A log holds at most {MAX_SIZE} leaves."
        raise InvalidInputError(message)
    check_leaves(leaves)
    edges, tiles = _append_hashes(head, [leaf_hash(leaf) for leaf in leaves])
    row = [*tail.leaves, *leaves]
    full = len(row) // WIDTH * WIDTH
    bundles = _cut(ENTRIES, head.size // WIDTH, row[:full])
    files = [(tile, encode_bundle(part)) for tile, part in bundles]
    files += [(tile, encode_tile(part)) for tile, part in tiles]
    grown = Tail(Head(head.size + len(leaves), edges), tuple(row[full:]))
    return Advance(grown, tuple(files))


def edges_root(edges: Sequence[Sequence[bytes]]) -> bytes:
    """Give the tree's root from the partial tiles at its right edge, leaves' level first."""
    return root_of(root for edge in reversed(edges) for root in frontier(edge))


def _append_hashes(
    head: Head, hashes: Sequence[bytes]
) -> tuple[tuple[tuple[bytes, ...], ...], list[tuple[Tile, Sequence[bytes]]]]:
    """Add leaf hashes at the right edge: the new edges, and the tiles that are full now."""
    edges = []
    tiles = []
    for level in levels(head.size + len(hashes)):
        edge = head.edges[level] if level < len(head.edges) else ()
        row = [*edge, *hashes]
        full = len(row) // WIDTH * WIDTH
        tiles += _cut(level, head.size >> HEIGHT * (level + 1), row[:full])
        edges.append(tuple(row[full:]))
        hashes = [subtree_hash(row[at : at + WIDTH]) for at in range(0, full, WIDTH)]
    return tuple(edges), tiles


def _cut(level: int, index: int, row: Sequence[bytes]) -> list[tuple[Tile, Sequence[bytes]]]:
    """Cut a row of hashes or leaves, from tile `index` on, into tiles."""
    parts = (row[at : at + WIDTH] for at in range(0, len(row), WIDTH))
    return [(Tile(level, index + n, len(part)), part) for n, part in enumerate(parts)]


def _widths(size: int) -> list[int]:
    return [(size >> HEIGHT * level) % WIDTH for level in levels(size)]
