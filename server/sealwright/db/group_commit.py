"""Writing to SQLite from many tasks of one process: several transactions, one commit.

SQLite has one writer at a time, and each commit waits for the disk. So who comes while others write
goes on in the transaction that they have begun, behind a savepoint of their own, and all of them
return when it is committed. What one of them has done wrong is undone to its savepoint and costs
the others nothing; if the commit fails, it fails for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from sealwright.db.sqlite import SqliteConnection
from sealwright.errors import UnavailableError

Connect = Callable[[], AbstractAsyncContextManager[SqliteConnection]]

_MOST_MEMBERS = 64
_MOST_SECONDS = 0.05  # from the first one's begin on: other processes want to write too


class GroupCommit:
    """The writers of one process.

    Args:
        connect: a connection of the pool, with errors of the database as the family of ours.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._taken = False  # the turn: a member has it while it writes, then the commit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._group: _Group | None = None
        self._commits: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteConnection]:
        """A transaction of its own for each caller, as far as any of them can tell: it is on the
        disk when this returns, or nothing of it is there.

        Raises:
            UnavailableError: it is unknown whether it was committed.
        """
        failure = None
        group = await self._enter()
        try:
            yield group.connection
        except Exception as error:  # noqa: BLE001 - raised below, once it is clear what it rests on
            group.undo()
            failure = error
        except BaseException:
            group.undo()
            raise
        else:
            group.keep()
        finally:
            self._leave()
        # a refusal too may rest on what an earlier member wrote, and must not be told before
        await asyncio.shield(group.ended)
        if failure is not None:
            raise failure

    async def _enter(self) -> _Group:
        """Wait for a turn; the open group, which this caller is a member of from now on."""
        if self._taken:
            await self._wait()
        self._taken = True
        try:
            if self._group is None:
                self._group = await _Group.begin(self._connect)
            self._group.join()
        except BaseException:
            self._leave()
            raise
        return self._group

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._leave()  # it was given to one who does not want it any more
            turn.cancel()
            raise

    def _leave(self) -> None:
        """End a turn: the next one goes on in the group, or it is committed first."""
        if self._group is None or self._next_joins(self._group):
            self._give_turn()
        else:
            # who is about to write as well comes before the loop's next turn, and shares the commit
            asyncio.get_running_loop().call_soon(self._close, self._group)

    def _next_joins(self, group: _Group) -> bool:
        return not group.is_full and any(not turn.done() for turn in self._waiting)

    def _close(self, group: _Group) -> None:
        if self._next_joins(group):
            self._give_turn()
            return
        self._group = None
        commit = asyncio.create_task(group.end())
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        commit.add_done_callback(lambda _: self._give_turn())

    def _give_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


class _Group:
    """One transaction of SQLite's, and those who write in it one after another."""

    def __init__(self, connection: SqliteConnection, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        self.connection = connection
        self.ended: asyncio.Future[None] = loop.create_future()
        self._stack = stack
        self._members = 0
        self._kept = 0
        self._until = loop.time() + _MOST_SECONDS

    @classmethod
    async def begin(cls, connect: Connect) -> _Group:
        """Take SQLite's write lock."""
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(connect())
            await connection.begin_writing()
            return cls(connection, stack.pop_all())
        raise AssertionError

    @property
    def is_full(self) -> bool:
        """Whether nobody else is to join."""
        late = asyncio.get_running_loop().time() > self._until
        return late or self._members >= _MOST_MEMBERS or not self.connection.in_transaction

    def join(self) -> None:
        """Begin to write as another member."""
        self._members += 1
        self.connection.command("SAVEPOINT member")

    def keep(self) -> None:
        """Leave what the member wrote to the commit."""
        self._kept += 1
        if self.connection.in_transaction:
            self.connection.command("RELEASE member")

    def undo(self) -> None:
        """Undo what the member wrote."""
        if self.connection.in_transaction:
            self.connection.command("ROLLBACK TO member")
            self.connection.command("RELEASE member")

    async def end(self) -> None:
        """Commit, and tell the members. Never raises."""
        try:
            async with self._stack:
                if self._kept and not self.connection.in_transaction:
                    # a full disk, or a connection that broke
                    message = "The database has rolled back what was written."
                    raise UnavailableError(message, advice="Check the disk's space.")
                try:
                    if self._kept:
                        await self.connection.commit()
                finally:
                    # a commit that failed may leave it open, and SQLAlchemy believes it ended
                    self.connection.rollback()
        except BaseException as error:  # noqa: BLE001 - told to the members
            self.ended.set_exception(_told(error))
            self.ended.exception()  # also where all of them have gone
        else:
            self.ended.set_result(None)


def _told(error: BaseException) -> UnavailableError:
    if isinstance(error, UnavailableError):
        return error
    message = f"The database did not commit ({type(error).__name__})."
    return UnavailableError(message, advice="See the log of this process.")
