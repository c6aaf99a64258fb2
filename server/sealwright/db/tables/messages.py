"""What is told to others: reports, webhooks and mails."""

from __future__ import annotations

import sqlalchemy as sa

from sealwright.db.tables.columns import (
    BIGINT_KEY,
    JSON,
    METADATA,
    UtcDateTime,
    created_at,
    id_column,
    organization_column,
    partial_index,
    reference,
)

#: What is to be told to CI systems. Rows of one `subject` are told one after the other.
outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", BIGINT_KEY, primary_key=True, autoincrement=True),
    organization_column(),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("subject", sa.String(100), nullable=False),
    reference("link_id", "repository_links"),
    sa.Column("request_id", sa.String(36)),
    sa.Column("phase", sa.String(20), nullable=False),
    sa.Column("payload", JSON, nullable=False),
    created_at(),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", UtcDateTime),  # NULL once it is done with
    sa.Column("done_at", UtcDateTime),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("reference", sa.String(200), nullable=False, server_default=""),
    sa.Column("url", sa.Text, nullable=False, server_default=""),
    sa.Column("build_system_id", sa.String(36), nullable=False, server_default=""),
    sa.Index("ix_outbox_subject_id", "subject", "id"),
    sa.Index("ix_outbox_reference", "reference"),
    sa.Index("ix_outbox_request_id", "request_id"),
    partial_index("ix_outbox_done", "created_at", where="due_at IS NULL"),
    partial_index("ix_outbox_waiting", "build_system_id", "id", where="due_at IS NOT NULL"),
)

#: Addresses that are told how a project's requests end. `secrets` are sealed (`connectors.vault`).
outgoing_webhooks = sa.Table(
    "outgoing_webhooks",
    METADATA,
    id_column(),
    organization_column(),
    reference("project_id", "projects"),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("states", JSON, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("secrets", JSON, nullable=False),
    created_at(),
    sa.Index("ix_outgoing_webhooks_project_id", "project_id"),
)

#: Messages to webhooks and people; a webhook's rows are its delivery log.
notifications = sa.Table(
    "notifications",
    METADATA,
    sa.Column("id", BIGINT_KEY, primary_key=True, autoincrement=True),
    organization_column(),
    sa.Column("channel", sa.String(20), nullable=False),
    sa.Column("target_id", sa.String(36), nullable=False),
    sa.Column("event", sa.String(60), nullable=False),
    sa.Column("request_id", sa.String(36)),
    sa.Column("key", sa.String(200), unique=True),
    sa.Column("payload", JSON, nullable=False),
    created_at(),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", UtcDateTime),  # NULL once it is done with
    sa.Column("done_at", UtcDateTime),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("status", sa.Integer),
    sa.Column("milliseconds", sa.Integer),
    sa.Index("ix_notifications_target_id_id", "target_id", "id"),
    partial_index("ix_notifications_done", "created_at", where="due_at IS NULL"),
    partial_index(
        "ix_notifications_waiting",
        "channel",
        "target_id",
        "due_at",
        "id",
        where="due_at IS NOT NULL",
    ),
)
