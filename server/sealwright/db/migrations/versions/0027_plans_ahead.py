"""What would be signed, for who decides on it; the warnings of plans beside them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from sealwright.db.tables import UtcDateTime

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("plans", sa.Column("warnings", JSON))
    request = sa.ForeignKey("signing_requests.id")
    op.create_table(
        "plans_ahead",
        sa.Column("request_id", sa.String(36), request, primary_key=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("effect", sa.String(64), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("tree", sa.LargeBinary()),
        sa.Column("warnings", JSON),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_plans_ahead_due_at", "plans_ahead", ["due_at"], sqlite_where=due, postgresql_where=due
    )
    # what waits for approval now is shown too
    op.execute(
        "INSERT INTO plans_ahead "
        "(request_id, attempts, due_at, sha256, effect, plan, created_at) "
        "SELECT id, 0, updated_at, '', '', '', updated_at FROM signing_requests "
        "WHERE state = 'WaitingForApproval' AND finished_at IS NULL AND kind = 'artifact'"
    )
