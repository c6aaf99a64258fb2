"""Initial schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BIGINT_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "log_entries",
        sa.Column("id", BIGINT_KEY, autoincrement=True, nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("request_id", sa.String(36)),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_entries"),
        sa.UniqueConstraint("sequence", name="uq_log_entries_sequence"),
    )
    op.create_index("ix_log_entries_organization_id_id", "log_entries", ["organization_id", "id"])
    op.create_index(
        "ix_log_entries_pending",
        "log_entries",
        ["id"],
        sqlite_where=sa.text("sequence IS NULL"),
        postgresql_where=sa.text("sequence IS NULL"),
    )
    op.create_index("ix_log_entries_request_id_id", "log_entries", ["request_id", "id"])
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("signed_at", TIME),
        sa.Column("verifier_key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_head"),
    )
    op.create_table(
        "log_tiles",
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_log_tiles"),
    )
    op.create_index("ix_log_tiles_tree_size", "log_tiles", ["tree_size"])
    op.create_table(
        "organizations",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
        sa.UniqueConstraint("slug", name="uq_organizations_slug"),
    )
    op.create_table(
        "certificates",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("key_uri", sa.Text(), nullable=False),
        sa.Column("key_type", sa.String(20), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("chain", JSON, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("not_after", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_certificates_organization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_certificates"),
        sa.UniqueConstraint("organization_id", "slug", name="uq_certificates_organization_id_slug"),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("repository_url", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_projects_organization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("organization_id", "slug", name="uq_projects_organization_id_slug"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("email", sa.String(320)),
        sa.Column("role", sa.String(40), nullable=False),
        sa.Column("password_hash", sa.String(200)),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_users_organization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    op.create_index("ix_users_organization_id", "users", ["organization_id"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_api_tokens_organization_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_tokens_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        sa.UniqueConstraint("sha256", name="uq_api_tokens_sha256"),
    )
    op.create_table(
        "artifact_configurations",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("xml", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_artifact_configurations_organization_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_artifact_configurations_project_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_artifact_configurations"),
        sa.UniqueConstraint(
            "project_id",
            "slug",
            "version",
            name="uq_artifact_configurations_project_id_slug_version",
        ),
    )
    op.create_table(
        "signing_policies",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("certificate_id", sa.String(36), nullable=False),
        sa.Column("submitters", JSON, nullable=False),
        sa.Column("approvers", JSON, nullable=False),
        sa.Column("quorum", sa.Integer(), nullable=False),
        sa.Column("timestamp_required", sa.Boolean(), nullable=False),
        sa.Column("hash_signing_allowed", sa.Boolean(), nullable=False),
        sa.Column("origin_required", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["certificate_id"], ["certificates.id"], name="fk_signing_policies_certificate_id"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_signing_policies_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_signing_policies_project_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_signing_policies"),
        sa.UniqueConstraint("project_id", "slug", name="uq_signing_policies_project_id_slug"),
    )
    op.create_table(
        "signing_requests",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(30), nullable=False),
        sa.Column("project_id", sa.String(36), nullable=False),
        sa.Column("signing_policy_id", sa.String(36), nullable=False),
        sa.Column("artifact_configuration_id", sa.String(36)),
        sa.Column("certificate_id", sa.String(36), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("policy_hash", sa.String(64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("origin", JSON, nullable=False),
        sa.Column("submitted_by", sa.String(36), nullable=False),
        sa.Column("submitted_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("input", JSON),
        sa.Column("output", JSON),
        sa.Column("retrieval", JSON),
        sa.Column("hash", JSON),
        sa.Column("original_request_id", sa.String(36)),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("advice", sa.Text(), server_default="", nullable=False),
        sa.Column("failed_stage", sa.String(30)),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("plan_hash", sa.String(64), server_default="", nullable=False),
        sa.Column("signatures", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_configuration_id"],
            ["artifact_configurations.id"],
            name="fk_signing_requests_artifact_configuration_id",
        ),
        sa.ForeignKeyConstraint(
            ["certificate_id"], ["certificates.id"], name="fk_signing_requests_certificate_id"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_signing_requests_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["original_request_id"],
            ["signing_requests.id"],
            name="fk_signing_requests_original_request_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_signing_requests_project_id"
        ),
        sa.ForeignKeyConstraint(
            ["signing_policy_id"],
            ["signing_policies.id"],
            name="fk_signing_requests_signing_policy_id",
        ),
        sa.ForeignKeyConstraint(
            ["submitted_by"], ["users.id"], name="fk_signing_requests_submitted_by"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_signing_requests"),
    )
    op.create_index(
        "ix_signing_requests_organization_id_id", "signing_requests", ["organization_id", "id"]
    )
    op.create_index("ix_signing_requests_project_id_id", "signing_requests", ["project_id", "id"])
    op.create_index(
        "ix_signing_requests_unfinished",
        "signing_requests",
        ["state", "updated_at"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_approvals_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_approvals_request_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_approvals_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.UniqueConstraint("request_id", "user_id", name="uq_approvals_request_id_user_id"),
    )
    op.create_table(
        "file_results",
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("format", sa.String(40), nullable=False),
        sa.Column("directive", sa.String(60), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("sha256_before", sa.String(64), nullable=False),
        sa.Column("sha256_after", sa.String(64), nullable=False),
        sa.Column("size_after", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", TIME),
        sa.Column("outputs", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_file_results_request_id"
        ),
        sa.PrimaryKeyConstraint("request_id", "position", name="pk_file_results"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_idempotency_keys_request_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_idempotency_keys_user_id"),
        sa.PrimaryKeyConstraint("user_id", "key", name="pk_idempotency_keys"),
    )
    op.create_table(
        "plans",
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_plans_request_id"
        ),
        sa.PrimaryKeyConstraint("request_id", name="pk_plans"),
    )
    op.create_table(
        "signature_intents",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("certificate_id", sa.String(36), nullable=False),
        sa.Column("mechanism", sa.String(20), nullable=False),
        sa.Column("hash_algorithm", sa.String(20), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("signature", sa.LargeBinary()),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["certificate_id"], ["certificates.id"], name="fk_signature_intents_certificate_id"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_signature_intents_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_signature_intents_request_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_signature_intents"),
    )
    op.create_index(
        "ix_signature_intents_request_id_digest", "signature_intents", ["request_id", "digest"]
    )
    op.create_table(
        "timestamp_tokens",
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("imprint", sa.String(128), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_timestamp_tokens_request_id"
        ),
        sa.PrimaryKeyConstraint("request_id", "imprint", name="pk_timestamp_tokens"),
    )
