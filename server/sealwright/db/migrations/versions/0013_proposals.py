"""Proposed artifact configurations, and trials of one on a sample."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trials",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("requested_by", sa.String(36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("xml", sa.Text(), nullable=False),
        sa.Column("sample", JSON, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("advice", sa.Text(), nullable=False),
        sa.Column("where", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
        _references("trials", "organization_id", "organizations"),
        _references("trials", "project_id", "projects"),
        _references("trials", "requested_by", "users"),
    )
    unfinished = sa.text("state IN ('waiting', 'working')")
    op.create_index(
        "ix_trials_unfinished",
        "trials",
        ["id"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("xml", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("trial_id", sa.String(36)),
        sa.Column("proposed_by", sa.String(36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(36)),
        sa.Column("decided_at", TIME),
        sa.Column("configuration_id", sa.String(36)),
        sa.PrimaryKeyConstraint("id", name="pk_proposals"),
        _references("proposals", "organization_id", "organizations"),
        _references("proposals", "project_id", "projects"),
        _references("proposals", "trial_id", "trials"),
        _references("proposals", "proposed_by", "users"),
        _references("proposals", "decided_by", "users"),
        _references("proposals", "configuration_id", "artifact_configurations"),
    )
    for column in ("project_id", "organization_id"):
        op.create_index(f"ix_proposals_{column}_id", "proposals", [column, "id"])


def downgrade() -> None:
    op.drop_table("proposals")
    op.drop_table("trials")


def _references(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")
