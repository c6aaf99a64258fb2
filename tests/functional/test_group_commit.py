"""SQLite: many writers of one process share commits, and nobody pays for another's failure."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sealwright.db import Database, group_commit, sqlite
from sealwright.db.sqlite import SqliteConnection
from sealwright.errors import ConflictError, UnavailableError

_LONG = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {most}) "
    "SELECT max(n) AS most FROM c"
)


@pytest.fixture(params=[True, False], ids=["in the loop", "in a thread"])
async def writers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """A database with numbered rows; a `child` row without its number fails at the commit.
    Groups of its writers end when nobody else waits, however long they take. Where they commit
    does not depend on the disk."""
    monkeypatch.setattr(group_commit, "_MOST_SECONDS", 60)
    monkeypatch.setattr(sqlite, "_QUICK_SECONDS", 60 if request.param else 0)
    monkeypatch.setattr(sqlite, "_QUICK_COMMITS", 1)
    database = Database(f"sqlite:///{tmp_path}/writers.sqlite3")
    async with database.transaction() as tx:
        await tx.change(sa.text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
        await tx.change(
            sa.text(
                "CREATE TABLE child (n INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)"
            )
        )
    yield database
    await database.close()


async def write(database: Database, number: int, table: str = "numbers") -> None:
    async with database.transaction() as tx:
        await tx.change(sa.text(f"INSERT INTO {table} VALUES ({number})"))


async def written(database: Database) -> list[int]:
    async with database.read() as tx:
        return [row["n"] for row in await tx.all(sa.text("SELECT n FROM numbers ORDER BY n"))]


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for every commit."""
    made: list[int] = []
    commit = SqliteConnection.commit

    async def counted(self: SqliteConnection) -> None:
        made.append(1)
        await commit(self)

    monkeypatch.setattr(SqliteConnection, "commit", counted)
    return made


async def test_many_share_a_commit(writers: Database, commits: list[int]) -> None:
    await asyncio.gather(*(write(writers, number) for number in range(40)))
    assert await written(writers) == list(range(40))
    assert len(commits) <= 10


def test_a_slow_commit_is_no_more_waited_for_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clock = sqlite._Disk(), 0.0
    monkeypatch.setattr(sqlite.time, "perf_counter", lambda: clock)

    def commit(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    seen = []
    for seconds in (*[0.0001] * 20, 0.01, *[0.0001] * 20):
        disk.timed(lambda seconds=seconds: commit(seconds))
        seen.append(disk.is_quick)
    assert seen == [False] * 19 + [True] + [False] * 20 + [True]

    def fail() -> None:
        commit(0.01)
        raise sqlite3.OperationalError

    with pytest.raises(sqlite3.OperationalError):
        disk.timed(fail)
    assert not disk.is_quick


async def test_a_failure_costs_the_others_nothing(writers: Database) -> None:
    async def fail() -> None:
        async with writers.transaction() as tx:
            await tx.change(sa.text("INSERT INTO numbers VALUES (100)"))
            message = "no"
            raise LookupError(message)

    results = await asyncio.gather(
        write(writers, 1), fail(), write(writers, 2), write(writers, 1), write(writers, 3),
        return_exceptions=True,
    )  # fmt: skip
    kinds = [type(result) for result in results]
    assert kinds == [type(None), LookupError, type(None), ConflictError, type(None)]
    assert await written(writers) == [1, 2, 3]


async def test_a_commit_that_fails_fails_for_all_of_its_group(writers: Database) -> None:
    """Also for one that was refused: it may have been for what another had written."""
    together = asyncio.Barrier(2)

    async def first() -> None:
        async with writers.transaction():
            await together.wait()
            await asyncio.sleep(0.05)  # the others wait for their turns by now

    async def others() -> list[object]:
        await together.wait()
        calls = [write(writers, 9, "child"), write(writers, 1), write(writers, 1)]
        return await asyncio.gather(*calls, return_exceptions=True)

    begun = asyncio.create_task(first())
    results = await others()
    with pytest.raises(UnavailableError):
        await begun
    assert [type(result) for result in results] == [UnavailableError] * 3
    assert await written(writers) == []
    await write(writers, 4)
    assert await written(writers) == [4]


async def test_whoever_is_cancelled_leaves_the_others_their_turn(writers: Database) -> None:
    async def stuck() -> None:
        async with writers.transaction() as tx:
            await tx.change(sa.text("INSERT INTO numbers VALUES (100)"))
            await asyncio.sleep(3600)

    first = asyncio.create_task(write(writers, 1))
    inside = asyncio.create_task(stuck())
    waiting = [asyncio.create_task(write(writers, number)) for number in (2, 3, 4)]
    await asyncio.sleep(0.05)
    # in the order in which they would write: the second is given the turn when it is gone already
    inside.cancel()
    waiting[0].cancel()
    waiting[2].cancel()
    await asyncio.gather(first, inside, *waiting, return_exceptions=True)
    assert (inside.cancelled(), waiting[0].cancelled(), waiting[2].cancelled()) == (True,) * 3
    assert await written(writers) == [1, 3]
    # nobody comes after the one that is gone: the group is committed nevertheless
    async with writers.transaction() as tx:
        last = asyncio.create_task(write(writers, 5))
        await asyncio.sleep(0)
        await tx.change(sa.text("INSERT INTO numbers VALUES (6)"))
        last.get_loop().call_soon(last.cancel)
    await asyncio.gather(last, return_exceptions=True)
    assert 6 in await written(writers)


async def test_another_process_is_waited_for(writers: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "writers.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO numbers VALUES (7)")
    tasks = [asyncio.create_task(write(writers, number)) for number in (8, 9)]
    await asyncio.sleep(0.1)
    assert await written(writers) == []
    other.execute("COMMIT")
    other.close()
    await asyncio.gather(*tasks)
    assert await written(writers) == [7, 8, 9]


async def test_what_takes_long_does_not_stop_the_loop(writers: Database) -> None:
    """Broken off in the loop's thread and begun again in another; the next time, at once there."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    most = 1_000_000
    ticking = asyncio.create_task(tick())
    for _ in range(2):
        before = ticks
        async with writers.read() as tx:
            row = await tx.one(sa.text(_LONG.format(most=most)))
        assert row is not None
        assert row["most"] == most
        assert ticks > before + 10
    ticking.cancel()


async def test_a_long_statement_ends_with_its_task(writers: Database) -> None:
    async def read() -> None:
        async with writers.read() as tx:
            await tx.one(sa.text(_LONG.format(most=10**12)))

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await write(writers, 1)
    assert await written(writers) == [1]
