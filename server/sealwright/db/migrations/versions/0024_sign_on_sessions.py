"""Sessions that began at an identity provider, to be ended with those there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from sealwright.db.tables import UtcDateTime

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sign_on_sessions",
        sa.Column("token_id", sa.String(36), sa.ForeignKey("api_tokens.id"), primary_key=True),
        sa.Column(
            "provider_id", sa.String(36), sa.ForeignKey("identity_providers.id"), nullable=False
        ),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("sid", sa.String(255), nullable=False),
        sa.Column("id_token", JSON, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_index(
        "ix_sign_on_sessions_provider_id", "sign_on_sessions", ["provider_id", "subject"]
    )
