"""Who is in which group, for many at once."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from sealwright.db.chunks import chunked
from sealwright.db.database import Transaction
from sealwright.db.tables import group_members


async def groups_of(tx: Transaction, user_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the groups of each user that is in some."""
    return await _pairs(tx, group_members.c.user_id, group_members.c.group_id, user_ids)


async def members_of(tx: Transaction, group_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the members of each group that has some."""
    return await _pairs(tx, group_members.c.group_id, group_members.c.user_id, group_ids)


async def sizes_of(tx: Transaction, group_ids: Sequence[str]) -> dict[str, int]:
    """How many members each group has that has some."""
    by = group_members.c.group_id
    found: dict[str, int] = {}
    for part in chunked(group_ids):
        counted = sa.select(by, sa.func.count().label("size")).where(by.in_(part)).group_by(by)
        found |= {row["group_id"]: row["size"] for row in await tx.all(counted)}
    return found


async def _pairs(
    tx: Transaction, by: sa.Column[str], wanted: sa.Column[str], ids: Sequence[str]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in chunked(ids):
        pairs = sa.select(by.label("by"), wanted.label("wanted")).where(by.in_(part))
        for pair in await tx.all(pairs):
            found.setdefault(pair["by"], []).append(pair["wanted"])
    return found
