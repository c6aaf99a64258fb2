"""What many requests and a long log are found by: a run, a change since, an action, a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_NO_SIGNATURE = (
    "action <> 'signature.intended' AND action <> 'signature.made' "
    "AND action <> 'signature.abandoned'"
)


def upgrade() -> None:
    op.add_column("signing_requests", sa.Column("run_id", sa.String(200)))
    _fill()
    _partial("signing_requests_project_id_run_id", "signing_requests",
             ["project_id", "run_id"], "run_id IS NOT NULL")  # fmt: skip
    for columns in (
        ["project_id", "updated_at", "id"],
        ["project_id", "certificate_id", "id"],
    ):
        op.create_index(f"ix_signing_requests_{'_'.join(columns)}", "signing_requests", columns)
    _partial("log_entries_time_line", "log_entries", ["request_id", "id"], _NO_SIGNATURE)


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        f"ix_{name}", table, columns, sqlite_where=condition, postgresql_where=condition
    )


def _fill() -> None:
    """Copy the runs of verified origins out of them."""
    requests = sa.table(
        "signing_requests", sa.column("run_id", sa.String), sa.column("origin", JSON)
    )
    run = requests.c.origin["run_id"].as_string()
    op.execute(
        requests.update()
        .where(run != "", requests.c.origin["verified"].as_boolean())
        .values(run_id=sa.func.substr(run, 1, 200))
    )
