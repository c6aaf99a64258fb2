"""Who hears what by mail; how long artifacts and details are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, default in (("submitter_mail", "problems"), ("approver_mail", "each")):
        column = sa.Column(name, sa.String(20), server_default=default, nullable=False)
        op.add_column("signing_policies", column)
    for name in ("artifact_days", "details_days"):
        days = sa.Column(name, sa.Integer(), server_default="0", nullable=False)
        op.add_column("organizations", days)
    op.add_column("signing_requests", sa.Column("artifacts_removed_at", sa.DateTime(timezone=True)))
    kept = sa.text("artifacts_removed_at IS NULL AND finished_at IS NOT NULL")
    op.create_index(
        "ix_signing_requests_with_artifacts",
        "signing_requests",
        ["organization_id", "finished_at"],
        sqlite_where=kept,
        postgresql_where=kept,
    )
