"""Rows of any age."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa

from sealwright.db import Database, tables
from sealwright.model.identifiers import new_id, utc_now


async def insert(database: Database, table: sa.Table, **values: Any) -> None:
    """A row whose other columns hold whatever they may."""
    row: dict[str, Any] = {}
    numbered = table.autoincrement_column
    for column in table.c:
        if column.name in values:
            row[column.name] = values[column.name]
        elif not (column.nullable or column.server_default or column is numbered):
            row[column.name] = _blank(column.type)
    async with database.transaction() as tx:
        await tx.change(table.insert().values(**row))


def _blank(kind: sa.types.TypeEngine[Any]) -> Any:
    if isinstance(kind, sa.JSON):
        return {}
    if isinstance(kind, tables.UtcDateTime):
        return utc_now()
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Integer):
        return 0
    if isinstance(kind, sa.LargeBinary):
        return b"x"
    return new_id()[-(getattr(kind, "length", None) or 36) :]


async def count(database: Database, table: sa.Table) -> int:
    async with database.read() as tx:
        row = await tx.one(sa.select(sa.func.count().label("n")).select_from(table))
    assert row is not None
    return int(row["n"])


def id_of(time: dt.datetime) -> str:
    """An id that was made then."""
    text = f"{int(time.timestamp() * 1000):012x}"
    return f"{text[:8]}-{text[8:]}{new_id()[13:]}"
