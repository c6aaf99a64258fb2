"""What is due of one build system, and orders that were settled long ago, are found by indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    waiting = sa.text("due_at IS NOT NULL")
    op.drop_index("ix_webhook_deliveries_due", "webhook_deliveries")
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["build_system_id", "due_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index("ix_certificate_orders_finished_at", "certificate_orders", ["finished_at"])
