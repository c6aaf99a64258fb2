"""Reports out: in order, again until they are taken, and never in the way of signing."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.responses import Response
from tests.ci import Ci, linked, running_ci
from tests.fakes.github_state import commit
from tests.fakes.github_world import World, running_world
from tests.valkey import Valkey
from tests.web import WebServer

from sealwright.approve import approve_or_deny
from sealwright.db import approvals
from sealwright.errors import SealwrightError
from sealwright.model.request import State, Verdict
from sealwright.model.user import Principal
from sealwright.policy.permissions import Access, Grant


@pytest.fixture(scope="module")
def server(valkey: Valkey, sqlite_template: Path) -> Iterator[WebServer]:
    with running_ci(valkey, sqlite_template) as running:
        yield running


@pytest.fixture(scope="module")
def github() -> Iterator[World]:
    with running_world() as world:
        yield world


@pytest.fixture
async def ci(server: WebServer, github: World) -> AsyncIterator[Ci]:
    async with linked(server, github) as found:
        yield found
        assert github.fake.faults == []


async def now(ci: Ci) -> None:
    """Let every pause be over."""
    async with ci.database.transaction() as tx:
        await tx.change(sa.text("UPDATE outbox SET due_at = created_at WHERE due_at IS NOT NULL"))


async def test_each_phase_is_reported_on_one_check(ci: Ci) -> None:
    body = await ci.submit()
    await ci.tell()
    [check] = ci.world.state.checks.values()
    assert (check["head_sha"], check["status"]) == (commit("c"), "queued")
    assert check["external_id"] == body["id"]
    await ci.work(body["id"])  # queued still: nothing new to tell
    await ci.web.complete(body["id"])
    await ci.tell()
    assert len(ci.world.state.checks) == 1
    assert (check["status"], check["conclusion"]) == ("completed", "success")
    assert "bin/0.exe" in html.unescape(str(check["output"]))
    phases = [one.phase for one in await ci.messages(body["id"])]
    assert phases == ["queued", "in-progress", "success"]


async def test_what_github_does_not_take_is_told_again_in_order(ci: Ci) -> None:
    ci.world.fake.scripted = []
    body = await ci.submit()
    ci.world.fake.scripted = [Response(status_code=503)]
    await ci.tell()
    assert not ci.world.state.checks
    ci.world.fake.scripted = []
    request = await ci.work(body["id"])  # signing goes on meanwhile
    assert request.state is State.QUEUED
    await ci.web.complete(body["id"])
    await ci.tell()  # the first one's pause is not over: nothing overtakes it
    assert not ci.world.state.checks
    [first, *later] = await ci.messages(body["id"])
    assert first.attempts == 1
    assert "503" in first.error
    assert [one.attempts for one in later] == [0, 0]
    await now(ci)
    await ci.tell()
    [check] = ci.world.state.checks.values()
    assert check["conclusion"] == "success"
    assert all(one.done_at for one in await ci.messages(body["id"]))


async def test_what_is_refused_for_good_is_given_up(ci: Ci) -> None:
    body = await ci.submit()
    ci.world.repository.parents.pop(commit("c"))  # GitHub does not know the commit any more
    await ci.tell()
    [message] = await ci.messages(body["id"])
    assert (message.due_at, message.done_at) == (None, None)
    assert "422" in message.error


async def test_two_workers_tell_once(ci: Ci) -> None:
    await ci.submit()
    dispatchers = [ci.dispatcher() for _ in range(8)]
    told = await asyncio.gather(*(one.tell_due() for one in dispatchers))
    assert sum(told) == 1
    assert len(ci.world.state.checks) == 1


async def test_nothing_is_reported_without_a_verified_origin(ci: Ci) -> None:
    await ci.web.change_policy(origin_required=False)
    body = await ci.web.submit()
    assert await ci.messages(body["id"]) == []


@pytest.mark.parametrize("turn", range(5))
async def test_decisions_race_and_one_wins(ci: Ci, turn: int) -> None:
    """G13, with the reports that each decision writes in its transaction."""
    await ci.web.change_policy(quorum=2)
    body = await ci.submit()
    assert (await ci.work(body["id"])).state is State.WAITING_FOR_APPROVAL
    approvers = ci.web.scene.approvers

    async def decide(number: int) -> State | None:
        grant = Grant(Principal(approvers[number % 3], "test"), Access.PARTICIPANT)
        verdict = Verdict.DENY if number % 7 == 6 else Verdict.APPROVE
        try:
            found = await approve_or_deny(ci.database, ci.web.queue, grant, body["id"], verdict)
        except SealwrightError:
            return None
        return found.state

    outcomes = await asyncio.gather(*(decide(number) for number in range(turn, turn + 40)))
    moved = [one for one in outcomes if one in {State.QUEUED, State.DENIED}]
    assert len(moved) == 1
    assert (await ci.read(body["id"])).state is moved[0]
    async with ci.database.read() as tx:
        decisions = await approvals.of_request(tx, body["id"])
    assert len({one.user_id for one in decisions}) == len(decisions) <= 3
    await ci.tell()
    [check] = ci.world.state.checks.values()
    assert check["status"] == ("queued" if moved[0] is State.QUEUED else "completed")
