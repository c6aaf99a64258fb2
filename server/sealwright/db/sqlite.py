"""SQLite's connections, in the event loop's own thread.

A statement that finds its rows by an index takes less time than handing it to another thread and
back. So statements run where they are asked for, within a bound; what exceeds it, has to wait for
another process, or waits for the disk runs in a thread meanwhile. SQLAlchemy's dialect for
aiosqlite is given these connections in place of that package's.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Parameters = Sequence[Any] | Mapping[str, Any]

BUSY_SECONDS = 30
_BUSY_PAUSE = 0.001  # seconds; a short transaction takes about as long
_STEP = 1000  # instructions of SQLite's virtual machine
_MOST_STEPS = 40  # of these, for a statement in the loop's thread: a few milliseconds
_MOST_ROWS = 100  # that are inserted or updated at once there
_MOST_TEXTS = 1000  # of statements that are known to take long


class InlineConnection:
    """One connection. Used by one task at a time, as a pool sees to.

    Args:
        raw: without transactions of the driver's own, and usable from any thread.
        threads: for what takes long.
        slow: texts of statements that did; shared by the connections of an engine.
    """

    def __init__(self, raw: sqlite3.Connection, threads: Executor, slow: set[str]) -> None:
        self._connection = raw  # the dialect looks whether it is there
        self._threads = threads
        self._slow = slow
        self._steps = 0
        self._bounded = False
        raw.set_progress_handler(self._count, _STEP)

    @classmethod
    async def open(cls, path: Path, threads: Executor, slow: set[str]) -> InlineConnection:
        """Open the file, which is made where it is not there."""
        loop = asyncio.get_running_loop()
        return cls(await loop.run_in_executor(threads, _open, path), threads, slow)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open: SQLite itself ends one when the disk is full."""
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed
            return self._connection.in_transaction
        return False

    def cursor(self) -> InlineCursor:
        """A cursor for one statement."""
        return InlineCursor(self, self._connection)

    async def begin_writing(self) -> None:
        """Take the write lock at once: an upgrade in the middle fails without waiting.

        SQLite's own waiting sleeps longer and longer, up to 0.1 s at a time, while others come and
        get the lock: many short transactions of several processes would starve some. This asks
        often.

        Raises:
            sqlite3.OperationalError: others held it for `BUSY_SECONDS`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or loop.time() > end:
                    raise
                await asyncio.sleep(_BUSY_PAUSE)
            else:
                return

    def command(self, text: str) -> None:
        """Run a statement about transactions that neither waits nor takes long."""
        self._connection.execute(text)

    async def run(self, text: str, call: Callable[[], T], *, rows: int = 1) -> T:
        """Run a statement, here or in a thread.

        Args:
            text: of the statement.
            call: runs it and takes its rows; may be called twice.
            rows: that it is run for.
        """
        # one that writes cannot be broken off: that would roll back the transaction
        reads = text.startswith(("SELECT", "WITH"))
        if rows > _MOST_ROWS or text in self._slow or text.startswith("DELETE"):
            return await self._in_thread(self._patiently(call), reads=reads)
        self._steps = 0
        self._bounded = reads
        try:
            found = call()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in {"SQLITE_INTERRUPT", "SQLITE_BUSY"}:
                raise
            self._bounded = False
            found = await self._in_thread(self._patiently(call), reads=reads)
        finally:
            self._bounded = False
        if self._steps > _MOST_STEPS and len(self._slow) < _MOST_TEXTS:
            self._slow.add(text)
        return found

    async def commit(self) -> None:
        """Commit, which waits for the disk; nothing where no transaction is open."""
        if self.in_transaction:
            await self._in_thread(self._connection.commit)

    async def rollback(self) -> None:
        """Roll back; nothing where no transaction is open."""
        if self.in_transaction:
            self._connection.rollback()

    async def close(self) -> None:
        """Close; the last one to do so tidies the database's files."""
        await self._in_thread(self._connection.close)

    def stop(self) -> None:
        """Close at once, outside of the event loop."""
        self._connection.close()

    async def create_function(self, *args: Any, **kwargs: Any) -> None:
        """As of `sqlite3.Connection`."""
        self._connection.create_function(*args, **kwargs)

    def _patiently(self, call: Callable[[], T]) -> Callable[[], T]:
        """`call`, with SQLite's own waiting for other processes."""

        def patiently() -> T:
            self._connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
            try:
                return call()
            finally:
                self._connection.execute("PRAGMA busy_timeout = 0")

        return patiently

    async def _in_thread(self, call: Callable[[], T], *, reads: bool = False) -> T:
        """Run in a thread. A task that is cancelled leaves only when the thread has: nobody else
        may use the connection before."""
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if reads:
                self._connection.interrupt()
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # nobody is left to be told
            raise

    def _count(self) -> bool:
        """Called by SQLite after every `_STEP` instructions; whether to break off."""
        self._steps += 1
        return self._bounded and self._steps > _MOST_STEPS


class InlineCursor:
    """A cursor in the form that the dialect expects. It holds all rows once it has run."""

    def __init__(self, connection: InlineConnection, raw: sqlite3.Connection) -> None:
        self._connection = connection
        self._cursor = raw.cursor()
        self._rows: list[Any] = []
        self.arraysize = 1

    async def __aenter__(self) -> InlineCursor:
        return self

    @property
    def description(self) -> Any:
        """The columns, where the statement has any."""
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        """Rows that were written."""
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        """Row id of the last row that was inserted."""
        return self._cursor.lastrowid

    async def execute(self, operation: str, parameters: Parameters = ()) -> InlineCursor:
        """Run a statement."""

        def call() -> list[Any]:
            return self._cursor.execute(operation, parameters).fetchall()

        self._rows = await self._connection.run(operation, call)
        return self

    async def executemany(self, operation: str, parameters: Sequence[Parameters]) -> InlineCursor:
        """Run a statement that gives no rows, for each of `parameters`."""

        def call() -> None:
            self._cursor.executemany(operation, parameters)

        await self._connection.run(operation, call, rows=len(parameters))
        return self

    async def fetchall(self) -> list[Any]:
        """The rows."""
        return self._rows

    async def close(self) -> None:
        """Close."""
        self._cursor.close()


def _open(path: Path) -> sqlite3.Connection:
    # begin and commit are ours (see `Database.transaction`), not the driver's
    raw = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        raw.execute("PRAGMA journal_mode = WAL")
        # FULL, not NORMAL: an intent must be on the disk before the token is used
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        raw.close()
        raise
    return raw
