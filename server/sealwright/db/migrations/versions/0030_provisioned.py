"""What a directory calls a user, and when it deleted them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("user_name", sa.String(200)))
    op.add_column("users", sa.Column("deprovisioned_at", sa.DateTime(timezone=True)))
    op.create_index("ix_users_user_name", "users", ["organization_id", "user_name"], unique=True)
