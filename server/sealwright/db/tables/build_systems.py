"""Build systems, and what is known of them."""

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

#: CI systems whose word counts. `credentials`: field -> base64 of `connectors.vault`'s sealed text.
trusted_build_systems = sa.Table(
    "trusted_build_systems",
    METADATA,
    id_column(),
    organization_column(),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("base_url", sa.Text, nullable=False),
    sa.Column("web_url", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("settings", JSON, nullable=False),
    sa.Column("credentials", JSON, nullable=False),
    created_at(),
    sa.UniqueConstraint("organization_id", "slug"),
)

repository_links = sa.Table(
    "repository_links",
    METADATA,
    id_column(),
    organization_column(),
    reference("project_id", "projects"),
    reference("build_system_id", "trusted_build_systems"),
    sa.Column("repository_id", sa.String(200), nullable=False),
    sa.Column("owner_id", sa.String(40), nullable=False),
    sa.Column("path", sa.String(500), nullable=False),
    sa.Column("installation_id", sa.String(40), nullable=False),
    created_at(),
    reference("submitter_id", "users", nullable=True),
    sa.Column("standing", sa.String(20), nullable=False, server_default="active"),
    sa.Column("standing_at", UtcDateTime),
    sa.UniqueConstraint("project_id", "build_system_id", "repository_id"),
    sa.Index(
        "ix_repository_links_build_system_id_repository_id", "build_system_id", "repository_id"
    ),
)

triggers = sa.Table(
    "triggers",
    METADATA,
    id_column(),
    organization_column(),
    reference("project_id", "projects"),
    reference("link_id", "repository_links"),
    reference("signing_policy_id", "signing_policies"),
    reference("artifact_configuration_id", "artifact_configurations", nullable=True),
    reference("submitter_id", "users"),
    sa.Column("definition", sa.String(500), nullable=False),
    sa.Column("refs", JSON, nullable=False),
    sa.Column("artifact", sa.String(500), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    created_at(),
    sa.Index("ix_triggers_link_id", "link_id"),
)

#: Who a CI system's user is here.
remote_identities = sa.Table(
    "remote_identities",
    METADATA,
    id_column(),
    organization_column(),
    reference("build_system_id", "trusted_build_systems"),
    sa.Column("remote_user_id", sa.String(40), nullable=False),
    sa.Column("login", sa.String(200), nullable=False),
    reference("user_id", "users"),
    created_at(),
    sa.UniqueConstraint("build_system_id", "remote_user_id"),
)

#: The keys of Apps that are on the token; the signer's own, like certificates.
app_keys = sa.Table(
    "app_keys",
    METADATA,
    reference("build_system_id", "trusted_build_systems", primary_key=True),
    organization_column(),
    sa.Column("issuer", sa.String(100), nullable=False),
    sa.Column("key_uri", sa.Text, nullable=False),
    created_at(),
)

#: What CI systems sent, once each, and what came of it. `outcome` is empty until it was acted on.
webhook_deliveries = sa.Table(
    "webhook_deliveries",
    METADATA,
    reference("build_system_id", "trusted_build_systems", primary_key=True),
    sa.Column("delivery_id", sa.String(200), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("action", sa.String(100), nullable=False),
    sa.Column("repository_id", sa.String(200), nullable=False),
    sa.Column("locators", JSON, nullable=False),  # ids to fetch by; never facts
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("repeats", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", UtcDateTime),
    sa.Column("outcome", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_webhook_deliveries_build_system_id_received_at", "build_system_id", "received_at"),
    partial_index("ix_webhook_deliveries_done", "received_at", where="due_at IS NULL"),
    partial_index(
        "ix_webhook_deliveries_due", "build_system_id", "due_at", where="due_at IS NOT NULL"
    ),
)

#: Ids (``jti``) of identity tokens, each for the one submission that it was used for.
seen_token_ids = sa.Table(
    "seen_token_ids",
    METADATA,
    sa.Column("build_system_id", sa.String(36), primary_key=True),
    sa.Column("token_id", sa.String(64), primary_key=True),  # hex SHA-256 of the jti
    sa.Column("submission", sa.String(64), nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)

#: One row for each (run, attempt, artifact, policy) that was submitted.
run_submissions = sa.Table(
    "run_submissions",
    METADATA,
    sa.Column("submission", sa.String(64), primary_key=True),  # `origin.replay.RunSubmission.key`
    reference("request_id", "signing_requests"),
    created_at(),
    sa.Index("ix_run_submissions_created_at", "created_at"),
)
