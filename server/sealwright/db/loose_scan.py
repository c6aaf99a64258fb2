"""The different values of an indexed column, each found by one look into the index.

``SELECT DISTINCT`` would read every entry. This asks for the least value after the one before.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction

_MOST = 5000  # databases bound the variables of one statement


def values_of(column: sa.Column[Any], where: sa.ColumnElement[bool], name: str) -> sa.CTE:
    """A table of one column, ``value``, whose last row is NULL.

    Args:
        where: what an index begins with whose next part is `column`.
    """
    least = sa.func.min(column)
    found = sa.select(least.label("value")).where(where).cte(name, recursive=True)
    following = sa.select(least).where(where, column > found.c.value).scalar_subquery()
    return found.union_all(sa.select(following).where(found.c.value.is_not(None)))


async def pairs_of(
    tx: Transaction, values: sa.CTE, first: sa.Select[Any], count: int
) -> list[tuple[Any, Any]]:
    """Each of the values with the first `count` keys that `first`, which names a value, gives; of
    very many some."""
    columns = [
        first.offset(number).limit(1).correlate(values).scalar_subquery().label(f"head_{number}")
        for number in range(count)
    ]
    found = sa.select(values.c.value, *columns).where(values.c.value.is_not(None))
    pairs = [
        (row["value"], row[column.name])
        for row in await tx.all(found)
        for column in columns
        if row[column.name] is not None
    ]
    return pairs[:_MOST]


async def heads_of(
    tx: Transaction, values: sa.CTE, first: sa.Select[tuple[int]], count: int
) -> list[int]:
    """Of each of the values the first `count` numbers that `first`, which names a value, gives."""
    return sorted(number for _, number in await pairs_of(tx, values, first, count))
