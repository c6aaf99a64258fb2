"""Warnings before the end of certificates, on both databases."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json

import pytest
from tests.database import Scene, certificate, seed

from sealwright.db import Database, certificates, log
from sealwright.model.certificate import CertificateState
from sealwright.model.identifiers import new_id, utc_now
from sealwright.worker.certificates import warn

DAY = dt.timedelta(days=1)


@pytest.fixture
async def scene(database: Database) -> Scene:
    return await seed(database)


async def add(database: Database, scene: Scene, slug: str, days: float, **fields: object) -> str:
    made = certificate(scene.organization.id, slug=slug, not_after=utc_now() + days * DAY, **fields)
    async with database.transaction() as tx:
        await certificates.add(tx, made)
    return made.id


async def test_each_warning_is_given_once(database: Database, scene: Scene) -> None:
    now = utc_now()
    one = await add(database, scene, "one", 60.5)
    await add(database, scene, "disabled", 5, state=CertificateState.DISABLED)
    await add(database, scene, "pending", 5, certificate=b"", sha256="")
    old = await add(database, scene, "old", 5)
    await add(database, scene, "new", 500, replaces_id=old)
    told = []
    for day in range(64):
        for _ in range(2):
            found = await warn(database, now + day * DAY)
            told += [(day, mine.slug, days) for mine, days in found]
    assert told == [
        (1, "one", 60), (31, "one", 30), (47, "one", 14), (54, "one", 7), (60, "one", 1),
    ]  # fmt: skip
    async with database.read() as tx:
        entries = await log.page(tx, scene.organization.id)
    assert {entry.action for entry in entries} == {"certificate.expiring"}
    assert len(entries) == 5
    assert json.loads(entries[0].body)["data"]["certificate"] == one


async def test_of_those_that_were_passed_the_narrowest_counts(
    database: Database, scene: Scene
) -> None:
    await add(database, scene, "late", 10)
    now = utc_now()
    rounds = await asyncio.gather(*(warn(database, now) for _ in range(8)))
    assert [days for found in rounds for _, days in found] == [14]
    assert [days for _, days in await warn(database, now + 4 * DAY)] == [7]
    assert [days for _, days in await warn(database, now + 20 * DAY)] == [1]
    assert await warn(database, now + 21 * DAY) == []


async def test_one_renewal_of_a_certificate_is_issued(database: Database, scene: Scene) -> None:
    first = await add(database, scene, "first", 5)
    await add(database, scene, "a", 500, replaces_id=first, certificate=b"", sha256="")
    await add(database, scene, "b", 500, replaces_id=first, certificate=b"", sha256="")
    async with database.read() as tx:
        waiting = {one.slug: one for one in await certificates.every(tx, scene.organization.id)}
    assert waiting["first"].replaced_by_id is None
    issued = [
        dataclasses.replace(waiting[slug], certificate=b"der", sha256=new_id()) for slug in "ab"
    ]
    async with database.transaction() as tx:
        assert await certificates.install(tx, issued[0])
        assert not await certificates.install(tx, issued[0])
        found = await certificates.get_current(tx, scene.organization.id, first)
    assert found is not None
    assert found.slug == "a"
