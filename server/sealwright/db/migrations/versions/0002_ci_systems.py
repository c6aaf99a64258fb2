"""CI systems: trusted build systems, links, triggers, webhooks, reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BIGINT_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "seen_token_ids",
        sa.Column("build_system_id", sa.String(36), nullable=False),
        sa.Column("token_id", sa.String(64), nullable=False),
        sa.Column("submission", sa.String(64), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("build_system_id", "token_id", name="pk_seen_token_ids"),
    )
    op.create_index("ix_seen_token_ids_expires_at", "seen_token_ids", ["expires_at"])
    op.create_table(
        "trusted_build_systems",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("web_url", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("credentials", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_trusted_build_systems_organization_id",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_trusted_build_systems"),
        sa.UniqueConstraint(
            "organization_id", "slug", name="uq_trusted_build_systems_organization_id_slug"
        ),
    )
    op.create_table(
        "remote_identities",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("build_system_id", sa.String(36), nullable=False),
        sa.Column("remote_user_id", sa.String(40), nullable=False),
        sa.Column("login", sa.String(200), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["build_system_id"],
            ["trusted_build_systems.id"],
            name="fk_remote_identities_build_system_id",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_remote_identities_organization_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_remote_identities_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_remote_identities"),
        sa.UniqueConstraint(
            "build_system_id",
            "remote_user_id",
            name="uq_remote_identities_build_system_id_remote_user_id",
        ),
    )
    op.create_table(
        "repository_links",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("build_system_id", sa.String(36), nullable=False),
        sa.Column("repository_id", sa.String(200), nullable=False),
        sa.Column("owner_id", sa.String(40), nullable=False),
        sa.Column("path", sa.String(500), nullable=False),
        sa.Column("installation_id", sa.String(40), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("submitter_id", sa.String(36)),
        sa.ForeignKeyConstraint(
            ["build_system_id"],
            ["trusted_build_systems.id"],
            name="fk_repository_links_build_system_id",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_repository_links_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_repository_links_project_id"
        ),
        sa.ForeignKeyConstraint(
            ["submitter_id"], ["users.id"], name="fk_repository_links_submitter_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_repository_links"),
        sa.UniqueConstraint(
            "project_id",
            "build_system_id",
            "repository_id",
            name="uq_repository_links_project_id_build_system_id_repository_id",
        ),
    )
    op.create_index(
        "ix_repository_links_build_system_id_repository_id",
        "repository_links",
        ["build_system_id", "repository_id"],
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("build_system_id", sa.String(36), nullable=False),
        sa.Column("delivery_id", sa.String(200), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("repository_id", sa.String(200), nullable=False),
        sa.Column("locators", JSON, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("repeats", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["build_system_id"],
            ["trusted_build_systems.id"],
            name="fk_webhook_deliveries_build_system_id",
        ),
        sa.PrimaryKeyConstraint("build_system_id", "delivery_id", name="pk_webhook_deliveries"),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", BIGINT_KEY, autoincrement=True, nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(100), nullable=False),
        sa.Column("link_id", sa.String(36), nullable=False),
        sa.Column("request_id", sa.String(36)),
        sa.Column("phase", sa.String(20), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("done_at", TIME),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("reference", sa.String(200), server_default="", nullable=False),
        sa.Column("url", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["link_id"], ["repository_links.id"], name="fk_outbox_link_id"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_outbox_organization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_outbox_reference", "outbox", ["reference"])
    op.create_index("ix_outbox_request_id", "outbox", ["request_id"])
    op.create_index("ix_outbox_subject_id", "outbox", ["subject", "id"])
    op.create_table(
        "triggers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("link_id", sa.String(36), nullable=False),
        sa.Column("signing_policy_id", sa.String(36), nullable=False),
        sa.Column("artifact_configuration_id", sa.String(36)),
        sa.Column("submitter_id", sa.String(36), nullable=False),
        sa.Column("definition", sa.String(500), nullable=False),
        sa.Column("refs", JSON, nullable=False),
        sa.Column("artifact", sa.String(500), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_configuration_id"],
            ["artifact_configurations.id"],
            name="fk_triggers_artifact_configuration_id",
        ),
        sa.ForeignKeyConstraint(["link_id"], ["repository_links.id"], name="fk_triggers_link_id"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_triggers_organization_id"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_triggers_project_id"),
        sa.ForeignKeyConstraint(
            ["signing_policy_id"], ["signing_policies.id"], name="fk_triggers_signing_policy_id"
        ),
        sa.ForeignKeyConstraint(["submitter_id"], ["users.id"], name="fk_triggers_submitter_id"),
        sa.PrimaryKeyConstraint("id", name="pk_triggers"),
    )
    op.create_index("ix_triggers_link_id", "triggers", ["link_id"])
    op.create_table(
        "run_submissions",
        sa.Column("submission", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_run_submissions_request_id"
        ),
        sa.PrimaryKeyConstraint("submission", name="pk_run_submissions"),
    )
    op.add_column("api_tokens", sa.Column("request_id", sa.String(36)))
    op.add_column(
        "signing_policies", sa.Column("origin_rules", JSON, server_default="{}", nullable=False)
    )
