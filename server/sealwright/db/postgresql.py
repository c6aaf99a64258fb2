"""PostgreSQL's connections: transactions and prepared statements by the driver itself.

SQLAlchemy keeps the pool and runs all else, on the same connection and within the same transaction:
it believes that every statement commits by itself (``AUTOCOMMIT``), so that begin and end are ours.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sealwright.db.prepared import Form

T = TypeVar("T")

_RETURNED = "returned"  # in a pooled connection's notes: when, by the monotonic clock
_IDLE_SECONDS = 1.0
_KEPT_STATEMENTS = 256  # prepared ones, for each connection


def postgres_engine(place: str, pool_size: int) -> AsyncEngine:
    """The connections to one database.

    Args:
        place: its URL after ``postgresql://``.
        pool_size: connections that are kept; as many again come and go.
    """
    engine = create_async_engine(
        f"postgresql+asyncpg://{place}",
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": 10, "statement_cache_size": _KEPT_STATEMENTS},
    )
    _look_at_idle_ones(engine.sync_engine)
    return engine


def _look_at_idle_ones(engine: sa.Engine) -> None:
    """Ask a connection whether it is alive before it is used again, unless it was used just now:
    asking each time costs a round trip for every transaction."""

    def returned(_connection: Any, record: Any) -> None:
        record.info[_RETURNED] = time.monotonic()

    def taken(connection: Any, record: Any, _proxy: Any) -> None:
        if record.driver_connection.is_closed():
            raise sa.exc.InvalidatePoolError
        idle_since = record.info.get(_RETURNED)
        if idle_since is None or time.monotonic() - idle_since < _IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError from error  # the pool opens another one

    sa.event.listen(engine, "checkin", returned)
    sa.event.listen(engine, "checkout", taken)


class PostgresConnection:
    """One connection, used by one task at a time.

    Args:
        connection: SQLAlchemy's.
        driver: the one below.
    """

    def __init__(self, connection: AsyncConnection, driver: asyncpg.Connection) -> None:
        self._connection = connection
        self._driver = driver
        self._begun = False

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, engine: AsyncEngine) -> AsyncIterator[PostgresConnection]:
        """A connection of the pool; what was begun and not committed is rolled back."""
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            made = cls(connection, raw.driver_connection)
            try:
                yield made
            finally:
                await made._undo()

    @property
    def dialect(self) -> sa.Dialect:
        """SQLAlchemy's dialect."""
        return self._connection.dialect

    async def begin(self, mode: str = "") -> None:
        """Begin a transaction; without one, each statement is one."""
        self._begun = True
        await self._driver.execute(f"BEGIN {mode}")

    async def commit(self) -> None:
        """Commit; the outcome is unknown where that raises."""
        await self._driver.execute("COMMIT")
        self._begun = False

    async def _undo(self) -> None:
        if not self._begun:
            return
        try:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await self._driver.execute("ROLLBACK")
                self._begun = False
        finally:
            if self._begun:  # also where the task was cancelled again: nobody is to go on in it
                self._driver.terminate()

    async def execute(
        self, statement: sa.Executable, parameters: Any = None
    ) -> sa.CursorResult[Any]:
        """Run a statement; as of `sqlalchemy.Connection`."""
        return await self._connection.execute(statement, parameters)

    async def run_sync(self, call: Callable[[sa.Connection], T]) -> T:
        """Run what wants SQLAlchemy's blocking connection."""
        return await self._connection.run_sync(call)

    async def fetch(self, form: Form, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Run a prepared statement that returns rows."""
        found: Sequence[Sequence[Any]] = await self._driver.fetch(
            form.text, *form.values(parameters)
        )
        return found

    async def change(self, form: Form, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a prepared statement for each of `rows`; how many rows it touched, -1 where it is run
        for several."""
        if len(rows) == 1:
            status = await self._driver.execute(form.text, *form.values(rows[0]))
            return int(status.rpartition(" ")[2])
        await self._driver.executemany(form.text, [form.values(row) for row in rows])
        return -1
