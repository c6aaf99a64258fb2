"""Partial tiles of the log are made from its head and last leaves when they are asked for."""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM log_tiles WHERE path LIKE '%.p/%'")
