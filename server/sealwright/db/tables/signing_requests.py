"""Signing requests and what belongs to one."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from sealwright.db.tables.columns import (
    JSON,
    JSON_OR_NULL,
    METADATA,
    UtcDateTime,
    created_at,
    id_column,
    organization_column,
    partial_index,
    reference,
)

signing_requests = sa.Table(
    "signing_requests",
    METADATA,
    id_column(),
    organization_column(),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("state", sa.String(30), nullable=False),
    reference("project_id", "projects"),
    reference("signing_policy_id", "signing_policies"),
    reference("artifact_configuration_id", "artifact_configurations", nullable=True),
    reference("certificate_id", "certificates"),
    sa.Column("snapshot", sa.Text, nullable=False),
    sa.Column("policy_hash", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("parameters", JSON, nullable=False),
    sa.Column("origin", JSON, nullable=False),
    reference("submitted_by", "users"),
    sa.Column("submitted_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("input", JSON),
    sa.Column("output", JSON),
    sa.Column("retrieval", JSON),
    sa.Column("hash", JSON),
    reference("original_request_id", "signing_requests", nullable=True),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("advice", sa.Text, nullable=False, server_default=""),
    sa.Column("failed_stage", sa.String(30)),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("approval_until", UtcDateTime),
    sa.Column("plan_hash", sa.String(64), nullable=False, server_default=""),
    sa.Column("signatures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("scan", JSON),
    sa.Column("progress", JSON),
    sa.Column("artifacts_removed_at", UtcDateTime),
    sa.Column("results_removed_at", UtcDateTime),
    # of a verified origin, to find what one run submitted
    sa.Column("run_id", sa.String(200)),
    partial_index(
        "ix_signing_requests_project_id_run_id", "project_id", "run_id", where="run_id IS NOT NULL"
    ),
    sa.Index("ix_signing_requests_project_id_updated_at_id", "project_id", "updated_at", "id"),
    sa.Index(
        "ix_signing_requests_project_id_certificate_id_id", "project_id", "certificate_id", "id"
    ),
    partial_index(
        "ix_signing_requests_with_artifacts",
        "organization_id",
        "finished_at",
        where="artifacts_removed_at IS NULL AND finished_at IS NOT NULL",
    ),
    partial_index(
        "ix_signing_requests_with_results",
        "organization_id",
        "finished_at",
        where="results_removed_at IS NULL AND finished_at IS NOT NULL",
    ),
    sa.Index("ix_signing_requests_organization_id_id", "organization_id", "id"),
    sa.Index("ix_signing_requests_project_id_id", "project_id", "id"),
    sa.Index("ix_signing_requests_project_id_state_id", "project_id", "state", "id"),
    sa.Index("ix_signing_requests_organization_id_state_id", "organization_id", "state", "id"),
    sa.Index("ix_signing_requests_signing_policy_id_id", "signing_policy_id", "id"),
    sa.Index("ix_signing_requests_submitted_by_id", "submitted_by", "id"),
    sa.Index("ix_signing_requests_submitted_by_state_id", "submitted_by", "state", "id"),
    sa.Index("ix_signing_requests_project_id_submitted_by_id", "project_id", "submitted_by", "id"),
    partial_index(
        "ix_signing_requests_original_request_id",
        "original_request_id",
        where="original_request_id IS NOT NULL",
    ),
    # what is unfinished is always a small part, and it is what the reconciler asks for
    partial_index(
        "ix_signing_requests_unfinished", "state", "updated_at", where="finished_at IS NULL"
    ),
)

#: What requests are found by. Compared byte by byte, so that a word's beginning is a range.
request_words = sa.Table(
    "request_words",
    METADATA,
    sa.Column("organization_id", sa.String(36), primary_key=True),
    sa.Column(
        "word",
        sa.String(64).with_variant(postgresql.VARCHAR(64, collation="C"), "postgresql"),
        primary_key=True,
    ),
    reference("request_id", "signing_requests", primary_key=True),
    sa.Index("ix_request_words_request_id_word", "request_id", "word"),
    sqlite_with_rowid=False,
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    METADATA,
    reference("user_id", "users", primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    reference("request_id", "signing_requests"),
    created_at(),
    sa.Index("ix_idempotency_keys_created_at", "created_at"),
)

approvals = sa.Table(
    "approvals",
    METADATA,
    id_column(),
    organization_column(),
    reference("request_id", "signing_requests"),
    reference("user_id", "users"),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.Column("assertion", JSON),
    sa.UniqueConstraint("request_id", "user_id"),
)

#: The plan as stored by the worker before it signs: canonical JSON of `signing.plan`, and all
#: members for people, as `model.member_tree` packs them.
plans = sa.Table(
    "plans",
    METADATA,
    reference("request_id", "signing_requests", primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("tree", sa.LargeBinary),
    created_at(),
    sa.Column("warnings", JSON),
)

#: Plans for approvers, made while a request waits for them: what would be signed. `due_at`: when a
#: worker is to take it up, or, while one is at it, when its claim ends; NULL: it is made, or will
#: not be. `effect` is what it has in common with the plan that is made for signing.
plans_ahead = sa.Table(
    "plans_ahead",
    METADATA,
    reference("request_id", "signing_requests", primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime),
    sa.Column("sha256", sa.String(64), nullable=False),  # empty until it is made; as the next
    sa.Column("effect", sa.String(64), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("tree", sa.LargeBinary),
    sa.Column("warnings", JSON),
    created_at(),
    partial_index("ix_plans_ahead_due_at", "due_at", where="due_at IS NOT NULL"),
)

file_results = sa.Table(
    "file_results",
    METADATA,
    reference("request_id", "signing_requests", primary_key=True),
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
    sa.Column("members", JSON_OR_NULL),
)

#: One row a signature that the token was or may have been asked for. Written by the signer alone.
signature_intents = sa.Table(
    "signature_intents",
    METADATA,
    id_column(),
    organization_column(),
    reference("request_id", "signing_requests"),
    reference("certificate_id", "certificates"),
    sa.Column("mechanism", sa.String(20), nullable=False),
    sa.Column("hash_algorithm", sa.String(20), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),  # intended, made, abandoned
    sa.Column("signature", sa.LargeBinary),
    created_at(),
    sa.Index("ix_signature_intents_request_id_digest", "request_id", "digest"),
)

#: Time stamp tokens already fetched for a request, so that a restart gives the same bytes.
timestamp_tokens = sa.Table(
    "timestamp_tokens",
    METADATA,
    reference("request_id", "signing_requests", primary_key=True),
    sa.Column("imprint", sa.String(128), primary_key=True),  # hex SHA-256 of the signature
    sa.Column("token", sa.LargeBinary, nullable=False),
    created_at(),
    sa.Index("ix_timestamp_tokens_created_at", "created_at"),
)
