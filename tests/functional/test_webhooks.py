"""Webhooks in: one effect for each event, whatever comes how often in which order (G9)."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime as dt
import hashlib
import hmac
import json
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.responses import Response
from tests.ci import Ci, linked, running_ci
from tests.fakes.github_state import Artifact, Content
from tests.fakes.github_world import SECRET, World, running_world
from tests.valkey import Valkey
from tests.web import WebServer

from sealwright.connectors.connector import WebhookEvent
from sealwright.connectors.github import GitHubConnector
from sealwright.db import approvals, build_systems, outbox, webhooks
from sealwright.deliveries import act_on_deliveries, act_on_due, keep
from sealwright.errors import UnauthenticatedError
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.origin import Proof
from sealwright.model.request import State, Verdict
from sealwright.model.user import Role
from sealwright.web.auth import csrf_token

#: G9 asks for 10,000: SEALWRIGHT_SCHEDULES=10000
SCHEDULES = int(os.environ.get("SEALWRIGHT_SCHEDULES", "200"))


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


def run_ended(run_id: int = 5001, **run: Any) -> dict[str, Any]:
    facts = {
        "id": run_id, "run_attempt": 1, "event": "push", "conclusion": "success",
        "head_sha": "c" * 40, "head_branch": "main", "path": ".github/workflows/release.yml",
        "head_repository": {"id": 1001},
    }  # fmt: skip
    return {"action": "completed", "workflow_run": facts | run}


def pressed(
    check: dict[str, Any], identifier: str = "approve", user: int = 583231
) -> dict[str, Any]:
    return {
        "action": "requested_action",
        "check_run": {"id": check["id"], "external_id": check["external_id"], "app": {"id": 1}},
        "requested_action": {"identifier": identifier},
        "sender": {"id": user, "login": "octocat"},
    }


async def test_a_trigger_submits_what_a_run_left(ci: Ci) -> None:
    await ci.add_trigger()
    ci.end_run()
    ci.world.state.artifacts[7002] = Artifact(7002, 5001, Content(b"logs"), "logs")
    answer = await ci.deliver("workflow_run", run_ended())
    assert (answer.status_code, answer.json()) == (202, {"outcome": "run-ended"})
    await ci.act()
    [request] = await ci.all_requests()
    assert (request.submitted_by, request.origin.proof) == (ci.robot.id, Proof.RUN)
    assert request.origin.artifact_id == "7001"
    [delivery] = await ci.deliveries()
    assert delivery.outcome == f"submitted: {request.id}"
    assert (await ci.work(request.id)).state is State.QUEUED


@pytest.mark.parametrize(
    "change",
    [
        lambda ci: ci.end_run("failure"),
        lambda ci: setattr(ci.world.run, "event", "pull_request"),
        lambda ci: setattr(ci.world.run, "head_repository_id", 1003),
        lambda ci: ci.world.repository.refs.clear(),
        lambda ci: setattr(ci.world.artifact, "expired", True),
    ],
)
async def test_what_the_delivery_says_is_not_believed(ci: Ci, change: Any) -> None:
    await ci.add_trigger()
    ci.end_run()
    change(ci)
    await ci.deliver("workflow_run", run_ended())
    await ci.act()
    assert await ci.all_requests() == []


async def test_triggers_that_do_not_fit(ci: Ci) -> None:
    await ci.add_trigger(refs=["refs/tags/v*"])
    await ci.add_trigger(definition=".github/workflows/other.yml")
    await ci.add_trigger(artifact="installer")
    await ci.add_trigger(enabled=False)
    ci.end_run()
    await ci.deliver("workflow_run", run_ended())
    await ci.act()
    assert await ci.all_requests() == []


async def test_a_build_system_that_hangs_holds_up_no_other(ci: Ci) -> None:
    await ci.add_trigger()
    ci.end_run()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = await _twin(ci, f"http://127.0.0.1:{silent.getsockname()[1]}")
        payload = run_ended() | {"repository": {"id": 1001}}
        event = WebhookEvent("", "workflow_run", "completed", "1001", payload)
        for _ in range(5):
            await keep(ci.database, hung, dataclasses.replace(event, delivery_id=new_id()))
        await ci.deliver("workflow_run", run_ended())
        acting = asyncio.create_task(act_on_deliveries(ci.database, ci.web.queue, ci.systems))
        try:
            async with asyncio.timeout(60):
                while not (delivery := (await ci.deliveries())[0]).outcome:
                    await asyncio.sleep(0.02)
        finally:
            acting.cancel()
        async with ci.database.read() as tx:
            others = await webhooks.of_system(tx, hung.id)
    assert delivery.outcome.startswith("submitted")
    assert [one.outcome for one in others] == [""] * 5
    assert sum(one.attempts for one in others) == 3, "a lane has room for so many"


async def _twin(ci: Ci, base_url: str) -> TrustedBuildSystem:
    """Another build system of the organization, with the same link and trigger."""
    here = await _system(ci)
    twin = dataclasses.replace(here, id=new_id(), slug="twin", base_url=base_url)
    async with ci.database.transaction() as tx:
        sealed = await build_systems.sealed_credentials(tx, here.id)
        vault = ci.systems.vault()
        await build_systems.add(tx, twin, vault.seal(twin.id, vault.open(here.id, sealed)))
        link = await build_systems.get_link(tx, here.organization_id, ci.link_id)
        [trigger] = await build_systems.find_triggers(tx, here.organization_id, link_id=ci.link_id)
        assert link is not None
        copy_ = dataclasses.replace(link, id=new_id(), build_system_id=twin.id)
        await build_systems.add_link(tx, copy_)
        trigger = dataclasses.replace(trigger, id=new_id(), link_id=copy_.id)
        await build_systems.add_trigger(tx, trigger)
    return twin


async def test_who_pressed_approve_must_be_an_approver(ci: Ci) -> None:
    await ci.web.change_policy(quorum=1)
    body = await ci.submit()
    assert (await ci.work(body["id"])).state is State.WAITING_FOR_APPROVAL
    await ci.tell()
    [check] = ci.world.state.checks.values()
    assert [one["identifier"] for one in check["actions"]] == ["approve", "deny"]

    await ci.deliver("check_run", pressed(check))
    await ci.act()
    assert (await ci.read(body["id"])).state is State.WAITING_FOR_APPROVAL
    await ci.tell()
    assert "no account here" in str(check["output"])

    stranger = await ci.web.add_user()
    identity = {"build_system": "github", "remote_user_id": "583231", "user": stranger.id}
    made = await ci.admin.post("/api/v1/remote-identities", json=identity)
    assert made.status_code == 201, made.text
    await ci.deliver("check_run", pressed(check))
    await ci.act()
    await ci.tell()
    assert (await ci.read(body["id"])).state is State.WAITING_FOR_APPROVAL
    assert "not an approver" in str(check["output"])

    await ci.admin.delete(f"/api/v1/remote-identities/{made.json()['id']}")
    approver = ci.web.scene.approvers[0]
    answer = await ci.admin.post("/api/v1/remote-identities", json=identity | {"user": approver.id})
    assert answer.status_code == 201
    await ci.deliver("check_run", pressed(check, user=583232))  # somebody else pressed
    await ci.deliver("check_run", pressed(check | {"external_id": new_id()}))
    await ci.deliver("check_run", pressed(check | {"id": 70999}))
    await ci.act()
    assert (await ci.read(body["id"])).state is State.WAITING_FOR_APPROVAL
    await ci.deliver("check_run", pressed(check))
    await ci.act()
    assert (await ci.read(body["id"])).state is State.QUEUED
    async with ci.database.read() as tx:
        [decision] = await approvals.of_request(tx, body["id"])
    assert (decision.user_id, decision.verdict) == (approver.id, Verdict.APPROVE)
    assert "octocat" in decision.comment


async def test_a_user_proves_to_be_one(ci: Ci) -> None:
    regular = await ci.web.client(await ci.web.add_user())
    claim = {"build_system": "github", "remote_user_id": "583231"}
    assert (await regular.post("/api/v1/remote-identities", json=claim)).status_code == 403


async def test_unknown_and_malformed(ci: Ci) -> None:
    for event, outcome in (("star", "ignored: unknown event"), ("workflow_job", "noted"),
                           ("installation", "access-changed")):  # fmt: skip
        answer = await ci.deliver(event, {"action": "created"})
        assert (answer.status_code, answer.json()["outcome"]) == (202, outcome)
    forged = await ci.deliver("workflow_run", run_ended(), secret="wrong")
    assert forged.status_code == 401
    await ci.act()
    assert len(await ci.deliveries()) == 3


def installation(action: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "installation": {"id": 3001, "account": {"id": 77}}} | more


def _suspend(ci: Ci) -> None:
    ci.world.state.installations[3001].suspended = True


def _uninstall(ci: Ci) -> None:
    del ci.world.state.installations[3001]


def _take_away(ci: Ci) -> None:
    ci.world.state.installations[3001].repository_ids.discard(1001)


@pytest.mark.parametrize(
    ("event", "action", "change", "standing", "fix"),
    [
        ("installation", "suspend", _suspend, "suspended", "unsuspend"),
        ("installation", "deleted", _uninstall, "uninstalled", "install it again"),
        ("installation_repositories", "removed", _take_away, "removed", "add it to the App"),
    ],
)
async def test_a_repository_that_is_taken_away_and_given_back(
    ci: Ci, event: str, action: str, change: Any, standing: str, fix: str
) -> None:
    await ci.submit()  # so that there is a token that would still be accepted
    kept = ci.world.state.installations[3001]
    change(ci)
    for _ in range(2):
        assert (await ci.deliver(event, installation(action))).json() == {
            "outcome": "access-changed"
        }
    await ci.act()
    assert [one["standing"] for one in await ci.links()] == [standing]
    refused = await ci.robot_client.post(ci.url, json=ci.body(run_id="5002"))
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_verified")
    assert "octo-org/app" in refused.json()["detail"]
    assert fix in refused.json()["advice"]
    await ci.add_trigger()
    await ci.deliver("workflow_run", run_ended())
    await ci.act()
    assert len(await ci.all_requests()) == 1
    assert any("octo-org/app" in one.outcome for one in await ci.deliveries())

    ci.world.state.installations[3001] = kept
    kept.suspended = False
    kept.repository_ids.add(1001)
    # nobody told: it is asked before anything is refused
    assert (await ci.submit())["state"]
    assert [one["standing"] for one in await ci.links()] == ["active"]
    wanted = {"action": "repository_link.standing_changed"}
    entries = (await ci.admin.get("/api/v1/log-entries", params=wanted)).json()["items"]
    assert [json.loads(one["body"])["data"]["to"] for one in entries] == ["active", standing]


async def test_what_could_not_be_reported_is_once_it_can(ci: Ci) -> None:
    body = await ci.submit()
    _suspend(ci)
    await ci.deliver("installation", installation("suspend"))
    await ci.act()
    await ci.tell()
    assert ci.world.state.checks == {}
    ci.world.state.installations[3001].suspended = False
    await ci.deliver("installation", installation("unsuspend"))
    await ci.act()
    await ci.tell()
    assert [one["external_id"] for one in ci.world.state.checks.values()] == [body["id"]]


async def test_what_an_installations_event_says_is_not_believed(ci: Ci) -> None:
    """In any order: what counts is what GitHub answers when it is asked."""
    for event in ("suspend", "deleted", "suspend", "unsuspend", "created", "suspend"):
        await ci.deliver("installation", installation(event))
    await ci.deliver("installation", installation("deleted", installation={"id": 3002}))
    await ci.act()
    assert [one["standing"] for one in await ci.links()] == ["active"]


async def test_a_renamed_owner(ci: Ci) -> None:
    ci.world.repository.owner = "octo-renamed"
    payload = {"action": "renamed", "installation": {"id": 3001}, "account": {"id": 77}}
    await ci.deliver("installation_target", payload)
    await ci.act()
    assert [one["path"] for one in await ci.links()] == ["octo-renamed/app"]


async def test_linked_again_after_it_was_installed_anew(ci: Ci) -> None:
    kept = ci.world.state.installations.pop(3001)
    await ci.deliver("installation", installation("deleted"))
    await ci.act()
    ci.world.state.installations[3009] = dataclasses.replace(kept, id=3009)
    ci.world.state.users["ghu_octocat"].installation_ids.add(3009)
    await ci.deliver("installation", installation("created", installation={"id": 3009}))
    await ci.act()
    [link] = await ci.links()
    assert (link["standing"], link["installation_id"]) == ("uninstalled", "3001")
    again = {
        "build_system": "github",
        "repository": "octo-org/app",
        "proof": {"token": "ghu_octocat", "installation_id": "3009"},
    }
    path = f"/api/v1/projects/{ci.web.scene.project.slug}/repository-links"
    answer = await ci.admin.post(path, json=again)
    assert (answer.status_code, answer.json()["id"]) == (200, link["id"])
    [link] = await ci.links()
    assert (link["standing"], link["installation_id"]) == ("active", "3009")
    assert link["submitter_id"] == ci.robot.id
    assert (await ci.submit())["state"]
    assert (await ci.admin.post(path, json=again)).status_code == 409


async def test_the_last_jobs_end_is_the_runs(ci: Ci) -> None:
    """The news of the run was lost, or comes later."""
    await ci.add_trigger()
    job = {"action": "completed", "workflow_job": {"id": 9001, "run_id": 5001}}
    await ci.deliver("workflow_job", job)
    await ci.act()
    assert await ci.all_requests() == []
    assert {one.outcome for one in await ci.deliveries()} == {"the run goes on, or did not succeed"}
    ci.end_run()
    for _ in range(3):
        await ci.deliver("workflow_job", job)
    await ci.deliver("workflow_run", run_ended())
    await ci.act()
    assert len(await ci.all_requests()) == 1


async def test_news_that_come_before_the_facts(ci: Ci) -> None:
    await ci.add_trigger()
    await ci.deliver("workflow_run", run_ended())
    await ci.act()
    [delivery] = await ci.deliveries()
    assert delivery.due_at is not None
    assert "goes on" in delivery.outcome
    ci.end_run()
    async with ci.database.transaction() as tx:
        await tx.change(sa.text("UPDATE webhook_deliveries SET due_at = received_at"))
    await ci.act()
    assert len(await ci.all_requests()) == 1


async def test_a_tag_that_moves_before_anything_is_signed(ci: Ci) -> None:
    await ci.web.change_policy(quorum=1)
    repository, run = ci.world.repository, ci.world.run
    repository.refs.clear()
    repository.refs["refs/tags/v1"] = run.head_sha
    run.head_branch = "v1"
    body = await ci.submit()
    assert (await ci.work(body["id"])).state is State.WAITING_FOR_APPROVAL
    pushed = {"ref": "refs/tags/v1", "after": "d" * 40}
    for ref in ("refs/tags/v1", "refs/tags/v2"):
        await ci.deliver("push", pushed | {"ref": ref})
    await ci.act()
    assert (await ci.read(body["id"])).state is State.WAITING_FOR_APPROVAL  # it has not moved
    del repository.refs["refs/tags/v1"]
    await ci.deliver("push", pushed | {"after": "0" * 40, "deleted": True})
    await ci.act()
    found = await ci.read(body["id"])
    assert found.state is State.CANCELED
    assert "moved or deleted" in found.reason
    assert found.advice


async def test_a_redelivery_is_told_what_became_of_it(ci: Ci) -> None:
    await ci.add_trigger()
    ci.end_run()
    delivery = new_id()
    await ci.deliver("workflow_run", run_ended(), delivery)
    await ci.act()
    again = await ci.deliver("workflow_run", run_ended(), delivery)
    assert again.status_code == 202
    assert again.json()["outcome"].startswith("received before: submitted")
    [kept] = await ci.deliveries()
    assert (kept.repeats, kept.attempts) == (1, 1)
    shown = (await ci.admin.get("/api/v1/build-systems/github/deliveries")).json()["items"]
    assert shown[0]["repeats"] == 1


async def test_only_the_newest_attempt_keeps_a_delivery(ci: Ci) -> None:
    await ci.deliver("workflow_run", run_ended())
    [first] = await ci.deliveries()
    soon, later = utc_now() + dt.timedelta(minutes=1), utc_now() + dt.timedelta(minutes=2)
    async with ci.database.transaction() as tx:
        assert await webhooks.claim(tx, first, soon)
        assert not await webhooks.claim(tx, first, later)
        await webhooks.renew(tx, first, later)
    [second] = await ci.deliveries()
    assert second.due_at == later
    async with ci.database.transaction() as tx:
        assert await webhooks.claim(tx, second, soon)
        await webhooks.renew(tx, first, later)
    assert (await ci.deliveries())[0].due_at == soon
    async with ci.database.transaction() as tx:
        await webhooks.settle(tx, second, "done")
        await webhooks.renew(tx, second, later)
    assert (await ci.deliveries())[0].due_at is None


async def test_github_away_means_later(ci: Ci) -> None:
    await ci.add_trigger()
    ci.end_run()
    ci.world.fake.scripted = [Response(status_code=503) for _ in range(3)]
    await ci.deliver("workflow_run", run_ended())
    await ci.act()
    [delivery] = await ci.deliveries()
    assert delivery.due_at is not None
    assert delivery.due_at > utc_now()
    assert await ci.all_requests() == []


async def test_a_deployment_waits_for_the_runs_requests(ci: Ci) -> None:
    ci.world.run.waiting_environments = {"production"}
    body = await ci.submit()
    payload = {
        "action": "requested",
        "environment": "production",
        "deployment_callback_url": (
            "https://api.github.com/repos/octo-org/app/actions/runs/5001/deployment_protection_rule"
        ),
    }
    await ci.deliver("deployment_protection_rule", payload)
    await ci.act()
    await ci.tell()
    assert ci.world.state.deployments == []
    await ci.work(body["id"])
    await ci.web.complete(body["id"])
    async with ci.database.transaction() as tx:
        await tx.change(sa.text("UPDATE outbox SET due_at = created_at WHERE due_at IS NOT NULL"))
        assert await outbox.due(tx, utc_now(), each=1)
    await ci.tell()
    [answer] = ci.world.state.deployments
    assert (answer["run_id"], answer["state"]) == (5001, "approved")


async def test_a_check_is_reported_again(ci: Ci) -> None:
    body = await ci.submit()
    await ci.tell()
    [check] = ci.world.state.checks.values()
    check["status"] = "in_progress"
    payload = {"action": "rerequested", "check_run": {"external_id": body["id"]}}
    await ci.deliver("check_run", payload)
    await ci.act()
    await ci.tell()
    assert check["status"] == "queued"


#: payloads as GitHub published them
_EXAMPLES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fakes" / "github_webhooks.json").read_text(encoding="utf-8")
)["examples"]


def real_payloads(check: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The published payloads as if they were about our repository, installation, run and check."""
    ours = {
        "repository": {"id": 1001},
        "installation": {"id": 3001},
        "workflow_run": {"id": 5001, "head_repository": {"id": 1001}},
        "check_run": {"id": check["id"], "external_id": check["external_id"]},
    }
    found = []
    for example in _EXAMPLES:
        payload = copy.deepcopy(example["payload"])
        for noun, changes in ours.items():
            if isinstance(payload.get(noun), dict):
                payload[noun] |= changes
        found.append((example["event"], payload))
    job = {"id": 9001, "run_id": 5001, "conclusion": "success"}
    return [*found, ("workflow_job", {"action": "completed", "workflow_job": job})]


@pytest.mark.untraced
async def test_random_schedules(ci: Ci) -> None:
    """Deliveries of runs and buttons, and every published payload of the events that mean
    something: duplicated, reordered, replayed under new ids, forged.

    The rest of the path (HTTP) is tested above: here `keep` and the worker's `act_on_due` are
    called directly, since thousands of schedules are the point.
    """
    await ci.web.change_policy(quorum=2)
    await ci.add_trigger()
    await ci.add_trigger(artifact="package")  # the same again: still one request
    ci.end_run()
    await ci.deliver("workflow_run", run_ended())
    await ci.act()
    [request] = await ci.all_requests()
    assert (await ci.work(request.id)).state is State.WAITING_FOR_APPROVAL
    await ci.tell()
    [check] = ci.world.state.checks.values()
    for number, approver in enumerate(ci.web.scene.approvers):
        identity = {"build_system": "github", "remote_user_id": str(100 + number),
                    "user": approver.id}  # fmt: skip
        assert (await ci.admin.post("/api/v1/remote-identities", json=identity)).status_code == 201

    _do_not_sync(ci)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    schedule = random.Random(seed)
    system = await _system(ci)
    connector = ci.world.connector()
    forged_accepted = 0
    stubs, real = _Calls(ci), real_payloads(check)
    for _ in range(SCHEDULES):
        events = [
            ("check_run", pressed(check, schedule.choice(["approve", "unknown"]), 100)),
            ("check_run", pressed(check, "approve", 999)),
            ("star", {"action": "created"}),
            *schedule.sample(real, k=2),
        ]
        if schedule.random() < 0.02:
            events.append(("workflow_run", run_ended()))
        some = schedule.sample(events, k=schedule.randrange(1, len(events)))
        deliveries = [(new_id(), *event) for event in some]
        sent = deliveries + schedule.choices(deliveries, k=schedule.randrange(4))
        schedule.shuffle(sent)
        seen: set[str] = set()
        for delivery_id, name, payload in sent:
            headers, body = stubs.signed(name, payload, delivery_id)
            if schedule.random() < 0.3:
                forged_accepted += _accepts_forgery(schedule, connector, headers, body)
            event = connector.webhook(headers, body)
            outcome = await keep(ci.database, system, event)
            assert outcome.startswith("received before") is (delivery_id in seen)
            seen.add(delivery_id)
        if schedule.random() < 0.1:
            await act_on_due(ci.database, ci.web.queue, ci.systems)
    await ci.act()
    assert forged_accepted == 0
    assert [one["standing"] for one in await ci.links()] == ["active"]
    found = await ci.all_requests()
    assert [one.id for one in found] == [request.id]
    assert found[0].state is State.WAITING_FOR_APPROVAL  # one approver, however often: one approval
    async with ci.database.read() as tx:
        decisions = await approvals.of_request(tx, request.id)
    assert [one.user_id for one in decisions] == [ci.web.scene.approvers[0].id]


def _accepts_forgery(
    schedule: random.Random, connector: GitHubConnector, headers: dict[str, str], body: bytes
) -> bool:
    """Change one byte of the body, or the signature, or leave it out."""
    forged, name = bytearray(body), "X-Hub-Signature-256"
    sent = dict(headers)
    match schedule.randrange(4):
        case 0:
            forged[schedule.randrange(len(forged))] ^= 1 << schedule.randrange(7)
        case 1:
            sent[name] = sent[name][:-1] + ("0" if sent[name][-1] != "0" else "1")
        case 2:
            del sent[name]
        case _:
            sent[name] = sent[name].replace("sha256=", "sha1=")
    try:
        connector.webhook(sent, bytes(forged))
    except UnauthenticatedError:
        return False
    return True


def _do_not_sync(ci: Ci) -> None:
    """Thousands of commits: nothing of them has to outlive a power cut."""

    def relax(connection: Any, *_: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    sa.event.listen(ci.database.engine, "checkout", relax)


async def _system(ci: Ci) -> TrustedBuildSystem:
    async with ci.database.read() as tx:
        found = await build_systems.get_any(tx, ci.system_id)
    assert found is not None
    return dataclasses.replace(found, kind=BuildSystemKind.GITHUB)


class _Calls:
    def __init__(self, ci: Ci) -> None:
        self._ci = ci

    def signed(
        self, name: str, payload: dict[str, Any], delivery: str
    ) -> tuple[dict[str, str], bytes]:
        at = {} if "installation" in payload else {"repository": {"id": 1001}}
        body = json.dumps(at | payload).encode()
        mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "X-Hub-Signature-256": f"sha256={mac}",
            "X-GitHub-Event": name,
            "X-GitHub-Delivery": delivery,
            "Content-Type": "application/json",
        }
        return headers, body


async def test_a_user_links_their_account_in_the_browser(ci: Ci) -> None:
    """The build system confirms who they are, to the session that asked and to no other."""
    user = await ci.web.add_user()
    token = await ci.web.token(user)
    browser = await ci.web.client(Cookie=f"sealwright={token}")
    assert "Link your account on" in (await browser.get("/account/remote")).text
    off = await browser.get("/account/remote/github")
    assert off.status_code == 303, off.text
    target = httpx.URL(off.headers["location"])
    assert target.path == "/login/oauth/authorize"
    back = target.params["redirect_uri"]
    assert back == f"{ci.web.server.url}/account/remote/callback"
    ci.world.state.codes["code-9"] = "ghu_octocat"
    answer = {"code": "code-9", "state": target.params["state"]}
    other = await ci.web.client(Cookie=f"sealwright={await ci.web.token(await ci.web.add_user())}")
    assert (await other.get(back, params=answer)).status_code == 403, "another session's answer"
    assert (await browser.get(back, params=answer | {"state": "x.y"})).status_code == 403
    assert (await browser.get(back, params=answer | {"code": ""})).status_code == 403
    linked = await browser.get(back, params=answer)
    assert linked.status_code == 303, linked.text
    async with ci.database.read() as tx:
        found = await build_systems.identities(tx, user.organization_id)
    assert [(one.user_id, one.login) for one in found] == [(user.id, "octocat")]
    page = await browser.get("/account/remote")
    assert "octocat" in page.text
    form = {"csrf": csrf_token(token)}
    gone = await browser.post(f"/account/remote-accounts/{found[0].id}/remove", data=form)
    assert gone.status_code == 303
    async with ci.database.read() as tx:
        assert await build_systems.identities(tx, user.organization_id) == []


async def test_a_repository_is_linked_by_confirming_who_one_is(ci: Ci) -> None:
    """GitHub's code links it once, for the session that asked, if the user administers it."""
    project = ci.web.scene.project
    builds = f"/projects/{project.slug}/builds"
    async with ci.database.transaction() as tx:
        present = await build_systems.get_link(tx, project.organization_id, ci.link_id)
        assert present
        await build_systems.delete_link(tx, present)
    token = await ci.web.token(await ci.web.add_user(role=Role.PROJECT_ADMINISTRATOR))
    browser = await ci.web.client(Cookie=f"sealwright={token}")
    assert f'href="{builds}/prove/github"' in (await browser.get(builds)).text
    target = httpx.URL((await browser.get(f"{builds}/prove/github")).headers["location"])
    assert target.path == "/login/oauth/authorize"
    back, state = target.params["redirect_uri"], target.params["state"]
    answer = {"code": "code-9", "state": state, "installation_id": "3001"}
    for role in (Role.PROJECT_ADMINISTRATOR, Role.REGULAR_USER):
        stranger = await ci.web.token(await ci.web.add_user(role=role))
        other = await ci.web.client(Cookie=f"sealwright={stranger}")
        assert (await other.get(back, params=answer)).status_code == 403
    for odd in ({"code": ""}, {"state": "link."}, {"state": state.replace(project.id, "x")}):
        assert (await browser.get(back, params=answer | odd)).status_code == 403
    assert back in (await browser.get("/build-systems/github")).text, "to be registered there"
    page = await browser.get(back, params=answer)
    assert page.status_code == 200, page.text
    fields = dict(re.findall(r'name="(\w+)"[^>]* value="([^"]*)"', page.text))
    assert (fields["code"], fields["installation_id"]) == ("code-9", "3001")
    for repository, works in (("octo-org/foreign", False), ("octo-org/app", True)):
        ci.world.state.codes["code-9"] = "ghu_octocat"
        sent = fields | {"csrf": csrf_token(token), "repository": repository}
        linked = await browser.post(f"{builds}/links", data=sent)
        assert (linked.status_code == 303) is works, linked.text
    async with ci.database.read() as tx:
        [link] = await build_systems.links(tx, project.organization_id, project_id=project.id)
    assert (link.path, link.repository_id, link.installation_id) == ("octo-org/app", "1001", "3001")
    again = await browser.post(f"{builds}/links", data=sent)
    assert again.status_code == 403, "a code counts once"
