"""`submit` when the database fails around its commit, and when its caller goes away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.database import Scene, seed
from tests.valkey import Valkey

from sealwright.db import Database, Transaction, requests
from sealwright.errors import UnavailableError
from sealwright.intake.upload import receive_raw
from sealwright.model.request import State
from sealwright.model.user import Principal
from sealwright.policy.permissions import Access, Grant
from sealwright.queueing.queue import Queue
from sealwright.storage import ArtifactStore, open_store
from sealwright.submit import Content, Submission, Submitted, received, receiving, submit


class Failing(Database):
    """A database whose next writing transaction loses its connection at a chosen moment."""

    fails = ""

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if self.fails == "begin":
            self.fails = ""
            raise UnavailableError("lost")
        try:
            async with super().transaction() as tx:
                yield tx
                if self.fails == "commit":
                    raise UnavailableError("lost")
        finally:
            failed, self.fails = self.fails, ""
        if failed == "answer":
            raise UnavailableError("lost")


async def body() -> AsyncIterator[bytes]:
    yield b"artifact"


async def hand_in(
    database: Database, queue: Queue, store: ArtifactStore, scene: Scene, key: str | None
) -> Submitted:
    grant = Grant(Principal(scene.submitter, "token"), Access.PARTICIPANT)
    submission = Submission(scene.project.slug, scene.policy.slug, idempotency_key=key)
    async with receiving(store, scene.organization.id) as reception:
        file = await receive_raw(body(), await reception.writer(100), file_name="a.exe")
        return await submit(database, queue, grant, submission, Content(received(file)), reception)


async def all_requests(database: Database, scene: Scene) -> list[str]:
    async with database.read() as tx:
        return [one.id for one in await requests.page(tx, scene.organization.id, limit=1000)]


@pytest.mark.parametrize("fails", ["begin", "commit", "answer"])
async def test_the_client_is_told_what_happened(
    database_url: str, valkey: Valkey, tmp_path: Path, fails: str
) -> None:
    database, queue = Failing(database_url), Queue(valkey.url)
    store = open_store(f"file://{tmp_path}/store")
    try:
        scene = await seed(database)
        database.fails = fails
        if fails == "answer":
            # it was committed: the client hears of success, though the answer was lost
            submitted = await hand_in(database, queue, store, scene, "key")
            assert submitted.request.state is State.QUEUED
            assert await all_requests(database, scene) == [submitted.request.id]
        else:
            with pytest.raises(UnavailableError):
                await hand_in(database, queue, store, scene, "key")
            assert await all_requests(database, scene) == []
        again = await hand_in(database, queue, store, scene, "key")
        assert await all_requests(database, scene) == [again.request.id]
        assert again.replayed == (fails == "answer")
        stored = {key async for key in store.list("requests/")}
        assert again.request.input is not None
        assert again.request.input.key in stored
        # where the fate of a commit was unknown the artifact is kept; elsewhere nothing stays
        assert len(stored) == (2 if fails == "commit" else 1)
    finally:
        await queue.close()
        await database.close()


async def test_a_client_that_goes_away_in_the_middle(
    database_url: str, valkey: Valkey, tmp_path: Path
) -> None:
    """Canceled at any moment: either the request is there with its artifact, or neither is."""
    database, queue = Database(database_url), Queue(valkey.url)
    store = open_store(f"file://{tmp_path}/store")
    try:
        scene = await seed(database)
        for turn in range(60):
            task = asyncio.create_task(hand_in(database, queue, store, scene, None))
            await asyncio.sleep(turn / 1000)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        made = await all_requests(database, scene)
        stored = {key.split("/")[2] async for key in store.list("requests/")}
        assert set(made) == stored
        assert 0 < len(made) < 60
    finally:
        await queue.close()
        await database.close()
