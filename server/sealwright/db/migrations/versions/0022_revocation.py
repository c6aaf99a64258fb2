"""OpenPGP keys that have revoked themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sealwright.db.tables import UtcDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("certificates", sa.Column("revocation", sa.LargeBinary))
    op.add_column(
        "certificates",
        sa.Column("revocation_reason", sa.String(20), nullable=False, server_default=""),
    )
    op.add_column("certificates", sa.Column("revoked_at", UtcDateTime))
