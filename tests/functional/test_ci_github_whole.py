"""A release on GitHub from end to end: the action under act, every process of the server, GitHub's
API and webhooks; signatures judged by osslsigncode."""

from __future__ import annotations

import dataclasses
import html
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.ci_whole import APPROVER, STRANGER, GitHubWhole, eventually, github_whole, members
from tests.fakes.github_state import Artifact, Content, Job
from tests.fakes.github_world import running_world
from tests.functional.test_integration_github import Workflow
from tests.runners import Done, Runners, runners
from tests.shared import tool

from sealwright.keystores import softhsm

__all__ = ["runners"]


@pytest.fixture(scope="module")
def started() -> Iterator[GitHubWhole]:
    with running_world() as world, github_whole(world) as made:
        yield made


@pytest.fixture
def github(started: GitHubWhole) -> Iterator[GitHubWhole]:
    started.fill()
    yield started
    assert started.world.fake.faults == []


@pytest.fixture
def workflow(tmp_path: Path, runners: Runners, github: GitHubWhole) -> Workflow:
    inputs = {
        "project": "product",
        "signing-policy": "proven",
        "github-artifact-id": str(github.artifact_id),
        "timeout": "90",
    }
    return Workflow(tmp_path, runners, github, runners.node, inputs, attempt="1")


def test_signs_without_a_stored_secret(github: GitHubWhole, workflow: Workflow) -> None:
    done = workflow.run()
    assert done.status == 0, done.output
    files, before = workflow.signed_files(), members(github.content)
    assert sorted(files) == sorted(before)
    for name in ("app.exe", "tool.exe"):
        assert files[name] != before[name]
        github.check_signed(workflow.out / "signed" / name)
    assert files["readme.txt"] == before["readme.txt"]
    assert workflow.outputs["state"] == "Completed"
    assert workflow.hides_secrets(done)
    request = github.admin.get(f"signing-requests/{workflow.outputs['signing-request-id']}")
    assert request["origin"]["proof"] == "caller-verified"
    check = github.concluded()
    assert check["head_sha"] == "c" * 40
    assert check["external_id"] == request["id"]
    assert github.shown(request["id"]) == [
        ("queued", ""),
        ("in_progress", ""),
        ("completed", "success"),
    ]
    summary = html.unescape(check["output"]["summary"])
    for fact in ("app.exe", "tool.exe", "proven", "CN=Acme TEST"):
        assert fact in summary


def test_release_is_proven_offline(github: GitHubWhole, workflow: Workflow, tmp_path: Path) -> None:
    done = workflow.run(decompress="false")
    assert done.status == 0, done.output
    [archive] = workflow.signed_files()
    headers = {"Authorization": f"Bearer {github.token}"}
    request = f"{github.url}/api/v1/signing-requests/{workflow.outputs['signing-request-id']}"
    for name, address in (("proof", f"{request}/proof"), ("log.vkey", f"{github.url}/log/key")):
        answer = httpx.get(address, headers=headers, timeout=60).raise_for_status()
        (tmp_path / name).write_bytes(answer.content)
    verify = ("log", "proof", "verify", tmp_path / "proof", "--key", tmp_path / "log.vkey")
    github.system.cli(*verify, "--artifact", workflow.out / "signed" / archive)
    (tmp_path / "other").write_bytes(github.content)
    github.system.cli(*verify, "--artifact", tmp_path / "other", check=1)


def test_buttons_count_for_approvers_alone(github: GitHubWhole, workflow: Workflow) -> None:
    admin = github.admin
    someone = admin.post(
        "users", {"kind": "interactive", "name": "Someone", "email": "some@example.com"}
    )
    for (_, remote), user in (
        (STRANGER, someone["id"]),
        (APPROVER, github.setup.administrator_id),
    ):
        identity = {"build_system": "github", "remote_user_id": str(remote), "user": user}
        admin.post("remote-identities", identity)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(workflow.run, **{"signing-policy": "release"})
        check = github.concluded()
        assert check["conclusion"] == "action_required"
        assert [one["identifier"] for one in check["actions"]] == ["approve", "deny"]
        request_id = check["external_id"]
        for user, why in ((STRANGER, "not an approver"), (("nobody", 9), "no account here")):
            github.press(check, "approve", user)
            eventually(lambda why=why: why in check["output"]["title"], why)
            assert admin.get(f"signing-requests/{request_id}")["state"] == "WaitingForApproval"
        github.press(check, "approve")
        done = running.result(120)
    assert done.status == 0, done.output
    assert "WaitingForApproval: 0 of 1 approvals" in done.output
    github.check_signed(workflow.out / "signed" / "app.exe")
    eventually(lambda: check["conclusion"] == "success", "a green check")
    assert check["actions"] == []
    [decision] = admin.get(f"signing-requests/{request_id}")["approvals"]
    assert decision["user"]["id"] == github.setup.administrator_id


def test_denied_fails_the_step(github: GitHubWhole, workflow: Workflow) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(workflow.run, **{"signing-policy": "release"})
        check = github.concluded()
        github.press(check, "deny")
        done = running.result(120)
    assert done.status != 0
    assert "The signing request is Denied" in done.output
    eventually(lambda: check["conclusion"] == "failure", "a red check")


def test_trigger_signs_what_a_run_left(github: GitHubWhole) -> None:
    trigger = {
        "link": github.link_id,
        "signing_policy": "triggered",
        "submitter": github.robot_id,
        "refs": ["refs/heads/main"],
        "artifact": "pack*",
    }
    github.admin.post("projects/product/triggers", trigger)
    github.run.status, github.run.conclusion = "completed", "success"
    github.world.state.jobs[:] = [Job(9001, github.run.id)]
    before = {one["id"] for one in github.requests()}
    for _ in range(2):  # GitHub may say it twice
        github.deliver(
            "workflow_run",
            {
                "action": "completed",
                "workflow_run": {
                    "id": github.run.id,
                    "run_attempt": 1,
                    "event": "push",
                    "conclusion": "success",
                    "head_sha": github.run.head_sha,
                    "head_branch": "main",
                    "path": github.run.path,
                    "head_repository": {"id": 1001},
                },
            },
        )
    [new] = eventually(
        lambda: [one for one in github.requests() if one["id"] not in before], "a new request"
    )
    done = github.wait_for(new["id"], "Completed", "Failed")
    assert done["state"] == "Completed", done
    check = github.concluded()
    assert (check["conclusion"], check["external_id"]) == ("success", new["id"])
    assert len(github.requests()) == len(before) + 1


def test_deployment_goes_on_once_everything_is_signed(github: GitHubWhole) -> None:
    """The news of the run's last job alone start the trigger; the run's own are lost."""
    state = github.world.state
    run = dataclasses.replace(
        github.run, id=79, status="completed", conclusion="success",
        waiting_environments={"production"},
    )  # fmt: skip
    state.runs[79] = run
    state.jobs.append(Job(9079, 79))
    state.artifacts[7900] = Artifact(7900, 79, Content(github.content), "deployable")
    github.add_trigger("triggered", refs=["refs/heads/main"], artifact="deployable")
    job = {"id": 9079, "run_id": 79, "conclusion": "success"}
    github.deliver("workflow_job", {"action": "completed", "workflow_job": job})

    def of_run() -> list[dict[str, Any]]:
        found = [github.admin.get(f"signing-requests/{one['id']}") for one in github.requests()]
        return [one for one in found if one["origin"]["run_id"] == "79"]

    [request] = eventually(of_run, "a request")
    assert github.wait_for(request["id"], "Completed", "Failed")["state"] == "Completed"
    callback = f"{github.world.fake.url}/repos/acme/app/actions/runs/79/deployment_protection_rule"
    asked = {
        "action": "requested",
        "environment": "production",
        "deployment_callback_url": callback,
    }
    for _ in range(2):
        github.deliver("deployment_protection_rule", asked)
    [answer] = eventually(lambda: state.deployments, "an answer")
    assert (answer["run_id"], answer["state"]) == (79, "approved")


def test_the_apps_key_lives_on_the_token(github: GitHubWhole, tmp_path: Path) -> None:
    """As docs/github.md has it; the key in the database is another one by then."""
    key, data = github.world.state.app.key, github.system.data
    private, public = tmp_path / "app.der", tmp_path / "app-public.der"
    form = (ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    private.write_bytes(key.private_bytes(*form))
    spki = (ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(key.public_key().public_bytes(*spki))
    for file, kind, more in (
        (private, "privkey", ["--usage-sign", "--sensitive"]),
        (public, "pubkey", []),
    ):
        subprocess.run(
            [tool("pkcs11-tool"), "--module", softhsm.find_module(), "--token-label", "sealwright",
             "--login", "--pin", (data / "token" / "pin").read_text().strip(),
             "--write-object", file, "--type", kind, "--id", "0a", "--label", "github-app", *more],
            check=True, capture_output=True,
            env=github.system.environment | {"SOFTHSM2_CONF": str(data / "token/softhsm2.conf")},
        )  # fmt: skip
    told = github.system.cli("app-key", "bind", "github", "--key", "pkcs11:id=%0a")
    assert github.world.state.app.client_id in told.output
    other = rsa.generate_private_key(65537, 2048).private_bytes(ser.Encoding.PEM, *form[1:])
    path = "build-systems/github"
    github.admin.patch(path, {"credentials": {"private_key": other.decode()}})

    def heard() -> list[str]:
        found = github.admin.get(f"{path}/deliveries")["items"]
        return [one["outcome"] for one in found if one["name"] == "installation"]

    try:
        for count, outcome in ((1, "acme/app: active"), (2, "refused")):
            github.deliver("installation", {"action": "unsuspend", "installation": {"id": 3001}})
            eventually(lambda n=count: len([one for one in heard() if one]) == n, "an outcome")
            assert outcome in heard()[0]
            if count == 1:
                github.system.cli("app-key", "unbind", "github")
    finally:
        github.admin.patch(path, {"credentials": {"private_key": github.world.state.app.pem}})


def _fork(github: GitHubWhole) -> None:
    github.run.head_repository_id = 1003


def _pull_request(github: GitHubWhole) -> None:
    github.run.event = "pull_request"


def _deleted_branch(github: GitHubWhole) -> None:
    github.world.repository.refs.clear()


def _tag(github: GitHubWhole) -> None:
    refs = github.world.repository.refs
    refs.clear()
    refs["refs/tags/v1"], github.run.head_branch = github.run.head_sha, "v1"


def _expired(github: GitHubWhole) -> None:
    github.world.state.artifacts[github.artifact_id].expired = True


def _of_another_run(github: GitHubWhole) -> None:
    github.world.state.runs[78] = dataclasses.replace(github.run, id=78)
    github.world.state.artifacts[github.artifact_id].run_id = 78


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_fork, "fork"),
        (_pull_request, "pull_request"),
        (_deleted_branch, "branch"),
        (_tag, "v1"),
        (_expired, "expired"),
        (_of_another_run, "run"),
    ],
)
def test_refused_with_what_to_do(
    github: GitHubWhole,
    workflow: Workflow,
    change: Callable[[GitHubWhole], None],
    why: str,
) -> None:
    before = github.request_count()
    change(github)
    refused(workflow.run(), why)
    assert github.request_count() == before


def test_re_runs_where_none_may_be(github: GitHubWhole, workflow: Workflow) -> None:
    github.run.attempt = 2
    github.world.state.jobs[1].attempt = 2
    workflow.attempt = "2"
    refused(workflow.run(**{"signing-policy": "once"}), "attempt")
    assert workflow.run().status == 0, "another policy allows it"


def refused(done: Done, why: str) -> None:
    assert done.status != 0
    [told, *_] = re.findall(r"::error title=Sealwright::(.*)", done.output)
    assert re.search(why, told), done.output
    assert re.search("%0AHow to fix: .{10}", told), done.output


def test_killed_in_the_middle(github: GitHubWhole, workflow: Workflow) -> None:
    before = {one["id"] for one in github.requests()}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(workflow.run)
        eventually(lambda: github.world.fake.received, "the first question")
        for part in ("web", "worker"):
            github.system.wait_replaced(part, github.system.kill(part))
        eventually(github.request, "a request")
        for part in ("worker", "web"):
            github.system.wait_replaced(part, github.system.kill(part))
        done = running.result(120)
    assert done.status == 0, done.output
    assert workflow.outputs["state"] == "Completed"
    github.check_signed(workflow.out / "signed" / "app.exe")
    [request] = [one for one in github.requests() if one["id"] not in before]
    assert request["id"] == workflow.outputs["signing-request-id"]
    assert github.concluded()["conclusion"] == "success"
    assert len(github.checks(request["id"])) == 1
