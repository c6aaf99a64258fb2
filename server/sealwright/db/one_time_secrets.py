"""Secrets that are used once."""

from __future__ import annotations

import dataclasses
import datetime as dt

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import one_time_secrets
from sealwright.model.one_time_secret import OneTimeSecret, Purpose

_T = one_time_secrets


def _secret(row: sa.RowMapping) -> OneTimeSecret:
    return OneTimeSecret(**dict(row) | {"purpose": Purpose(row["purpose"])})


async def add(tx: Transaction, secret: OneTimeSecret) -> None:
    """Insert a secret."""
    fields = {f.name: getattr(secret, f.name) for f in dataclasses.fields(secret)}
    await tx.change(_T.insert().values(**fields | {"data": dict(secret.data)}))


async def find(
    tx: Transaction, sha256: str, purpose: Purpose, now: dt.datetime
) -> OneTimeSecret | None:
    """The secret, where it is for this purpose and has not expired. It stays usable."""
    row = await tx.one(
        sa.select(_T).where(
            _T.c.sha256 == sha256, _T.c.purpose == purpose.value, _T.c.expires_at > now
        )
    )
    return _secret(row) if row else None


async def take(
    tx: Transaction, sha256: str, purpose: Purpose, now: dt.datetime
) -> OneTimeSecret | None:
    """The same, used up: of several who take it at once one gets it."""
    found = await find(tx, sha256, purpose, now)
    if found is None or await tx.change(_T.delete().where(_T.c.sha256 == sha256)) != 1:
        return None
    return found


async def of_user(
    tx: Transaction, user_id: str, purpose: Purpose, now: dt.datetime
) -> OneTimeSecret | None:
    """The user's newest secret of this purpose that has not expired."""
    rows = await tx.all(
        sa.select(_T)
        .where(_T.c.user_id == user_id, _T.c.purpose == purpose.value, _T.c.expires_at > now)
        .order_by(_T.c.created_at.desc())
        .limit(1)
    )
    return _secret(rows[0]) if rows else None


async def withdraw(tx: Transaction, user_id: str, *purposes: Purpose) -> int:
    """Remove a user's secrets of these purposes; how many."""
    return await tx.change(
        _T.delete().where(
            _T.c.user_id == user_id, _T.c.purpose.in_([one.value for one in purposes])
        )
    )
