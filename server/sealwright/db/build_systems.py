"""Trusted build systems, repository links, triggers, and who remote users are here.

Credentials come and go sealed (see `connectors.vault`): nothing here can open them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import (
    remote_identities,
    repository_links,
    triggers,
    trusted_build_systems,
)
from sealwright.model.build_system import (
    BuildSystemKind,
    LinkStanding,
    RemoteIdentity,
    RepositoryLink,
    Trigger,
    TrustedBuildSystem,
)

_S = trusted_build_systems


def _system(row: sa.RowMapping) -> TrustedBuildSystem:
    kind = BuildSystemKind(row["kind"])
    return TrustedBuildSystem(**dict(row) | {"kind": kind, "credentials": {}})


def _link(row: sa.RowMapping) -> RepositoryLink:
    return RepositoryLink(**dict(row) | {"standing": LinkStanding(row["standing"])})


def _trigger(row: sa.RowMapping) -> Trigger:
    return Trigger(**dict(row) | {"refs": tuple(row["refs"])})


def _plain(system: TrustedBuildSystem) -> dict[str, Any]:
    fields = {field.name: getattr(system, field.name) for field in dataclasses.fields(system)}
    del fields["credentials"]
    return fields | {"kind": system.kind.value, "settings": dict(system.settings)}


async def add(tx: Transaction, system: TrustedBuildSystem, sealed: Mapping[str, str]) -> None:
    """Insert a build system with its sealed credentials."""
    await tx.change(_S.insert().values(**_plain(system), credentials=dict(sealed)))


async def update(
    tx: Transaction, system: TrustedBuildSystem, sealed: Mapping[str, str] | None = None
) -> bool:
    """Write the system's present fields, and its credentials where given; False if it is gone."""
    values = _plain(system) | ({} if sealed is None else {"credentials": dict(sealed)})
    return (
        await tx.change(
            _S.update()
            .where(_S.c.id == system.id, _S.c.organization_id == system.organization_id)
            .values(**values)
        )
        == 1
    )


async def find(tx: Transaction, organization_id: str, id_or_slug: str) -> TrustedBuildSystem | None:
    """The build system with this id or slug, without credentials."""
    row = await tx.one(
        sa.select(_S).where(
            _S.c.organization_id == organization_id,
            sa.or_(_S.c.id == id_or_slug, _S.c.slug == id_or_slug),
        )
    )
    return _system(row) if row else None


async def get_any(tx: Transaction, system_id: str) -> TrustedBuildSystem | None:
    """The build system whatever its organization: for webhooks, whose address names it."""
    row = await tx.one(sa.select(_S).where(_S.c.id == system_id))
    return _system(row) if row else None


async def sealed_credentials(tx: Transaction, system_id: str) -> dict[str, str]:
    """Field -> sealed text."""
    row = await tx.one(sa.select(_S.c.credentials).where(_S.c.id == system_id))
    return dict(row["credentials"]) if row else {}


async def every(tx: Transaction, organization_id: str) -> list[TrustedBuildSystem]:
    """All build systems of the organization, by slug."""
    rows = await tx.all(
        sa.select(_S).where(_S.c.organization_id == organization_id).order_by(_S.c.slug)
    )
    return [_system(row) for row in rows]


async def add_link(tx: Transaction, link: RepositoryLink) -> None:
    """Insert a link."""
    await tx.change(repository_links.insert().values(**_link_values(link)))


async def update_link(tx: Transaction, link: RepositoryLink) -> bool:
    """Write the link's present fields; False if it is gone."""
    table = repository_links
    return (
        await tx.change(
            table.update()
            .where(table.c.id == link.id, table.c.organization_id == link.organization_id)
            .values(**_link_values(link))
        )
        == 1
    )


def _link_values(link: RepositoryLink) -> dict[str, Any]:
    return dataclasses.asdict(link) | {"standing": link.standing.value}


async def delete_link(tx: Transaction, link: RepositoryLink) -> None:
    """Remove a link that nothing refers to any more."""
    await tx.change(repository_links.delete().where(repository_links.c.id == link.id))


async def links(
    tx: Transaction,
    organization_id: str,
    *,
    project_id: str | None = None,
    build_system_id: str | None = None,
    repository_id: str | None = None,
    installation_id: str | None = None,
) -> list[RepositoryLink]:
    """Links of the organization that fit everything given, oldest first."""
    table = repository_links
    statement = sa.select(table).where(table.c.organization_id == organization_id)
    if project_id is not None:
        statement = statement.where(table.c.project_id == project_id)
    if build_system_id is not None:
        statement = statement.where(table.c.build_system_id == build_system_id)
    if repository_id is not None:
        statement = statement.where(table.c.repository_id == repository_id)
    if installation_id is not None:
        statement = statement.where(table.c.installation_id == installation_id)
    return [_link(row) for row in await tx.all(statement.order_by(table.c.id))]


async def get_link(tx: Transaction, organization_id: str, link_id: str) -> RepositoryLink | None:
    """One link."""
    table = repository_links
    row = await tx.one(
        sa.select(table).where(table.c.organization_id == organization_id, table.c.id == link_id)
    )
    return _link(row) if row else None


async def add_trigger(tx: Transaction, trigger: Trigger) -> None:
    """Insert a trigger."""
    await tx.change(triggers.insert().values(**_trigger_values(trigger)))


async def update_trigger(tx: Transaction, trigger: Trigger) -> bool:
    """Write the trigger's present fields; False if it is gone."""
    return (
        await tx.change(
            triggers.update()
            .where(
                triggers.c.id == trigger.id, triggers.c.organization_id == trigger.organization_id
            )
            .values(**_trigger_values(trigger))
        )
        == 1
    )


def _trigger_values(trigger: Trigger) -> dict[str, Any]:
    return dataclasses.asdict(trigger) | {"refs": list(trigger.refs)}


async def find_triggers(
    tx: Transaction,
    organization_id: str,
    *,
    project_id: str | None = None,
    link_id: str | None = None,
) -> list[Trigger]:
    """Triggers of a project or of a link, oldest first."""
    statement = sa.select(triggers).where(triggers.c.organization_id == organization_id)
    if project_id is not None:
        statement = statement.where(triggers.c.project_id == project_id)
    if link_id is not None:
        statement = statement.where(triggers.c.link_id == link_id)
    return [_trigger(row) for row in await tx.all(statement.order_by(triggers.c.id))]


async def add_identity(tx: Transaction, identity: RemoteIdentity) -> None:
    """Insert the user behind a remote user."""
    await tx.change(remote_identities.insert().values(**dataclasses.asdict(identity)))


async def delete_identity(tx: Transaction, identity: RemoteIdentity) -> None:
    """Forget it."""
    await tx.change(remote_identities.delete().where(remote_identities.c.id == identity.id))


async def identities(
    tx: Transaction, organization_id: str, *, build_system_id: str | None = None
) -> list[RemoteIdentity]:
    """All of the organization, or of one build system."""
    table = remote_identities
    statement = sa.select(table).where(table.c.organization_id == organization_id)
    if build_system_id is not None:
        statement = statement.where(table.c.build_system_id == build_system_id)
    return [RemoteIdentity(**row) for row in await tx.all(statement.order_by(table.c.id))]


async def identity_of(
    tx: Transaction, build_system_id: str, remote_user_id: str
) -> RemoteIdentity | None:
    """Who the remote user is here."""
    table = remote_identities
    row = await tx.one(
        sa.select(table).where(
            table.c.build_system_id == build_system_id, table.c.remote_user_id == remote_user_id
        )
    )
    return RemoteIdentity(**row) if row else None
