"""Opening the database and its transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sealwright.errors import ConfigurationError, ConflictError, UnavailableError

SQLITE_BUSY_SECONDS = 30
_BUSY_PAUSE = 0.001  # seconds; a short transaction takes about as long

# PostgreSQL, appendix A. Classes: connection, transaction rollback (deadlock, serialization),
# insufficient resources, operator intervention, system error.
_OUTAGE_CLASSES = frozenset({"08", "40", "53", "57", "58"})
#: read_only_sql_transaction (a standby), insufficient_privilege
_OUTAGE_STATES = frozenset({"25006", "42501"})


class Transaction:
    """An open transaction. Handed to the query modules; nobody else looks inside."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def one(self, statement: sa.Executable) -> sa.RowMapping | None:
        """The only row of the answer, or None."""
        return (await self.connection.execute(statement)).mappings().one_or_none()

    async def all(self, statement: sa.Executable) -> Sequence[sa.RowMapping]:
        """Every row of the answer."""
        return (await self.connection.execute(statement)).mappings().all()

    async def change(
        self, statement: sa.Executable, rows: Sequence[Mapping[str, Any]] | None = None
    ) -> int:
        """Run an INSERT, UPDATE or DELETE; how many rows it touched."""
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
        self.engine = _engine(url, pool_size)
        # writers of one process queue here for SQLite's one lock, rather than all ask for it
        alone = self.engine.dialect.name == "sqlite"
        self._writers = asyncio.Lock() if alone else contextlib.nullcontext()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction that may write; commit at the end, roll back on an exception."""
        async with self._writers, self._connection() as connection:
            if connection.dialect.name == "sqlite":
                await _begin_writing(connection)
            try:
                yield Transaction(connection)
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """Open a transaction that only reads, from one consistent state on SQLite."""
        async with self._connection() as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN")
            try:
                yield Transaction(connection)
            finally:
                await connection.rollback()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self.engine.connect() as connection:
                yield connection
        except (OperationalError, InterfaceError, OSError, sa.exc.TimeoutError) as error:
            raise _unavailable(error) from error
        except IntegrityError as error:
            if not _is_duplicate(error):
                raise
            # whoever inserts looks first: what breaks a constraint then was written meanwhile
            message = "The same was written by somebody else at this moment."
            raise ConflictError(message, advice="Read it again and decide anew.") from error
        except DBAPIError as error:
            if error.connection_invalidated or _is_outage(error):
                raise _unavailable(error) from error
            raise

    async def check(self) -> None:
        """Raise UnavailableError unless the database answers."""
        async with self.read() as tx:
            await tx.one(sa.select(sa.literal(1)))

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


async def _begin_writing(connection: AsyncConnection) -> None:
    """Take SQLite's write lock at once: an upgrade in the middle fails without waiting.

    SQLite's own waiting sleeps longer and longer, up to 0.1 s at a time, while others come and get
    the lock: many short transactions of several processes would starve some. This asks often.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + SQLITE_BUSY_SECONDS
    await connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                is_busy = getattr(error.orig, "sqlite_errorname", "") == "SQLITE_BUSY"
                if not is_busy or loop.time() > end:
                    raise
                await asyncio.sleep(_BUSY_PAUSE)
            else:
                return
    finally:
        await connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * SQLITE_BUSY_SECONDS}")


def _is_outage(error: DBAPIError) -> bool:
    """Whether PostgreSQL, not the statement, is at fault: its state or what the role may do."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return state[:2] in _OUTAGE_CLASSES or state in _OUTAGE_STATES


def _is_duplicate(error: IntegrityError) -> bool:
    """Whether a unique constraint or primary key was hit: PostgreSQL's unique_violation."""
    if getattr(error.orig, "sqlstate", None) is not None:
        return str(error.orig.sqlstate) == "23505"  # type: ignore[union-attr]
    name = getattr(error.orig, "sqlite_errorname", "")
    return name in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}


def _unavailable(error: Exception) -> UnavailableError:
    kind = type(error).__name__
    message = f"The database does not answer ({kind})."
    return UnavailableError(
        message, advice="Check that it runs and that SEALWRIGHT_DATABASE_URL fits."
    )


def _engine(url: str, pool_size: int) -> AsyncEngine:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        path = Path("/" + rest.lstrip("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{path}",
            pool_size=pool_size,
            max_overflow=0,
            connect_args={"timeout": SQLITE_BUSY_SECONDS},
        )
        sa.event.listen(engine.sync_engine, "connect", _configure_sqlite)
        return engine
    if scheme in ("postgresql", "postgres"):
        return create_async_engine(
            f"postgresql+asyncpg://{rest}",
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            pool_timeout=10,
            connect_args={"timeout": 10},
        )
    message = f"The database URL begins with {scheme!r}."
    raise ConfigurationError(message, advice="Use sqlite:///file or postgresql://user@host/name.")


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # begin and commit are ours (see transaction), not the driver's
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL, not NORMAL: an intent must be on the disk before the token is used
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
