"""Organizations, users, and how they prove who they are."""

from __future__ import annotations

import sqlalchemy as sa

from sealwright.db.tables.columns import (
    JSON,
    METADATA,
    UtcDateTime,
    created_at,
    id_column,
    organization_column,
    reference,
)

organizations = sa.Table(
    "organizations",
    METADATA,
    id_column(),
    sa.Column("slug", sa.String(100), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    created_at(),
    sa.Column("artifact_days", sa.Integer, nullable=False, server_default="0"),
    sa.Column("details_days", sa.Integer, nullable=False, server_default="0"),
    sa.Column("results_days", sa.Integer, nullable=False, server_default="0"),
)

users = sa.Table(
    "users",
    METADATA,
    id_column(),
    organization_column(index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("email", sa.String(320), unique=True),
    sa.Column("role", sa.String(40), nullable=False),
    sa.Column("password_hash", sa.String(200)),
    sa.Column("active", sa.Boolean, nullable=False),
    created_at(),
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
    id_column(),
    organization_column(),
    reference("user_id", "users"),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    created_at(),
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
    id_column(),
    organization_column(),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("external_id", sa.String(200)),
    created_at(),
    sa.Column("name_folded", sa.String(400), nullable=False, server_default=""),
    sa.UniqueConstraint("organization_id", "name"),
    sa.Index("ix_groups_name_folded", "organization_id", "name_folded"),
)

group_members = sa.Table(
    "group_members",
    METADATA,
    reference("group_id", "groups", primary_key=True),
    reference("user_id", "users", primary_key=True),
    sa.Index("ix_group_members_user_id", "user_id"),
)

#: WebAuthn credentials. Removed ones stay, so that old approvals can still be read.
passkeys = sa.Table(
    "passkeys",
    METADATA,
    id_column(),
    organization_column(),
    reference("user_id", "users"),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),  # COSE_Key, RFC 9052
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("last_used_at", UtcDateTime),
    sa.Column("removed_at", UtcDateTime),
    created_at(),
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
    reference("passkey_id", "passkeys", primary_key=True),
    organization_column(index=True),
    reference("user_id", "users"),
    sa.Column("credential_id", sa.LargeBinary, nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    created_at(),
)

#: What those passkeys signed for. Rows are only added.
endorsements = sa.Table(
    "endorsements",
    METADATA,
    reference("organization_id", "organizations", primary_key=True),
    sa.Column("kind", sa.String(30), primary_key=True),
    sa.Column("subject_id", sa.String(36), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("terms_sha256", sa.String(64), nullable=False),
    sa.Column("approvers", JSON, nullable=False),
    sa.Column("certificate_id", sa.String(36)),
    reference("user_id", "users"),
    sa.Column("credential_id", sa.LargeBinary, nullable=False),
    sa.Column("client_data", sa.LargeBinary, nullable=False),
    sa.Column("authenticator_data", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("user_handle", sa.LargeBinary, nullable=False),
    created_at(),
)

#: What may be used once: invitations, password resets, challenges, states of single sign-on.
one_time_secrets = sa.Table(
    "one_time_secrets",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("purpose", sa.String(30), nullable=False),
    reference("user_id", "users", nullable=True),
    sa.Column("data", JSON, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    created_at(),
    sa.Index("ix_one_time_secrets_user_id", "user_id"),
)

#: Issuers of single sign-on. `credentials`: as in `trusted_build_systems`.
identity_providers = sa.Table(
    "identity_providers",
    METADATA,
    id_column(),
    organization_column(),
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
    created_at(),
)

#: Who an issuer's subject is here.
user_identities = sa.Table(
    "user_identities",
    METADATA,
    reference("provider_id", "identity_providers", primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    reference("user_id", "users"),
    created_at(),
    sa.Index("ix_user_identities_user_id", "user_id"),
)

#: Sessions that began at an identity provider; the ID token is sealed.
sign_on_sessions = sa.Table(
    "sign_on_sessions",
    METADATA,
    reference("token_id", "api_tokens", primary_key=True),
    reference("provider_id", "identity_providers"),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("sid", sa.String(255), nullable=False),
    sa.Column("id_token", JSON, nullable=False),
    created_at(),
    sa.Index("ix_sign_on_sessions_provider_id", "provider_id", "subject"),
)
