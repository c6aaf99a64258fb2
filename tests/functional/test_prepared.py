"""Prepared statements give what SQLAlchemy would have given, on both databases."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import pkgutil
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from tests.database import add_request, seed

import sealwright.db
from sealwright.db import Database, certificates, intents, log, requests
from sealwright.db.prepared import Prepared
from sealwright.db.tables import log_entries
from sealwright.errors import ConflictError, InternalError
from sealwright.model.identifiers import new_id, utc_now

_LEAF = Prepared(
    sa.select(log_entries.c.id, log_entries.c.action)
    .where(log_entries.c.action == sa.bindparam("action"), log_entries.c.body != "constant")
    .order_by(log_entries.c.id)
)


def entry(action: str) -> log.NewEntry:
    return log.NewEntry("", None, action, "{}", utc_now())


def prepared() -> dict[str, Prepared]:
    """Every one that the query modules have."""
    modules = (
        importlib.import_module(f"sealwright.db.{one.name}")
        for one in pkgutil.iter_modules(sealwright.db.__path__)
        if not one.ispkg
    )
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Prepared)
    }


def test_columns_are_those_that_sqlalchemy_gives() -> None:
    found = prepared()
    assert len(found) > 30
    for name, statement in found.items():
        for dialect in (sqlite.dialect(), postgresql.asyncpg.dialect()):
            if isinstance(statement.statement, sa.Insert):
                parameters = list(statement.statement.table.c.keys())
            else:
                parameters = []
            form = statement.form(dialect, dict.fromkeys(parameters))
            compiled: Any = statement.statement.compile(dialect=dialect)
            theirs = [column.keyname for column in compiled._result_columns or ()]
            if statement.statement.exported_columns:
                assert [column for column, _ in form.columns] == theirs, name


async def test_rows_are_those_that_sqlalchemy_gives(database: Database) -> None:
    """Times, JSON, enumerations, bytes and nothing at all."""
    scene = await seed(database)
    request = await add_request(database, scene)
    intent = intents.Intent(
        new_id(), request.organization_id, request.id, request.certificate_id, "rsa-pkcs1",
        "sha256", b"\x00\xff", intents.INTENDED, None, utc_now(),
    )  # fmt: skip
    async with database.transaction() as tx:
        await intents.add(tx, [intent])
        assert await intents.over(tx, request.id, [intent.digest]) == [intent]
        assert await intents.over(tx, request.id, [intent.digest, b"x"]) == [intent]
        assert await intents.locked(tx, [intent.id]) == {intent.id: intent}
        ours = await tx.one(requests._ANY, request=request.id)
        theirs = await tx.one(requests._SELECT_ONE, request=request.id)
        assert ours is not None
        assert theirs is not None
        assert dict(ours) == dict(theirs)
        assert isinstance(ours["submitted_at"], dt.datetime)
        assert await requests.get_any(tx, request.id) == request
        assert await tx.one(requests._ANY, request="x") is None


async def test_counts_and_errors_are_of_the_family(database: Database) -> None:
    async with database.transaction() as tx:
        await log.append(tx, [entry("one.a"), entry("one.a")])
    async with database.transaction() as tx:
        assert len(await tx.all(_LEAF, action="one.a")) == 2
        with pytest.raises(sa.exc.MultipleResultsFound):
            await tx.one(_LEAF, action="one.a")
        with pytest.raises(KeyError):
            await tx.all(_LEAF)
        [first, _] = await log.pending(tx, 5)
        rows = [{"entry": first.id, "position": 7}]
        assert [await tx.change(log._NUMBER, rows) for _ in range(2)] == [1, 0]

    async def twice() -> None:
        async with database.transaction() as tx:
            await log.put_tiles(tx, {"tile/0/000": b"x"}, 1)
            await log.put_tiles(tx, {"tile/0/000": b"y", "tile/0/001": b"y"}, 2)

    with pytest.raises(ConflictError):
        await twice()
    async with database.read() as tx:
        assert await log.tiles(tx, ["tile/0/000", "tile/0/001"]) == {}


async def test_one_who_is_cancelled_leaves_nothing(database: Database) -> None:
    written = asyncio.Event()

    async def write() -> None:
        async with database.transaction() as tx:
            await log.append(tx, [entry("one.a")])
            written.set()
            await asyncio.sleep(3600)

    writing = asyncio.create_task(write())
    await written.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    async with database.transaction() as tx:
        assert await log.pending(tx, 5) == []
        await log.append(tx, [entry("one.b")])
    async with database.read() as tx:
        assert [row["action"] for row in await tx.all(_LEAF, action="one.b")] == ["one.b"]


async def test_a_frozen_reader_sees_one_state(database: Database) -> None:
    async with database.read(frozen=True) as tx:
        assert await log.pending(tx, 5) == []
        async with database.transaction() as other:
            await log.append(other, [entry("one.a")])
        assert await log.pending(tx, 5) == []
    async with database.read() as tx:
        assert len(await log.pending(tx, 5)) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_certificate_is_found_without_looking_at_the_others(database: Database) -> None:
    form = certificates._BY_ID.form(sqlite.dialect(), {})
    text = form.text.replace("?", "'x'")
    async with database.read() as tx:
        rows = await tx.all(sa.text(f"EXPLAIN QUERY PLAN {text}"))
    steps = [row["detail"] for row in rows]
    assert not [step for step in steps if step.startswith("SCAN")], steps


def test_lists_cannot_be_prepared() -> None:
    statement = Prepared(sa.select(log_entries.c.id).where(log_entries.c.id.in_([1, 2])))
    with pytest.raises(InternalError, match="prepared"):
        statement.form(sqlite.dialect(), {})
