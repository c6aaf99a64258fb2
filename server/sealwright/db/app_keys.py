"""Keys of GitHub Apps on the token. Only the signer's role may write here."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import app_keys, certificates
from sealwright.model.app_key import AppKey


async def get(tx: Transaction, build_system_id: str) -> AppKey | None:
    """The key of the build system's App, where it is on the token."""
    row = await tx.one(sa.select(app_keys).where(app_keys.c.build_system_id == build_system_id))
    return AppKey(**row) if row else None


async def put(tx: Transaction, key: AppKey) -> None:
    """Insert the key in the place of an earlier one."""
    await remove(tx, key.build_system_id)
    await tx.change(app_keys.insert().values(**dataclasses.asdict(key)))


async def remove(tx: Transaction, build_system_id: str) -> bool:
    """Forget the key; False where there is none."""
    return (
        await tx.change(app_keys.delete().where(app_keys.c.build_system_id == build_system_id)) == 1
    )


async def key_uris_of_certificates(tx: Transaction) -> list[str]:
    """The keys of every certificate of every organization: none of them may be an App's."""
    return [str(row["key_uri"]) for row in await tx.all(sa.select(certificates.c.key_uri))]
