"""Outgoing webhooks, and messages to them and to people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BIGINT_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "outgoing_webhooks",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("states", JSON, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("secrets", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_outgoing_webhooks_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_outgoing_webhooks_project_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outgoing_webhooks"),
    )
    op.create_index("ix_outgoing_webhooks_project_id", "outgoing_webhooks", ["project_id"])
    op.create_table(
        "notifications",
        sa.Column("id", BIGINT_KEY, autoincrement=True, nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("channel", sa.String(20), nullable=False),
        sa.Column("target_id", sa.String(36), nullable=False),
        sa.Column("event", sa.String(60), nullable=False),
        sa.Column("request_id", sa.String(36)),
        sa.Column("key", sa.String(200)),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("done_at", TIME),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("milliseconds", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_notifications_organization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
        sa.UniqueConstraint("key", name="uq_notifications_key"),
    )
    op.create_index("ix_notifications_target_id_id", "notifications", ["target_id", "id"])
    due = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_notifications_due", "notifications", ["due_at"], sqlite_where=due, postgresql_where=due
    )
