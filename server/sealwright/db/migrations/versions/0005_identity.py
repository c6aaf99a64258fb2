"""Identity: groups, passkeys, single sign-on, one-time secrets; what tokens may do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    _add_columns()
    _add_groups()
    _add_passkeys()
    _add_single_sign_on()


def _add_columns() -> None:
    op.add_column("users", sa.Column("external_id", sa.String(200)))
    for column in (
        sa.Column("scope", sa.String(20), nullable=False, server_default="full"),
        sa.Column("project_id", sa.String(36)),
        sa.Column("idle_seconds", sa.Integer()),
        sa.Column("authenticated_at", TIME),
        sa.Column("address", sa.String(64), nullable=False, server_default=""),
        sa.Column("agent", sa.String(200), nullable=False, server_default=""),
    ):
        op.add_column("api_tokens", column)
    op.create_index("ix_api_tokens_user_id", "api_tokens", ["user_id"])
    for name in ("readers", "configurators"):
        op.add_column("projects", sa.Column(name, JSON, nullable=False, server_default="[]"))
    op.add_column(
        "signing_policies",
        sa.Column("passkey_required", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "signing_policies",
        sa.Column("approval_hours", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column("approvals", sa.Column("assertion", JSON))


def _add_groups() -> None:
    op.create_table(
        "groups",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("external_id", sa.String(200)),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_groups_organization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.UniqueConstraint("organization_id", "name", name="uq_groups_organization_id_name"),
    )
    op.create_table(
        "group_members",
        sa.Column("group_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_group_members_group_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_group_members_user_id"),
        sa.PrimaryKeyConstraint("group_id", "user_id", name="pk_group_members"),
    )
    op.create_index("ix_group_members_user_id", "group_members", ["user_id"])


def _add_passkeys() -> None:
    op.create_table(
        "passkeys",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", TIME),
        sa.Column("removed_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_passkeys_organization_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_passkeys_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_passkeys"),
        sa.UniqueConstraint("credential_id", name="uq_passkeys_credential_id"),
    )
    op.create_index("ix_passkeys_user_id", "passkeys", ["user_id"])
    op.create_table(
        "one_time_secrets",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(30), nullable=False),
        sa.Column("user_id", sa.String(36)),
        sa.Column("data", JSON, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_one_time_secrets_user_id"),
        sa.PrimaryKeyConstraint("sha256", name="pk_one_time_secrets"),
    )
    op.create_index("ix_one_time_secrets_expires_at", "one_time_secrets", ["expires_at"])
    op.create_index("ix_one_time_secrets_user_id", "one_time_secrets", ["user_id"])


def _add_single_sign_on() -> None:
    op.create_table(
        "identity_providers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("client_id", sa.String(500), nullable=False),
        sa.Column("credentials", JSON, nullable=False),
        sa.Column("domains", JSON, nullable=False),
        sa.Column("just_in_time", sa.Boolean(), nullable=False),
        sa.Column("default_role", sa.String(40), nullable=False),
        sa.Column("group_claim", sa.String(100), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_identity_providers_organization_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_identity_providers"),
        sa.UniqueConstraint("slug", name="uq_identity_providers_slug"),
    )
    op.create_table(
        "user_identities",
        sa.Column("provider_id", sa.String(36), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["identity_providers.id"], name="fk_user_identities_provider_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_identities_user_id"),
        sa.PrimaryKeyConstraint("provider_id", "subject", name="pk_user_identities"),
    )
    op.create_index("ix_user_identities_user_id", "user_identities", ["user_id"])
