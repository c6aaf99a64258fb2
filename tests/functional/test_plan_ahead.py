"""What would be signed, planned by a worker for those who decide; on both databases."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import zipfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from tests.chaos.shim import Shim
from tests.database import decide
from tests.signer import Keys
from tests.system import QueueServer
from tests.works import Failing, Works, at_work

from sealwright import plan_ahead as stage
from sealwright.config import Settings
from sealwright.db import plans
from sealwright.db.tables import notifications, plans_ahead
from sealwright.model.identifiers import utc_now
from sealwright.model.member_tree import NAME, MemberTree, inside
from sealwright.model.plan import PlanState
from sealwright.model.project import snapshot
from sealwright.model.request import SigningRequest, State
from sealwright.plan_ahead import MAX_ATTEMPTS, plan_ahead
from sealwright.queueing import lifecycle
from sealwright.queueing.queue import Queue
from sealwright.queueing.reconcile import reconcile
from sealwright.signing.signer_client import SignerClient


@pytest.fixture(scope="module")
def queue_server() -> Iterator[QueueServer]:
    with QueueServer.run() as made:
        yield made


@pytest.fixture
async def works(
    signer: SignerClient,
    signer_settings: Settings,
    keys: Keys,
    shim: Shim,
    queue_server: QueueServer,
) -> AsyncIterator[Works]:
    async with at_work(signer_settings, keys, shim, queue_server) as made:
        yield made


async def waiting(works: Works) -> SigningRequest:
    """A request for the artifact that has come to wait for approval."""
    policy = dataclasses.replace(works.scene.policy, quorum=1)
    frozen = snapshot(policy, works.scene.certificate.sha256, works.scene.configuration)
    request = await works.request(state=State.SUBMITTED, snapshot=frozen, policy_hash=frozen.sha256)
    async with works.bench.database.transaction() as tx:
        return await lifecycle.advance(
            tx, request, State.WAITING_FOR_APPROVAL, actor="test", now=utc_now()
        )


async def approved(works: Works, request: SigningRequest) -> SigningRequest:
    """The same, put into the queue as the last approval does."""
    present = await works.read(request)
    await decide(works.bench.database, present, works.scene.approvers[0])
    async with works.bench.database.transaction() as tx:
        return await lifecycle.advance(tx, present, State.QUEUED, actor="test", now=utc_now())


async def standing(works: Works, request: SigningRequest) -> PlanState:
    async with works.bench.database.read() as tx:
        return (await plans.standing(tx, request.id)).state


async def change(works: Works, request: SigningRequest, **values: Any) -> None:
    """Set columns of the plan ahead."""
    async with works.bench.database.transaction() as tx:
        await tx.change(
            sa.update(plans_ahead).where(plans_ahead.c.request_id == request.id).values(values)
        )


async def mails_held(works: Works, request: SigningRequest) -> int:
    """How many mails about the request are to be sent later."""
    table = notifications
    mails = sa.select(table.c.id).where(
        table.c.request_id == request.id, table.c.due_at > utc_now()
    )
    async with works.bench.database.read() as tx:
        return len(await tx.all(mails))


async def due(works: Works, request: SigningRequest) -> bool:
    """Whether the reconciler would bring it, now or ever."""
    async with works.bench.database.read() as tx:
        return request.id in await plans.due_ahead(tx, utc_now() + dt.timedelta(days=1))


async def test_what_would_be_signed_is_known_before_the_decision(works: Works) -> None:
    request = await waiting(works)
    before = await works.actions(request)
    assert await standing(works, request) is PlanState.UNDER_WAY
    assert await mails_held(works, request)
    await plan_ahead(works.bench, request.id)
    assert not await mails_held(works, request)
    planned = await works.read(request)
    assert planned.state is State.WAITING_FOR_APPROVAL
    assert planned.version != request.version  # pages that wait for it see it
    assert (planned.plan_hash, planned.signatures) == ("", 0)  # the signer goes by neither
    async with works.bench.database.read() as tx:
        packed = await plans.tree(tx, request.id)
        found = await plans.shown(tx, request.id)
    assert packed is not None
    names = [node[NAME] for node in inside(MemberTree.unpack(packed).root)]
    assert names == ["app.exe", "inner.zip", "readme.txt", "tool.exe"]
    assert found is not None
    assert found[2]
    assert await standing(works, request) is PlanState.AHEAD
    assert await works.actions(request) == before
    assert not await due(works, request)
    await plan_ahead(works.bench, request.id)  # a message that comes twice
    assert (await works.read(request)).version == planned.version
    assert await works.left_over() == []

    done = await works.fulfil(await approved(works, request))
    assert done.state is State.COMPLETED, done.reason
    assert await standing(works, request) is PlanState.MADE
    async with works.bench.database.read() as tx:
        assert await plans.effect_ahead(tx, request.id) == ""  # the real one took its place
        signed = await plans.shown(tx, request.id)
    assert signed is not None
    assert (signed[0], signed[2]) == (done.plan_hash, False)


async def test_nothing_is_signed_that_approvers_were_not_shown(works: Works) -> None:
    request = await waiting(works)
    await plan_ahead(works.bench, request.id)
    await change(works, request, effect="0" * 64)  # as if another version had planned it
    failed = await works.fulfil(await approved(works, request))
    assert failed.state is State.FAILED
    assert "otherwise than was shown" in failed.reason
    assert works.shim.count() == 0
    assert await standing(works, request) is PlanState.AHEAD  # what they saw stays to be seen


async def test_what_cannot_be_signed_bothers_no_approver(works: Works) -> None:
    with zipfile.ZipFile(works.artifact, "w") as made:
        made.writestr("readme.txt", "no program\n")
    request = await waiting(works)
    await plan_ahead(works.bench, request.id)
    failed = await works.read(request)
    assert (failed.state, failed.failed_stage) == (State.FAILED, State.WAITING_FOR_APPROVAL)
    assert 'No file matches <pe-file>, path="*.exe"' in failed.reason
    assert failed.advice
    assert (await works.actions(request)).count("request.failed") == 1
    assert not await due(works, request)


async def test_what_is_away_leaves_the_request_waiting(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sealwright.answer.PATIENCE_SECONDS", 0.0)
    store = works.bench.store
    works.bench = dataclasses.replace(works.bench, store=Failing(store, "fetch", 100))
    request = await waiting(works)
    for attempt in (0, MAX_ATTEMPTS - 1):
        await change(works, request, attempts=attempt, due_at=utc_now())
        assert await standing(works, request) is PlanState.UNDER_WAY
        await plan_ahead(works.bench, request.id)
        await plan_ahead(works.bench, request.id)  # not before its pause is over
        assert (await works.read(request)).state is State.WAITING_FOR_APPROVAL
        assert await due(works, request) is (attempt == 0)
    assert works.bench.store.left == 98  # type: ignore[attr-defined]
    assert await standing(works, request) is PlanState.UNKNOWN
    works.bench = dataclasses.replace(works.bench, store=store)
    done = await works.fulfil(await approved(works, request))
    assert done.state is State.COMPLETED, done.reason


async def test_a_killed_worker_is_followed_by_another(
    works: Works, queue_server: QueueServer
) -> None:
    request = await waiting(works)
    now = utc_now()
    async with works.bench.database.transaction() as tx:
        dead = await plans.claim_ahead(tx, request.id, now, now + dt.timedelta(seconds=15))
        assert dead is not None
        assert await plans.claim_ahead(tx, request.id, now, now) is None
    queue = Queue(queue_server.url)
    await reconcile(works.bench.database, queue, now)
    assert request.id not in await queue.plans_waiting()
    for _ in range(2):  # once is enough
        await reconcile(works.bench.database, queue, now + dt.timedelta(seconds=20))
    pool = await queue.pool()
    listed = await pool.lrange("sealwright:plans", 0, -1)
    assert listed.count(request.id.encode()) == 1
    await queue.close()
    await change(works, request, due_at=now)
    await plan_ahead(works.bench, request.id)
    assert await standing(works, request) is PlanState.AHEAD
    async with works.bench.database.transaction() as tx:
        assert not await plans.renew_ahead(tx, dead, now)  # should it wake up again
        assert not await plans.end_ahead(tx, dead, None)


@pytest.mark.parametrize("ends", ["decided", "stopped"])
async def test_planning_that_is_broken_off(
    works: Works, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(stage, "CLAIM", dt.timedelta(seconds=1))
    begun = asyncio.Event()

    class Endless(Failing):
        async def fetch(self, *_: Any) -> str:
            begun.set()
            await asyncio.Event().wait()
            return ""

    works.bench = dataclasses.replace(works.bench, store=Endless(works.bench.store, "", 0))
    request = await waiting(works)
    planning = asyncio.create_task(plan_ahead(works.bench, request.id))
    await begun.wait()
    if ends == "decided":
        await approved(works, request)
        async with asyncio.timeout(20):
            await planning
        assert (await works.read(request)).state is State.QUEUED
    else:
        planning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await planning
        assert request.id in await works.bench.queue.plans_waiting()
        async with works.bench.database.transaction() as tx:
            again = await plans.claim_ahead(tx, request.id, utc_now(), utc_now())
        assert again is not None
        assert again.attempt == 1  # that the worker stopped is not the request's fault
    assert await standing(works, request) is not PlanState.AHEAD
    assert await works.left_over() == []
