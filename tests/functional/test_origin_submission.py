"""Submissions from builds: a real web process, a GitHub that refuses what GitHub refuses."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.ci import Ci, linked, running_ci
from tests.fakes.github_state import Artifact, Content, Run, commit
from tests.fakes.github_world import World, running_world
from tests.valkey import Valkey
from tests.web import WebServer

from sealwright.db import build_systems, run_submissions
from sealwright.model.identifiers import utc_now
from sealwright.model.origin import OriginRules, Proof
from sealwright.model.request import State
from sealwright.origin import replay
from sealwright.origin.replay import RunSubmission, earlier_request


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


async def test_a_build_submits_and_the_worker_fetches(ci: Ci) -> None:
    answer = await ci.robot_client.post(ci.url, json=ci.body(description="Release 1"))
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["state"] == "RetrievingArtifact"
    assert body["labels"] == ["run verified, caller not verified"]
    request = await ci.work(body["id"])
    assert request.state is State.QUEUED
    origin = request.origin
    assert (origin.verified, origin.proof) == (True, Proof.RUN)
    assert (origin.commit, origin.ref, origin.event) == (commit("c"), "refs/heads/main", "push")
    assert (origin.run_id, origin.run_attempt, origin.artifact_id) == ("5001", 1, "7001")
    assert request.input is not None
    assert request.input.sha256 == origin.artifact_sha256 == ci.world.artifact.content.sha256()
    assert request.input.file_name == "package.zip"
    assert "repository" in origin.checks


async def test_the_answered_token_reads_this_request_and_nothing_else(ci: Ci) -> None:
    body = await ci.submit()
    ci.world.state.artifacts[7002] = Artifact(7002, 5001, Content(b"two"), "two")
    other = await ci.submit(artifact_id="7002")
    assert body["access_token"].startswith("swt_request_")
    client = await ci.web.client(Authorization=f"Bearer {body['access_token']}")
    assert (await client.get(body["status_url"])).json()["id"] == body["id"]
    assert (await client.get(other["status_url"])).status_code == 404
    for path in ("/api/v1/me", "/api/v1/projects", "/api/v1/signing-requests"):
        assert (await client.get(path)).status_code == 403
    assert (await client.post(f"{body['status_url']}/cancel")).status_code == 403
    assert (await client.post(ci.url, json=ci.body())).status_code == 403


async def test_the_same_submission_gives_the_same_request(ci: Ci) -> None:
    first = await ci.robot_client.post(ci.url, json=ci.body())
    again = await ci.robot_client.post(ci.url, json=ci.body(run_attempt=0))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]


async def test_what_was_submitted_long_ago_is_known_by_its_request(
    ci: Ci, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await ci.work((await ci.submit())["id"])  # fetched meanwhile: its origin has changed
    origin = request.origin
    async with ci.database.transaction() as tx:
        row = await tx.one(
            sa.text("DELETE FROM run_submissions WHERE request_id = :id RETURNING submission")
            .bindparams(id=request.id)
        )  # fmt: skip
        assert row is not None
        same = RunSubmission(
            row["submission"], origin.build_system_id, request.organization_id,
            request.project_id, request.signing_policy_id, origin.run_id,
        )  # fmt: skip
        assert await earlier_request(tx, same) is None  # nobody removes rows that are so young
        later = utc_now() + run_submissions.KEEP
        monkeypatch.setattr(replay, "utc_now", lambda: later)
        assert await earlier_request(tx, same) == request.id
        other = dataclasses.replace(same, key="0" * 64)
        assert await earlier_request(tx, other) is None


async def test_an_identity_token_stands_for_the_caller(ci: Ci) -> None:
    client = await ci.web.client(Authorization=f"Bearer {ci.token()}")
    answer = await client.post(ci.url, json=ci.body())
    assert answer.status_code == 201, answer.text
    assert answer.json()["labels"] == []
    request = await ci.read(answer.json()["id"])
    assert request.origin.proof is Proof.CALLER
    assert request.submitted_by == ci.robot.id
    again = await client.post(ci.url, json=ci.body())
    assert (again.status_code, again.json()["id"]) == (200, request.id)
    assert (await ci.work(request.id)).state is State.QUEUED


async def test_one_address_comes_with_so_many_identity_tokens(ci: Ci) -> None:
    client = await ci.web.client(Authorization="Bearer a.b.c")

    async def submit() -> httpx.Response:
        return await client.post(ci.url, json=ci.body())

    answers = [await submit() for _ in range(60)]
    assert {one.status_code for one in answers} == {403}
    # 120 at once and two a second: together they come faster than that on any machine
    while not (refused := [one for one in answers if one.status_code == 429]):
        answers = await asyncio.gather(*(submit() for _ in range(40)))
    assert int(refused[0].headers["retry-after"]) > 0
    assert (await ci.robot_client.post(ci.url, json=ci.body())).status_code == 201
    pool = await ci.web.queue.pool()  # the module's other tests come from the same address
    await pool.delete(*await pool.keys("sealwright:throttle:*"))


async def test_an_identity_token_serves_one_submission(ci: Ci) -> None:
    ci.world.state.artifacts[7002] = Artifact(7002, 5001, Content(b"two"), "two")
    token = ci.token()
    headers = {"X-Sealwright-Identity-Token": token}
    first = await ci.robot_client.post(ci.url, json=ci.body(), headers=headers)
    assert first.status_code == 201, first.text
    second = await ci.robot_client.post(ci.url, json=ci.body(artifact_id="7002"), headers=headers)
    assert second.status_code == 403
    assert "another submission" in second.json()["detail"]


@pytest.mark.parametrize(
    "claims",
    [
        {"repository_id": "1002"}, {"run_id": "5002"}, {"run_attempt": "2"}, {"sha": "d" * 40},
        {"ref": "refs/heads/other"}, {"event_name": "pull_request"}, {"check_run_id": "9001"},
        {"runner_environment": "self-hosted"}, {"repository_owner_id": "78"},
        {"job_workflow_ref": "mallory/app/.github/workflows/release.yml@refs/heads/main"},
    ],
)  # fmt: skip
async def test_a_token_of_another_run_is_refused(ci: Ci, claims: dict[str, str]) -> None:
    client = await ci.web.client(Authorization=f"Bearer {ci.token(**claims)}")
    answer = await client.post(ci.url, json=ci.body())
    assert answer.status_code == 403
    [error] = [one for one in answer.json()["errors"] if "identity token" in one["error"]]
    assert error["how_to_fix"]
    assert await ci.all_requests() == []


async def test_a_token_of_another_issuer_is_refused(ci: Ci) -> None:
    issuer = ci.world.fake.issuer
    forged = dataclasses.replace(issuer, jwks=[], documents={}, asked=[], key_id="other")
    from tests.fakes.github_world import AUDIENCE
    from tests.fakes.oidc import github_claims

    token = forged.token(github_claims(issuer.url, AUDIENCE))
    client = await ci.web.client(Authorization=f"Bearer {token}")
    answer = await client.post(ci.url, json=ci.body())
    assert answer.status_code == 403
    assert answer.json()["code"] == "origin_not_verified"


async def test_without_a_ci_user_a_token_alone_is_not_enough(ci: Ci) -> None:
    await ci.change_link(submitter_id=None)
    client = await ci.web.client(Authorization=f"Bearer {ci.token()}")
    for body in (ci.body(), ci.body(project="no-such"), ci.body(repository="no/such")):
        answer = await client.post(ci.url, json=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert "can belong to no repository" in answer.json()["detail"]


async def test_a_file_needs_the_callers_proof(ci: Ci) -> None:
    import json

    parts = {"request": (None, json.dumps(ci.body(artifact_id=""))), "artifact": ("a.exe", b"MZ")}
    refused = await ci.robot_client.post(ci.url, files=parts)
    assert refused.status_code == 403
    assert "Nothing proves" in refused.json()["detail"]
    assert await ci.web.stored_keys() == []
    headers = {"X-Sealwright-Identity-Token": ci.token()}
    answer = await ci.robot_client.post(ci.url, files=parts, headers=headers)
    assert answer.status_code == 201, answer.text
    request = await ci.read(answer.json()["id"])
    assert request.state is State.QUEUED
    assert request.origin.proof is Proof.CALLER
    assert request.origin.artifact_id == ""


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda world: setattr(world.run, "head_repository_id", 1003), "another repository"),
        (lambda world: setattr(world.run, "event", "pull_request"), "pull_request"),
        (lambda world: setattr(world.run, "event", "workflow_run"), "workflow_run"),
        (lambda world: setattr(world.run, "path", "dynamic/pages"), "definition"),
        (lambda world: world.repository.refs.clear(), "neither a branch nor a tag"),
        (lambda world: world.repository.refs.update({"refs/heads/main": commit("d")}), "reachable"),
        (lambda world: setattr(world.artifact, "expired", True), "expired"),
        (lambda world: setattr(world.artifact, "run_id", None), "another run"),
        (lambda world: setattr(world.repository, "owner_id", 78), "another owner"),
        (lambda world: setattr(world.run, "status", "completed"), "only a running build"),
    ],
)
async def test_what_github_says_is_judged(ci: Ci, change: Any, rule: str) -> None:
    change(ci.world)
    answer = await ci.robot_client.post(ci.url, json=ci.body())
    assert answer.status_code == 403, answer.text
    assert any(rule in one["error"] for one in answer.json()["errors"]), answer.text
    assert await ci.all_requests() == []


async def test_a_refusal_is_shown_on_the_commit(ci: Ci) -> None:
    await ci.web.change_policy(origin_rules=OriginRules(branches=("release/*",)))
    for _ in range(2):
        answer = await ci.robot_client.post(ci.url, json=ci.body())
        assert answer.status_code == 403
    await ci.tell()
    [check] = ci.world.state.checks.values()
    assert (check["head_sha"], check["conclusion"]) == (commit("c"), "failure")


async def test_a_forks_run_is_not_shown_anywhere(ci: Ci) -> None:
    ci.world.run.head_repository_id = 1003
    await ci.robot_client.post(ci.url, json=ci.body())
    await ci.tell()
    assert not ci.world.state.checks


async def test_a_run_of_another_repository_does_not_exist(ci: Ci) -> None:
    ci.world.state.runs[5002] = Run(5002, 1002, commit("c"), head_repository_id=1002)
    answer = await ci.robot_client.post(ci.url, json=ci.body(run_id="5002"))
    assert answer.status_code == 403
    assert "no workflow run" in answer.json()["detail"] or "no " in answer.json()["detail"]


async def test_the_worker_refuses_what_changed_meanwhile(ci: Ci) -> None:
    body = await ci.submit()
    ci.world.repository.refs["refs/heads/main"] = commit("d")
    request = await ci.work(body["id"])
    assert request.state is State.FAILED
    assert request.failed_stage is State.RETRIEVING_ARTIFACT
    assert "reachable" in request.reason


async def test_the_worker_refuses_other_bytes(ci: Ci) -> None:
    body = await ci.submit()
    artifact = ci.world.artifact
    artifact.digest = f"sha256:{artifact.content.sha256()}"
    artifact.content = Content(b"PK other b")
    request = await ci.work(body["id"])
    assert request.state is State.FAILED
    assert "other bytes" in request.reason


async def test_unlinked_meanwhile(ci: Ci) -> None:
    body = await ci.submit()
    path = f"/api/v1/projects/{ci.web.scene.project.slug}/repository-links/{ci.link_id}"
    assert (await ci.admin.delete(path)).status_code == 204
    assert (await ci.work(body["id"])).state is State.FAILED
    assert (await ci.robot_client.post(ci.url, json=ci.body())).status_code == 404


async def test_another_policy_judges_a_resubmission(ci: Ci) -> None:
    body = await ci.submit()
    await ci.work(body["id"])
    await ci.web.change_policy(origin_rules=OriginRules(branches=("release/*",)))
    path = f"/api/v1/signing-requests/{body['id']}/resubmit"
    policy = {"signing_policy": ci.web.scene.policy.slug}
    answer = await ci.robot_client.post(path, json=policy)
    assert answer.status_code == 403
    await ci.web.change_policy(origin_rules=OriginRules(branches=("main",)))
    again = await ci.robot_client.post(path, json=policy)
    assert again.status_code == 201, again.text
    assert again.json()["origin"]["verified"] is True


async def test_credentials_never_come_out(ci: Ci) -> None:
    shown = await ci.admin.get("/api/v1/build-systems/github")
    assert shown.json()["credentials"] == ["client_secret", "private_key", "webhook_secret"]
    assert "PRIVATE KEY" not in shown.text
    async with ci.database.read() as tx:
        sealed = await build_systems.sealed_credentials(tx, ci.system_id)
        system = await build_systems.get_any(tx, ci.system_id)
    assert "PRIVATE" not in str(sealed) + str(system)
    key = ci.world.state.app.pem.splitlines()[1]
    assert key not in ci.web.server.log


async def test_linking_needs_the_users_own_proof(ci: Ci) -> None:
    path = f"/api/v1/projects/{ci.web.scene.project.slug}/repository-links"
    base = {"build_system": "github", "repository": "octo-org/other"}
    for proof, status in (
        ({}, 400),
        ({"token": "ghu_octocat"}, 400),
        ({"token": "ghu_octocat", "installation_id": "3001"}, 403),  # does not administer it
        ({"token": "ghu_octocat", "installation_id": "3002"}, 403),
    ):
        answer = await ci.admin.post(path, json=base | {"proof": proof})
        assert answer.status_code == status, answer.text


async def test_a_disabled_build_system_is_out(ci: Ci) -> None:
    answer = await ci.admin.patch("/api/v1/build-systems/github", json={"enabled": False})
    assert answer.status_code == 200
    refused = await ci.robot_client.post(ci.url, json=ci.body())
    assert refused.status_code == 409
    assert (await ci.deliver("ping", {})).status_code == 401


# --- the wire of an existing service's connector --------------------------------------------


def connector_url(ci: Ci, rest: str = "") -> str:
    organization = ci.web.scene.organization.id
    return f"/connectors/github/{organization}/SigningRequests{rest}?api-version=1.0"


def connector_body(ci: Ci, **changes: Any) -> dict[str, Any]:
    return {
        "artifactId": "7001",
        "gitHubWorkflowRunId": "5001",
        "gitHubRepository": "octo-org/app",
        "gitHubToken": "ghs_canary_never_kept",
        "signPathProjectSlug": ci.web.scene.project.slug,
        "signPathSigningPolicySlug": ci.web.scene.policy.slug,
        "signPathArtifactConfigurationSlug": "",
        "parameters": [{"name": "version", "value": "1.2"}],
    } | changes


async def test_the_connector_wire(ci: Ci) -> None:
    answer = await ci.robot_client.post(connector_url(ci), json=connector_body(ci))
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["error"] is None
    assert body["validationResult"] == {"errors": []}
    assert {one["level"] for one in body["logs"]} <= {"Information", "Warning"}
    again = await ci.robot_client.post(connector_url(ci), json=connector_body(ci))
    assert again.json()["signingRequestId"] == body["signingRequestId"]
    status = connector_url(ci, f"/{body['signingRequestId']}/Status")
    found = (await ci.robot_client.get(status)).json()
    name = "hasArtifactBeenDownloadedBySignPathInCaseOfArtifactRetrieval"
    assert (found["status"], found["isFinalStatus"], found[name]) == ("InProgress", False, False)
    request = await ci.work(body["signingRequestId"])
    assert request.parameters == {"version": "1.2"}
    assert (await ci.robot_client.get(status)).json()[name] is True
    await ci.web.complete(request.id, b"PK signed")
    assert (await ci.robot_client.get(status)).json()["status"] == "Completed"
    signed = await ci.robot_client.get(
        connector_url(ci, f"/{body['signingRequestId']}/SignedArtifact")
    )
    assert signed.content == b"PK signed"
    assert "ghs_canary_never_kept" not in ci.web.server.log + str(request)


async def test_the_connector_wires_refusals(ci: Ci) -> None:
    ci.world.run.event = "pull_request"
    answer = await ci.robot_client.post(connector_url(ci), json=connector_body(ci))
    assert answer.status_code == 403
    assert answer.json()["error"] is None
    errors = answer.json()["validationResult"]["errors"]
    assert any("pull_request" in one["error"] for one in errors)
    assert all(one["howToFix"] for one in errors)
    missing = await ci.robot_client.post(
        connector_url(ci), json=connector_body(ci, gitHubRepository="octo-org/elsewhere")
    )
    assert missing.status_code == 404
    assert "linked" in missing.json()["error"]
    malformed: httpx.Response = await ci.robot_client.post(connector_url(ci), json={})
    assert malformed.status_code == 400
    assert malformed.json()["logs"][0]["level"] == "Error"
