"""Verification of the whole log, offline, from its published files.

Everything is computed anew from the leaves: nothing that the log says of itself is believed but
the signature of its checkpoint. With a checkpoint saved earlier, not even the holder of the log's
key can rewrite or cut what that one covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.checkpoint import Checkpoint, open_checkpoint
from sealwright.transparency.leaf import (
    SIGNATURE_ABANDONED,
    SIGNATURE_INTENDED,
    SIGNATURE_MADE,
    LeafEntry,
)
from sealwright.transparency.merkle import leaf_hash, subtree_hash
from sealwright.transparency.note import VerifierKey
from sealwright.transparency.sequencer import edges_root
from sealwright.transparency.tiles import (
    CHECKPOINT_PATH,
    ENTRIES,
    HEIGHT,
    WIDTH,
    Tile,
    TileStore,
    levels,
    read_hashes,
    read_leaves,
    tile_at,
)

MAX_OPEN_INTENTS = 100_000
MAX_INTENT_ID = 128  #: characters


@dataclass(frozen=True)
class UnmatchedIntent:
    """An intent to sign, in leaf `sequence`, that no later leaf says the end of."""

    intent_id: str
    sequence: int


@dataclass(frozen=True)
class LogReport:
    """What `verify_log` found, all of it proven.

    Attributes:
        checkpoint: the head that was verified.
        saved: the earlier head that it was shown to continue, or None.
        files: tiles and entry bundles that were read and checked.
        unmatched_intents: in the order of their leaves. Those near the end may be under way;
            older ones are signatures whose fate nobody recorded.
    """

    checkpoint: Checkpoint
    saved: Checkpoint | None
    files: int
    unmatched_intents: tuple[UnmatchedIntent, ...]


def verify_log(
    store: TileStore,
    checkpoint_text: str | bytes,
    vkey: str,
    *,
    saved_checkpoint: str | bytes | None = None,
    on_leaf: Callable[[LeafEntry], None] | None = None,
) -> LogReport:
    """Verify every leaf, tile and bundle of the tree that a checkpoint signs.

    Memory is bounded: one bundle, one tile of each level, and the open intents.

    Args:
        store: the published files; only read.
        checkpoint_text: the signed checkpoint to verify, cosignatures tolerated.
        vkey: the log's verifier key, from a source that is trusted.
        saved_checkpoint: a signed checkpoint kept since earlier, which the log must continue.
        on_leaf: called with each entry in order. What it has seen counts only once this function
            has returned: the root is known last.

    Raises:
        VerificationError: the log is not what it was; `where` names the leaf or tile at fault.
        InvalidInputError: `vkey` is malformed.
        UnavailableError: the store cannot be read.
    """
    key = VerifierKey.parse(vkey)
    checkpoint = open_checkpoint(checkpoint_text, key)
    saved = None if saved_checkpoint is None else open_checkpoint(saved_checkpoint, key)
    if saved and saved.size > checkpoint.size:
        message = (
            f"The log has {checkpoint.size} leaves, fewer than the {saved.size} saved earlier."
        )
        raise VerificationError(message, advice="The log was cut or set back: keep both heads.")
    intents = _Intents()
    tree = _Tree(store, checkpoint, saved)
    for sequence, leaf in tree.leaves():
        entry = _parse_leaf(leaf, sequence)
        intents.note(entry)
        if on_leaf:
            on_leaf(entry)
    return LogReport(checkpoint, saved, tree.files, intents.unmatched())


class _Tree:
    """Rebuilds the tree from the entry bundles and compares it with the tiles as it goes."""

    def __init__(self, store: TileStore, checkpoint: Checkpoint, saved: Checkpoint | None) -> None:
        self.files = 0
        self._store = store
        self._checkpoint = checkpoint
        self._saved = saved
        self._edges: list[list[bytes]] = [[] for _ in levels(checkpoint.size)]

    def leaves(self) -> Iterator[tuple[int, bytes]]:
        """Give each leaf and its index once its bundle fits its tile; at the end check the root."""
        size = self._checkpoint.size
        self._check_saved(0, [])
        for first in range(0, size, WIDTH):
            bundle = tile_at(ENTRIES, first // WIDTH, size)
            leaves = read_leaves(self._store, bundle)
            self.files += 1
            hashes = [leaf_hash(leaf) for leaf in leaves]
            self._compare(0, first // WIDTH, hashes)
            self._check_saved(first, hashes)
            self._append(0, first // WIDTH, hashes)
            yield from enumerate(leaves, first)
        for level, edge in enumerate(self._edges):
            if level > 0 and edge:
                self._compare(level, size >> HEIGHT * (level + 1), edge)
        if edges_root(self._edges) != self._checkpoint.root:
            message = "Leaves and tiles agree, but not with the root that the checkpoint signs."
            advice = (
                "Leaves were changed together with their tiles, or the checkpoint is of others."
            )
            raise VerificationError(message, advice=advice, where=CHECKPOINT_PATH)

    def _append(self, level: int, index: int, hashes: list[bytes]) -> None:
        """Put a row of hashes, tile `index` of its level, at the right edge; carry a full one."""
        if len(hashes) < WIDTH:
            self._edges[level] = hashes
            return
        self._edges[level] = []
        above = self._edges[level + 1]
        above.append(subtree_hash(hashes))
        if len(above) == WIDTH:
            self._compare(level + 1, index // WIDTH, above)
            self._append(level + 1, index // WIDTH, above)

    def _compare(self, level: int, index: int, hashes: list[bytes]) -> None:
        tile = Tile(level, index, len(hashes))
        stored = read_hashes(self._store, tile)
        self.files += 1
        if stored == hashes:
            return
        position = next(
            n for n, pair in enumerate(zip(stored, hashes, strict=True)) if len({*pair}) > 1
        )
        below = f"leaf {index * WIDTH + position}"
        if level > 0:
            below = Tile(level - 1, index * WIDTH + position).path
        message = f"Hash {position} of this tile is not that of {below}."
        raise VerificationError(message, advice="One of the two was changed.", where=tile.path)

    def _check_saved(self, first: int, hashes: list[bytes]) -> None:
        """Check the root at the saved size, if that is within the bundle that starts at `first`."""
        saved = self._saved
        if saved is None or not first <= saved.size <= first + len(hashes):
            return
        root = edges_root([hashes[: saved.size - first], *self._edges[1:]])
        if root != saved.root:
            message = (
                f"The first {saved.size} leaves are not those of the checkpoint saved earlier."
            )
            advice = "The log was rewritten by somebody who holds its key: keep both checkpoints."
            raise VerificationError(message, advice=advice, where=CHECKPOINT_PATH)


class _Intents:
    """Which intents to sign have no result yet."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def note(self, entry: LeafEntry) -> None:
        """Take account of one entry.

        Raises:
            VerificationError: it has no intent id where it must, repeats an open one, is a result
                without an earlier intent, or too many intents are open.
        """
        action = entry.event.action
        if action == SIGNATURE_INTENDED:
            intent = _intent_id(entry)
            if intent in self._open:
                raise _at(
                    entry.sequence, f"The intent {intent} was open since {self._open[intent]}."
                )
            self._open[intent] = entry.sequence
            if len(self._open) > MAX_OPEN_INTENTS:
                raise _at(entry.sequence, f"More than {MAX_OPEN_INTENTS} intents have no result.")
        elif action in (SIGNATURE_MADE, SIGNATURE_ABANDONED):
            intent = _intent_id(entry)
            if self._open.pop(intent, None) is None:
                raise _at(entry.sequence, f"{action} names {intent}, which is no open intent.")

    def unmatched(self) -> tuple[UnmatchedIntent, ...]:
        """List the open ones, oldest first."""
        return tuple(UnmatchedIntent(*item) for item in self._open.items())


def _parse_leaf(leaf: bytes, sequence: int) -> LeafEntry:
    try:
        entry = LeafEntry.parse(leaf)
    except InvalidInputError as error:
        raise _at(sequence, error.message) from None
    if entry.sequence != sequence:
        raise _at(sequence, f"The leaf says that its sequence is {entry.sequence}.")
    return entry


def _intent_id(entry: LeafEntry) -> str:
    intent = entry.event.data.get("intent_id")
    if not isinstance(intent, str) or not 0 < len(intent) <= MAX_INTENT_ID:
        raise _at(entry.sequence, f"{entry.event.action} lacks its intent_id.")
    return intent


def _at(sequence: int, message: str) -> VerificationError:
    where = f"leaf {sequence} ({Tile(ENTRIES, sequence // WIDTH).path})"
    return VerificationError(message, where=where)
