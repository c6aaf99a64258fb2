"""SQLite's connections, in the event loop's own thread.

A statement that finds its rows by an index takes less time than handing it to another thread and
back. So statements run where they are asked for, within a bound; what exceeds it, has to wait for
another process, or waits for the disk runs in a thread meanwhile. SQLAlchemy's ordinary, blocking
engine serves for both: its asynchronous one costs as much again as the statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from sealwright.db.prepared import Form

T = TypeVar("T")

BUSY_SECONDS = 30
_BUSY_PAUSE = 0.001  # seconds; a short transaction takes about as long
_STEP = 1000  # instructions of SQLite's virtual machine
_MOST_STEPS = 40  # of these, for a statement in the loop's thread: a few milliseconds
_MOST_ROWS = 100  # that are inserted or updated at once there
_MOST_TEXTS = 1000  # of statements that are known to take long
_POOL_SECONDS = 30.0
_KEPT_STATEMENTS = 256  # of SQLite's own, for each connection
_QUICK_SECONDS = 0.002  # that a commit may stop the loop for
_QUICK_COMMITS = 20  # in a row, before one is made there


class SqliteEngine:
    """The connections to one file, which is made where it is not there.

    Args:
        pool_size: connections at once; who needs another waits.
    """

    def __init__(self, path: Path, pool_size: int) -> None:
        slow: set[str] = set()
        self._disk = _Disk()
        self._threads = ThreadPoolExecutor(pool_size, thread_name_prefix="sqlite")
        self._room = asyncio.Semaphore(pool_size)
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: _open(path, slow),
            poolclass=sa.QueuePool,
            pool_size=pool_size,
            max_overflow=0,
        )

    @property
    def sync_engine(self) -> sa.Engine:
        """SQLAlchemy's engine below."""
        return self._engine

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[SqliteConnection]:
        """A connection for the caller alone; what it has not committed is rolled back.

        Raises:
            sqlalchemy.exc.TimeoutError: none became free in time.
        """
        try:
            if self._room.locked():
                async with asyncio.timeout(_POOL_SECONDS):
                    await self._room.acquire()
            else:
                await self._room.acquire()
        except TimeoutError:
            message = f"no connection became free in {_POOL_SECONDS:.0f} s"
            raise sa.exc.TimeoutError(message) from None
        try:
            with contextlib.closing(await self._check_out()) as connection:
                yield SqliteConnection(connection, self._threads, self._disk)
        finally:
            self._room.release()

    async def _check_out(self) -> sa.Connection:
        pool = cast("sa.QueuePool", self._engine.pool)
        if pool.checkedin():
            return self._engine.connect()
        # opening the file may wait for other processes
        return await _finished(self._threads, self._engine.connect)

    async def dispose(self) -> None:
        """Close every connection; the last one to do so tidies the database's files."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.dispose)
        self._threads.shutdown(wait=False)


class _Disk:
    """How long commits take. A disk that syncs in less time than a thread takes to be asked and to
    answer is waited for in the loop's own thread; one slow commit, and it is not for a while."""

    def __init__(self) -> None:
        self._quick = 0  # commits in a row

    @property
    def is_quick(self) -> bool:
        """Whether the loop may wait for the next commit."""
        return self._quick >= _QUICK_COMMITS

    def timed(self, commit: Callable[[], None]) -> None:
        """Commit, and remember how long that took."""
        began = time.perf_counter()
        try:
            commit()
        finally:
            is_quick = time.perf_counter() - began < _QUICK_SECONDS
            self._quick = self._quick + 1 if is_quick else 0


class SqliteConnection:
    """One connection, used by one task at a time.

    Args:
        connection: SQLAlchemy's, on a `_Driver`.
        threads: for what takes long.
        disk: that is waited for at commits.
    """

    def __init__(self, connection: sa.Connection, threads: Executor, disk: _Disk) -> None:
        self._connection = connection
        self._disk = disk
        self._driver = cast("_Driver", connection.connection.driver_connection)
        self._threads = threads

    @property
    def dialect(self) -> sa.Dialect:
        """SQLAlchemy's dialect."""
        return self._connection.dialect

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open: SQLite itself ends one when the disk is full."""
        return self._driver.in_transaction

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
                self._driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or loop.time() > end:
                    raise
                await asyncio.sleep(_BUSY_PAUSE)
            else:
                self._connection.begin()  # for SQLAlchemy: SQLite has done it
                return

    def command(self, text: str) -> None:
        """Run a statement about transactions that neither waits nor takes long."""
        self._driver.execute(text)

    async def execute(
        self, statement: sa.Executable, parameters: Any = None
    ) -> sa.CursorResult[Any]:
        """Run a statement, here or in a thread; as of `sqlalchemy.Connection`."""
        return await self._run(lambda: self._connection.execute(statement, parameters))

    async def fetch(self, form: Form, parameters: Mapping[str, Any]) -> list[Any]:
        """Run a prepared statement that returns rows."""
        values = form.values(parameters)
        found = await self._run(lambda: _Cursor(self._driver).execute(form.text, values))
        return found.fetchall()

    async def change(self, form: Form, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a prepared statement for each of `rows`; how many rows it touched."""
        values = [form.values(row) for row in rows]
        done = await self._run(lambda: _Cursor(self._driver).executemany(form.text, values))
        return done.rowcount

    async def _run(self, call: Callable[[], T]) -> T:
        """Run a statement, here or in a thread."""
        self._driver.bounded = True
        try:
            return call()
        except _TakesLongError as error:
            reads = error.reads
        finally:
            self._driver.bounded = False
        return await self._in_thread(call, reads=reads)

    async def run_sync(self, call: Callable[[sa.Connection], T]) -> T:
        """Run in a thread what wants SQLAlchemy's connection itself."""
        return await self._in_thread(lambda: call(self._connection))

    async def commit(self) -> None:
        """Commit, which waits for the disk: in a thread, unless it is known to be quick. Nothing
        where no transaction is open."""
        if not self.in_transaction:
            return
        commit = self._connection.commit
        if self._disk.is_quick:
            self._disk.timed(commit)
        else:
            await self._in_thread(lambda: self._disk.timed(commit))

    def rollback(self) -> None:
        """Roll back; nothing where no transaction is open."""
        self._connection.rollback()
        if self.in_transaction:  # SQLAlchemy may believe that it ended
            self._driver.rollback()

    async def _in_thread(self, call: Callable[[], T], *, reads: bool = False) -> T:
        """Run in a thread, with SQLite's own waiting for other processes. A task that is cancelled
        leaves only when the thread has: nobody else may use the connection before."""

        def patiently() -> T:
            self._driver.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
            try:
                return call()
            finally:
                self._driver.execute("PRAGMA busy_timeout = 0")

        return await _finished(self._threads, patiently, self._driver.interrupt if reads else None)


async def _finished(
    threads: Executor, call: Callable[[], T], interrupt: Callable[[], None] | None = None
) -> T:
    """Run in a thread, to the end also where the task is cancelled meanwhile.

    Args:
        interrupt: called then, to make the end come sooner.
    """
    running = asyncio.get_running_loop().run_in_executor(threads, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if interrupt is not None:
            interrupt()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # nobody is left to be told
        raise


class _TakesLongError(Exception):
    """A statement was not run, or broken off: it is to be run in a thread. None of the driver's
    errors, so that SQLAlchemy lets it pass.

    Args:
        reads: it does nothing else.
    """

    def __init__(self, *, reads: bool) -> None:
        super().__init__()
        self.reads = reads


class _Driver(sqlite3.Connection):
    """SQLite's own connection, whose statements can be bounded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slow: set[str] = set()  # texts of statements that took long
        self.bounded = False  # whether what takes long raises `_TakesLongError`
        self._breaks = False
        self._steps = 0
        self.set_progress_handler(self._count, _STEP)

    def cursor(self, _factory: Any = None) -> Any:
        """A cursor for one statement."""
        return _Cursor(self)

    def run(self, text: str, call: Callable[[], T], rows: int = 1) -> T:
        """Run a statement.

        Args:
            text: of the statement.
            call: runs it and takes its rows.
            rows: that it is run for.
        """
        if not self.bounded:
            return call()
        # one that writes cannot be broken off: that would roll back the transaction
        reads = text.startswith(("SELECT", "WITH"))
        if rows > _MOST_ROWS or text in self.slow or text.startswith("DELETE"):
            raise _TakesLongError(reads=reads)
        self._steps = 0
        self._breaks = reads
        try:
            found = call()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in {"SQLITE_INTERRUPT", "SQLITE_BUSY"}:
                raise
            raise _TakesLongError(reads=reads) from None
        finally:
            self._breaks = False
            if self._steps > _MOST_STEPS and len(self.slow) < _MOST_TEXTS:
                self.slow.add(text)
        return found

    def _count(self) -> bool:
        """Called by SQLite after every `_STEP` instructions; whether to break off."""
        self._steps += 1
        return self._breaks and self._steps > _MOST_STEPS


class _Cursor(sqlite3.Cursor):
    """A cursor that has taken all rows once it has run."""

    def __init__(self, connection: _Driver) -> None:
        super().__init__(connection)
        self._rows: list[Any] = []

    def execute(self, text: str, parameters: Any = ()) -> _Cursor:
        """Run a statement."""

        def call() -> list[Any]:
            super(_Cursor, self).execute(text, parameters)
            return super(_Cursor, self).fetchall()

        self._rows = cast("_Driver", self.connection).run(text, call)
        return self

    def executemany(self, text: str, parameters: Any) -> _Cursor:
        """Run a statement that gives no rows, for each of `parameters`."""

        def call() -> None:
            super(_Cursor, self).executemany(text, parameters)

        cast("_Driver", self.connection).run(text, call, len(parameters))
        return self

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        rows, self._rows = self._rows, []
        return rows

    def fetchone(self) -> Any:
        """The next row, or None."""
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """The next rows."""
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows


def _open(path: Path, slow: set[str]) -> sqlite3.Connection:
    # begin and commit are ours (see `Database.transaction`), not the driver's
    raw = sqlite3.connect(
        path,
        BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=_Driver,
        cached_statements=_KEPT_STATEMENTS,
    )
    try:
        raw.slow = slow
        raw.execute("PRAGMA journal_mode = WAL")
        # FULL, not NORMAL: an intent must be on the disk before the token is used
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        raw.close()
        raise
    return raw
