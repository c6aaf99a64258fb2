"""Keys of GitHub Apps on the token."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "app_keys",
        sa.Column("build_system_id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("issuer", sa.String(100), nullable=False),
        sa.Column("key_uri", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_system_id"], ["trusted_build_systems.id"], name="fk_app_keys_build_system_id"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_app_keys_organization_id"
        ),
        sa.PrimaryKeyConstraint("build_system_id", name="pk_app_keys"),
    )


def downgrade() -> None:
    op.drop_table("app_keys")
