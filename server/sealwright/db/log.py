"""Leaves, tiles and head of the log.

A leaf's body is inserted by whoever changes the state, in the same transaction. The sequencer
(`transparency`) numbers pending leaves in the order of their ids, writes tiles and moves the head.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.log_search import ABOUT, About, Filter, newest
from sealwright.db.prepared import Prepared
from sealwright.db.tables import NO_SIGNATURE, log_details, log_entries, log_head, log_tiles

_FOUNDING = 0x5EA1_3119_0002  #: advisory lock


@dataclass(frozen=True)
class Details:
    """What the leaf keeps only a salted hash of: `text` is canonical JSON."""

    salt: bytes
    text: str


@dataclass(frozen=True)
class NewEntry:
    """A leaf not yet in the tree. `body` is the JSON object without its sequence."""

    organization_id: str
    request_id: str | None
    action: str
    body: str
    created_at: dt.datetime
    about: About = field(default_factory=About)
    details: Details | None = None


@dataclass(frozen=True)
class Entry(NewEntry):
    """A leaf as stored; `sequence` is None until it is in the tree. `details` are not read with it:
    see `details_of`."""

    id: int = 0
    sequence: int | None = None


@dataclass(frozen=True)
class HeadRow:
    """The tree's head: `head` is the sequencer's own serialization of its right edge."""

    size: int
    head: str
    checkpoint: str
    signed_at: dt.datetime | None
    verifier_key: str


_PENDING = Prepared(
    sa.select(log_entries)
    .where(log_entries.c.sequence.is_(None))
    .order_by(log_entries.c.id)
    .limit(sa.bindparam("most"))
)
_NUMBERED = Prepared(
    sa.select(log_entries)
    .where(log_entries.c.sequence >= sa.bindparam("first"))
    .order_by(log_entries.c.sequence)
    .limit(sa.bindparam("most"))
)
_NUMBER = Prepared(
    log_entries.update()
    .where(log_entries.c.id == sa.bindparam("entry"), log_entries.c.sequence.is_(None))
    .values(sequence=sa.bindparam("position"))
)
_TIME_LINE = Prepared(
    sa.select(log_entries)
    .where(log_entries.c.request_id == sa.bindparam("request"), sa.text(NO_SIGNATURE))
    .order_by(log_entries.c.id)
    .limit(sa.bindparam("most"))
)
_SELECT_HEAD = sa.select(log_head).where(log_head.c.id == 1)
_HEAD = Prepared(_SELECT_HEAD)
_LOCKED_HEAD = Prepared(_SELECT_HEAD.with_for_update())
_MOVE_HEAD = Prepared(
    log_head.update()
    .where(log_head.c.id == 1, log_head.c.size == sa.bindparam("from_size"))
    .values(
        {name: sa.bindparam(f"new_{name}") for name in ("size", "head", "checkpoint", "signed_at")}
    )
)
_INSERT_TILES = Prepared(log_tiles.insert())
_INSERT_DETAILS = Prepared(log_details.insert())
_INSERT = Prepared(log_entries.insert())
_INSERT_ONE = Prepared(log_entries.insert().returning(log_entries.c.id))


def _entry(row: sa.RowMapping) -> Entry:
    fields = dict(row)
    about = About(**{name: fields.pop(name) for name in ABOUT})
    return Entry(**fields, about=about)


def _values(entry: NewEntry) -> dict[str, Any]:
    return {
        "organization_id": entry.organization_id,
        "request_id": entry.request_id,
        "action": entry.action,
        "body": entry.body,
        "created_at": entry.created_at,
        **vars(entry.about),
    }


async def append(tx: Transaction, entries: Sequence[NewEntry]) -> None:
    """Insert leaves; they are in the log once this transaction commits."""
    plain = [_values(entry) for entry in entries if entry.details is None]
    if plain:
        await tx.change(_INSERT, plain)
    for entry in entries:
        if entry.details is not None:
            await _append_with_details(tx, entry, entry.details)


async def _append_with_details(tx: Transaction, entry: NewEntry, details: Details) -> None:
    row = await tx.one(_INSERT_ONE, **_values(entry))
    assert row is not None  # noqa: S101 - an insert returns its row
    values = {
        "entry_id": row["id"],
        "organization_id": entry.organization_id,
        "salt": details.salt,
        "details": details.text,
        "created_at": entry.created_at,
    }
    await tx.change(_INSERT_DETAILS, [values])


async def details_of(tx: Transaction, entry_ids: Sequence[int]) -> dict[int, Details]:
    """The details of these leaves, as far as they have some that were not erased."""
    rows = await tx.all(sa.select(log_details).where(log_details.c.entry_id.in_(entry_ids)))
    return {row["entry_id"]: Details(bytes(row["salt"]), row["details"]) for row in rows}


async def erase_details(
    tx: Transaction, organization_id: str, before: dt.datetime, *, limit: int
) -> int:
    """Erase the details of at most `limit` of the organization's leaves older than `before`; how
    many. The leaves stay and verify."""
    some = sa.select(log_details.c.entry_id).where(
        log_details.c.organization_id == organization_id, log_details.c.created_at < before
    )
    return await tx.change(
        log_details.delete().where(log_details.c.entry_id.in_(some.limit(limit)))
    )


async def pending(tx: Transaction, limit: int) -> list[Entry]:
    """The oldest leaves that are not in the tree."""
    return [_entry(row) for row in await tx.all(_PENDING, most=limit)]


async def number(tx: Transaction, sequences: Mapping[int, int]) -> None:
    """Give entries (by id) their sequence numbers."""
    if sequences:
        await tx.change(
            _NUMBER,
            [{"entry": entry, "position": position} for entry, position in sequences.items()],
        )


async def get(tx: Transaction, entry_id: int) -> Entry | None:
    """One leaf, whatever its organization."""
    row = await tx.one(sa.select(log_entries).where(log_entries.c.id == entry_id))
    return _entry(row) if row else None


async def numbered(tx: Transaction, first: int, limit: int) -> list[Entry]:
    """The leaves from the one with this sequence number on, in their order."""
    rows = await tx.all(_NUMBERED, first=first, most=limit)
    return [_entry(row) for row in rows]


async def of_request(
    tx: Transaction, request_id: str, *, after: int = 0, limit: int
) -> list[Entry]:
    """Leaves of one request, oldest first, from the one after entry id `after` on."""
    rows = await tx.all(
        sa.select(log_entries)
        .where(log_entries.c.request_id == request_id, log_entries.c.id > after)
        .order_by(log_entries.c.id)
        .limit(limit)
    )
    return [_entry(row) for row in rows]


async def time_line(tx: Transaction, request_id: str, limit: int) -> list[Entry]:
    """The first leaves of one request, oldest first, without those of its single signatures."""
    rows = await tx.all(_TIME_LINE, request=request_id, most=limit)
    return [_entry(row) for row in rows]


async def of_action(tx: Transaction, request_id: str, action: str) -> list[Entry]:
    """The leaves of one request that tell of `action`, which is no single signature's."""
    rows = await tx.all(
        sa.select(log_entries)
        .where(
            log_entries.c.request_id == request_id,
            log_entries.c.action == action,
            sa.text(NO_SIGNATURE),
        )
        .order_by(log_entries.c.id)
    )
    return [_entry(row) for row in rows]


async def page(
    tx: Transaction,
    organization_id: str,
    *,
    wanted: Filter | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Leaves of one organization, newest first, older than entry id `before`."""
    ids = await newest(tx, organization_id, wanted or Filter(), before, limit)
    if ids is None:
        return []
    rows = await tx.all(
        sa.select(log_entries)
        .where(log_entries.c.id.in_(ids.scalar_subquery()))
        .order_by(log_entries.c.id.desc())
    )
    return [_entry(row) for row in rows]


async def head(tx: Transaction, *, lock: bool = False) -> HeadRow | None:
    """The head; with `lock` nobody else may move it until this transaction ends."""
    row = await tx.one(_LOCKED_HEAD if lock else _HEAD)
    if row is None:
        return None
    return HeadRow(
        row["size"], row["head"], row["checkpoint"], row["signed_at"], row["verifier_key"]
    )


async def found(tx: Transaction, row: HeadRow) -> HeadRow:
    """Insert the head of an empty log; the head that there is now, whoever was first."""
    if tx.is_postgresql:
        await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_FOUNDING)))
    present = await head(tx)
    if present is not None:
        return present
    await tx.change(
        log_head.insert().values(
            id=1,
            size=row.size,
            head=row.head,
            checkpoint=row.checkpoint,
            signed_at=row.signed_at,
            verifier_key=row.verifier_key,
        )
    )
    return row


async def move_head(tx: Transaction, from_size: int, row: HeadRow) -> bool:
    """Compare-and-set of the head; False where another sequencer was there first."""
    values = {
        "from_size": from_size,
        "new_size": row.size,
        "new_head": row.head,
        "new_checkpoint": row.checkpoint,
        "new_signed_at": row.signed_at,
    }
    return await tx.change(_MOVE_HEAD, [values]) == 1


async def put_tiles(tx: Transaction, tiles: Mapping[str, bytes], tree_size: int) -> None:
    """Insert full tiles and bundles by path."""
    if tiles:
        await tx.change(
            _INSERT_TILES,
            [
                {"path": path, "content": content, "tree_size": tree_size}
                for path, content in tiles.items()
            ],
        )


async def tiles(tx: Transaction, paths: Sequence[str]) -> dict[str, bytes]:
    """What is stored at each of a few C2SP paths: full tiles alone are."""
    rows = await tx.all(
        sa.select(log_tiles.c.path, log_tiles.c.content).where(log_tiles.c.path.in_(paths))
    )
    return {row["path"]: bytes(row["content"]) for row in rows}


async def tiles_after(
    tx: Transaction, tree_size: int, path: str, limit: int = 64
) -> list[tuple[int, str, bytes]]:
    """(tree size, path, content) of the tiles that come after (`tree_size`, `path`), in that order;
    a tile's tree size is the one that the tree reached when the tile was written."""
    column = log_tiles.c
    rows = await tx.all(
        sa.select(log_tiles)
        .where(sa.tuple_(column.tree_size, column.path) > sa.tuple_(tree_size, path))
        .order_by(column.tree_size, column.path)
        .limit(limit)
    )
    return [(row["tree_size"], row["path"], bytes(row["content"])) for row in rows]
