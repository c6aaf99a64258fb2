"""Requests under terms that nobody endorsed yet: they wait, are seen to wait, and go on."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import httpx
from tests.endorsing import Desk, equip
from tests.functional.test_passkeys import session
from tests.functional.test_web_endorsements import officer_of
from tests.functional.test_web_pages import logged_in
from tests.functional.test_web_projects import post
from tests.web import Web

from sealwright.db import endorsements, notifications, projects, requests
from sealwright.model.endorsement import EndorsementKind, passkey_terms
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import relying_party
from sealwright.model.project import snapshot
from sealwright.model.request import State
from sealwright.queueing import lease
from sealwright.queueing.reconcile import reconcile
from sealwright.reporting.notify import LETTER

WAITS = "The signing policy waits for an endorsement: nobody with a trusted passkey has"


async def claimed(web: Web, request_id: str) -> State | None:
    """What a worker would make of the request, whose message it got."""
    found = await lease.claim(web.database, request_id, 20, relying_party(web.server.url))
    return found.state if found else None


async def test_a_request_waits_is_seen_to_wait_and_goes_on(web: Web) -> None:
    officer = await officer_of(web)
    made = await web.submit()
    client = await session(web, officer.user)
    browser = await logged_in(web, officer.user)
    here = f"/api/v1/signing-requests/{made['id']}"
    assert made["state"] == "QueuedForProcessing"
    assert await claimed(web, made["id"]) is State.WAITING_FOR_ENDORSEMENT
    detail = (await client.get(here)).json()
    assert detail["state"] == "WaitingForEndorsement"
    assert detail["reason"].startswith(WAITS)
    assert detail["needed_endorsement"]["by"] == ["Olive"]
    listed = await client.get("/api/v1/signing-requests?state=WaitingForEndorsement")
    assert [one["id"] for one in listed.json()["items"]] == [made["id"]]
    page = (await browser.get(f"/signing-requests/{made['id']}")).text
    assert page.count(WAITS) == 1
    assert "Waits for an endorsement" in page
    home = (await browser.get("/")).text
    assert "Signing requests that wait for it" in home
    assert f'href="/signing-requests/{made["id"]}"' in home
    other = await web.add_user(role=officer.user.role, password_hash=officer.user.password_hash)
    another = await logged_in(web, other)
    assert "that wait for it" not in (await another.get("/")).text, "no passkey of theirs endorses"
    # who can endorse is told, once
    assert await claimed(web, (await web.submit())["id"]) is State.WAITING_FOR_ENDORSEMENT
    async with web.database.read() as tx:
        sent = await notifications.of_target(tx, officer.user.id, limit=9)
    subjects = [one.payload["subject"] for one in sent if one.event == LETTER]
    assert subjects.count(f"Endorsement needed: {web.scene.policy.name}") == 1
    # looked at again nothing of it changes, and it is left in peace for a while
    assert await claimed(web, made["id"]) is State.WAITING_FOR_ENDORSEMENT
    assert (await client.get(here)).json()["version"] == detail["version"]
    until = (await web.read(made["id"])).lease_until
    assert until
    assert until > utc_now() + dt.timedelta(minutes=1)

    async def endorse(kind: str) -> None:
        items = (await client.get("/api/v1/endorsements")).json()["items"]
        [one] = [item for item in items if item["kind"] == kind]
        body = {name: one[name] for name in ("kind", "subject_id", "version")}
        signed = officer.device.sign(one["public_key"])
        answer = await client.post("/api/v1/endorsements", json=body | {"credential": signed})
        assert answer.status_code == 201, answer.text

    await endorse("signing-policy")
    later = utc_now() + dt.timedelta(seconds=5)
    async with web.database.read() as tx:
        assert made["id"] in await requests.due(tx, later, quiet_seconds=2), (
            "also of a lost message"
        )
    assert await claimed(web, made["id"]) is State.WAITING_FOR_ENDORSEMENT
    now_waits = (await client.get(here)).json()
    assert now_waits["version"] != detail["version"]
    assert "configuration waits for an endorsement" in now_waits["reason"]
    await endorse("artifact-configuration")
    assert await claimed(web, made["id"]) is State.PROCESSING
    after = (await client.get(here)).json()
    assert (after["reason"], after["needed_endorsement"]) == ("", None)
    actions = [one["action"] for one in after["log"]]
    assert actions.count("request.waiting_for_endorsement") == 1
    assert actions.count("request.queued_for_processing") == 2


async def test_an_endorsement_alone_wakes_who_watches(web: Web) -> None:
    await web.change_policy(quorum=1)
    officer = await officer_of(web)
    made = await web.submit()
    client = await session(web, officer.user)
    here = f"/api/v1/signing-requests/{made['id']}"
    seen = (await client.get(here)).json()
    assert seen["state"] == "WaitingForApproval"

    async def watch() -> httpx.Response:
        return await client.get(here, params={"wait": "30", "known": seen["version"]})

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.3)
    assert not watching.done()
    items = (await client.get("/api/v1/endorsements")).json()["items"]
    [one] = [item for item in items if item["kind"] == "signing-policy"]
    body = {name: one[name] for name in ("kind", "subject_id", "version")}
    signed = officer.device.sign(one["public_key"])
    await client.post("/api/v1/endorsements", json=body | {"credential": signed})
    woken = (await watching).json()
    assert woken["version"] != seen["version"]
    assert "configuration waits" in woken["needed_endorsement"]["message"]


async def test_what_waits_for_too_long_fails_and_what_cannot_be_endorsed_does_not_wait(
    web: Web,
) -> None:
    await officer_of(web)
    await web.change_policy(approval_hours=2)
    late, outdated = [(await web.submit())["id"] for _ in range(2)]
    assert await claimed(web, late) is State.WAITING_FOR_ENDORSEMENT
    await reconcile(web.database, web.queue, utc_now() + dt.timedelta(hours=3))
    failed = await web.read(late)
    assert (failed.state, failed.failed_stage) == (State.FAILED, State.WAITING_FOR_ENDORSEMENT)
    assert failed.reason.startswith("The endorsement did not come within the 2 hours")
    # a policy that says something else by now: this snapshot is never endorsed, and is not kept
    assert await claimed(web, outdated) is State.WAITING_FOR_ENDORSEMENT
    lost = (await web.submit())["id"]
    assert await claimed(web, lost) is State.WAITING_FOR_ENDORSEMENT
    approvers = web.scene.policy.approvers
    await web.change_policy(approvers=approvers - {web.scene.approvers[0].id})
    assert await claimed(web, lost) is State.PROCESSING, "no endorsement can name who has left"
    await web.change_policy(approvers=approvers, timestamp_required=True)
    assert await claimed(web, outdated) is State.PROCESSING, "where it is refused, with the reason"


async def test_a_newer_version_an_unknown_passkey_and_trust_that_is_taken_back(web: Web) -> None:
    rp = relying_party(web.server.url)
    await web.change_policy(quorum=1, passkey_required=True)
    officer = await officer_of(web)
    approver = await equip(web.database, web.scene.approvers[0], rp)
    desk = Desk(web.database, web.scene, officer)
    await desk.endorse_policy(web.scene.policy)
    first = await desk.approved(
        web.scene.policy, approver, state=State.QUEUED, attempt=0, lease_until=None
    )
    assert await claimed(web, first.id) is State.WAITING_FOR_ENDORSEMENT
    assert "configuration waits" in (await web.read(first.id)).reason
    await desk.endorse_configuration(web.scene.configuration)
    assert await claimed(web, first.id) is State.WAITING_FOR_ENDORSEMENT
    assert "by a passkey that nobody endorsed" in (await web.read(first.id)).reason
    key = approver.passkey
    await desk.endorse(EndorsementKind.PASSKEY, key.id, passkey_terms(key))
    assert await claimed(web, first.id) is State.PROCESSING

    newer = dataclasses.replace(web.scene.configuration, id=new_id(), version=2, is_default=False)
    newest = dataclasses.replace(newer, id=new_id(), version=3)
    async with web.database.transaction() as tx:
        await projects.add_configuration(tx, newer)
    frozen = snapshot(web.scene.policy, web.scene.certificate.sha256, newer)
    asked: dict[str, Any] = {
        "state": State.QUEUED, "attempt": 0, "lease_until": None, "snapshot": frozen,
        "policy_hash": frozen.sha256, "artifact_configuration_id": newer.id,
    }  # fmt: skip
    second = await desk.approved(web.scene.policy, approver, **asked)
    assert await claimed(web, second.id) is State.WAITING_FOR_ENDORSEMENT
    async with web.database.transaction() as tx:
        await projects.add_configuration(tx, newest)
    assert await claimed(web, second.id) is State.PROCESSING, "only version 3 can be endorsed now"

    third = await desk.approved(
        web.scene.policy, approver, **asked | {"artifact_configuration_id": newest.id,
        "snapshot": (latest := snapshot(web.scene.policy, web.scene.certificate.sha256, newest)),
        "policy_hash": latest.sha256},
    )  # fmt: skip
    assert await claimed(web, third.id) is State.WAITING_FOR_ENDORSEMENT
    async with web.database.transaction() as tx:  # as `sealwright trust remove` does
        await endorsements.remove_anchor(tx, key.organization_id, officer.passkey.id)
    assert await claimed(web, third.id) is State.PROCESSING


async def test_a_proposal_says_that_acceptance_waits_for_an_endorsement(sqlite: Web) -> None:
    officer = await officer_of(sqlite)
    client, browser = await session(sqlite, officer.user), await logged_in(sqlite, officer.user)
    root = f"projects/{sqlite.scene.project.slug}/proposals"
    given = {"slug": "proposed", "name": "Proposed", "xml": sqlite.scene.configuration.xml}
    made = (await client.post(f"/api/v1/{root}", json=given)).json()
    page = (await browser.get(f"/{root}/{made['id']}")).text
    assert ">endorsed</a> it: Olive can." in page
    accepted = await post(browser, f"/{root}/{made['id']}/accept", f"/{root}/{made['id']}")
    assert accepted.status_code == 303
    page = (await browser.get(f"/{root}/{made['id']}")).text
    assert "The version that it became waits for an endorsement</strong> by Olive" in page
