"""Names of users and groups are found and sorted without case, by an index."""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_AT_ONCE = 1000


def upgrade() -> None:
    for name in ("users", "groups"):
        folded = sa.Column("name_folded", sa.String(400), nullable=False, server_default="")
        op.add_column(name, folded)
        _fill(sa.table(name, sa.column("id"), sa.column("name"), sa.column("name_folded")))
        op.create_index(f"ix_{name}_name_folded", name, ["organization_id", "name_folded"])


def _fill(table: sa.TableClause) -> None:
    connection, after = op.get_bind(), ""
    some = sa.select(table.c.id, table.c.name).order_by(table.c.id).limit(_AT_ONCE)
    write = (
        table.update()
        .where(table.c.id == sa.bindparam("one"))
        .values(name_folded=sa.bindparam("folded"))
    )
    while rows := connection.execute(some.where(table.c.id > after)).all():
        connection.execute(write, [{"one": id_, "folded": _folded(name)} for id_, name in rows])
        after = rows[-1][0]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
