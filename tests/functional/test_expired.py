"""What is removed by time: only that, a few rows at once, and nothing that is still needed."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests import database as rows
from tests.database import add_request, seed
from tests.expiry import count, id_of, insert
from tests.web import PASSWORD, WebServer, opened

from sealwright.db import Database, certificates, expired, plans, requests, tables
from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.request import SigningRequest, State
from sealwright.model.user import Role
from sealwright.storage import open_store
from sealwright.transparency.proof import verify_bundle
from sealwright.transparency.sequence import open_log, sequence
from sealwright.worker.housekeeping import keep_house_once, remove_expired
from sealwright.worker.retention import apply_retention

NOW = utc_now()
LONG_AGO = NOW - dt.timedelta(days=400)
A_YEAR_AGO = NOW - dt.timedelta(days=369)
SOON = NOW + dt.timedelta(days=400)


async def _requests(database: Database) -> tuple[rows.Scene, SigningRequest, SigningRequest]:
    scene = await seed(database)
    ended = await add_request(database, scene, state=State.COMPLETED, finished_at=LONG_AGO)
    waiting = await add_request(database, scene, state=State.WAITING_FOR_APPROVAL, finished_at=None)
    return scene, ended, waiting


async def test_rows_go_once_their_time_is_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expired, "BATCH", 3)
    scene, ended, waiting = await _requests(database)
    own = {"organization_id": scene.organization.id}
    user = own | {"user_id": scene.submitter.id}
    of_key = {"certificate_id": scene.certificate.id}
    kept: dict[sa.Table, Sequence[dict[str, Any]]] = {
        tables.notifications: [{"created_at": LONG_AGO, "due_at": NOW}, {"created_at": NOW}],
        tables.idempotency_keys: [
            {"created_at": LONG_AGO, "request_id": waiting.id, "user_id": scene.submitter.id},
            {"created_at": NOW, "request_id": ended.id, "user_id": scene.submitter.id},
        ],
        tables.run_submissions: [
            {"created_at": LONG_AGO, "request_id": waiting.id},
            {"created_at": NOW, "request_id": ended.id},
        ],
        tables.timestamp_tokens: [
            {"created_at": LONG_AGO, "request_id": waiting.id},
            {"created_at": NOW, "request_id": ended.id},
        ],
        tables.api_tokens: [
            user | {"kind": "api", "expires_at": None},
            user | {"kind": "session", "expires_at": NOW + dt.timedelta(days=1)},
            user | {"kind": "api", "revoked_at": NOW - dt.timedelta(days=1)},
        ],
        tables.signature_intents: [
            of_key | {"id": id_of(LONG_AGO), "request_id": ended.id, "state": "intended"},
            of_key | {"id": id_of(A_YEAR_AGO), "request_id": ended.id, "state": "made"},
        ],
        tables.certificate_orders: [{"finished_at": None}, {"finished_at": A_YEAR_AGO}],
        tables.one_time_secrets: [{"expires_at": SOON}],
        tables.seen_token_ids: [{"expires_at": SOON}],
    }
    old: dict[sa.Table, dict[str, Any]] = {
        tables.notifications: {"created_at": LONG_AGO},
        tables.idempotency_keys: {
            "created_at": LONG_AGO, "request_id": ended.id, "user_id": scene.submitter.id,
        },
        tables.run_submissions: {"created_at": LONG_AGO, "request_id": ended.id},
        tables.timestamp_tokens: {"created_at": LONG_AGO, "request_id": ended.id},
        tables.api_tokens: user | {"kind": "session", "expires_at": LONG_AGO},
        tables.signature_intents: of_key | {"request_id": ended.id, "state": "made"},
        tables.certificate_orders: {"finished_at": LONG_AGO},
        tables.one_time_secrets: {"expires_at": LONG_AGO},
        tables.seen_token_ids: {"expires_at": LONG_AGO},
    }  # fmt: skip
    for table, some in kept.items():
        for values in some:
            await insert(database, table, **_of(table, own | values))
    total = 0
    for table, values in old.items():
        for _ in range(4):
            dated = {"id": id_of(LONG_AGO)} if table is tables.signature_intents else {}
            await insert(database, table, **_of(table, own | values | dated))
            total += 1
    session, provider = new_id(), new_id()
    await insert(
        database, tables.api_tokens, **user, id=session, kind="session", revoked_at=LONG_AGO
    )
    await insert(database, tables.identity_providers, **own, id=provider)
    await insert(database, tables.sign_on_sessions, token_id=session, provider_id=provider)
    await insert(database, tables.api_tokens, **user, kind="request", expires_at=LONG_AGO)
    pending = rows.certificate(scene.organization.id, slug="pending", sha256="", certificate=b"")
    async with database.transaction() as tx:
        await certificates.add(tx, pending)
    for certificate in (scene.certificate, pending):
        await insert(database, tables.enrolments, certificate_id=certificate.id, due_at=None)
    assert await remove_expired(database, NOW) == total + 4
    assert await remove_expired(database, NOW) == 0
    for table, some in kept.items():
        assert await count(database, table) == len(some), table.name
    assert await count(database, tables.enrolments) == 1, "its certificate has not been issued"


def _of(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in table.c}


async def test_trials_go_unless_a_proposal_rests_on_them(database: Database) -> None:
    scene, _, _ = await _requests(database)
    base = {
        "organization_id": scene.organization.id, "project_id": scene.project.id,
        "requested_by": scene.submitter.id,
    }  # fmt: skip
    names = {name: id_of(LONG_AGO) for name in ("done", "waiting", "proposed")} | {
        "young": new_id()
    }
    for name, one in names.items():
        state = "waiting" if name == "waiting" else "done"
        await insert(database, tables.trials, **base, id=one, state=state)
    await insert(
        database, tables.proposals, **base, trial_id=names["proposed"],
        proposed_by=scene.submitter.id,
    )  # fmt: skip
    assert await remove_expired(database, NOW) == 1
    async with database.read() as tx:
        left = {row["id"] for row in await tx.all(sa.select(tables.trials.c.id))}
    assert left == set(names.values()) - {names["done"]}


async def test_results_go_in_parts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expired, "BATCH", 3)
    scene, ended, waiting = await _requests(database)
    for request in (ended, waiting):
        await insert(database, tables.plans, request_id=request.id)
        for word in ("setup", "exe", "c" * 40, "d" * 64):
            await insert(
                database, tables.request_words, request_id=request.id, word=word,
                organization_id=scene.organization.id,
            )  # fmt: skip
        for position in range(7):
            await insert(
                database, tables.file_results, request_id=request.id, position=position, outputs=[]
            )
    late = NOW - dt.timedelta(days=30)
    seen = []
    more = True
    while more:
        async with database.transaction() as tx:
            done, more = await expired.remove_results(tx, scene.organization.id, late, NOW)
        seen.append((done, await count(database, tables.file_results)))
    assert seen == [(0, 11), (0, 8), (1, 7), (0, 7)]
    async with database.read() as tx:
        assert await plans.get(tx, ended.id) is None
        assert await plans.get(tx, waiting.id)
        found = await requests.get_any(tx, ended.id)
        assert found is not None
        assert found.results_removed_at is not None
        words = await tx.all(sa.select(tables.request_words.c["request_id", "word"]))
    kept = [row["word"] for row in words if row["request_id"] == ended.id]
    assert {"c" * 40, "d" * 64} <= set(kept)
    assert not {"setup", "exe"} & set(kept)
    assert "setup" in [row["word"] for row in words if row["request_id"] == waiting.id]


async def test_pages_and_proofs_stay(own_web: WebServer, tmp_path: Path) -> None:
    """A year later, with every rule on: the request's page, its audit and its proof."""
    async with opened(own_web) as web:
        key = await open_log(web.database, tmp_path / "log.key", "test.example/log")
        admin = await web.client(await web.add_user(role=Role.GLOBAL_ADMINISTRATOR))
        rules = {"artifact_days": 30, "results_days": 60, "details_days": 90}
        changed = await admin.patch("/api/v1/organization", json=rules)
        assert changed.json()["results_days"] == 60
        made = await web.submit(b"unsigned")
        await web.complete(made["id"], b"signed", results=3)
        path = f"/api/v1/signing-requests/{made['id']}"
        before = (await admin.get(path)).json()
        assert len((await admin.get(f"{path}/files")).json()["items"]) == 3
        await sequence(web.database, key)
        await keep_house_once(web.database, web.store, SOON)
        await keep_house_once(web.database, web.store, SOON)
        await sequence(web.database, key)
        client = await web.client(web.scene.approvers[0])
        after = (await client.get(path)).json()
        assert (before["file_count"], after["file_count"]) == (3, 0)
        assert after["output"]["sha256"] == before["output"]["sha256"]
        assert [one["action"] for one in after["log"]] == [one["action"] for one in before["log"]]
        for part in ("files", "plan"):
            gone = await client.get(f"{path}/{part}")
            assert (gone.status_code, gone.json()["code"]) == (410, "gone")
        proof = await client.get(f"{path}/proof")
        assert verify_bundle(proof.text, key.verifier.encode(), before["output"]["sha256"])
        user = await web.add_user(
            role=Role.GLOBAL_ADMINISTRATOR, password_hash=await hash_password(PASSWORD)
        )
        browser = await web.client()
        await browser.post("/login", data={"email": user.email, "password": PASSWORD})
        page = await browser.get(f"/signing-requests/{made['id']}")
        assert "removed on" in page.text
        for there in (f"/audit?request={made['id']}", "/audit?action=retention.", "/organization"):
            assert (await browser.get(there)).status_code == 200


async def test_artifacts_behind_many_that_are_shared(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await seed(database)
    store = open_store(f"file://{tmp_path}")
    for number in range(5):
        at = LONG_AGO + dt.timedelta(hours=number)
        shared = await add_request(database, scene, state=State.COMPLETED, finished_at=at)
        await add_request(
            database, scene, state=State.COMPLETED, finished_at=NOW, original_request_id=shared.id
        )
    last = await add_request(
        database, scene, state=State.COMPLETED, finished_at=NOW - dt.timedelta(days=40)
    )
    real = requests.with_artifacts

    async def two(*arguments: Any, **named: Any) -> list[SigningRequest]:
        return await real(*arguments, **named, limit=2)

    monkeypatch.setattr(requests, "with_artifacts", two)
    tenant = dataclasses.replace(scene.organization, artifact_days=30)
    async with database.transaction() as tx:
        values = {"artifact_days": tenant.artifact_days}
        await tx.change(tables.organizations.update().values(**values))
    assert await apply_retention(database, store, NOW) == 1
    async with database.read() as tx:
        found = await requests.get_any(tx, last.id)
    assert found is not None
    assert found.artifacts_removed_at is not None
