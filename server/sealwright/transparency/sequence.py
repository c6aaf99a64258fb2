"""Taking committed leaves into the tree: numbers, tiles, head and checkpoint, in one transaction.

Leaves become visible when their transaction commits, which need not be in the order of their ids.
So what is pending is what has no number yet, and a leaf that was committed late simply comes later
in the tree than its id suggests. The head moves by compare-and-set: two sequencers cannot both
append to the same tree.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Sequence
from pathlib import Path

from sealwright.db import Database, Transaction
from sealwright.db import log as db_log
from sealwright.db.log import Entry, HeadRow
from sealwright.errors import (
    ConfigurationError,
    InvalidInputError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)
from sealwright.model.identifiers import utc_now
from sealwright.transparency.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from sealwright.transparency.key_file import create_key, read_key
from sealwright.transparency.leaf import Event, LeafEntry
from sealwright.transparency.note import SigningKey, VerifierKey
from sealwright.transparency.sequencer import Head, advance
from sealwright.transparency.tiles import HEIGHT, WIDTH, Tile

BATCH = 2000  #: leaves taken up in one transaction
MALFORMED = "entry.malformed"  #: stands in the tree for a pending leaf that is not an event
_TRIES = 5


async def open_log(database: Database, key_file: Path, origin: str) -> SigningKey:
    """Open the log, or found it on first start: its key and an empty, signed head.

    Raises:
        ConfigurationError: there is a log already, and the key is missing or another one.
        UnavailableError: the database does not answer.
    """
    async with database.read() as tx:
        head = await db_log.head(tx)
    key = read_key(key_file, origin) if head else create_key(key_file, origin)
    async with database.transaction() as tx:
        head = await db_log.found(tx, _sign(key, Head()))
    _check_key(head, key)
    return key


async def sequence(database: Database, key: SigningKey) -> HeadRow:
    """Take every leaf that is committed by now into the tree; the head that covers them all.

    Nothing is written where nothing is pending.

    Raises:
        ConfigurationError: the log is another key's.
        VerificationError: head and tiles do not belong together: somebody changed the database.
        UnavailableError: the database does not answer, or others kept moving the head.
    """
    losses = 0
    while losses < _TRIES:
        async with database.transaction() as tx:
            head = await db_log.head(tx, lock=True)
            if head is None:
                message = "The log has no head."
                raise ConfigurationError(
                    message, advice="Start the signer once: it founds the log."
                )
            _check_key(head, key)
            entries = await db_log.pending(tx, BATCH)
            moved = await _append(tx, key, head, entries) if entries else head
        if moved is None:
            losses += 1
        elif len(entries) < BATCH:
            return moved
    message = "Other sequencers kept moving the log's head."
    raise UnavailableError(message, advice="Run one signer for each database.")


class Sequencer:
    """`sequence` for many callers: those who wait for the same run share it."""

    def __init__(self, database: Database, key: SigningKey) -> None:
        self._database = database
        self._key = key
        self._running = asyncio.Lock()
        self._next: asyncio.Task[HeadRow] | None = None

    async def sequence(self) -> HeadRow:
        """Take up every leaf committed before this call; see `sequence`."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> HeadRow:
        async with self._running:
            self._next = None  # who comes from here on may have leaves that this run misses
            return await sequence(self._database, self._key)


def read_head(row: HeadRow, key: VerifierKey) -> Checkpoint:
    """Open the checkpoint of a head that comes from the database.

    Raises:
        VerificationError: not signed by the log's key, or of another size than the row says.
    """
    checkpoint = open_checkpoint(row.checkpoint, key)
    if checkpoint.size != row.size:
        message = f"The log's head says {row.size} leaves, its checkpoint {checkpoint.size}."
        raise VerificationError(message, advice="Verify the log: its database was changed.")
    return checkpoint


def leaf_of(entry: Entry, sequence_number: int) -> bytes:
    """Give the leaf that the sequencer made, or makes, of a stored entry with this number.

    Whatever a leaf's body holds, the log goes on: one that is not an event, or not the one that its
    row says it is, is taken up by its digest.
    """
    try:
        event = Event.parse(entry.body.encode())
        if (event.action, event.organization, event.request) == (
            entry.action,
            entry.organization_id,
            entry.request_id,
        ):
            return LeafEntry(sequence_number, event).encode()
    except (InvalidInputError, TooLargeError):
        pass
    digest = hashlib.sha256(entry.body.encode()).hexdigest()
    event = Event(entry.created_at, "system", MALFORMED, data={"body_sha256": digest})
    return LeafEntry(sequence_number, event).encode()


async def _append(
    tx: Transaction, key: SigningKey, row: HeadRow, entries: list[Entry]
) -> HeadRow | None:
    """Append `entries` to the tree; None where another sequencer moved the head meanwhile."""
    head = _parse_head(row)
    read_head(row, key.verifier)
    bundle = await db_log.tile(tx, head.bundle.path) if head.bundle else None
    numbers = {entry.id: head.size + index for index, entry in enumerate(entries)}
    leaves = [leaf_of(entry, numbers[entry.id]) for entry in entries]
    step = advance(head, leaves, bundle or b"")
    moved = _sign(key, step.head)
    if not await db_log.move_head(tx, head.size, moved):
        return None
    await db_log.number(tx, numbers)
    await db_log.drop_tiles(tx, _superseded(step.files, head.size))
    await db_log.put_tiles(tx, {tile.path: file for tile, file in step.files}, moved.size)
    return moved


def _superseded(files: Sequence[tuple[Tile, bytes]], size: int) -> list[str]:
    """Give the paths of the partial tiles at `size` leaves that `files` holds with more in them."""
    paths = []
    for tile, _ in files:
        width = (size >> HEIGHT * max(tile.level, 0)) - tile.index * WIDTH
        if 0 < width < tile.width:
            paths.append(Tile(tile.level, tile.index, width).path)
    return paths


def _sign(key: SigningKey, head: Head) -> HeadRow:
    checkpoint = Checkpoint(key.name, head.size, head.root)
    return HeadRow(
        size=head.size,
        head=base64.b64encode(head.encode()).decode(),
        checkpoint=sign_checkpoint(checkpoint, key),
        signed_at=utc_now(),
        verifier_key=key.verifier.encode(),
    )


def _parse_head(row: HeadRow) -> Head:
    try:
        head = Head.parse(base64.b64decode(row.head, validate=True))
    except (binascii.Error, ValueError):
        message = "The log's head is not base64."
        raise VerificationError(
            message, advice="Verify the log: its database was changed."
        ) from None
    return head


def _check_key(head: HeadRow, key: SigningKey) -> None:
    if head.verifier_key != key.verifier.encode():
        message = "The log in the database is signed by another key than the one configured."
        advice = "Restore the log's key file from its backup; a new key cannot continue a log."
        raise ConfigurationError(message, advice=advice)
