"""What is ordered of the signer. The web process and the workers add; the signer takes and settles.

A row is taken by compare-and-set. One that was taken and not settled was left by a signer that died
in between: whether it did what was ordered has to be seen, so it is failed and never repeated.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import certificate_orders, signer_envelopes
from sealwright.model.certificate import CertificateOrder, Operation, OrderState

_T = certificate_orders
_MAX_LISTED = 200
_WAITING = (
    sa.select(_T)
    .where(_T.c.finished_at.is_(None), _T.c.state == OrderState.QUEUED.value)
    .order_by(_T.c.created_at, _T.c.id)
    .limit(sa.bindparam("most"))
)
_ABANDONED = sa.select(_T).where(
    _T.c.finished_at.is_(None),
    _T.c.state == OrderState.WORKING.value,
    _T.c.claimed_at < sa.bindparam("before"),
)


def _order(row: sa.RowMapping) -> CertificateOrder:
    fields: dict[str, Any] = {
        field.name: row[field.name] for field in dataclasses.fields(CertificateOrder)
    }
    return CertificateOrder(
        **fields
        | {
            "operation": Operation(row["operation"]),
            "state": OrderState(row["state"]),
            "payload": bytes(row["payload"]),
        }
    )


async def add(tx: Transaction, order: CertificateOrder) -> None:
    """Insert an order."""
    fields = {field.name: getattr(order, field.name) for field in dataclasses.fields(order)}
    await tx.change(_T.insert().values(**fields))


async def get(tx: Transaction, organization_id: str, order_id: str) -> CertificateOrder | None:
    """The order with this id in this organization."""
    row = await tx.one(
        sa.select(_T).where(_T.c.id == order_id, _T.c.organization_id == organization_id)
    )
    return _order(row) if row else None


async def latest(tx: Transaction, organization_id: str) -> list[CertificateOrder]:
    """The organization's last orders, newest first."""
    rows = await tx.all(
        sa.select(_T)
        .where(_T.c.organization_id == organization_id)
        .order_by(_T.c.id.desc())
        .limit(_MAX_LISTED)
    )
    return [_order(row) for row in rows]


async def opened(tx: Transaction, organization_id: str) -> int:
    """How many orders of the organization are not settled."""
    row = await tx.one(
        sa.select(sa.func.count().label("number")).where(
            _T.c.organization_id == organization_id, _T.c.finished_at.is_(None)
        )
    )
    return int(row["number"]) if row else 0


async def is_ordered(tx: Transaction, certificate_id: str) -> bool:
    """Whether an order about the certificate is not settled yet."""
    row = await tx.one(
        sa.select(_T.c.id)
        .where(_T.c.certificate_id == certificate_id, _T.c.finished_at.is_(None))
        .limit(1)
    )
    return row is not None


async def waiting(tx: Transaction, limit: int = 500) -> list[CertificateOrder]:
    """Queued orders of every organization, oldest first."""
    rows = await tx.all(_WAITING, most=limit)
    return [_order(row) for row in rows]


async def abandoned(tx: Transaction, before: dt.datetime) -> list[CertificateOrder]:
    """Orders that were taken before this time and never settled."""
    rows = await tx.all(_ABANDONED, before=before)
    return [_order(row) for row in rows]


async def claim(tx: Transaction, order: CertificateOrder, now: dt.datetime) -> bool:
    """Take a queued order; False where another signer was quicker."""
    return (
        await tx.change(
            _T.update()
            .where(_T.c.id == order.id, _T.c.state == OrderState.QUEUED.value)
            .values(state=OrderState.WORKING.value, claimed_at=now)
        )
        == 1
    )


async def settle(tx: Transaction, order: CertificateOrder, now: dt.datetime) -> None:
    """Write how the order ended; its payload is of no more use."""
    await tx.change(
        _T.update()
        .where(_T.c.id == order.id, _T.c.finished_at.is_(None))
        .values(
            state=order.state.value,
            finished_at=now,
            payload=b"",
            result_id=order.result_id,
            code=order.code,
            reason=order.reason,
            advice=order.advice,
        )
    )


async def made_since(tx: Transaction, organization_id: str, since: dt.datetime) -> int:
    """How many orders of the organization the signer has taken since then."""
    row = await tx.one(
        sa.select(sa.func.count().label("number")).where(
            _T.c.organization_id == organization_id, _T.c.claimed_at >= since
        )
    )
    return int(row["number"]) if row else 0


async def put_envelope(tx: Transaction, token: str, public_key: bytes, now: dt.datetime) -> None:
    """Publish the key of the signer of that token, in place of an earlier one."""
    await tx.change(signer_envelopes.delete().where(signer_envelopes.c.token == token))
    await tx.change(
        signer_envelopes.insert().values(token=token, public_key=public_key, created_at=now)
    )


async def envelope(tx: Transaction) -> tuple[str, bytes] | None:
    """Token and public key of the signer that was started last; None where none ever was."""
    row = await tx.one(
        sa.select(signer_envelopes).order_by(signer_envelopes.c.created_at.desc()).limit(1)
    )
    return (row["token"], bytes(row["public_key"])) if row else None
