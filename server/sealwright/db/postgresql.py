"""PostgreSQL's connections: transactions and prepared statements by the driver itself.

SQLAlchemy keeps the pool and runs all else, on the same connection and within the same transaction:
it believes that every statement commits by itself (``AUTOCOMMIT``), so that begin and end are ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sealwright.db.prepared import Form

T = TypeVar("T")


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
            await self._driver.execute("ROLLBACK")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await self._connection.invalidate()

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
