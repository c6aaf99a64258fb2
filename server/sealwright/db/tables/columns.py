"""Types and columns that tables have in common."""

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


def id_column() -> sa.Column[str]:
    """The primary key of what has one id."""
    return sa.Column("id", sa.String(36), primary_key=True)


def organization_column(*, index: bool = False) -> sa.Column[str]:
    """Whose the row is."""
    return sa.Column(
        "organization_id",
        sa.String(36),
        sa.ForeignKey("organizations.id"),
        nullable=False,
        index=index,
    )


def reference(
    name: str, target: str, *, nullable: bool = False, primary_key: bool = False
) -> sa.Column[str]:
    """A column with the id of a row of another table."""
    key = sa.ForeignKey(f"{target}.id")
    return sa.Column(name, sa.String(36), key, nullable=nullable, primary_key=primary_key)


def created_at() -> sa.Column[dt.datetime]:
    """When the row was made."""
    return sa.Column("created_at", UtcDateTime, nullable=False)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """An index of the rows that are `where`: the same condition for both databases."""
    condition = sa.text(where)
    return sa.Index(
        name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition
    )
