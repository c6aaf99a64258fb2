"""Messages to webhooks and people: written with the change they tell of, sent later."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sealwright.db.database import Transaction
from sealwright.db.loose_scan import heads_of, values_of
from sealwright.db.tables import notifications
from sealwright.model.notification import Channel, Notification

_T = notifications


def _notification(row: sa.RowMapping) -> Notification:
    return Notification(**dict(row) | {"channel": Channel(row["channel"])})


async def add(tx: Transaction, message: Notification) -> None:
    """Insert a message; its id is given by the database. One whose key is taken, perhaps by
    somebody who did the same at the same time, is left out."""
    fields = vars(message) | {"payload": dict(message.payload)}
    del fields["id"]
    insert = postgresql.insert(_T) if tx.is_postgresql else sqlite.insert(_T)
    await tx.change(insert.values(**fields).on_conflict_do_nothing(index_elements=["key"]))


async def is_known(tx: Transaction, key: str) -> bool:
    """Whether there is, or was, a message with this key."""
    return await tx.one(sa.select(_T.c.id).where(_T.c.key == key)) is not None


async def due(
    tx: Transaction, channel: Channel, now: dt.datetime, *, each: int, limit: int = 500
) -> list[Notification]:
    """Messages to be sent now, the longest due first; to one target the first `each`."""
    waiting = sa.and_(_T.c.channel == channel.value, _T.c.due_at.is_not(None))
    targets = values_of(_T.c.target_id, waiting, "targets")
    own = sa.and_(_T.c.channel == channel.value, _T.c.target_id == targets.c.value)
    first = sa.select(_T.c.id).where(own, _T.c.due_at <= now).order_by(_T.c.due_at, _T.c.id)
    heads = await heads_of(tx, targets, first, each)
    rows = await tx.all(
        sa.select(_T).where(_T.c.id.in_(heads)).order_by(_T.c.due_at, _T.c.id).limit(limit)
    )
    return [_notification(row) for row in rows]


async def hasten(tx: Transaction, request_id: str, event: str, now: dt.datetime) -> None:
    """Have the mails about an event of a request sent that nobody has tried to send yet."""
    await tx.change(
        _T.update()
        .where(
            _T.c.channel == Channel.MAIL.value,
            _T.c.request_id == request_id,
            _T.c.event == event,
            _T.c.attempts == 0,
            _T.c.due_at > now,
        )
        .values(due_at=now)
    )


async def claim(tx: Transaction, message: Notification, until: dt.datetime) -> bool:
    """Begin an attempt; False where somebody else did, or it is done with."""
    return (
        await tx.change(
            _T.update()
            .where(
                _T.c.id == message.id,
                _T.c.attempts == message.attempts,
                _T.c.due_at.is_not(None),
            )
            .values(attempts=message.attempts + 1, due_at=until)
        )
        == 1
    )


async def settle(
    tx: Transaction,
    message: Notification,
    *,
    done_at: dt.datetime | None = None,
    due_at: dt.datetime | None = None,
    error: str = "",
    status: int | None = None,
    milliseconds: int | None = None,
) -> None:
    """Note what came of an attempt: done, due again, or (neither) given up."""
    await tx.change(
        _T.update()
        .where(_T.c.id == message.id)
        .values(
            done_at=done_at,
            due_at=due_at,
            error=error[:2000],
            status=status,
            milliseconds=milliseconds,
        )
    )


async def get(tx: Transaction, organization_id: str, number: int) -> Notification | None:
    """The message with this id in this organization."""
    row = await tx.one(
        sa.select(_T).where(_T.c.id == number, _T.c.organization_id == organization_id)
    )
    return _notification(row) if row else None


async def of_target(
    tx: Transaction, target_id: str, *, before: int | None = None, limit: int = 50
) -> list[Notification]:
    """Messages to one webhook or user, newest first, older than the message `before`."""
    statement = sa.select(_T).where(_T.c.target_id == target_id)
    if before is not None:
        statement = statement.where(_T.c.id < before)
    rows = await tx.all(statement.order_by(_T.c.id.desc()).limit(limit))
    return [_notification(row) for row in rows]


async def remove_of_target(tx: Transaction, target_id: str) -> None:
    """Forget everything to a webhook that is about to be removed."""
    await tx.change(_T.delete().where(_T.c.target_id == target_id))
