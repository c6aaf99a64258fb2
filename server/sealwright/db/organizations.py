"""Organizations."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import organizations
from sealwright.model.organization import Organization


async def add(tx: Transaction, organization: Organization) -> None:
    """Insert an organization."""
    await tx.change(
        organizations.insert().values(
            id=organization.id,
            slug=organization.slug,
            name=organization.name,
            created_at=organization.created_at,
            artifact_days=organization.artifact_days,
            details_days=organization.details_days,
            results_days=organization.results_days,
        )
    )


async def update(tx: Transaction, organization: Organization) -> None:
    """Write the organization's present fields."""
    await tx.change(
        organizations.update()
        .where(organizations.c.id == organization.id)
        .values(**dataclasses.asdict(organization))
    )


async def get(tx: Transaction, organization_id: str) -> Organization | None:
    """The organization with this id."""
    row = await tx.one(sa.select(organizations).where(organizations.c.id == organization_id))
    return Organization(**row) if row else None


async def every(tx: Transaction) -> list[Organization]:
    """All organizations, oldest first."""
    return [Organization(**row) for row in await tx.all(sa.select(organizations).order_by("id"))]
