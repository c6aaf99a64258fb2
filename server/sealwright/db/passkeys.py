"""Passkeys of users."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable

import sqlalchemy as sa

from sealwright.db.chunks import chunked
from sealwright.db.database import Transaction
from sealwright.db.tables import passkeys
from sealwright.model.passkey import Passkey


async def add(tx: Transaction, passkey: Passkey) -> None:
    """Insert a passkey."""
    await tx.change(passkeys.insert().values(**dataclasses.asdict(passkey)))


async def by_credential(tx: Transaction, credential_id: bytes) -> Passkey | None:
    """The passkey of this credential, also a removed one."""
    row = await tx.one(sa.select(passkeys).where(passkeys.c.credential_id == credential_id))
    return Passkey(**row) if row else None


async def get(tx: Transaction, organization_id: str, passkey_id: str) -> Passkey | None:
    """The passkey with this id in this organization, also a removed one."""
    row = await tx.one(
        sa.select(passkeys).where(
            passkeys.c.id == passkey_id, passkeys.c.organization_id == organization_id
        )
    )
    return Passkey(**row) if row else None


async def of_organization(tx: Transaction, organization_id: str) -> list[Passkey]:
    """The organization's passkeys that count, oldest first."""
    rows = await tx.all(
        sa.select(passkeys)
        .where(passkeys.c.organization_id == organization_id, passkeys.c.removed_at.is_(None))
        .order_by(passkeys.c.id)
    )
    return [Passkey(**row) for row in rows]


async def of_user(tx: Transaction, organization_id: str, user_id: str) -> list[Passkey]:
    """The user's passkeys that count, oldest first."""
    rows = await tx.all(
        sa.select(passkeys)
        .where(
            passkeys.c.organization_id == organization_id,
            passkeys.c.user_id == user_id,
            passkeys.c.removed_at.is_(None),
        )
        .order_by(passkeys.c.id)
    )
    return [Passkey(**row) for row in rows]


async def of_users(tx: Transaction, organization_id: str, user_ids: Iterable[str]) -> list[Passkey]:
    """The passkeys of some users, also removed ones."""
    found: list[Passkey] = []
    for part in chunked(sorted(set(user_ids))):
        chosen = sa.select(passkeys).where(
            passkeys.c.organization_id == organization_id, passkeys.c.user_id.in_(part)
        )
        found += [Passkey(**row) for row in await tx.all(chosen)]
    return found


async def use(tx: Transaction, passkey_id: str, counter: int, now: dt.datetime) -> None:
    """Note a use, and the counter that came with it."""
    await tx.change(
        passkeys.update()
        .where(passkeys.c.id == passkey_id)
        .values(sign_count=counter, last_used_at=now)
    )


async def remove(
    tx: Transaction, organization_id: str, user_id: str, passkey_id: str, now: dt.datetime
) -> bool:
    """Let a passkey of the user count no more; False where there is none that does."""
    return (
        await tx.change(
            passkeys.update()
            .where(
                passkeys.c.id == passkey_id,
                passkeys.c.organization_id == organization_id,
                passkeys.c.user_id == user_id,
                passkeys.c.removed_at.is_(None),
            )
            .values(removed_at=now)
        )
        == 1
    )
