"""Projects, artifact configurations and signing policies."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
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

_NAME: sa.BindParameter[str] = sa.bindparam("name")  # an id or a slug
_PROJECT: sa.BindParameter[str] = sa.bindparam("project")
_PROJECT_BY_NAME = Prepared(
    sa.select(projects).where(
        projects.c.organization_id == sa.bindparam("organization"),
        sa.or_(projects.c.id == _NAME, projects.c.slug == _NAME),
    )
)
_CONFIGURATIONS = (
    sa.select(artifact_configurations)
    .where(
        artifact_configurations.c.organization_id == sa.bindparam("organization"),
        artifact_configurations.c.project_id == _PROJECT,
    )
    .order_by(artifact_configurations.c.version.desc())
    .limit(1)
)
_DEFAULT_CONFIGURATION = Prepared(_CONFIGURATIONS.where(artifact_configurations.c.is_default))
_CONFIGURATION_BY_NAME = Prepared(
    _CONFIGURATIONS.where(
        sa.or_(artifact_configurations.c.id == _NAME, artifact_configurations.c.slug == _NAME)
    )
)
_POLICIES = sa.select(signing_policies).where(
    signing_policies.c.organization_id == sa.bindparam("organization")
)
_POLICY_BY_ID = Prepared(_POLICIES.where(signing_policies.c.id == _NAME))
_POLICY_BY_NAME = Prepared(
    _POLICIES.where(
        signing_policies.c.project_id == _PROJECT,
        sa.or_(signing_policies.c.id == _NAME, signing_policies.c.slug == _NAME),
    )
)
_POLICIES_OF_ALL = _POLICIES.order_by(signing_policies.c.slug, signing_policies.c.id)
_POLICIES_OF_PROJECT = Prepared(_POLICIES_OF_ALL.where(signing_policies.c.project_id == _PROJECT))


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
    row = await tx.one(_PROJECT_BY_NAME, organization=organization_id, name=id_or_slug)
    return _project(row) if row else None


async def every(tx: Transaction, organization_id: str) -> list[Project]:
    """All projects of the organization, by slug."""
    rows = await tx.all(
        sa.select(projects)
        .where(projects.c.organization_id == organization_id)
        .order_by(projects.c.slug)
    )
    return [_project(row) for row in rows]


async def naming(tx: Transaction, organization_id: str, id_: str) -> list[Project]:
    """The projects of the organization among whose readers or configurators a user or group is,
    by slug."""
    rows = await tx.all(
        sa.select(projects)
        .where(
            projects.c.organization_id == organization_id,
            sa.or_(_lists(projects.c.readers, id_), _lists(projects.c.configurators, id_)),
        )
        .order_by(projects.c.slug)
    )
    return [_project(row) for row in rows]


def _lists(column: sa.Column[Any], id_: str) -> sa.ColumnElement[bool]:
    """Whether the JSON list of ids in `column` has this one."""
    return sa.cast(column, sa.Text).contains(f'"{id_}"', autoescape=True)


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
    wanted = {"organization": organization_id, "project": project_id}
    if id_or_slug is None:
        row = await tx.one(_DEFAULT_CONFIGURATION, **wanted)
    else:
        row = await tx.one(_CONFIGURATION_BY_NAME, **wanted, name=id_or_slug)
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
    wanted = {"organization": organization_id, "name": id_or_slug}
    if project_id is None:
        row = await tx.one(_POLICY_BY_ID, **wanted)
    else:
        row = await tx.one(_POLICY_BY_NAME, **wanted, project=project_id)
    return _policy(row) if row else None


async def policies_naming(tx: Transaction, organization_id: str, id_: str) -> list[SigningPolicy]:
    """The policies of the organization among whose submitters or approvers a user or group is,
    by slug."""
    lists = signing_policies.c.submitters, signing_policies.c.approvers
    named = sa.or_(*(_lists(column, id_) for column in lists))
    rows = await tx.all(_POLICIES_OF_ALL.where(named), organization=organization_id)
    return [_policy(row) for row in rows]


async def policies(
    tx: Transaction, organization_id: str, project_id: str | None = None
) -> list[SigningPolicy]:
    """All policies of the organization, or of one project, by slug."""
    if project_id is None:
        rows = await tx.all(_POLICIES_OF_ALL, organization=organization_id)
    else:
        rows = await tx.all(_POLICIES_OF_PROJECT, organization=organization_id, project=project_id)
    return [_policy(row) for row in rows]
