"""Deliveries of CI systems' webhooks: each is acted on once, however often it comes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.loose_scan import pairs_of, values_of
from sealwright.db.tables import webhook_deliveries

_T = webhook_deliveries


@dataclass(frozen=True)
class Delivery:
    """A verified delivery. `locators` tell what to fetch; nothing in them is a fact."""

    build_system_id: str
    delivery_id: str
    name: str
    action: str
    repository_id: str
    locators: Mapping[str, str]
    received_at: dt.datetime
    repeats: int = 0
    attempts: int = 0
    due_at: dt.datetime | None = None
    outcome: str = ""


async def add(tx: Transaction, delivery: Delivery) -> Delivery | None:
    """Insert the delivery; where it is there already, count the repetition and return it."""
    if tx.is_postgresql:
        lock = sa.func.hashtextextended(f"{delivery.build_system_id}/{delivery.delivery_id}", 0)
        await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
    earlier = await get(tx, delivery.build_system_id, delivery.delivery_id)
    if earlier is None:
        fields = vars(delivery) | {"locators": dict(delivery.locators)}
        await tx.change(_T.insert().values(**fields))
        return None
    await tx.change(_T.update().where(*_key(delivery)).values(repeats=_T.c.repeats + 1))
    return earlier


async def get(tx: Transaction, build_system_id: str, delivery_id: str) -> Delivery | None:
    """One delivery."""
    row = await tx.one(
        sa.select(_T).where(
            _T.c.build_system_id == build_system_id, _T.c.delivery_id == delivery_id
        )
    )
    return Delivery(**row) if row else None


async def of_system(tx: Transaction, build_system_id: str, limit: int = 100) -> list[Delivery]:
    """The latest deliveries of one build system, newest first."""
    rows = await tx.all(
        sa.select(_T)
        .where(_T.c.build_system_id == build_system_id)
        .order_by(_T.c.received_at.desc(), _T.c.delivery_id)
        .limit(limit)
    )
    return [Delivery(**row) for row in rows]


async def due(tx: Transaction, now: dt.datetime, *, each: int, limit: int = 500) -> list[Delivery]:
    """Deliveries to act on, the longest due first; of one build system the first `each`."""
    systems = values_of(_T.c.build_system_id, _T.c.due_at.is_not(None), "systems")
    own = sa.and_(_T.c.build_system_id == systems.c.value, _T.c.due_at <= now)
    first = sa.select(_T.c.delivery_id).where(own).order_by(_T.c.due_at, _T.c.delivery_id)
    pairs = await pairs_of(tx, systems, first, each)
    key = sa.tuple_(_T.c.build_system_id, _T.c.delivery_id)
    found = sa.select(_T).where(key.in_(pairs[:limit])).order_by(_T.c.due_at, _T.c.received_at)
    return [Delivery(**row) for row in await tx.all(found)]


async def claim(tx: Transaction, delivery: Delivery, until: dt.datetime) -> bool:
    """Begin an attempt; False where somebody else did, or it is done with."""
    return (
        await tx.change(
            _T.update()
            .where(*_key(delivery), _T.c.attempts == delivery.attempts, _T.c.due_at.is_not(None))
            .values(attempts=delivery.attempts + 1, due_at=until)
        )
        == 1
    )


async def renew(tx: Transaction, delivery: Delivery, until: dt.datetime) -> None:
    """Prolong the claim on `delivery`, which is as it was before it was claimed."""
    await tx.change(
        _T.update()
        .where(*_key(delivery), _T.c.attempts == delivery.attempts + 1, _T.c.due_at.is_not(None))
        .values(due_at=until)
    )


async def settle(
    tx: Transaction, delivery: Delivery, outcome: str, due_at: dt.datetime | None = None
) -> None:
    """Note what came of it; with `due_at` it is tried again then."""
    await tx.change(
        _T.update().where(*_key(delivery)).values(outcome=outcome[:2000], due_at=due_at)
    )


def _key(delivery: Delivery) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return (
        _T.c.build_system_id == delivery.build_system_id,
        _T.c.delivery_id == delivery.delivery_id,
    )
