"""Projects and their settings."""

from __future__ import annotations

import sqlalchemy as sa

from sealwright.db.tables.columns import (
    JSON,
    METADATA,
    UtcDateTime,
    created_at,
    id_column,
    organization_column,
    partial_index,
    reference,
)

projects = sa.Table(
    "projects",
    METADATA,
    id_column(),
    organization_column(),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("repository_url", sa.Text, nullable=False),
    created_at(),
    sa.Column("readers", JSON, nullable=False, server_default="[]"),
    sa.Column("configurators", JSON, nullable=False, server_default="[]"),
    sa.UniqueConstraint("organization_id", "slug"),
)

artifact_configurations = sa.Table(
    "artifact_configurations",
    METADATA,
    id_column(),
    organization_column(),
    reference("project_id", "projects"),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("xml", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False),
    created_at(),
    sa.UniqueConstraint("project_id", "slug", "version"),
)

signing_policies = sa.Table(
    "signing_policies",
    METADATA,
    id_column(),
    organization_column(),
    reference("project_id", "projects"),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    reference("certificate_id", "certificates"),
    sa.Column("submitters", JSON, nullable=False),
    sa.Column("approvers", JSON, nullable=False),
    sa.Column("quorum", sa.Integer, nullable=False),
    sa.Column("timestamp_required", sa.Boolean, nullable=False),
    sa.Column("hash_signing_allowed", sa.Boolean, nullable=False),
    sa.Column("origin_required", sa.Boolean, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    created_at(),
    sa.Column("origin_rules", JSON, nullable=False, server_default="{}"),
    sa.Column("passkey_required", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("malware_scan", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("approval_hours", sa.Integer, nullable=False, server_default="0"),
    sa.Column("submitter_mail", sa.String(20), nullable=False, server_default="problems"),
    sa.Column("approver_mail", sa.String(20), nullable=False, server_default="each"),
    sa.UniqueConstraint("project_id", "slug"),
)

#: Artifact configurations applied to a sample, to see what would be signed.
trials = sa.Table(
    "trials",
    METADATA,
    id_column(),
    organization_column(),
    reference("project_id", "projects"),
    reference("requested_by", "users"),
    created_at(),
    sa.Column("xml", sa.Text, nullable=False),
    sa.Column("sample", JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("tree", sa.LargeBinary),
    sa.Column("parameters", JSON, nullable=False, server_default="{}"),
    sa.Column("fault", sa.Text, nullable=False),
    sa.Column("advice", sa.Text, nullable=False),
    sa.Column("where", sa.Text, nullable=False),
    partial_index("ix_trials_unfinished", "id", where="state IN ('waiting', 'working')"),
)

#: Artifact configurations that somebody proposes who may not add one.
proposals = sa.Table(
    "proposals",
    METADATA,
    id_column(),
    organization_column(),
    reference("project_id", "projects"),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("xml", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    reference("trial_id", "trials", nullable=True),
    reference("proposed_by", "users"),
    created_at(),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("word", sa.Text, nullable=False),
    reference("decided_by", "users", nullable=True),
    sa.Column("decided_at", UtcDateTime),
    reference("configuration_id", "artifact_configurations", nullable=True),
    sa.Index("ix_proposals_trial_id", "trial_id"),
    sa.Index("ix_proposals_project_id_id", "project_id", "id"),
    sa.Index("ix_proposals_organization_id_id", "organization_id", "id"),
)
