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
from dataclasses import dataclass
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
from sealwright.transparency.sequencer import Head, Tail, advance
from sealwright.transparency.tiles import WIDTH

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
        VerificationError: head and leaves do not belong together: somebody changed the database.
        UnavailableError: the database does not answer, or others kept moving the head.
    """
    return await Sequencer(database, key).sequence()


@dataclass(frozen=True)
class _End:
    """The end of the log as this process has read and verified it, or has written it."""

    row: HeadRow
    tail: Tail

    def is_at(self, row: HeadRow) -> bool:
        """Whether the database still has this head: then nothing of it has to be read again."""
        mine = self.row
        return (mine.size, mine.head, mine.checkpoint) == (row.size, row.head, row.checkpoint)


class Sequencer:
    """`sequence` for many callers: those who wait for the same run share it."""

    def __init__(self, database: Database, key: SigningKey) -> None:
        self._database = database
        self._key = key
        self._running = asyncio.Lock()
        self._next: asyncio.Task[HeadRow] | None = None
        self._end: _End | None = None

    async def sequence(self) -> HeadRow:
        """Take up every leaf committed before this call; see `sequence`."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> HeadRow:
        async with self._running:
            self._next = None  # who comes from here on may have leaves that this run misses
            return await self._take_up()

    async def _take_up(self) -> HeadRow:
        losses = 0
        while losses < _TRIES:
            moved = None
            async with self._database.transaction() as tx:
                row = await db_log.head(tx, lock=True)
                if row is None:
                    message = "The log has no head."
                    raise ConfigurationError(
                        message, advice="Start the signer once: it founds the log."
                    )
                _check_key(row, self._key)
                entries = await db_log.pending(tx, BATCH)
                if entries:
                    end = self._end if self._end and self._end.is_at(row) else None
                    moved = await _append(tx, self._key, end or await self._read(tx, row), entries)
            if not entries:
                return row
            if moved is None:
                losses += 1
                continue
            self._end = moved
            if len(entries) < BATCH:
                return moved.row
        message = "Other sequencers kept moving the log's head."
        raise UnavailableError(message, advice="Run one signer for each database.")

    async def _read(self, tx: Transaction, row: HeadRow) -> _End:
        return _End(row, await read_tail(tx, row, self._key.verifier))


async def read_tail(tx: Transaction, row: HeadRow, key: VerifierKey) -> Tail:
    """Read the end of the log: what its head says, and the leaves that are in no full bundle.

    Raises:
        VerificationError: head, checkpoint and leaves do not belong together.
    """
    head = parse_head(row)
    if read_head(row, key).root != head.root:
        message = "The log's head does not give the root that its checkpoint signs."
        raise VerificationError(message, advice="Verify the log: its database was changed.")
    entries = await db_log.numbered(tx, head.size // WIDTH * WIDTH, WIDTH)
    leaves = [leaf_of(each, each.sequence) for each in entries if each.sequence is not None]
    return Tail.of(head, leaves)


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
    body = entry.body.encode()
    try:
        event = Event.parse(body)
        if (event.action, event.organization, event.request) == (
            entry.action,
            entry.organization_id,
            entry.request_id,
        ):
            return LeafEntry(sequence_number, event).of_body(body)
    except (InvalidInputError, TooLargeError):
        pass
    digest = hashlib.sha256(body).hexdigest()
    event = Event(entry.created_at, "system", MALFORMED, data={"body_sha256": digest})
    return LeafEntry(sequence_number, event).encode()


async def _append(tx: Transaction, key: SigningKey, end: _End, entries: list[Entry]) -> _End | None:
    """Append `entries` to the tree; None where another sequencer moved the head meanwhile."""
    size = end.row.size
    numbers = {entry.id: size + index for index, entry in enumerate(entries)}
    step = advance(end.tail, [leaf_of(entry, numbers[entry.id]) for entry in entries])
    moved = _sign(key, step.head)
    if not await db_log.move_head(tx, size, moved):
        return None
    await db_log.number(tx, numbers)
    await db_log.put_tiles(tx, {tile.path: file for tile, file in step.files}, moved.size)
    return _End(moved, step.tail)


def _sign(key: SigningKey, head: Head) -> HeadRow:
    checkpoint = Checkpoint(key.name, head.size, head.root)
    return HeadRow(
        size=head.size,
        head=base64.b64encode(head.encode()).decode(),
        checkpoint=sign_checkpoint(checkpoint, key),
        signed_at=utc_now(),
        verifier_key=key.verifier.encode(),
    )


def parse_head(row: HeadRow) -> Head:
    """The head's hashes. Raises VerificationError where they cannot be read."""
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
