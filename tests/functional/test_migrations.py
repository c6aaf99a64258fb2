"""The migrations, on both databases."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.database import add_request, seed

from sealwright.db import Database
from sealwright.db.migrate import is_current, migrate
from sealwright.db.tables import METADATA
from sealwright.errors import ConfigurationError, UnavailableError


async def test_migrations_make_the_tables_of_the_metadata(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, METADATA)

    async with database.read() as tx:
        assert await tx.connection.run_sync(differences) == []


async def test_migrations_make_what_the_metadata_makes(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    async with database.transaction() as tx:
        await tx.connection.run_sync(METADATA.create_all)
    made = await _definitions(database)
    async with database.transaction() as tx:
        await tx.connection.run_sync(METADATA.drop_all)
    await migrate(empty_database_url)
    assert await _definitions(database) == made
    assert any("WHERE" in definition for definition in made)
    await database.close()


async def _definitions(database: Database) -> set[str]:
    """The database's own text of every table, constraint and index."""
    if database.url.startswith("sqlite"):
        query = "SELECT name, sql AS text FROM sqlite_master WHERE sql IS NOT NULL"
    else:
        query = """
            SELECT conrelid::regclass || conname AS name, pg_get_constraintdef(oid) AS text
                FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            UNION ALL
            SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL
            SELECT table_name || '.' || column_name,
                data_type || is_nullable || coalesce(column_default, '')
                FROM information_schema.columns WHERE table_schema = 'public'
        """
    async with database.read() as tx:
        rows = await tx.all(sa.text(query))
    return {
        # the order of clauses within a statement means nothing
        row["name"] + ": " + " ".join(sorted(re.split(r"[\s,()]+", row["text"])))
        for row in rows
        if "alembic" not in row["name"]
    }


async def test_migrating_twice_changes_nothing(database_url: str, database: Database) -> None:
    scene = await seed(database)
    await add_request(database, scene)
    await migrate(database_url)
    assert await is_current(database)
    async with database.read() as tx:
        row = await tx.one(sa.text("SELECT count(*) AS n FROM signing_requests"))
    assert row is not None
    assert row["n"] == 1


async def test_two_processes_start_at_once(empty_database_url: str) -> None:
    program = "import asyncio, sys; from sealwright.db.migrate import migrate; "
    program += "asyncio.run(migrate(sys.argv[1]))"
    starters = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, empty_database_url)
        for _ in range(3)
    ]
    assert [await starter.wait() for starter in starters] == [0, 0, 0]
    database = Database(empty_database_url)
    assert await is_current(database)
    await database.close()


async def test_a_database_of_a_newer_version_is_refused(
    database_url: str, database: Database
) -> None:
    async with database.transaction() as tx:
        await tx.change(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    assert not await is_current(database)
    with pytest.raises(ConfigurationError, match="9999"):
        await migrate(database_url)


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    empty_database_url: str,
) -> None:
    database = Database(empty_database_url)
    assert not await is_current(database)
    async with database.transaction() as tx:  # what one of the last migrations makes
        await tx.change(sa.text("CREATE TABLE plans_ahead (id INTEGER)"))
    with pytest.raises((sa.exc.ProgrammingError, UnavailableError)):
        await migrate(empty_database_url)
    assert not await is_current(database)
    async with database.transaction() as tx:
        tables = await tx.connection.run_sync(lambda each: sa.inspect(each).get_table_names())
        assert tables == ["plans_ahead"]
        await tx.change(sa.text("DROP TABLE plans_ahead"))
    await migrate(empty_database_url)
    assert await is_current(database)
    await database.close()
