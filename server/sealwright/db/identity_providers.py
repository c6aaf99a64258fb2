"""Issuers of single sign-on, and who their subjects are here."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import identity_providers, sign_on_sessions, user_identities
from sealwright.model.identity_provider import IdentityProvider
from sealwright.model.user import Role

_T = identity_providers
_COLUMNS = [_T.c[field.name] for field in dataclasses.fields(IdentityProvider)]


def _provider(row: sa.RowMapping) -> IdentityProvider:
    kinds = {"domains": tuple(row["domains"]), "default_role": Role(row["default_role"])}
    return IdentityProvider(**dict(row) | kinds)


def _values(provider: IdentityProvider) -> dict[str, Any]:
    fields = {f.name: getattr(provider, f.name) for f in dataclasses.fields(provider)}
    return fields | {"domains": list(provider.domains)}


async def add(tx: Transaction, provider: IdentityProvider, sealed: Mapping[str, str]) -> None:
    """Insert an issuer with its sealed credentials."""
    await tx.change(_T.insert().values(**_values(provider), credentials=dict(sealed)))


async def update(
    tx: Transaction, provider: IdentityProvider, sealed: Mapping[str, str] | None = None
) -> None:
    """Write the issuer's present fields, and its credentials where given."""
    values = _values(provider)
    if sealed is not None:
        values["credentials"] = dict(sealed)
    await tx.change(
        _T.update()
        .where(_T.c.id == provider.id, _T.c.organization_id == provider.organization_id)
        .values(**values)
    )


async def remove(tx: Transaction, provider: IdentityProvider) -> None:
    """Delete the issuer. Its users stay; they log in some other way."""
    for table in (user_identities, sign_on_sessions):
        await tx.change(table.delete().where(table.c.provider_id == provider.id))
    await tx.change(_T.delete().where(_T.c.id == provider.id))


async def find(tx: Transaction, organization_id: str, id_or_slug: str) -> IdentityProvider | None:
    """The issuer with this id or slug in this organization."""
    row = await tx.one(
        sa.select(*_COLUMNS).where(
            _T.c.organization_id == organization_id,
            sa.or_(_T.c.id == id_or_slug, _T.c.slug == id_or_slug),
        )
    )
    return _provider(row) if row else None


async def by_slug(tx: Transaction, slug: str) -> IdentityProvider | None:
    """The issuer with this slug, whatever its organization: for people who are not logged in."""
    row = await tx.one(sa.select(*_COLUMNS).where(_T.c.slug == slug))
    return _provider(row) if row else None


async def any_by_id(tx: Transaction, provider_id: str) -> IdentityProvider | None:
    """The issuer with this id, whatever its organization."""
    row = await tx.one(sa.select(*_COLUMNS).where(_T.c.id == provider_id))
    return _provider(row) if row else None


async def every(tx: Transaction, organization_id: str | None = None) -> list[IdentityProvider]:
    """All issuers of the organization; None: those of every one that are enabled."""
    statement = sa.select(*_COLUMNS).order_by(_T.c.slug)
    if organization_id is None:
        statement = statement.where(_T.c.enabled)
    else:
        statement = statement.where(_T.c.organization_id == organization_id)
    return [_provider(row) for row in await tx.all(statement)]


async def credentials(tx: Transaction, provider_id: str) -> dict[str, str]:
    """The sealed credentials."""
    row = await tx.one(sa.select(_T.c.credentials).where(_T.c.id == provider_id))
    return dict(row["credentials"]) if row else {}


async def user_of(tx: Transaction, provider_id: str, subject: str) -> str | None:
    """Id of the user who the issuer's subject is."""
    table = user_identities
    row = await tx.one(
        sa.select(table.c.user_id).where(
            table.c.provider_id == provider_id, table.c.subject == subject
        )
    )
    return row["user_id"] if row else None


async def subject_of(tx: Transaction, provider_id: str, user_id: str) -> str | None:
    """The issuer's subject that the user is."""
    table = user_identities
    rows = await tx.all(
        sa.select(table.c.subject).where(
            table.c.provider_id == provider_id, table.c.user_id == user_id
        )
    )
    return rows[0]["subject"] if rows else None


async def link(
    tx: Transaction, provider_id: str, subject: str, user_id: str, now: dt.datetime
) -> None:
    """Bind the issuer's subject to a user for good."""
    await tx.change(
        user_identities.insert().values(
            provider_id=provider_id, subject=subject, user_id=user_id, created_at=now
        )
    )
