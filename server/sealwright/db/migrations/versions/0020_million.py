"""What leaves, requests and old messages are found by among millions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_NO_COMMON_LEAF = "action <> 'signature.intended' AND action <> 'signature.made'"


def upgrade() -> None:
    for columns in (["submitted_by", "state", "id"], ["project_id", "submitted_by", "id"]):
        op.create_index(f"ix_signing_requests_{'_'.join(columns)}", "signing_requests", columns)
    _partial("signing_requests_original_request_id", "signing_requests", ["original_request_id"],
             "original_request_id IS NOT NULL")  # fmt: skip
    _partial("log_entries_organization_id_action_id", "log_entries",
             ["organization_id", "action", "id"], _NO_COMMON_LEAF)  # fmt: skip
    _partial("notifications_done", "notifications", ["created_at"], "due_at IS NULL")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        f"ix_{name}", table, columns, sqlite_where=condition, postgresql_where=condition
    )
