"""Outgoing webhooks, their sealed secrets apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import outgoing_webhooks
from sealwright.model.notification import OutgoingWebhook
from sealwright.model.request import State

_T = outgoing_webhooks

_OF_PROJECT = Prepared(
    sa.select(_T)
    .where(
        _T.c.organization_id == sa.bindparam("organization"),
        _T.c.project_id == sa.bindparam("project"),
    )
    .order_by(_T.c.id)
)


def _webhook(row: sa.RowMapping) -> OutgoingWebhook:
    fields = {field.name: row[field.name] for field in dataclasses.fields(OutgoingWebhook)}
    return OutgoingWebhook(**fields | {"states": frozenset(State(one) for one in row["states"])})


def _values(webhook: OutgoingWebhook) -> dict[str, Any]:
    return vars(webhook) | {"states": sorted(state.value for state in webhook.states)}


async def add(tx: Transaction, webhook: OutgoingWebhook, sealed: Mapping[str, str]) -> None:
    """Insert a webhook with its sealed secrets."""
    await tx.change(_T.insert().values(**_values(webhook), secrets=dict(sealed)))


async def update(tx: Transaction, webhook: OutgoingWebhook, sealed: Mapping[str, str]) -> None:
    """Write the webhook's present fields and secrets."""
    await tx.change(
        _T.update()
        .where(_T.c.id == webhook.id, _T.c.organization_id == webhook.organization_id)
        .values(**_values(webhook), secrets=dict(sealed))
    )


async def delete(tx: Transaction, webhook: OutgoingWebhook) -> None:
    """Remove it."""
    await tx.change(
        _T.delete().where(_T.c.id == webhook.id, _T.c.organization_id == webhook.organization_id)
    )


async def of_project(
    tx: Transaction, organization_id: str, project_id: str
) -> list[OutgoingWebhook]:
    """The project's, oldest first."""
    rows = await tx.all(_OF_PROJECT, organization=organization_id, project=project_id)
    return [_webhook(row) for row in rows]


async def get(tx: Transaction, organization_id: str, webhook_id: str) -> OutgoingWebhook | None:
    """The webhook with this id in this organization."""
    row = await tx.one(
        sa.select(_T).where(_T.c.id == webhook_id, _T.c.organization_id == organization_id)
    )
    return _webhook(row) if row else None


async def secrets(tx: Transaction, webhook_id: str) -> dict[str, str]:
    """The sealed secrets: ``secret``, and ``authentication`` where it was set."""
    row = await tx.one(sa.select(_T.c.secrets).where(_T.c.id == webhook_id))
    return dict(row["secrets"]) if row else {}
