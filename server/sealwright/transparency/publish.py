"""Giving the log out: tiles by path, proofs of leaves, and a copy in a second location.

The copy is what the database's owner cannot take back: before it grows it is shown that the log
still continues the checkpoint that the copy has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sealwright.db import Database, Transaction
from sealwright.db import log as db_log
from sealwright.db.log import HeadRow
from sealwright.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from sealwright.transparency.checkpoint import Checkpoint, open_checkpoint
from sealwright.transparency.merkle import (
    EMPTY_ROOT,
    HASH_SIZE,
    HashReader,
    consistency_proof,
    inclusion_proof,
    verify_consistency,
)
from sealwright.transparency.note import VerifierKey
from sealwright.transparency.proof import ProofBundle, prove
from sealwright.transparency.sequence import leaf_of, parse_head, read_head, read_tail
from sealwright.transparency.sequencer import Head
from sealwright.transparency.tiles import (
    CHECKPOINT_PATH,
    ENTRIES,
    HEIGHT,
    WIDTH,
    Tile,
    TileHashes,
    TileStore,
    decode_bundle,
    encode_bundle,
)


async def publish(database: Database, store: TileStore) -> int:
    """Bring the copy of the log in `store` up to date; the size that it has then.

    Repeating it is safe, also after a crash. The checkpoint is written last: whoever reads the copy
    meanwhile finds every tile that its checkpoint needs.

    Raises:
        ConflictError: the database's log does not continue the copy's: it was set back or changed.
        VerificationError: the database's or the copy's checkpoint is not the log's, or the
            database's last leaves are not.
        UnavailableError: the database or the store does not answer.
    """
    async with database.read(frozen=True) as tx:
        row = await _head(tx)
        key = VerifierKey.parse(row.verifier_key)
        current = read_head(row, key)
        copied = await asyncio.to_thread(_read_checkpoint, store, key)
        if copied == current:
            return current.size
        tail = await read_tail(tx, row, key)
        await _check_continued(tx, copied, current, tail.head)
        full = await _copy_tiles(tx, store, copied.size)
    for tile, content in tail.files:
        await asyncio.to_thread(store.write, tile.path, content)
    await asyncio.to_thread(store.write, CHECKPOINT_PATH, row.checkpoint.encode())
    for path in full:
        await asyncio.to_thread(store.remove_partials, path)
    return current.size


async def read_tile(database: Database, path: str) -> bytes | None:
    """Read a tile or entry bundle; a partial one that has grown is cut from its successor.

    Raises:
        InvalidInputError: not the path of a tile.
        VerificationError: the database's head and last leaves do not belong together.
    """
    tile = Tile.parse(path)
    full = Tile(tile.level, tile.index)
    async with database.read(frozen=True) as tx:
        stored = await db_log.tiles(tx, [full.path])
        if stored:
            return _cut(stored[full.path], full, tile.width)
        row = await db_log.head(tx) if tile.is_partial else None
        if row is None or tile.index != row.size >> HEIGHT * (max(tile.level, 0) + 1):
            return None
        tail = await read_tail(tx, row, VerifierKey.parse(row.verifier_key))
    for candidate, content in tail.files:
        if candidate.level == tile.level and candidate.width >= tile.width:
            return _cut(content, candidate, tile.width)
    return None


async def proof_for(
    database: Database, entry_id: int, *, organization_id: str | None = None
) -> ProofBundle:
    """Prove that the log holds one entry, under its present checkpoint.

    Args:
        entry_id: the row's id, not its sequence.
        organization_id: whose entry it must be; None: anybody's.

    Raises:
        NotFoundError: there is no such entry.
        UnavailableError: it is not in the tree yet; ask the signer for a checkpoint first.
        VerificationError: the database's tiles, leaf and checkpoint do not belong together.
    """
    async with database.read(frozen=True) as tx:
        entry = await db_log.get(tx, entry_id)
        if entry is None or organization_id not in (None, entry.organization_id):
            message = f"There is no log entry {entry_id}."
            raise NotFoundError(message)
        row = await _head(tx)
        if entry.sequence is None or entry.sequence >= row.size:
            message = f"The log entry {entry_id} is not in the tree yet."
            raise UnavailableError(message, advice="Try again in a minute.")
        number, size = entry.sequence, row.size
        head = parse_head(row)
        tiles = await _load(tx, head, lambda hashes: inclusion_proof(hashes, number, size))
    return prove(tiles, leaf_of(entry, number), number, row.checkpoint, row.verifier_key)


class _Tiles:
    """A `TileStore` in memory."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def read(self, path: str) -> bytes | None:
        return self.contents.get(path)

    def write(self, path: str, content: bytes) -> None:
        self.contents[path] = content

    def remove_partials(self, path: str) -> None:
        for width in range(1, WIDTH):
            self.contents.pop(f"{path}.p/{width}", None)


class _WantedTiles(_Tiles):
    """Gives hashes of zeros for every tile and remembers which ones were asked for."""

    def read(self, path: str) -> bytes | None:
        self.contents[path] = bytes(Tile.parse(path).width * HASH_SIZE)
        return self.contents[path]


async def _load(tx: Transaction, head: Head, walk: Callable[[HashReader], object]) -> _Tiles:
    """Load the tiles that `walk` reads in the head's tree; which ones these are does not depend on
    the hashes in them, so a walk over zeros tells."""
    wanted = _WantedTiles()
    walk(TileHashes(wanted, head.size))
    loaded = _Tiles()
    loaded.contents = {tile.path: content for tile, content in head.files}
    full = [path for path in wanted.contents if path not in loaded.contents]
    loaded.contents |= await db_log.tiles(tx, full)
    return loaded


async def _head(tx: Transaction) -> HeadRow:
    row = await db_log.head(tx)
    if row is None:
        message = "There is no log yet."
        raise UnavailableError(message, advice="Start the signer once: it founds the log.")
    return row


def _read_checkpoint(store: TileStore, key: VerifierKey) -> Checkpoint:
    content = store.read(CHECKPOINT_PATH)
    return Checkpoint(key.name, 0, EMPTY_ROOT) if content is None else open_checkpoint(content, key)


async def _check_continued(
    tx: Transaction, copied: Checkpoint, current: Checkpoint, head: Head
) -> None:
    """Raise ConflictError unless the log, as the database has it, continues the copy."""
    if copied.size <= current.size:
        sizes = copied.size, current.size
        tiles = await _load(tx, head, lambda hashes: consistency_proof(hashes, *sizes))
        try:
            proof = consistency_proof(TileHashes(tiles, current.size), *sizes)
            verify_consistency(copied.size, copied.root, current.size, current.root, proof)
        except VerificationError:
            pass
        else:
            return
    message = (
        f"The database's log of {current.size} leaves does not continue its copy's {copied.size}."
    )
    advice = "It was set back or changed. Keep the copy: it shows what the log was."
    raise ConflictError(message, advice=advice)


async def _copy_tiles(tx: Transaction, store: TileStore, copied_size: int) -> list[str]:
    """Copy the tiles that became full since the tree had `copied_size` leaves; their paths."""
    full = []
    at = (copied_size + 1, "")
    while page := await db_log.tiles_after(tx, *at):
        for _, path, content in page:
            await asyncio.to_thread(store.write, path, content)
            full.append(path)
        at = page[-1][:2]
    return full


def _cut(content: bytes, stored: Tile, width: int) -> bytes:
    """The tile of `width` from the same one when it had grown."""
    if stored.width == width:
        return content
    if stored.level == ENTRIES:
        return encode_bundle(decode_bundle(content, stored.width)[:width])
    return content[: width * HASH_SIZE]
