"""All members of an artifact beside its plan; a trial has values of parameters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("plans", sa.Column("tree", sa.LargeBinary(), nullable=True))
    op.add_column("trials", sa.Column("tree", sa.LargeBinary(), nullable=True))
    op.add_column("trials", sa.Column("parameters", JSON, nullable=False, server_default="{}"))
