"""What of a database's failures is an outage, to be tried again, and what a fault of ours."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.database import seed

from sealwright.db import Database, log, postgresql, projects
from sealwright.db.prepared import Prepared
from sealwright.errors import ConfigurationError, ConflictError, UnavailableError
from sealwright.model.identifiers import new_id, utc_now

postgresql_only = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def run(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.connection.execute(sa.text(statement))


@postgresql_only
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SELECT pg_cancel_backend(pg_backend_pid())",
        "DO $$ BEGIN RAISE SQLSTATE '53100'; END $$",  # disk full
        "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$",  # serialization failure
    ],
)
async def test_outages_of_postgresql(database: Database, statement: str) -> None:
    with pytest.raises(UnavailableError):
        await run(database, statement)
    await run(database, "SELECT 1")


@postgresql_only
async def test_connections_that_broke_while_idle_are_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were used just now are not asked; that they were closed was heard."""
    monkeypatch.setattr(postgresql, "_IDLE_SECONDS", 0)
    await run(database, "SELECT 1")
    other = Database(database.url)
    await run(
        other,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await run(database, "SELECT 1")
    await database.check()
    monkeypatch.setattr(postgresql, "_IDLE_SECONDS", 3600)
    await run(
        other,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await asyncio.sleep(0.2)  # the end of the connection is heard in the event loop
    await run(database, "SELECT 1")
    await other.close()


@postgresql_only
async def test_nobody_goes_on_in_what_one_who_was_cancelled_twice_began(database_url: str) -> None:
    database = Database(database_url, pool_size=1)
    sleep = Prepared(sa.select(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Float)).label("")))
    begun = asyncio.Event()

    async def write() -> None:
        async with database.transaction() as tx:
            await log.append(tx, [log.NewEntry("", None, "one.a", "{}", utc_now())])
            await tx.one(sleep, seconds=0)  # prepared by now: the next one is under way at once
            begun.set()
            await tx.one(sleep, seconds=60)

    for pauses in range(4):
        begun.clear()
        writing = asyncio.create_task(write())
        await begun.wait()
        writing.cancel()
        for _ in range(pauses):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        async with database.transaction() as tx:
            assert await log.pending(tx, 5) == []
    await database.close()


@postgresql_only
async def test_a_standby_is_away_for_writers(database: Database) -> None:
    with pytest.raises(UnavailableError):
        await run(
            database, "SET TRANSACTION READ ONLY", "UPDATE signing_requests SET state = 'Failed'"
        )


@postgresql_only
async def test_one_of_two_that_block_each_other_is_told(database: Database) -> None:
    both = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as tx:
            await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(first)))
            await both.wait()
            await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(second)))

    results = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert [type(result) for result in results if result] == [UnavailableError]


async def test_a_wrong_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError) as raised:
        await run(database, "INSERT INTO organizations (id) VALUES ('x')")
    assert not isinstance(raised.value, UnavailableError)


async def test_no_server(tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(UnavailableError):
        await database.check()
    await database.close()
    with pytest.raises(ConfigurationError):
        Database("mysql://localhost/x")


async def test_writers_of_one_process_take_turns(database: Database) -> None:
    """Many at once, more than the pool has connections; none gives up."""
    await run(
        database,
        "CREATE TABLE counter (n INTEGER)",
        "INSERT INTO counter VALUES (0)",
    )
    await asyncio.gather(*(run(database, "UPDATE counter SET n = n + 1") for _ in range(60)))
    async with database.read() as tx:
        row = await tx.one(sa.text("SELECT n FROM counter"))
    assert row is not None
    assert row["n"] == 60


async def test_the_same_name_at_the_same_moment_is_a_conflict(database: Database) -> None:
    scene = await seed(database)
    with pytest.raises(ConflictError, match="somebody else"):
        async with database.transaction() as tx:
            await projects.add(tx, replace(scene.project, id=new_id()))
