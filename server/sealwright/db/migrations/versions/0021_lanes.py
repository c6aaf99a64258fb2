"""What waits to be sent is found by whom it goes to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "outbox",
        sa.Column("build_system_id", sa.String(36), nullable=False, server_default=""),
    )
    links = sa.table("repository_links", sa.column("id"), sa.column("build_system_id"))
    outbox = sa.table("outbox", sa.column("link_id"), sa.column("build_system_id"))
    system = sa.select(links.c.build_system_id).where(links.c.id == outbox.c.link_id)
    op.execute(outbox.update().values(build_system_id=system.scalar_subquery()))
    op.drop_index("ix_outbox_due", "outbox")
    op.drop_index("ix_notifications_due", "notifications")
    due = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_outbox_waiting", "outbox", ["build_system_id", "id"], sqlite_where=due,
        postgresql_where=due,
    )  # fmt: skip
    op.create_index(
        "ix_notifications_waiting", "notifications", ["channel", "target_id", "due_at", "id"],
        sqlite_where=due, postgresql_where=due,
    )  # fmt: skip
