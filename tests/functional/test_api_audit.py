"""The audit: what changed from what to what, by whom and from where, searched, exported, proved."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.web import Web, WebServer, opened

from sealwright.db import log as db_log
from sealwright.model.identifiers import utc_now
from sealwright.model.user import Role
from sealwright.transparency.proof import ProofBundle, verify_logged
from sealwright.transparency.sequence import open_log, sequence

ENTRIES = "/api/v1/log-entries"


async def administrator(web: Web) -> httpx.AsyncClient:
    return await web.client(await web.add_user(role=Role.GLOBAL_ADMINISTRATOR))


async def entries(client: httpx.AsyncClient, **wanted: Any) -> list[dict[str, Any]]:
    answer = await client.get(ENTRIES, params=wanted)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def rename(web: Web, client: httpx.AsyncClient, name: str = "Renamed") -> None:
    path = f"/api/v1/projects/{web.scene.project.slug}"
    assert (await client.patch(path, json={"name": name})).status_code == 200


async def test_a_change_is_kept_with_before_after_actor_and_address(web: Web) -> None:
    client = await administrator(web)
    me = (await client.get("/api/v1/me")).json()
    await rename(web, client)
    [entry] = await entries(client, action="project.updated")
    assert entry["before"] == {"name": web.scene.project.name}
    assert entry["after"] == {"name": "Renamed"}
    assert (entry["actor"], entry["actor_name"]) == (f"user:{me['id']}", me["name"])
    assert (entry["address"], entry["details"]) == ("127.0.0.1", "intact")
    assert entry["project_id"] == web.scene.project.id
    # the log itself names nobody and shows no value
    assert "127.0.0.1" not in entry["body"]
    assert "Renamed" not in entry["body"]
    assert len(json.loads(entry["body"])["data"]["details"]) == 64


async def test_a_policy_is_found_by_all_that_it_concerns(sqlite: Web) -> None:
    client = await administrator(sqlite)
    project, policy = sqlite.scene.project, sqlite.scene.policy
    path = f"/api/v1/projects/{project.slug}/signing-policies/{policy.slug}"
    approver = await sqlite.add_user()
    changed = await client.patch(path, json={"quorum": 1, "approvers": [approver.id]})
    assert changed.status_code == 200, changed.text
    me = (await client.get("/api/v1/me")).json()["id"]
    request = await sqlite.submit()
    for wanted in (
        {"project": project.id},
        {"signing_policy": policy.id},
        {"certificate": policy.certificate_id},
        {"actor": me},
        {"action": "signing_policy."},
    ):
        found = await entries(client, **wanted)
        [entry] = [one for one in found if one["action"] == "signing_policy.updated"]
        assert entry["after"] == {"quorum": 1, "approvers": [approver.id]}
    of_project = {one["action"] for one in await entries(client, project=project.id)}
    assert {"request.submitted", "signing_policy.updated"} <= of_project
    of_request = await entries(client, request=request["id"])
    assert {one["request_id"] for one in of_request} == {request["id"]}
    assert await entries(client, user=approver.id) == []
    assert await entries(client, until="2020-01-01T00:00:00Z") == []


@pytest.mark.parametrize("wanted", [{"since": "yesterday"}, {"cursor": "eA"}, {"actor": "x" * 99}])
async def test_a_malformed_search_is_refused(sqlite: Web, wanted: dict[str, str]) -> None:
    answer = await (await administrator(sqlite)).get(ENTRIES, params=wanted)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_pages_follow_each_other(sqlite: Web) -> None:
    client = await administrator(sqlite)
    for number in range(5):
        await rename(sqlite, client, f"Name {number}")
    wanted = {"action": "project.updated", "limit": "2"}
    names, cursor = [], None
    while True:
        page = (await client.get(ENTRIES, params=wanted | ({"cursor": cursor} if cursor else {}))
                ).json()  # fmt: skip
        names += [one["after"]["name"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == [f"Name {number}" for number in (4, 3, 2, 1, 0)]


async def test_exports(sqlite: Web) -> None:
    client = await administrator(sqlite)
    await rename(sqlite, client, '=HYPERLINK("https://example.com")')
    await sqlite.submit()
    answer = await client.get(f"{ENTRIES}/export", params={"format": "json"})
    assert answer.headers["content-disposition"].startswith("attachment")
    exported = answer.json()
    listed = await entries(client, limit=200)
    assert [one["id"] for one in exported] == [one["id"] for one in listed]
    answer = await client.get(f"{ENTRIES}/export", params={"action": "project.updated"})
    [row] = list(csv.DictReader(io.StringIO(answer.text)))
    assert json.loads(row["after"]) == {"name": '=HYPERLINK("https://example.com")'}
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())


async def test_an_entry_is_proved(own_web: WebServer, tmp_path: Path) -> None:
    async with opened(own_web) as web:
        client = await administrator(web)
        key = await open_log(web.database, tmp_path / "log.key", "test.example/log")
        await rename(web, client)
        [entry] = await entries(client, action="project.updated")
        path = f"{ENTRIES}/{entry['id']}"
        assert (await client.get(f"{path}/proof")).status_code == 503
        await sequence(web.database, key)
        proof = (await client.get(f"{path}/proof")).json()
        assert (proof["details"], proof["tree_size"] > proof["sequence"]) == ("intact", True)
        leaf, _ = verify_logged(ProofBundle.parse(proof["proof"]), key.verifier.encode())
        assert leaf.event.action == "project.updated"

        await tamper(web, "UPDATE log_details SET details = replace(details, 'Renamed', 'Never')")
        [altered] = await entries(client, action="project.updated")
        assert (altered["details"], altered["after"]) == ("altered", {})
        async with web.database.transaction() as tx:
            assert await db_log.erase_details(tx, web.scene.organization.id, utc_now(), limit=100)
        [erased] = await entries(client, action="project.updated")
        assert (erased["details"], erased["before"], erased["address"]) == ("erased", {}, "")
        assert (await client.get(f"{path}/proof")).json()["proof"] == proof["proof"]

        body = "UPDATE log_entries SET body = replace(body, 'updated', 'created')"
        await tamper(web, f"{body} WHERE id = {entry['id']}")
        refused = await client.get(f"{path}/proof")
        assert (refused.status_code, refused.json()["code"]) == (422, "verification_failed")


async def tamper(web: Web, statement: str) -> None:
    async with web.database.transaction() as tx:
        await tx.change(sa.text(statement))


async def test_who_acted_on_a_request_did_so_from_an_address(sqlite: Web) -> None:
    approver = await sqlite.add_user()
    await sqlite.change_policy(quorum=2, approvers=frozenset({approver.id}))
    request = await sqlite.submit()
    client = await sqlite.client(approver)
    path = f"/api/v1/signing-requests/{request['id']}"
    assert (await client.post(f"{path}/approve", json={})).status_code == 200
    submitter = await sqlite.submitter()
    assert (await submitter.post(f"{path}/cancel", json={})).status_code == 200
    found = await entries(await administrator(sqlite), request=request["id"])
    addresses = {one["action"]: one["address"] for one in found}
    acted = ("request.submitted", "approval.given", "request.canceled")
    assert [addresses[action] for action in acted] == ["127.0.0.1"] * 3
    assert all(one["details"] in {"intact", "none"} for one in found)
