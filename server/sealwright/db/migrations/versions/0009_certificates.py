"""Certificates: requests, imports, renewals, restrictions, OpenPGP keys; orders for the signer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    for column in (
        sa.Column("kind", sa.String(20), nullable=False, server_default="x509"),
        sa.Column("source", sa.String(20), nullable=False, server_default="self-signed"),
        sa.Column("exposed", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("release", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("csr", sa.LargeBinary()),
        sa.Column("replaces_id", sa.String(36)),
        sa.Column("enrolment_id", sa.String(36)),
    ):
        op.add_column("certificates", column)
    op.create_index(
        "uq_certificates_replaces_id_issued",
        "certificates",
        ["replaces_id"],
        unique=True,
        sqlite_where=sa.text("sha256 <> ''"),
        postgresql_where=sa.text("sha256 <> ''"),
    )
    op.create_table(
        "certificate_orders",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("operation", sa.String(20), nullable=False),
        sa.Column("certificate_id", sa.String(36), nullable=True),
        sa.Column("arguments", JSON, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("requested_by", sa.String(36), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("claimed_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("result_id", sa.String(36), nullable=True),
        sa.Column("code", sa.String(60), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("advice", sa.Text(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(
            ["certificate_id"], ["certificates.id"], name="fk_certificate_orders_certificate_id"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_certificate_orders_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["requested_by"], ["users.id"], name="fk_certificate_orders_requested_by"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_certificate_orders"),
    )
    op.create_index(
        "ix_certificate_orders_organization_id_id", "certificate_orders", ["organization_id", "id"]
    )
    op.create_index(
        "ix_certificate_orders_open",
        "certificate_orders",
        ["created_at"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "signer_envelopes",
        sa.Column("token", sa.String(300), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_signer_envelopes"),
    )
    op.create_table(
        "certificate_warnings",
        sa.Column("certificate_id", sa.String(36), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["certificate_id"], ["certificates.id"], name="fk_certificate_warnings_certificate_id"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_certificate_warnings_organization_id",
        ),
        sa.PrimaryKeyConstraint("certificate_id", "days", name="pk_certificate_warnings"),
    )
