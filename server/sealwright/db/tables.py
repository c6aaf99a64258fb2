"""All tables. `migrations/` holds how they came to be; a test compares the two."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class UtcDateTime(sa.TypeDecorator[dt.datetime]):
    """An aware time in UTC; SQLite keeps none of the zone, so it is put back on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, _dialect: Dialect) -> Any:
        """Refuse naive times: they are bugs."""
        if value is not None and value.tzinfo is None:
            message = "a naive time was given to the database"
            raise ValueError(message)
        return value.astimezone(dt.UTC) if value else None

    def process_result_value(self, value: Any, _dialect: Dialect) -> dt.datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        found: dt.datetime = value
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)


JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BIGINT_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(36), primary_key=True)


def _organization(*, index: bool = False) -> sa.Column[str]:
    return sa.Column(
        "organization_id",
        sa.String(36),
        sa.ForeignKey("organizations.id"),
        nullable=False,
        index=index,
    )


def _reference(name: str, target: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(36), sa.ForeignKey(f"{target}.id"), nullable=nullable)


def _created() -> sa.Column[dt.datetime]:
    return sa.Column("created_at", UtcDateTime, nullable=False)


organizations = sa.Table(
    "organizations",
    METADATA,
    _id(),
    sa.Column("slug", sa.String(100), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    _created(),
)

users = sa.Table(
    "users",
    METADATA,
    _id(),
    _organization(index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("email", sa.String(320), unique=True),
    sa.Column("role", sa.String(40), nullable=False),
    sa.Column("password_hash", sa.String(200)),
    sa.Column("active", sa.Boolean, nullable=False),
    _created(),
)

api_tokens = sa.Table(
    "api_tokens",
    METADATA,
    _id(),
    _organization(),
    _reference("user_id", "users"),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    _created(),
)

certificates = sa.Table(
    "certificates",
    METADATA,
    _id(),
    _organization(),
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
    _created(),
    sa.UniqueConstraint("organization_id", "slug"),
)

projects = sa.Table(
    "projects",
    METADATA,
    _id(),
    _organization(),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("repository_url", sa.Text, nullable=False),
    _created(),
    sa.UniqueConstraint("organization_id", "slug"),
)

artifact_configurations = sa.Table(
    "artifact_configurations",
    METADATA,
    _id(),
    _organization(),
    _reference("project_id", "projects"),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("xml", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False),
    _created(),
    sa.UniqueConstraint("project_id", "slug", "version"),
)

signing_policies = sa.Table(
    "signing_policies",
    METADATA,
    _id(),
    _organization(),
    _reference("project_id", "projects"),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    _reference("certificate_id", "certificates"),
    sa.Column("submitters", JSON, nullable=False),
    sa.Column("approvers", JSON, nullable=False),
    sa.Column("quorum", sa.Integer, nullable=False),
    sa.Column("timestamp_required", sa.Boolean, nullable=False),
    sa.Column("hash_signing_allowed", sa.Boolean, nullable=False),
    sa.Column("origin_required", sa.Boolean, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    _created(),
    sa.UniqueConstraint("project_id", "slug"),
)

signing_requests = sa.Table(
    "signing_requests",
    METADATA,
    _id(),
    _organization(),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("state", sa.String(30), nullable=False),
    _reference("project_id", "projects"),
    _reference("signing_policy_id", "signing_policies"),
    _reference("artifact_configuration_id", "artifact_configurations", nullable=True),
    _reference("certificate_id", "certificates"),
    sa.Column("snapshot", sa.Text, nullable=False),
    sa.Column("policy_hash", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("parameters", JSON, nullable=False),
    sa.Column("origin", JSON, nullable=False),
    _reference("submitted_by", "users"),
    sa.Column("submitted_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("input", JSON),
    sa.Column("output", JSON),
    sa.Column("retrieval", JSON),
    sa.Column("hash", JSON),
    _reference("original_request_id", "signing_requests", nullable=True),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("advice", sa.Text, nullable=False, server_default=""),
    sa.Column("failed_stage", sa.String(30)),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("plan_hash", sa.String(64), nullable=False, server_default=""),
    sa.Column("signatures", sa.Integer, nullable=False, server_default="0"),
    sa.Index("ix_signing_requests_organization_id_id", "organization_id", "id"),
    sa.Index("ix_signing_requests_project_id_id", "project_id", "id"),
    # what is unfinished is always a small part, and it is what the reconciler asks for
    sa.Index(
        "ix_signing_requests_unfinished",
        "state",
        "updated_at",
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    ),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    METADATA,
    sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    _reference("request_id", "signing_requests"),
    _created(),
)

approvals = sa.Table(
    "approvals",
    METADATA,
    _id(),
    _organization(),
    _reference("request_id", "signing_requests"),
    _reference("user_id", "users"),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("request_id", "user_id"),
)

#: The plan as stored by the worker before it signs: canonical JSON of `signing.plan`.
plans = sa.Table(
    "plans",
    METADATA,
    sa.Column("request_id", sa.String(36), sa.ForeignKey("signing_requests.id"), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    _created(),
)

file_results = sa.Table(
    "file_results",
    METADATA,
    sa.Column("request_id", sa.String(36), sa.ForeignKey("signing_requests.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("format", sa.String(40), nullable=False),
    sa.Column("directive", sa.String(60), nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("sha256_before", sa.String(64), nullable=False),
    sa.Column("sha256_after", sa.String(64), nullable=False),
    sa.Column("size_after", sa.BigInteger, nullable=False),
    sa.Column("timestamp", UtcDateTime),
    sa.Column("outputs", JSON, nullable=False),
)

#: One row a signature that the token was or may have been asked for. Written by the signer alone.
signature_intents = sa.Table(
    "signature_intents",
    METADATA,
    _id(),
    _organization(),
    _reference("request_id", "signing_requests"),
    _reference("certificate_id", "certificates"),
    sa.Column("mechanism", sa.String(20), nullable=False),
    sa.Column("hash_algorithm", sa.String(20), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),  # intended, made, abandoned
    sa.Column("signature", sa.LargeBinary),
    _created(),
    sa.Index("ix_signature_intents_request_id_digest", "request_id", "digest"),
)

#: Time stamp tokens already fetched for a request, so that a restart gives the same bytes.
timestamp_tokens = sa.Table(
    "timestamp_tokens",
    METADATA,
    sa.Column("request_id", sa.String(36), sa.ForeignKey("signing_requests.id"), primary_key=True),
    sa.Column("imprint", sa.String(128), primary_key=True),  # hex SHA-256 of the signature
    sa.Column("token", sa.LargeBinary, nullable=False),
    _created(),
)

#: Leaves of the log. `sequence` and `leaf` are given by the sequencer; `body` never changes.
log_entries = sa.Table(
    "log_entries",
    METADATA,
    sa.Column("id", BIGINT_KEY, primary_key=True, autoincrement=True),
    sa.Column("organization_id", sa.String(36), nullable=False),
    sa.Column("request_id", sa.String(36)),
    sa.Column("action", sa.String(60), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, unique=True),
    _created(),
    sa.Index("ix_log_entries_request_id_id", "request_id", "id"),
    sa.Index("ix_log_entries_organization_id_id", "organization_id", "id"),
    sa.Index(
        "ix_log_entries_pending",
        "id",
        sqlite_where=sa.text("sequence IS NULL"),
        postgresql_where=sa.text("sequence IS NULL"),
    ),
)

#: One row: the head of the tree. Moves by compare-and-set on `size`.
log_head = sa.Table(
    "log_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("head", sa.Text, nullable=False),  # transparency's own serialization
    sa.Column("checkpoint", sa.Text, nullable=False),
    sa.Column("signed_at", UtcDateTime),
    sa.Column("verifier_key", sa.Text, nullable=False),
)

#: Tiles and entry bundles by their C2SP tlog-tiles path.
log_tiles = sa.Table(
    "log_tiles",
    METADATA,
    sa.Column("path", sa.String(200), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("tree_size", sa.BigInteger, nullable=False, index=True),
)
