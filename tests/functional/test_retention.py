"""The rules of retention: what goes, what stays, and that the log does not mind."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.web import Web, WebServer, opened

from sealwright.db import log as db_log
from sealwright.db.log_search import Filter
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import Role
from sealwright.transparency.proof import verify_bundle
from sealwright.transparency.sequence import open_log, sequence
from sealwright.worker.housekeeping import remove_old_samples
from sealwright.worker.retention import apply_retention

REQUESTS = "/api/v1/signing-requests"
LATER = dt.timedelta(days=31)


async def administrator(web: Web) -> httpx.AsyncClient:
    return await web.client(await web.add_user(role=Role.GLOBAL_ADMINISTRATOR))


async def limit(web: Web, **days: int) -> httpx.AsyncClient:
    client = await administrator(web)
    answer = await client.patch("/api/v1/organization", json=days)
    assert answer.status_code == 200, answer.text
    return client


async def test_artifacts_go_and_the_proof_stays(own_web: WebServer, tmp_path: Path) -> None:
    async with opened(own_web) as web:
        key = await open_log(web.database, tmp_path / "log.key", "test.example/log")
        old = await web.submit(b"unsigned")
        await web.complete(old["id"], b"signed")
        client = await limit(web, artifact_days=30)
        assert await apply_retention(web.database, web.store, utc_now()) == 0
        assert await apply_retention(web.database, web.store, utc_now() + LATER) == 1
        assert await apply_retention(web.database, web.store, utc_now() + LATER) == 0
        assert await web.stored_keys() == []
        for name in ("signed-artifact", "unsigned-artifact"):
            answer = await client.get(f"{REQUESTS}/{old['id']}/{name}")
            assert (answer.status_code, answer.json()["code"]) == (410, "gone")
        submitter = await web.submitter()
        again = await submitter.post(
            f"{REQUESTS}/{old['id']}/resubmit", json={"signing_policy": web.scene.policy.slug}
        )
        assert (again.status_code, again.json()["code"]) == (410, "gone")
        await sequence(web.database, key)
        proof = await client.get(f"{REQUESTS}/{old['id']}/proof")
        shown = (await client.get(f"{REQUESTS}/{old['id']}")).json()
        digest = shown["output"]["sha256"]
        assert verify_bundle(proof.text, key.verifier.encode(), digest)
        async with web.database.read() as tx:
            wanted = Filter(action="retention.applied")
            [entry] = await db_log.page(tx, web.scene.organization.id, wanted=wanted)
        assert '"artifacts_of_requests":1' in entry.body


async def test_what_is_shared_or_unfinished_waits(sqlite: Web) -> None:
    await limit(sqlite, artifact_days=30)
    original = await sqlite.submit(b"shared")
    await sqlite.complete(original["id"])
    submitter = await sqlite.submitter()
    made = await submitter.post(
        f"{REQUESTS}/{original['id']}/resubmit", json={"signing_policy": sqlite.scene.policy.slug}
    )
    assert made.status_code == 201, made.text
    assert await removed(sqlite) == 0  # its repetition is not finished
    await sqlite.complete(made.json()["id"])
    assert await removed(sqlite) == 2
    assert await sqlite.stored_keys() == []


async def removed(web: Web) -> int:
    """How many of this organization's requests lose their artifacts a month from now."""
    before = await kept(web)
    for _ in range(2):
        await apply_retention(web.database, web.store, utc_now() + LATER)
    return before - await kept(web)


async def kept(web: Web) -> int:
    client = await administrator(web)
    found = (await client.get(REQUESTS)).json()["items"]
    answers: list[Any] = [
        await client.get(f"{REQUESTS}/{one['id']}/unsigned-artifact") for one in found
    ]
    return sum(answer.status_code == 200 for answer in answers)


async def test_details_are_erased(sqlite: Web) -> None:
    client = await limit(sqlite, details_days=7)
    await apply_retention(sqlite.database, sqlite.store, utc_now() + dt.timedelta(days=8))
    entries = (await client.get("/api/v1/log-entries")).json()["items"]
    states = {one["action"]: one["details"] for one in entries}
    assert states["organization.updated"] == "erased"
    assert states["retention.applied"] == "none"


@pytest.mark.parametrize("days", [-1, 36_501])
async def test_days_are_bounded(sqlite: Web, days: int) -> None:
    client = await administrator(sqlite)
    answer = await client.patch("/api/v1/organization", json={"artifact_days": days})
    assert answer.status_code == 400


async def test_samples_that_a_dead_trial_left_go_after_a_day(sqlite: Web) -> None:
    key = f"trials/{sqlite.scene.organization.id}/{new_id()}/sample"
    writer = await sqlite.store.put_stream(key, limit=10)
    await writer.write(b"sample")
    await writer.commit()
    prefix = f"trials/{sqlite.scene.organization.id}"
    await remove_old_samples(sqlite.store, utc_now())
    assert [one async for one in sqlite.store.list(prefix)] == [key]
    await remove_old_samples(sqlite.store, utc_now() + dt.timedelta(days=1, seconds=1))
    assert [one async for one in sqlite.store.list(prefix)] == []
