"""Certificates, their keys and where they come from."""

from __future__ import annotations

import sqlalchemy as sa

from sealwright.db.tables.columns import (
    JSON,
    METADATA,
    UtcDateTime,
    created_at,
    id_column,
    organization_column,
    partial_index,
    reference,
)

certificates = sa.Table(
    "certificates",
    METADATA,
    id_column(),
    organization_column(),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("key_uri", sa.Text, nullable=False),
    sa.Column("key_type", sa.String(20), nullable=False),
    sa.Column("certificate", sa.LargeBinary, nullable=False),
    sa.Column("chain", JSON, nullable=False),  # base64 of DER, leaf's issuer first
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("not_before", UtcDateTime, nullable=False),
    sa.Column("not_after", UtcDateTime, nullable=False),
    created_at(),
    sa.Column("kind", sa.String(20), nullable=False, server_default="x509"),
    sa.Column("source", sa.String(20), nullable=False, server_default="self-signed"),
    sa.Column("exposed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("release", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("csr", sa.LargeBinary),
    sa.Column("replaces_id", sa.String(36)),
    sa.Column("enrolment_id", sa.String(36)),
    sa.Column("revocation", sa.LargeBinary),
    sa.Column("revocation_reason", sa.String(20), nullable=False, server_default=""),
    sa.Column("revoked_at", UtcDateTime),
    sa.UniqueConstraint("organization_id", "slug"),
    # of the renewals of one certificate, one is issued at most; `sha256` is empty until then
    partial_index(
        "uq_certificates_replaces_id_issued", "replaces_id", unique=True, where="sha256 <> ''"
    ),
)

#: What the signer is asked to do with keys. It takes them from here and decides again.
certificate_orders = sa.Table(
    "certificate_orders",
    METADATA,
    id_column(),
    organization_column(),
    sa.Column("operation", sa.String(20), nullable=False),
    reference("certificate_id", "certificates", nullable=True),
    sa.Column("arguments", JSON, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    reference("requested_by", "users", nullable=True),
    created_at(),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("claimed_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("result_id", sa.String(36)),
    sa.Column("code", sa.String(60), nullable=False, server_default=""),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("advice", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_certificate_orders_organization_id_id", "organization_id", "id"),
    sa.Index("ix_certificate_orders_finished_at", "finished_at"),
    partial_index("ix_certificate_orders_open", "created_at", where="finished_at IS NULL"),
)

#: Public keys (X25519) that uploads with secrets are sealed to, one for each running signer.
signer_envelopes = sa.Table(
    "signer_envelopes",
    METADATA,
    sa.Column("token", sa.String(300), primary_key=True),  # what the signer's token is called
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    created_at(),
)

#: EST servers. `credentials`: field -> base64 of `connectors.vault`'s sealed text.
enrolment_servers = sa.Table(
    "enrolment_servers",
    METADATA,
    id_column(),
    organization_column(),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("roots", sa.Text, nullable=False),
    sa.Column("user", sa.String(200), nullable=False),
    sa.Column("credentials", JSON, nullable=False),
    sa.Column("renew_days", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    created_at(),
    sa.UniqueConstraint("organization_id", "slug"),
)

#: How far a pending certificate is with its EST server.
enrolments = sa.Table(
    "enrolments",
    METADATA,
    reference("certificate_id", "certificates", primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime),
    sa.Column("error", sa.Text, nullable=False),
)

#: Which warnings about a certificate's end were given: `days` is one of the model's.
certificate_warnings = sa.Table(
    "certificate_warnings",
    METADATA,
    reference("certificate_id", "certificates", primary_key=True),
    sa.Column("days", sa.Integer, primary_key=True),
    organization_column(),
    created_at(),
)
