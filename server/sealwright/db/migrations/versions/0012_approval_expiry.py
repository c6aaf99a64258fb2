"""Until when a signing request waits for approval."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("signing_requests", sa.Column("approval_until", sa.DateTime(timezone=True)))
