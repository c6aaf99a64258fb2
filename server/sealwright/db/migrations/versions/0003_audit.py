"""Audit: what each leaf is about, and details that the log keeps a salted hash of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
BIGINT_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SUBJECTS = ("project_id", "signing_policy_id", "certificate_id", "user_id")


def upgrade() -> None:
    op.add_column("log_entries", sa.Column("actor", sa.String(60)))
    for name in SUBJECTS:
        op.add_column("log_entries", sa.Column(name, sa.String(36)))
    for name in ("actor", *SUBJECTS):
        present = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"ix_log_entries_{name}_id",
            "log_entries",
            [name, "id"],
            sqlite_where=present,
            postgresql_where=present,
        )
    op.create_table(
        "log_details",
        sa.Column("entry_id", BIGINT_KEY, autoincrement=False, nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["log_entries.id"], name="fk_log_details_entry_id"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_log_details_organization_id"
        ),
        sa.PrimaryKeyConstraint("entry_id", name="pk_log_details"),
    )
    op.create_index(
        "ix_log_details_organization_id_created_at",
        "log_details",
        ["organization_id", "created_at"],
    )
