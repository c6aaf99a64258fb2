"""Opening the database and its transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from sealwright.db.group_commit import GroupCommit
from sealwright.db.postgresql import PostgresConnection, postgres_engine
from sealwright.db.prepared import Prepared
from sealwright.db.sqlite import SqliteConnection, SqliteEngine
from sealwright.errors import ConfigurationError, ConflictError, UnavailableError

# PostgreSQL, appendix A. Classes: connection, transaction rollback (deadlock, serialization),
# insufficient resources, operator intervention, system error.
_OUTAGE_CLASSES = frozenset({"08", "40", "53", "57", "58"})
#: read_only_sql_transaction (a standby), insufficient_privilege
_DENIED = "42501"
_OUTAGE_STATES = frozenset({"25006", _DENIED})


class Transaction:
    """An open transaction. Handed to the query modules; nobody else looks inside.

    Statements that every request needs are `Prepared`: making one, and having SQLAlchemy run it,
    takes longer than the database takes.
    """

    def __init__(self, connection: PostgresConnection | SqliteConnection) -> None:
        self.connection = connection

    async def one(
        self, statement: sa.Executable | Prepared, **parameters: Any
    ) -> sa.RowMapping | None:
        """The only row of the answer, or None. Its keys are names."""
        if isinstance(statement, Prepared):
            rows = await self.all(statement, **parameters)
            if len(rows) > 1:
                message = "Multiple rows were found when one or none was required"
                raise sa.exc.MultipleResultsFound(message)
            return rows[0] if rows else None
        return (
            (await self.connection.execute(statement, parameters or None)).mappings().one_or_none()
        )

    async def all(
        self, statement: sa.Executable | Prepared, **parameters: Any
    ) -> Sequence[sa.RowMapping]:
        """Every row of the answer. Their keys are names."""
        if isinstance(statement, Prepared):
            form = statement.form(self.connection.dialect, parameters)
            return form.rows(await self.connection.fetch(form, parameters))
        return (await self.connection.execute(statement, parameters or None)).mappings().all()

    async def change(
        self,
        statement: sa.Executable | Prepared,
        rows: Sequence[Mapping[str, Any]] | None = None,
    ) -> int:
        """Run an INSERT, UPDATE or DELETE; how many rows it touched, where it is run once."""
        if isinstance(statement, Prepared):
            rows = rows or [{}]
            form = statement.form(self.connection.dialect, rows[0])
            return await self.connection.change(form, rows)
        result = await self.connection.execute(statement, rows)
        return result.rowcount

    @property
    def is_postgresql(self) -> bool:
        """Whether row locks and array operators exist."""
        return self.connection.dialect.name == "postgresql"


class Database:
    """One database, by URL: ``sqlite:///file`` (WAL) or ``postgresql://...``.

    Every transaction is either committed whole or leaves nothing. Errors of the connection come out
    as UnavailableError: the caller does not know whether a commit that raised one has happened, and
    must find out by reading.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = url
        self._engine = _engine(url, pool_size)
        self._writers = GroupCommit(self._connect_sqlite)

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine below, for its events."""
        return self._engine.sync_engine

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction that may write; commit at the end, roll back on an exception."""
        with _family():
            if isinstance(self._engine, SqliteEngine):
                async with self._writers.transaction() as connection:
                    yield Transaction(connection)
                return
            async with PostgresConnection.of(self._engine) as connection:
                await connection.begin()
                yield Transaction(connection)
                await connection.commit()

    @contextlib.asynccontextmanager
    async def read(self, *, frozen: bool = False) -> AsyncIterator[Transaction]:
        """Open a transaction that only reads.

        Args:
            frozen: every statement sees one state of the database. On PostgreSQL each sees its own
                otherwise; on SQLite it is always so.
        """
        with _family():
            if isinstance(self._engine, SqliteEngine):
                async with self._engine.connect() as connection:
                    connection.command("BEGIN")
                    yield Transaction(connection)
                return
            async with PostgresConnection.of(self._engine) as plain:
                if frozen:
                    await plain.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield Transaction(plain)

    @contextlib.asynccontextmanager
    async def _connect_sqlite(self) -> AsyncIterator[SqliteConnection]:
        assert isinstance(self._engine, SqliteEngine)  # noqa: S101 - its writers alone come here
        with _family():
            async with self._engine.connect() as connection:
                yield connection

    async def check(self) -> None:
        """Raise UnavailableError unless the database answers."""
        async with self.read() as tx:
            await tx.one(sa.select(sa.literal(1)))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


@contextlib.contextmanager
def _family() -> Iterator[None]:
    """Errors of the database as those of our family."""
    try:
        yield
    except (
        OperationalError,
        InterfaceError,
        OSError,
        sa.exc.TimeoutError,
        sqlite3.OperationalError,
    ) as error:
        raise _unavailable(error) from error
    except (
        IntegrityError,
        sqlite3.IntegrityError,
        asyncpg.IntegrityConstraintViolationError,
    ) as error:
        if not _is_duplicate(error):
            raise
        # whoever inserts looks first: what breaks a constraint then was written meanwhile
        message = "The same was written by somebody else at this moment."
        raise ConflictError(message, advice="Read it again and decide anew.") from error
    except DBAPIError as error:
        if error.connection_invalidated or _is_outage(error):
            raise _unavailable(error) from error
        raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # an InterfaceError that is a ValueError tells of the statement's values
        if _is_outage(error) or not isinstance(error, asyncpg.PostgresError | ValueError):
            raise _unavailable(error) from error
        raise


def _is_outage(error: Exception) -> bool:
    """Whether PostgreSQL, not the statement, is at fault: its state or what the role may do."""
    state = _state(error)
    return state[:2] in _OUTAGE_CLASSES or state in _OUTAGE_STATES


def _state(error: Exception) -> str:
    return str(getattr(_of_driver(error), "sqlstate", None) or "")


def _of_driver(error: Exception) -> Any:
    """The driver's error: SQLAlchemy wraps those of statements that it runs."""
    return getattr(error, "orig", None) or error


def _is_duplicate(error: Exception) -> bool:
    """Whether a unique constraint or primary key was hit: PostgreSQL's unique_violation."""
    if _state(error):
        return _state(error) == "23505"
    name = getattr(_of_driver(error), "sqlite_errorname", "")
    return name in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}


def _unavailable(error: Exception) -> UnavailableError:
    kind = type(error).__name__
    if _state(error) == _DENIED:
        return UnavailableError(
            "The role of the database that this process has may not do this.",
            advice="After a migration, run 'sealwright db grant'. Else it is the owner's to do: "
            "see 'Roles' in docs/database.md.",
        )
    message = f"The database does not answer ({kind})."
    return UnavailableError(
        message, advice="Check that it runs and that SEALWRIGHT_DATABASE_URL fits."
    )


def _engine(url: str, pool_size: int) -> AsyncEngine | SqliteEngine:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        path = Path("/" + rest.lstrip("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteEngine(path, pool_size)
    if scheme in ("postgresql", "postgres"):
        return postgres_engine(rest, pool_size)
    message = f"The database URL begins with {scheme!r}."
    raise ConfigurationError(message, advice="Use sqlite:///file or postgresql://user@host/name.")
