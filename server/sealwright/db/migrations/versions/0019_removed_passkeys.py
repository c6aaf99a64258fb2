"""A passkey that was removed stays removed: by triggers where there are no roles."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_STAYS = "BEGIN SELECT RAISE(ABORT, 'a removed passkey stays removed'); END"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return  # row security: see `sealwright.db.roles`
    op.execute(
        "CREATE TRIGGER passkeys_stay_removed BEFORE UPDATE ON passkeys "
        f"WHEN OLD.removed_at IS NOT NULL {_STAYS}"
    )
    op.execute(
        "CREATE TRIGGER passkeys_removed_stay BEFORE DELETE ON passkeys "
        f"WHEN OLD.removed_at IS NOT NULL {_STAYS}"
    )
