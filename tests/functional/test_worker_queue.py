"""Queue and worker: a real Valkey, killed and flushed; both databases where they matter."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio.client import PubSub
from tests.database import add_request, seed
from tests.system import QueueServer

from sealwright.config import Settings
from sealwright.db import Database, requests
from sealwright.errors import UnavailableError
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import relying_party
from sealwright.model.request import Progress, Stage, State
from sealwright.queueing import announcements, lease
from sealwright.queueing import queue as queueing
from sealwright.queueing.progress import ProgressMeter
from sealwright.queueing.queue import QUEUE_NAME, Queue
from sealwright.queueing.reconcile import STRANDED_SECONDS, reconcile
from sealwright.storage.scratch import Scratch
from sealwright.worker.consume import consume
from sealwright.worker.jobs import Jobs

RP = relying_party("https://sign.example.com")


@pytest.fixture
def server() -> Iterator[QueueServer]:
    with QueueServer.run() as made:
        yield made


@pytest.fixture
async def queue(server: QueueServer) -> AsyncIterator[Queue]:
    made = Queue(server.url)
    yield made
    await made.close()


class Recording(Jobs):
    """Jobs that note what they were given, and take their time."""

    def __init__(self, settings: Settings, seconds: float = 0) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.most = 0
        self.seconds = seconds
        super().__init__(self._record, settings.worker_jobs)

    async def _record(self, request_id: str) -> None:
        self.begun.append(request_id)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.ended.append(request_id)

    async def all_ended(self, count: int, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while len(set(self.ended)) < count:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def consuming(
    settings: Settings, jobs: Jobs, plans: Jobs | None = None
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(consume(settings, jobs, plans or Recording(settings), stop))
    yield
    stop.set()
    async with asyncio.timeout(5):
        await task


def settings_of(server: QueueServer, **fields: object) -> Settings:
    return Settings.model_validate({"data": server.folder, "redis_url": server.url} | fields)


async def test_jobs_are_json_and_nothing_else(queue: Queue, server: QueueServer) -> None:
    await queue.enqueue("request-1")
    client = redis.Redis(unix_socket_path=str(server.socket))
    [key] = client.keys("arq:job:*")
    content = client.get(key)
    assert isinstance(content, bytes)
    assert content.startswith(b"{")  # a pickle would be run by whoever reads it


async def test_jobs_are_taken_at_once_and_within_their_bound(
    queue: Queue, server: QueueServer
) -> None:
    settings = settings_of(server, worker_jobs=3)
    jobs = Recording(settings, 0.02)
    async with consuming(settings, jobs):
        await queue.enqueue("first")
        begun = time.monotonic()
        await jobs.all_ended(1)
        assert time.monotonic() - begun < 0.5
        for number in range(40):
            await queue.enqueue(f"request-{number}")
        await jobs.all_ended(41)
    assert jobs.most <= 3
    assert len(jobs.ended) == 41


async def test_digests_are_taken_at_once_and_within_the_same_bound(
    queue: Queue, server: QueueServer
) -> None:
    settings = settings_of(server, worker_jobs=3)
    jobs = Recording(settings, 0.01)
    names = [f"digest-{number}" for number in range(12)]
    for name in names:
        await queue.enqueue(name, digest=True)
    assert await queue.waiting([names[0], "other"]) == {names[0]}
    async with consuming(settings, jobs):
        await queue.enqueue("artifact")
        await jobs.all_ended(13)
    assert sorted(jobs.begun) == sorted([*names, "artifact"])
    assert jobs.most <= 3
    assert await queue.waiting(names) == set()


async def test_plans_take_no_place_of_what_is_to_be_signed(
    queue: Queue, server: QueueServer
) -> None:
    settings = settings_of(server, worker_jobs=1)
    jobs, plans = Recording(settings), Recording(settings, seconds=60)
    for name in ("plan-1", "plan-2"):
        await queue.enqueue_plan(name)
    async with consuming(settings, jobs, plans):
        await queue.enqueue("artifact")
        await jobs.all_ended(1)
        async with asyncio.timeout(20):
            while plans.begun != ["plan-1"]:
                await asyncio.sleep(0.01)
        assert await queue.plans_waiting() == {"plan-2"}
        await plans.finish(0)


async def test_who_waits_for_the_end_does_not_read_before(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "POLL_SECONDS", 60)
    ended = False
    reads = 0

    async def read() -> bool:
        nonlocal reads
        reads += 1
        return ended

    waiting = asyncio.create_task(queue.wait("one", read, bool, 60, end_only=True))
    pool = await queue.pool()
    while not (reads and await pool.pubsub_numpat()):
        await asyncio.sleep(0.01)
    for state in (State.QUEUED, State.PROCESSING, State.PROCESSING):
        await queue.announce("one", state)
        await asyncio.sleep(0.05)
    ended = True
    await queue.announce("one", State.COMPLETED)
    assert await waiting
    assert reads == 2


async def test_many_who_wait_share_a_subscription_that_is_renewed(
    queue: Queue,
    server: QueueServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", announcements.__name__)
    monkeypatch.setattr(queueing, "POLL_SECONDS", 60)
    monkeypatch.setattr(queueing, "AWAY_SECONDS", 0.1)
    monkeypatch.setattr(announcements, "_AGAIN_SECONDS", 0.1)
    ended: set[str] = set()

    def waiting(name: str) -> asyncio.Task[bool]:
        async def read() -> bool:
            return name in ended

        return asyncio.create_task(queue.wait(name, read, bool, 60))

    async def subscribers() -> int:
        return len(await (await queue.pool()).client_list(_type="pubsub"))

    first, second, gone, last = [waiting(name) for name in ("first", "second", "gone", "last")]
    async with asyncio.timeout(20):
        while await subscribers() != 1:
            await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        ended.add("first")
        await queue.announce("first", State.COMPLETED)
        assert await first
        server.kill()
        ended.add("second")  # nobody says so: who waits reads while nothing can be heard
        assert await second
        await asyncio.sleep(0.5)  # several attempts
        server.start()
        while not queue._announcements.heard:
            await asyncio.sleep(0.01)
        assert await subscribers() == 1
        ended.add("last")
        await queue.announce("last")
        assert await last
    assert not queue._announcements._waiters, "whoever has gone is forgotten"
    said = [one.message for one in caplog.records if one.name == announcements.__name__]
    assert ["not heard" in one for one in said] == [True, False], "once, whatever the attempts"


async def test_nobody_waits_for_a_queue_that_does_not_answer_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcements, "_AGAIN_SECONDS", 0)
    attempts = 0
    second = asyncio.Event()

    @contextlib.asynccontextmanager
    async def subscribe(_pattern: str) -> AsyncIterator[PubSub]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ConnectionRefusedError
        second.set()
        await asyncio.Event().wait()
        yield PubSub(redis.asyncio.ConnectionPool())

    heard = announcements.Announcements(subscribe)
    async with asyncio.timeout(20):
        await heard.ready(60)
        await second.wait()
        await heard.ready(60)
    await heard.close()


async def test_consumer_comes_back_after_the_queue_was_killed(
    queue: Queue, server: QueueServer
) -> None:
    settings = settings_of(server, worker_jobs=2)
    jobs = Recording(settings, 1.0)
    async with consuming(settings, jobs):
        await queue.enqueue("in-flight")
        async with asyncio.timeout(5):
            while not jobs.begun:
                await asyncio.sleep(0.01)
        server.kill()
        await asyncio.sleep(0.3)
        server.start()
        await jobs.all_ended(1)  # it went on, and ended as if nothing had been
        for number in range(4):
            await queue.enqueue(f"later-{number}")
        await jobs.all_ended(5)
    assert jobs.ended.count("in-flight") == 1
    assert jobs.most <= 2


async def test_a_server_that_hangs_holds_nobody_up(
    queue: Queue, server: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that was connected before nor one that connects now."""
    monkeypatch.setattr(queueing, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(queueing, "AWAY_SECONDS", 0.1)
    await queue.enqueue("before")
    fresh = Queue(server.url)
    server.pause()
    try:
        async with asyncio.timeout(20):
            for one in (queue, fresh):
                await one.enqueue("lost")
                await asyncio.sleep(0.15)
                await one.announce("lost")
                with pytest.raises(UnavailableError):
                    await one.waiting(["lost"])
                assert not await one.healthy()
                assert await one.wait("lost", _reading, bool, 0.1) == 1
    finally:
        server.resume()
    await asyncio.sleep(0.15)
    await queue.enqueue("after")
    assert {"before", "after"} <= await queue.waiting(["before", "after"])
    await fresh.close()


async def _reading() -> int:
    return 1


async def test_consumer_waits_for_a_queue_that_is_not_there_yet(tmp_path: Path) -> None:
    with QueueServer.run() as server:
        server.kill()
        settings = settings_of(server)
        jobs = Recording(settings)
        async with consuming(settings, jobs):
            await asyncio.sleep(0.5)
            server.start()
            queue = Queue(server.url)
            await queue.enqueue("request")
            await jobs.all_ended(1)
            await queue.close()


async def test_stopping_lets_jobs_end_and_cancels_the_late(
    queue: Queue, server: QueueServer
) -> None:
    settings = settings_of(server, worker_jobs=2)
    jobs = Recording(settings, 1.0)
    async with consuming(settings, jobs):
        await queue.enqueue("quick")
        async with asyncio.timeout(5):
            while not jobs.begun:
                await asyncio.sleep(0.01)
        jobs.seconds = 60
        await queue.enqueue("late")
        async with asyncio.timeout(5):
            while len(jobs.begun) < 2:
                await asyncio.sleep(0.01)
    begun = time.monotonic()
    await jobs.finish(2)
    assert time.monotonic() - begun < 4
    assert jobs.ended == ["quick", "late"]


async def test_reconciler_enqueues_what_was_lost_and_nothing_twice(
    database: Database, queue: Queue, server: QueueServer
) -> None:
    scene = await seed(database)
    long_ago = utc_now() - dt.timedelta(minutes=1)
    fresh = {"attempt": 0, "lease_until": None, "updated_at": long_ago}
    queued = [await add_request(database, scene, state=State.QUEUED, **fresh) for _ in range(3)]
    abandoned = await add_request(
        database, scene, lease_until=long_ago, updated_at=long_ago, attempt=2
    )
    held = await add_request(database, scene, updated_at=long_ago)
    done = await add_request(database, scene, state=State.COMPLETED, finished_at=long_ago, **fresh)
    now = utc_now()
    assert await reconcile(database, queue, now) == 4
    assert await reconcile(database, queue, now) == 0  # they are in the queue
    redis.Redis(unix_socket_path=str(server.socket)).flushall()
    assert await reconcile(database, queue, now) == 4
    waiting = await queue.waiting([one.id for one in (*queued, abandoned, held, done)])
    assert waiting == {one.id for one in (*queued, abandoned)}


async def test_job_of_a_dead_worker_counts_as_lost(queue: Queue, server: QueueServer) -> None:
    await queue.enqueue("request-1")
    client = redis.Redis(unix_socket_path=str(server.socket))
    [job] = client.zrange(QUEUE_NAME, 0, -1)
    assert await queue.waiting(["request-1"]) == {"request-1"}
    client.set(b"arq:in-progress:" + job, b"1")
    assert await queue.waiting(["request-1"]) == set()


async def test_stranded_submission_fails(database: Database, queue: Queue) -> None:
    scene = await seed(database)
    long_ago = utc_now() - dt.timedelta(seconds=STRANDED_SECONDS + 5)
    fields = {"state": State.SUBMITTED, "attempt": 0, "lease_until": None}
    stranded = await add_request(database, scene, updated_at=long_ago, **fields)
    recent = await add_request(database, scene, **fields)
    await reconcile(database, queue, utc_now())
    async with database.read() as tx:
        after = await requests.get_any(tx, stranded.id)
        other = await requests.get_any(tx, recent.id)
    assert after is not None
    assert (after.state, after.failed_stage) == (State.FAILED, State.SUBMITTED)
    assert after.advice
    assert other is not None
    assert other.state is State.SUBMITTED


async def test_claim_is_one_workers(database: Database) -> None:
    scene = await seed(database)
    made = await add_request(database, scene, state=State.QUEUED, attempt=0, lease_until=None)
    claims = await asyncio.gather(*(lease.claim(database, made.id, 20, RP) for _ in range(8)))
    [won] = [claim for claim in claims if claim]
    assert (won.state, won.attempt) == (State.PROCESSING, 1)
    assert await lease.claim(database, made.id, 20, RP) is None


async def test_lease_is_renewed_while_work_goes_on(database: Database) -> None:
    scene = await seed(database)
    made = await add_request(database, scene, state=State.QUEUED, attempt=0, lease_until=None)
    claimed = await lease.claim(database, made.id, 1.2, RP)
    assert claimed is not None
    meter = ProgressMeter()
    meter.begin(Stage.SIGNING, 242)
    meter.count(7, 242)
    await lease.hold(database, claimed, 1.2, asyncio.sleep(2.0), meter)
    async with database.read() as tx:
        after = await requests.get_any(tx, made.id)
    assert after is not None
    assert after.lease_until is not None
    assert claimed.lease_until is not None
    assert after.lease_until > claimed.lease_until
    assert after.progress == Progress(Stage.SIGNING, 242, 7)
    async with database.transaction() as tx:
        ended = await requests.move(tx, after, State.FAILED, utc_now())
    assert ended is not None
    assert ended.progress is None


async def test_cancellation_ends_the_work(database: Database) -> None:
    scene = await seed(database)
    made = await add_request(database, scene, state=State.QUEUED, attempt=0, lease_until=None)
    claimed = await lease.claim(database, made.id, 2, RP)
    assert claimed is not None
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    async def cancel() -> None:
        await asyncio.sleep(0.2)
        async with database.transaction() as tx:
            await requests.move(tx, claimed, State.CANCELED, utc_now())

    canceling = asyncio.create_task(cancel())
    with pytest.raises(lease.LeaseLostError):
        await lease.hold(database, claimed, 2, work(), ProgressMeter())
    await canceling
    assert ended.is_set()


async def test_newer_attempt_shuts_the_older_one_out(database: Database) -> None:
    scene = await seed(database)
    made = await add_request(database, scene, state=State.QUEUED, attempt=0, lease_until=None)
    first = await lease.claim(database, made.id, 0.05, RP)
    assert first is not None
    await asyncio.sleep(0.1)
    second = await lease.claim(database, made.id, 20, RP)
    assert second is not None
    assert second.attempt == 2
    with pytest.raises(lease.LeaseLostError):
        async with database.transaction() as tx:
            await lease.require(tx, first)
    async with database.transaction() as tx:
        await lease.require(tx, second)
    await lease.give_back(database, first, 0)  # changes nothing
    assert await lease.claim(database, made.id, 20, RP) is None


async def test_given_back_request_is_due_after_its_pause(database: Database) -> None:
    scene = await seed(database)
    made = await add_request(database, scene, state=State.QUEUED, attempt=0, lease_until=None)
    claimed = await lease.claim(database, made.id, 20, RP)
    assert claimed is not None
    await lease.give_back(database, claimed, 0.5)
    assert await lease.claim(database, made.id, 20, RP) is None
    await asyncio.sleep(0.6)
    assert await lease.claim(database, made.id, 20, RP) is not None


def test_scratch_of_dead_workers_is_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    dead = spool / "worker-999999999"
    (dead / "child-x").mkdir(parents=True)
    (dead / "child-x" / "input").write_bytes(b"secret")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # a living worker
        os.close(reader)
        Scratch(spool).open()
        os.write(writer, b"x")
        signal.pause()
        os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"x"
        mine = Scratch(spool)
        mine.open()
        left = {path.name.rpartition("-")[0] for path in spool.iterdir()}
        assert left == {f"worker-{child}", f"worker-{os.getpid()}"}
        mine.close()
        [living] = spool.iterdir()
        assert living.name.startswith(f"worker-{child}-")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
