"""Whether a linked repository can still be reached, as its CI system said last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("standing", sa.String(20), nullable=False, server_default="active"),
        sa.Column("standing_at", sa.DateTime(timezone=True)),
    ):
        op.add_column("repository_links", column)


def downgrade() -> None:
    for name in ("standing_at", "standing"):
        op.drop_column("repository_links", name)
