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
#: The same where None is the database's NULL and not JSON's.
JSON_OR_NULL = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
#: what leaves of single signatures are not: a condition written so is served by its own index
NO_SIGNATURE = (
    "action <> 'signature.intended' AND action <> 'signature.made' "
    "AND action <> 'signature.abandoned'"
)
#: what most leaves are; the index of actions leaves them out
COMMON_LEAVES = frozenset({"signature.intended", "signature.made"})
NO_COMMON_LEAF = "action <> 'signature.intended' AND action <> 'signature.made'"
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
    sa.Column("artifact_days", sa.Integer, nullable=False, server_default="0"),
    sa.Column("details_days", sa.Integer, nullable=False, server_default="0"),
    sa.Column("results_days", sa.Integer, nullable=False, server_default="0"),
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
    sa.Column("external_id", sa.String(200)),
    # `model.user.folded`: what the name is found and sorted by
    sa.Column("name_folded", sa.String(400), nullable=False, server_default=""),
    sa.Column("user_name", sa.String(200)),
    sa.Column("deprovisioned_at", UtcDateTime),
    sa.Index("ix_users_external_id", "organization_id", "external_id"),
    sa.Index("ix_users_user_name", "organization_id", "user_name", unique=True),
    sa.Index("ix_users_name_folded", "organization_id", "name_folded"),
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
    sa.Column("request_id", sa.String(36)),
    sa.Column("scope", sa.String(20), nullable=False, server_default="full"),
    sa.Column("project_id", sa.String(36)),
    sa.Column("idle_seconds", sa.Integer),
    sa.Column("authenticated_at", UtcDateTime),
    sa.Column("address", sa.String(64), nullable=False, server_default=""),
    sa.Column("agent", sa.String(200), nullable=False, server_default=""),
    sa.Index("ix_api_tokens_user_id", "user_id"),
    sa.Index("ix_api_tokens_expires_at", "expires_at"),
    sa.Index("ix_api_tokens_revoked_at", "revoked_at"),
)

groups = sa.Table(
    "groups",
    METADATA,
    _id(),
    _organization(),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("external_id", sa.String(200)),
    _created(),
    sa.Column("name_folded", sa.String(400), nullable=False, server_default=""),
    sa.UniqueConstraint("organization_id", "name"),
    sa.Index("ix_groups_name_folded", "organization_id", "name_folded"),
)

group_members = sa.Table(
    "group_members",
    METADATA,
    sa.Column("group_id", sa.String(36), sa.ForeignKey("groups.id"), primary_key=True),
    sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), primary_key=True),
    sa.Index("ix_group_members_user_id", "user_id"),
)

#: WebAuthn credentials. Removed ones stay, so that old approvals can still be read.
passkeys = sa.Table(
    "passkeys",
    METADATA,
    _id(),
    _organization(),
    _reference("user_id", "users"),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),  # COSE_Key, RFC 9052
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("last_used_at", UtcDateTime),
    sa.Column("removed_at", UtcDateTime),
    _created(),
    sa.Index("ix_passkeys_user_id", "user_id"),
)

# where there are roles, row security does it: see `roles`
for _name, _event in (("passkeys_stay_removed", "UPDATE"), ("passkeys_removed_stay", "DELETE")):
    sa.event.listen(
        passkeys,
        "after_create",
        sa.DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER {_name} BEFORE {_event} ON passkeys WHEN OLD.removed_at IS NOT NULL "
            "BEGIN SELECT RAISE(ABORT, 'a removed passkey stays removed'); END"
        ).execute_if(dialect="sqlite"),
    )

#: Passkeys that the operator told the signer to believe: the signer's own, like certificates.
trust_anchors = sa.Table(
    "trust_anchors",
    METADATA,
    sa.Column("passkey_id", sa.String(36), sa.ForeignKey("passkeys.id"), primary_key=True),
    _organization(index=True),
    _reference("user_id", "users"),
    sa.Column("credential_id", sa.LargeBinary, nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    _created(),
)

#: What those passkeys signed for. Rows are only added.
endorsements = sa.Table(
    "endorsements",
    METADATA,
    sa.Column(
        "organization_id", sa.String(36), sa.ForeignKey("organizations.id"), primary_key=True
    ),
    sa.Column("kind", sa.String(30), primary_key=True),
    sa.Column("subject_id", sa.String(36), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("terms_sha256", sa.String(64), nullable=False),
    sa.Column("approvers", JSON, nullable=False),
    sa.Column("certificate_id", sa.String(36)),
    _reference("user_id", "users"),
    sa.Column("credential_id", sa.LargeBinary, nullable=False),
    sa.Column("client_data", sa.LargeBinary, nullable=False),
    sa.Column("authenticator_data", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("user_handle", sa.LargeBinary, nullable=False),
    _created(),
)

#: What may be used once: invitations, password resets, challenges, states of single sign-on.
one_time_secrets = sa.Table(
    "one_time_secrets",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("purpose", sa.String(30), nullable=False),
    sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id")),
    sa.Column("data", JSON, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    _created(),
    sa.Index("ix_one_time_secrets_user_id", "user_id"),
)

#: Issuers of single sign-on. `credentials`: as in `trusted_build_systems`.
identity_providers = sa.Table(
    "identity_providers",
    METADATA,
    _id(),
    _organization(),
    sa.Column("slug", sa.String(100), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("client_id", sa.String(500), nullable=False),
    sa.Column("credentials", JSON, nullable=False),
    sa.Column("domains", JSON, nullable=False),
    sa.Column("just_in_time", sa.Boolean, nullable=False),
    sa.Column("default_role", sa.String(40), nullable=False),
    sa.Column("group_claim", sa.String(100), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    _created(),
)

#: Who an issuer's subject is here.
user_identities = sa.Table(
    "user_identities",
    METADATA,
    sa.Column(
        "provider_id", sa.String(36), sa.ForeignKey("identity_providers.id"), primary_key=True
    ),
    sa.Column("subject", sa.String(255), primary_key=True),
    _reference("user_id", "users"),
    _created(),
    sa.Index("ix_user_identities_user_id", "user_id"),
)

#: Sessions that began at an identity provider; the ID token is sealed.
sign_on_sessions = sa.Table(
    "sign_on_sessions",
    METADATA,
    sa.Column("token_id", sa.String(36), sa.ForeignKey("api_tokens.id"), primary_key=True),
    _reference("provider_id", "identity_providers"),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("sid", sa.String(255), nullable=False),
    sa.Column("id_token", JSON, nullable=False),
    _created(),
    sa.Index("ix_sign_on_sessions_provider_id", "provider_id", "subject"),
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
    sa.Index(
        "uq_certificates_replaces_id_issued",
        "replaces_id",
        unique=True,
        sqlite_where=sa.text("sha256 <> ''"),
        postgresql_where=sa.text("sha256 <> ''"),
    ),
)

#: What the signer is asked to do with keys. It takes them from here and decides again.
certificate_orders = sa.Table(
    "certificate_orders",
    METADATA,
    _id(),
    _organization(),
    sa.Column("operation", sa.String(20), nullable=False),
    _reference("certificate_id", "certificates", nullable=True),
    sa.Column("arguments", JSON, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _reference("requested_by", "users", nullable=True),
    _created(),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("claimed_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("result_id", sa.String(36)),
    sa.Column("code", sa.String(60), nullable=False, server_default=""),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("advice", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_certificate_orders_organization_id_id", "organization_id", "id"),
    sa.Index("ix_certificate_orders_finished_at", "finished_at"),
    sa.Index(
        "ix_certificate_orders_open",
        "created_at",
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    ),
)

#: Public keys (X25519) that uploads with secrets are sealed to, one for each running signer.
signer_envelopes = sa.Table(
    "signer_envelopes",
    METADATA,
    sa.Column("token", sa.String(300), primary_key=True),  # what the signer's token is called
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    _created(),
)

#: EST servers. `credentials`: field -> base64 of `connectors.vault`'s sealed text.
enrolment_servers = sa.Table(
    "enrolment_servers",
    METADATA,
    _id(),
    _organization(),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("roots", sa.Text, nullable=False),
    sa.Column("user", sa.String(200), nullable=False),
    sa.Column("credentials", JSON, nullable=False),
    sa.Column("renew_days", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    _created(),
    sa.UniqueConstraint("organization_id", "slug"),
)

#: How far a pending certificate is with its EST server.
enrolments = sa.Table(
    "enrolments",
    METADATA,
    sa.Column("certificate_id", sa.String(36), sa.ForeignKey("certificates.id"), primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime),
    sa.Column("error", sa.Text, nullable=False),
)

#: Which warnings about a certificate's end were given: `days` is one of the model's.
certificate_warnings = sa.Table(
    "certificate_warnings",
    METADATA,
    sa.Column("certificate_id", sa.String(36), sa.ForeignKey("certificates.id"), primary_key=True),
    sa.Column("days", sa.Integer, primary_key=True),
    _organization(),
    _created(),
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
    sa.Column("readers", JSON, nullable=False, server_default="[]"),
    sa.Column("configurators", JSON, nullable=False, server_default="[]"),
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
    sa.Column("origin_rules", JSON, nullable=False, server_default="{}"),
    sa.Column("passkey_required", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("malware_scan", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("approval_hours", sa.Integer, nullable=False, server_default="0"),
    sa.Column("submitter_mail", sa.String(20), nullable=False, server_default="problems"),
    sa.Column("approver_mail", sa.String(20), nullable=False, server_default="each"),
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
    sa.Column("approval_until", UtcDateTime),
    sa.Column("plan_hash", sa.String(64), nullable=False, server_default=""),
    sa.Column("signatures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("scan", JSON),
    sa.Column("progress", JSON),
    sa.Column("artifacts_removed_at", UtcDateTime),
    sa.Column("results_removed_at", UtcDateTime),
    # of a verified origin, to find what one run submitted
    sa.Column("run_id", sa.String(200)),
    sa.Index(
        "ix_signing_requests_project_id_run_id",
        "project_id",
        "run_id",
        sqlite_where=sa.text("run_id IS NOT NULL"),
        postgresql_where=sa.text("run_id IS NOT NULL"),
    ),
    sa.Index("ix_signing_requests_project_id_updated_at_id", "project_id", "updated_at", "id"),
    sa.Index(
        "ix_signing_requests_project_id_certificate_id_id", "project_id", "certificate_id", "id"
    ),
    sa.Index(
        "ix_signing_requests_with_artifacts",
        "organization_id",
        "finished_at",
        sqlite_where=sa.text("artifacts_removed_at IS NULL AND finished_at IS NOT NULL"),
        postgresql_where=sa.text("artifacts_removed_at IS NULL AND finished_at IS NOT NULL"),
    ),
    sa.Index(
        "ix_signing_requests_with_results",
        "organization_id",
        "finished_at",
        sqlite_where=sa.text("results_removed_at IS NULL AND finished_at IS NOT NULL"),
        postgresql_where=sa.text("results_removed_at IS NULL AND finished_at IS NOT NULL"),
    ),
    sa.Index("ix_signing_requests_organization_id_id", "organization_id", "id"),
    sa.Index("ix_signing_requests_project_id_id", "project_id", "id"),
    sa.Index("ix_signing_requests_project_id_state_id", "project_id", "state", "id"),
    sa.Index("ix_signing_requests_organization_id_state_id", "organization_id", "state", "id"),
    sa.Index("ix_signing_requests_signing_policy_id_id", "signing_policy_id", "id"),
    sa.Index("ix_signing_requests_submitted_by_id", "submitted_by", "id"),
    sa.Index("ix_signing_requests_submitted_by_state_id", "submitted_by", "state", "id"),
    sa.Index("ix_signing_requests_project_id_submitted_by_id", "project_id", "submitted_by", "id"),
    sa.Index(
        "ix_signing_requests_original_request_id",
        "original_request_id",
        sqlite_where=sa.text("original_request_id IS NOT NULL"),
        postgresql_where=sa.text("original_request_id IS NOT NULL"),
    ),
    # what is unfinished is always a small part, and it is what the reconciler asks for
    sa.Index(
        "ix_signing_requests_unfinished",
        "state",
        "updated_at",
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
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
    sa.Column("request_id", sa.String(36), sa.ForeignKey("signing_requests.id"), primary_key=True),
    sa.Index("ix_request_words_request_id_word", "request_id", "word"),
    sqlite_with_rowid=False,
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    METADATA,
    sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    _reference("request_id", "signing_requests"),
    _created(),
    sa.Index("ix_idempotency_keys_created_at", "created_at"),
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
    sa.Column("assertion", JSON),
    sa.UniqueConstraint("request_id", "user_id"),
)

#: The plan as stored by the worker before it signs: canonical JSON of `signing.plan`, and all
#: members for people, as `model.member_tree` packs them.
plans = sa.Table(
    "plans",
    METADATA,
    sa.Column("request_id", sa.String(36), sa.ForeignKey("signing_requests.id"), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("tree", sa.LargeBinary),
    _created(),
    sa.Column("warnings", JSON),
)

#: Plans for approvers, made while a request waits for them: what would be signed. `due_at`: when a
#: worker is to take it up, or, while one is at it, when its claim ends; NULL: it is made, or will
#: not be. `effect` is what it has in common with the plan that is made for signing.
plans_ahead = sa.Table(
    "plans_ahead",
    METADATA,
    sa.Column("request_id", sa.String(36), sa.ForeignKey("signing_requests.id"), primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime),
    sa.Column("sha256", sa.String(64), nullable=False),  # empty until it is made; as the next
    sa.Column("effect", sa.String(64), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("tree", sa.LargeBinary),
    sa.Column("warnings", JSON),
    _created(),
    sa.Index(
        "ix_plans_ahead_due_at",
        "due_at",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
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
    sa.Column("members", JSON_OR_NULL),
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
    sa.Index("ix_timestamp_tokens_created_at", "created_at"),
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
    # what the leaf is about, to find it by: the body alone is what the tree holds
    sa.Column("actor", sa.String(60)),
    sa.Column("project_id", sa.String(36)),
    sa.Column("signing_policy_id", sa.String(36)),
    sa.Column("certificate_id", sa.String(36)),
    sa.Column("user_id", sa.String(36)),
    sa.Index("ix_log_entries_request_id_id", "request_id", "id"),
    sa.Index(
        "ix_log_entries_time_line",
        "request_id",
        "id",
        sqlite_where=sa.text(NO_SIGNATURE),
        postgresql_where=sa.text(NO_SIGNATURE),
    ),
    sa.Index("ix_log_entries_organization_id_id", "organization_id", "id"),
    sa.Index(
        "ix_log_entries_organization_id_action_id",
        "organization_id",
        "action",
        "id",
        sqlite_where=sa.text(NO_COMMON_LEAF),
        postgresql_where=sa.text(NO_COMMON_LEAF),
    ),
    *(
        sa.Index(
            f"ix_log_entries_{column}_id",
            column,
            "id",
            sqlite_where=sa.text(f"{column} IS NOT NULL"),
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
        for column in ("actor", "project_id", "signing_policy_id", "certificate_id", "user_id")
    ),
    sa.Index(
        "ix_log_entries_pending",
        "id",
        sqlite_where=sa.text("sequence IS NULL"),
        postgresql_where=sa.text("sequence IS NULL"),
    ),
)

#: What a leaf keeps only a salted hash of: addresses, and values before and after a change. Rows
#: may be erased (retention); the log verifies without them.
log_details = sa.Table(
    "log_details",
    METADATA,
    sa.Column(
        "entry_id",
        BIGINT_KEY,
        sa.ForeignKey("log_entries.id"),
        primary_key=True,
        autoincrement=False,
    ),
    _organization(),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # canonical JSON of `transparency.details`
    _created(),
    sa.Index("ix_log_details_organization_id_created_at", "organization_id", "created_at"),
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

#: CI systems whose word counts. `credentials`: field -> base64 of `connectors.vault`'s sealed text.
trusted_build_systems = sa.Table(
    "trusted_build_systems",
    METADATA,
    _id(),
    _organization(),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("base_url", sa.Text, nullable=False),
    sa.Column("web_url", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("settings", JSON, nullable=False),
    sa.Column("credentials", JSON, nullable=False),
    _created(),
    sa.UniqueConstraint("organization_id", "slug"),
)

repository_links = sa.Table(
    "repository_links",
    METADATA,
    _id(),
    _organization(),
    _reference("project_id", "projects"),
    _reference("build_system_id", "trusted_build_systems"),
    sa.Column("repository_id", sa.String(200), nullable=False),
    sa.Column("owner_id", sa.String(40), nullable=False),
    sa.Column("path", sa.String(500), nullable=False),
    sa.Column("installation_id", sa.String(40), nullable=False),
    _created(),
    _reference("submitter_id", "users", nullable=True),
    sa.Column("standing", sa.String(20), nullable=False, server_default="active"),
    sa.Column("standing_at", UtcDateTime),
    sa.UniqueConstraint("project_id", "build_system_id", "repository_id"),
    sa.Index(
        "ix_repository_links_build_system_id_repository_id", "build_system_id", "repository_id"
    ),
)

triggers = sa.Table(
    "triggers",
    METADATA,
    _id(),
    _organization(),
    _reference("project_id", "projects"),
    _reference("link_id", "repository_links"),
    _reference("signing_policy_id", "signing_policies"),
    _reference("artifact_configuration_id", "artifact_configurations", nullable=True),
    _reference("submitter_id", "users"),
    sa.Column("definition", sa.String(500), nullable=False),
    sa.Column("refs", JSON, nullable=False),
    sa.Column("artifact", sa.String(500), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    _created(),
    sa.Index("ix_triggers_link_id", "link_id"),
)

#: Who a CI system's user is here.
remote_identities = sa.Table(
    "remote_identities",
    METADATA,
    _id(),
    _organization(),
    _reference("build_system_id", "trusted_build_systems"),
    sa.Column("remote_user_id", sa.String(40), nullable=False),
    sa.Column("login", sa.String(200), nullable=False),
    _reference("user_id", "users"),
    _created(),
    sa.UniqueConstraint("build_system_id", "remote_user_id"),
)

#: The keys of Apps that are on the token; the signer's own, like certificates.
app_keys = sa.Table(
    "app_keys",
    METADATA,
    sa.Column(
        "build_system_id",
        sa.String(36),
        sa.ForeignKey("trusted_build_systems.id"),
        primary_key=True,
    ),
    _organization(),
    sa.Column("issuer", sa.String(100), nullable=False),
    sa.Column("key_uri", sa.Text, nullable=False),
    _created(),
)

#: What CI systems sent, once each, and what came of it. `outcome` is empty until it was acted on.
webhook_deliveries = sa.Table(
    "webhook_deliveries",
    METADATA,
    sa.Column(
        "build_system_id",
        sa.String(36),
        sa.ForeignKey("trusted_build_systems.id"),
        primary_key=True,
    ),
    sa.Column("delivery_id", sa.String(200), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("action", sa.String(100), nullable=False),
    sa.Column("repository_id", sa.String(200), nullable=False),
    sa.Column("locators", JSON, nullable=False),  # ids to fetch by; never facts
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("repeats", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", UtcDateTime),
    sa.Column("outcome", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_webhook_deliveries_build_system_id_received_at", "build_system_id", "received_at"),
    sa.Index(
        "ix_webhook_deliveries_done",
        "received_at",
        sqlite_where=sa.text("due_at IS NULL"),
        postgresql_where=sa.text("due_at IS NULL"),
    ),
    sa.Index(
        "ix_webhook_deliveries_due",
        "build_system_id",
        "due_at",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
)

#: Ids (``jti``) of identity tokens, each for the one submission that it was used for.
seen_token_ids = sa.Table(
    "seen_token_ids",
    METADATA,
    sa.Column("build_system_id", sa.String(36), primary_key=True),
    sa.Column("token_id", sa.String(64), primary_key=True),  # hex SHA-256 of the jti
    sa.Column("submission", sa.String(64), nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)

#: One row for each (run, attempt, artifact, policy) that was submitted.
run_submissions = sa.Table(
    "run_submissions",
    METADATA,
    sa.Column("submission", sa.String(64), primary_key=True),  # `origin.replay.RunSubmission.key`
    _reference("request_id", "signing_requests"),
    _created(),
    sa.Index("ix_run_submissions_created_at", "created_at"),
)

#: What is to be told to CI systems. Rows of one `subject` are told one after the other.
outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", BIGINT_KEY, primary_key=True, autoincrement=True),
    _organization(),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("subject", sa.String(100), nullable=False),
    _reference("link_id", "repository_links"),
    sa.Column("request_id", sa.String(36)),
    sa.Column("phase", sa.String(20), nullable=False),
    sa.Column("payload", JSON, nullable=False),
    _created(),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", UtcDateTime),  # NULL once it is done with
    sa.Column("done_at", UtcDateTime),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("reference", sa.String(200), nullable=False, server_default=""),
    sa.Column("url", sa.Text, nullable=False, server_default=""),
    sa.Column("build_system_id", sa.String(36), nullable=False, server_default=""),
    sa.Index("ix_outbox_subject_id", "subject", "id"),
    sa.Index("ix_outbox_reference", "reference"),
    sa.Index("ix_outbox_request_id", "request_id"),
    sa.Index(
        "ix_outbox_done",
        "created_at",
        sqlite_where=sa.text("due_at IS NULL"),
        postgresql_where=sa.text("due_at IS NULL"),
    ),
    sa.Index(
        "ix_outbox_waiting",
        "build_system_id",
        "id",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
)

#: Addresses that are told how a project's requests end. `secrets` are sealed (`connectors.vault`).
outgoing_webhooks = sa.Table(
    "outgoing_webhooks",
    METADATA,
    _id(),
    _organization(),
    _reference("project_id", "projects"),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("states", JSON, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("secrets", JSON, nullable=False),
    _created(),
    sa.Index("ix_outgoing_webhooks_project_id", "project_id"),
)

#: Messages to webhooks and people; a webhook's rows are its delivery log.
notifications = sa.Table(
    "notifications",
    METADATA,
    sa.Column("id", BIGINT_KEY, primary_key=True, autoincrement=True),
    _organization(),
    sa.Column("channel", sa.String(20), nullable=False),
    sa.Column("target_id", sa.String(36), nullable=False),
    sa.Column("event", sa.String(60), nullable=False),
    sa.Column("request_id", sa.String(36)),
    sa.Column("key", sa.String(200), unique=True),
    sa.Column("payload", JSON, nullable=False),
    _created(),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", UtcDateTime),  # NULL once it is done with
    sa.Column("done_at", UtcDateTime),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("status", sa.Integer),
    sa.Column("milliseconds", sa.Integer),
    sa.Index("ix_notifications_target_id_id", "target_id", "id"),
    sa.Index(
        "ix_notifications_done",
        "created_at",
        sqlite_where=sa.text("due_at IS NULL"),
        postgresql_where=sa.text("due_at IS NULL"),
    ),
    sa.Index(
        "ix_notifications_waiting",
        "channel",
        "target_id",
        "due_at",
        "id",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
)

#: Artifact configurations applied to a sample, to see what would be signed.
trials = sa.Table(
    "trials",
    METADATA,
    _id(),
    _organization(),
    _reference("project_id", "projects"),
    _reference("requested_by", "users"),
    _created(),
    sa.Column("xml", sa.Text, nullable=False),
    sa.Column("sample", JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("tree", sa.LargeBinary),
    sa.Column("parameters", JSON, nullable=False, server_default="{}"),
    sa.Column("fault", sa.Text, nullable=False),
    sa.Column("advice", sa.Text, nullable=False),
    sa.Column("where", sa.Text, nullable=False),
    sa.Index(
        "ix_trials_unfinished",
        "id",
        sqlite_where=sa.text("state IN ('waiting', 'working')"),
        postgresql_where=sa.text("state IN ('waiting', 'working')"),
    ),
)

#: Artifact configurations that somebody proposes who may not add one.
proposals = sa.Table(
    "proposals",
    METADATA,
    _id(),
    _organization(),
    _reference("project_id", "projects"),
    sa.Column("slug", sa.String(100), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("xml", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    _reference("trial_id", "trials", nullable=True),
    _reference("proposed_by", "users"),
    _created(),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("word", sa.Text, nullable=False),
    _reference("decided_by", "users", nullable=True),
    sa.Column("decided_at", UtcDateTime),
    _reference("configuration_id", "artifact_configurations", nullable=True),
    sa.Index("ix_proposals_trial_id", "trial_id"),
    sa.Index("ix_proposals_project_id_id", "project_id", "id"),
    sa.Index("ix_proposals_organization_id_id", "organization_id", "id"),
)
