"""Directories ask for users by their own ids."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_users_external_id", "users", ["organization_id", "external_id"])
