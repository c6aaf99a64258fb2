"""What is to be told to CI systems: written with the change it tells of, told later, in order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.loose_scan import heads_of, values_of
from sealwright.db.tables import outbox, repository_links

_T = outbox
_L = repository_links


@dataclass(frozen=True)
class Message:
    """One thing to tell.

    Attributes:
        kind: ``report`` (a request's phase), ``refusal`` (of a submission), ``deployment`` (the
            answer to a deployment protection rule).
        subject: messages of one subject are told one after the other.
        due_at: when to tell it, or to try again; None once it is done with.
        reference: what the remote calls that which it made of it (check run id, status id).
        build_system_id: the link's; given by the database.
    """

    organization_id: str
    kind: str
    subject: str
    link_id: str
    request_id: str | None
    phase: str
    created_at: dt.datetime
    due_at: dt.datetime | None
    payload: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0
    attempts: int = 0
    done_at: dt.datetime | None = None
    error: str = ""
    reference: str = ""
    url: str = ""
    build_system_id: str = ""


async def add(tx: Transaction, message: Message) -> None:
    """Insert a message; its id is given by the database."""
    fields = vars(message) | {"payload": dict(message.payload)}
    del fields["id"]
    system = sa.select(_L.c.build_system_id).where(_L.c.id == message.link_id)
    fields["build_system_id"] = system.scalar_subquery()
    await tx.change(_T.insert().values(**fields))


async def last(tx: Transaction, subject: str) -> Message | None:
    """The newest message of the subject."""
    row = await tx.one(
        sa.select(_T).where(_T.c.subject == subject).order_by(_T.c.id.desc()).limit(1)
    )
    return Message(**row) if row else None


async def last_told(tx: Transaction, subject: str) -> Message | None:
    """The newest message of the subject that the remote gave a reference for."""
    row = await tx.one(
        sa.select(_T)
        .where(_T.c.subject == subject, _T.c.reference != "")
        .order_by(_T.c.id.desc())
        .limit(1)
    )
    return Message(**row) if row else None


async def by_reference(tx: Transaction, link_id: str, reference: str) -> Message | None:
    """The newest message that the remote calls so."""
    row = await tx.one(
        sa.select(_T)
        .where(_T.c.reference == reference, _T.c.link_id == link_id)
        .order_by(_T.c.id.desc())
        .limit(1)
    )
    return Message(**row) if row else None


async def of_request(tx: Transaction, request_id: str) -> list[Message]:
    """Everything about one request, oldest first."""
    rows = await tx.all(sa.select(_T).where(_T.c.request_id == request_id).order_by(_T.c.id))
    return [Message(**row) for row in rows]


async def due(tx: Transaction, now: dt.datetime, *, each: int, limit: int = 500) -> list[Message]:
    """Messages to be told now: of each subject only the oldest that is not done with; for one build
    system the first `each`."""
    systems = values_of(_T.c.build_system_id, _T.c.due_at.is_not(None), "systems")
    other = _T.alias()
    earlier = sa.exists().where(
        other.c.subject == _T.c.subject, other.c.id < _T.c.id, other.c.due_at.is_not(None)
    )
    own = sa.and_(_T.c.build_system_id == systems.c.value, _T.c.due_at <= now)
    first = sa.select(_T.c.id).where(own, ~earlier).order_by(_T.c.id)
    heads = await heads_of(tx, systems, first, each)
    rows = await tx.all(sa.select(_T).where(_T.c.id.in_(heads)).order_by(_T.c.id).limit(limit))
    return [Message(**row) for row in rows]


async def claim(tx: Transaction, message: Message, until: dt.datetime) -> bool:
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


async def renew(tx: Transaction, message: Message, until: dt.datetime) -> None:
    """Prolong the claim on `message`, which is as it was before it was claimed."""
    await tx.change(
        _T.update()
        .where(
            _T.c.id == message.id,
            _T.c.attempts == message.attempts + 1,
            _T.c.due_at.is_not(None),
        )
        .values(due_at=until)
    )


async def told(
    tx: Transaction, message: Message, now: dt.datetime, reference: str, url: str
) -> None:
    """Done: the remote took it."""
    await tx.change(
        _T.update()
        .where(_T.c.id == message.id)
        .values(due_at=None, done_at=now, error="", reference=reference[:200], url=url)
    )


async def failed(tx: Transaction, message: Message, error: str, due_at: dt.datetime | None) -> None:
    """The remote did not take it: try again at `due_at`, or give it up."""
    await tx.change(
        _T.update().where(_T.c.id == message.id).values(due_at=due_at, error=error[:2000])
    )


async def remove_of_link(tx: Transaction, link_id: str) -> None:
    """Forget everything about a link that is about to be removed."""
    await tx.change(_T.delete().where(_T.c.link_id == link_id))
