"""How long plans and results of files are kept; what old rows are found by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column(
        "organizations",
        sa.Column("results_days", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column("signing_requests", sa.Column("results_removed_at", TIME))
    kept = "results_removed_at IS NULL AND finished_at IS NOT NULL"
    _index("signing_requests", "with_results", ["organization_id", "finished_at"], kept)
    for table in ("outbox", "webhook_deliveries"):
        time = "created_at" if table == "outbox" else "received_at"
        _index(table, "done", [time], "due_at IS NULL")
    for table, columns in (
        ("webhook_deliveries", ["build_system_id", "received_at"]),
        ("idempotency_keys", ["created_at"]),
        ("timestamp_tokens", ["created_at"]),
        ("run_submissions", ["created_at"]),
        ("api_tokens", ["expires_at"]),
        ("api_tokens", ["revoked_at"]),
        ("proposals", ["trial_id"]),
    ):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def _index(table: str, name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        f"ix_{table}_{name}", table, columns, sqlite_where=condition, postgresql_where=condition
    )
