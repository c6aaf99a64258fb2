"""What is asked of every request of a run, a commit, a project: however many there are."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import pytest
from tests.database import Scene, add_request, request, seed
from tests.web import Web

from sealwright.db import Database, file_results, request_sets, requests
from sealwright.db import log as db_log
from sealwright.db.log import NewEntry
from sealwright.model.identifiers import utc_now
from sealwright.model.origin import Origin
from sealwright.model.request import FileResult, SigningRequest, State

MANY = 230


async def many(database: Database, scene: Scene, count: int = MANY, **fields: object) -> list[str]:
    made = [request(scene, **fields) for _ in range(count)]
    async with database.transaction() as tx:
        for one in made:
            await requests.add(tx, one)
    return sorted(one.id for one in made)


async def ids(batches: AsyncIterator[list[SigningRequest]]) -> list[str]:
    return [one.id async for batch in batches for one in batch]


def built(run: str, *, verified: bool = True, commit: str = "c" * 40) -> Origin:
    return Origin(verified=verified, run_id=run, commit=commit)


async def test_a_runs_requests_are_found_among_later_ones(database: Database) -> None:
    scene = await seed(database)
    place = scene.organization.id, scene.project.id
    first = await add_request(database, scene, origin=built("7"))
    await many(database, scene, origin=built("8"))
    await add_request(database, scene, origin=built("7", verified=False))
    late = await add_request(database, scene)
    async with database.transaction() as tx:
        # retrieved artifacts get their origin later
        assert await requests.amend(tx, late, utc_now(), origin=built("7"))
        assert [one.id for one in await request_sets.of_run(tx, *place, "7")] == [first.id, late.id]
        assert len(await request_sets.of_run(tx, *place, "8")) == MANY
        assert await request_sets.of_run(tx, *place, "") == []


async def test_a_projects_requests_come_in_batches(database: Database) -> None:
    scene = await seed(database)
    place = database, scene.organization.id, scene.project.id
    waiting = await many(database, scene, state=State.WAITING_FOR_APPROVAL)
    now = utc_now()
    ended = await many(
        database, scene, state=State.COMPLETED, updated_at=now, origin=built("1", commit="d" * 40)
    )
    await many(database, scene, 3, state=State.FAILED, updated_at=now - dt.timedelta(days=1))
    states = State.SUBMITTED, State.WAITING_FOR_APPROVAL
    assert await ids(request_sets.in_states(*place, states)) == waiting
    assert sorted(await ids(request_sets.ended_since(*place, now))) == ended
    assert sorted(await ids(request_sets.of_commit(*place, "d" * 40))) == ended
    assert await ids(request_sets.of_commit(*place, "d" * 39)) == []
    assert await ids(request_sets.of_commit(*place, "")) == []
    async with database.read() as tx:
        policies = [scene.policy.id]
        found = await request_sets.waiting_for_approval(tx, place[1], policies, limit=MANY)
        assert [one.id for one in found] == waiting
        assert await request_sets.waiting_for_approval(tx, place[1], []) == []


def signed(number: int) -> FileResult:
    return FileResult(
        f"app.zip!/{number}.dll", "pe", "authenticode-sign", "", "a" * 64, "b" * 64, 9, None, ()
    )


async def logged(web: Web, of: str, *actions: str) -> None:
    tenant = web.scene.organization.id
    body = '{"actor":"system","data":{}}'
    async with web.database.transaction() as tx:
        await db_log.append(
            tx, [NewEntry(tenant, of, action, body, utc_now()) for action in actions]
        )


async def test_a_request_of_many_files_is_read_in_pages(web: Web) -> None:
    made = await add_request(web.database, web.scene, state=State.COMPLETED)
    async with web.database.transaction() as tx:
        await file_results.put_results(tx, made.id, [signed(number) for number in range(450)])
    every = ["request.submitted", *["signature.intended", "signature.made"] * 150]
    every += ["signature.abandoned", "artifact.released", "request.completed"]
    await logged(web, made.id, *every)
    client = await web.submitter()
    path = f"/api/v1/signing-requests/{made.id}"
    detail = (await client.get(path)).json()
    assert (len(detail["files"]), detail["file_count"]) == (100, 450)
    assert [one["action"] for one in detail["log"]] == [
        "request.submitted", "artifact.released", "request.completed"
    ]  # fmt: skip
    paths = [one["path"] for one in await pages(web, f"{path}/files")]
    assert paths == [f"app.zip!/{number}.dll" for number in range(450)]
    assert [one["action"] for one in await pages(web, f"{path}/log")] == every
    for part in ("files", "log"):
        assert (await client.get(f"{path}/{part}?cursor=eA")).status_code == 400
        stranger = await web.client(await web.add_user())
        assert (await stranger.get(f"{path}/{part}")).status_code == 404


async def pages(web: Web, path: str) -> list[dict[str, str]]:
    client, cursor, found = await web.submitter(), "", []
    while True:
        given = {"limit": "150"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(path, params=given)).json()
        found += page["items"]
        assert len(page["items"]) <= 150
        if page["next_cursor"] is None:
            return found
        cursor = page["next_cursor"]


@pytest.mark.parametrize("action", ["artifact.released", "hash.signed"])
async def test_a_release_is_found_among_signatures(database: Database, action: str) -> None:
    scene = await seed(database)
    made = await add_request(database, scene)
    actions = ["signature.intended", action, "signature.made"]
    async with database.transaction() as tx:
        entries = [
            NewEntry(scene.organization.id, made.id, one, "{}", utc_now()) for one in actions
        ]
        await db_log.append(tx, entries)
        assert [one.action for one in await db_log.of_action(tx, made.id, action)] == [action]
