"""Projects, artifact configurations and signing policies."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import artifact_configurations, projects, signing_policies
from sealwright.model.origin import origin_rules
from sealwright.model.project import (
    ApproverMail,
    ArtifactConfiguration,
    PolicyKind,
    Project,
    SigningPolicy,
    SubmitterMail,
)


def _project(row: sa.RowMapping) -> Project:
    return Project(
        **dict(row)
        | {
            "readers": frozenset(row["readers"]),
            "configurators": frozenset(row["configurators"]),
        }
    )


def _configuration(row: sa.RowMapping) -> ArtifactConfiguration:
    return ArtifactConfiguration(**row)


def _policy(row: sa.RowMapping) -> SigningPolicy:
    return SigningPolicy(
        **dict(row)
        | {
            "kind": PolicyKind(row["kind"]),
            "submitters": frozenset(row["submitters"]),
            "approvers": frozenset(row["approvers"]),
            "origin_rules": origin_rules(row["origin_rules"]),
            "submitter_mail": SubmitterMail(row["submitter_mail"]),
            "approver_mail": ApproverMail(row["approver_mail"]),
        }
    )


async def add(tx: Transaction, project: Project) -> None:
    """Insert a project."""
    await tx.change(projects.insert().values(**_project_values(project)))


async def update(tx: Transaction, project: Project) -> bool:
    """Write the project's present fields; False where there is none."""
    return (
        await tx.change(
            projects.update()
            .where(
                projects.c.id == project.id, projects.c.organization_id == project.organization_id
            )
            .values(**_project_values(project))
        )
        == 1
    )


def _project_values(project: Project) -> dict[str, Any]:
    fields = {f.name: getattr(project, f.name) for f in dataclasses.fields(project)}
    return fields | {
        "readers": sorted(project.readers),
        "configurators": sorted(project.configurators),
    }


async def find(tx: Transaction, organization_id: str, id_or_slug: str) -> Project | None:
    """The project with this id or slug in this organization."""
    row = await tx.one(
        sa.select(projects).where(
            projects.c.organization_id == organization_id,
            sa.or_(projects.c.id == id_or_slug, projects.c.slug == id_or_slug),
        )
    )
    return _project(row) if row else None


async def every(tx: Transaction, organization_id: str) -> list[Project]:
    """All projects of the organization, by slug."""
    rows = await tx.all(
        sa.select(projects)
        .where(projects.c.organization_id == organization_id)
        .order_by(projects.c.slug)
    )
    return [_project(row) for row in rows]


async def add_configuration(tx: Transaction, configuration: ArtifactConfiguration) -> None:
    """Insert one version; where it is the default, no other of the project stays so."""
    if configuration.is_default:
        await tx.change(
            artifact_configurations.update()
            .where(artifact_configurations.c.project_id == configuration.project_id)
            .values(is_default=False)
        )
    await tx.change(artifact_configurations.insert().values(**dataclasses.asdict(configuration)))


async def find_configuration(
    tx: Transaction, organization_id: str, project_id: str, id_or_slug: str | None
) -> ArtifactConfiguration | None:
    """A version by id, the newest by slug, or with None the project's default."""
    table = artifact_configurations
    statement = sa.select(table).where(
        table.c.organization_id == organization_id, table.c.project_id == project_id
    )
    if id_or_slug is None:
        statement = statement.where(table.c.is_default)
    else:
        statement = statement.where(sa.or_(table.c.id == id_or_slug, table.c.slug == id_or_slug))
    row = await tx.one(statement.order_by(table.c.version.desc()).limit(1))
    return _configuration(row) if row else None


async def configurations(
    tx: Transaction, organization_id: str, project_id: str
) -> list[ArtifactConfiguration]:
    """All versions of all configurations of the project, newest version first."""
    table = artifact_configurations
    rows = await tx.all(
        sa.select(table)
        .where(table.c.organization_id == organization_id, table.c.project_id == project_id)
        .order_by(table.c.slug, table.c.version.desc())
    )
    return [_configuration(row) for row in rows]


async def newest_configurations(
    tx: Transaction, organization_id: str
) -> list[ArtifactConfiguration]:
    """The newest version of each configuration of the organization, by project and slug."""
    table = artifact_configurations
    last = (
        sa.select(table.c.project_id, table.c.slug, sa.func.max(table.c.version).label("version"))
        .where(table.c.organization_id == organization_id)
        .group_by(table.c.project_id, table.c.slug)
        .subquery()
    )
    same = sa.and_(
        table.c.project_id == last.c.project_id,
        table.c.slug == last.c.slug,
        table.c.version == last.c.version,
    )
    rows = await tx.all(
        sa.select(table)
        .join(last, same)
        .where(table.c.organization_id == organization_id)
        .order_by(table.c.project_id, table.c.slug, table.c.id)
    )
    return [_configuration(row) for row in rows]


async def add_policy(tx: Transaction, policy: SigningPolicy) -> None:
    """Insert a signing policy."""
    await tx.change(signing_policies.insert().values(**_policy_values(policy)))


async def update_policy(tx: Transaction, policy: SigningPolicy) -> bool:
    """Write the policy's present fields; False where there is none."""
    return (
        await tx.change(
            signing_policies.update()
            .where(
                signing_policies.c.id == policy.id,
                signing_policies.c.organization_id == policy.organization_id,
            )
            .values(**_policy_values(policy))
        )
        == 1
    )


def _policy_values(policy: SigningPolicy) -> dict[str, Any]:
    fields = {f.name: getattr(policy, f.name) for f in dataclasses.fields(policy)}
    return fields | {
        "kind": policy.kind.value,
        "submitters": sorted(policy.submitters),
        "approvers": sorted(policy.approvers),
        "origin_rules": dataclasses.asdict(policy.origin_rules),
    }


async def find_policy(
    tx: Transaction, organization_id: str, project_id: str | None, id_or_slug: str
) -> SigningPolicy | None:
    """The policy with this id, or within `project_id` with this id or slug."""
    table = signing_policies
    statement = sa.select(table).where(table.c.organization_id == organization_id)
    if project_id is None:
        statement = statement.where(table.c.id == id_or_slug)
    else:
        statement = statement.where(
            table.c.project_id == project_id,
            sa.or_(table.c.id == id_or_slug, table.c.slug == id_or_slug),
        )
    row = await tx.one(statement)
    return _policy(row) if row else None


async def policies(
    tx: Transaction, organization_id: str, project_id: str | None = None
) -> list[SigningPolicy]:
    """All policies of the organization, or of one project, by slug."""
    table = signing_policies
    statement = sa.select(table).where(table.c.organization_id == organization_id)
    if project_id is not None:
        statement = statement.where(table.c.project_id == project_id)
    return [_policy(row) for row in await tx.all(statement.order_by(table.c.slug, table.c.id))]
