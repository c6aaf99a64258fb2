"""A release on GitLab from end to end: the component under gitlab-ci-local, every process of the
server, GitLab's API; signatures judged by osslsigncode."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.ci_whole import GitLabWhole, eventually, gitlab_whole, members
from tests.fakes.gitlab import runner as gitlab_runner
from tests.fakes.gitlab import sha
from tests.functional.test_integration_gitlab import Pipeline
from tests.runners import Runners, runners

__all__ = ["runners"]


@pytest.fixture(scope="module")
def gitlab() -> Iterator[GitLabWhole]:
    with gitlab_whole() as made:
        yield made


def test_signs_without_a_stored_secret(
    tmp_path: Path, runners: Runners, gitlab: GitLabWhole
) -> None:
    pipeline = Pipeline(tmp_path, runners, gitlab)
    given = {"project": "product", "signing-policy": "proven"}
    done = pipeline.run(**given)
    assert done.status == 0, done.output
    files, before = pipeline.signed_files(), members(gitlab.content)
    assert sorted(files) == sorted(before)
    for name in ("dist/app.exe", "dist/tool.exe"):
        assert files[name] != before[name]
        gitlab.check_signed(tmp_path / "home" / "signed" / name)
    assert (tmp_path / "home" / "variables").read_text().startswith("Completed http")
    assert not any(secret in done.output for secret in gitlab.secrets)
    [request] = gitlab.requests()
    assert request["origin"]["proof"] == "caller-verified"
    assert request["origin"]["run_id"] == "5001"

    def shown() -> bool:
        return [one["status"] for one in gitlab.gitlab.statuses] == ["success"]

    eventually(shown, "a green status")
    [status] = gitlab.gitlab.statuses
    assert status["pipeline_id"] == 5001
    assert request["id"] in status["target_url"]


def test_merge_request_is_refused_with_what_to_do(
    tmp_path: Path, runners: Runners, gitlab: GitLabWhole
) -> None:
    before = gitlab.request_count()
    gitlab.fill()
    gitlab.gitlab.pipelines[5001]["source"] = "merge_request_event"
    done = Pipeline(tmp_path, runners, gitlab).run(
        **{"project": "product", "signing-policy": "proven"}
    )
    assert done.status != 0
    assert "merge_request_event" in done.output
    assert "How to fix: " in done.output
    assert gitlab.request_count() == before


def pipeline_event(pipeline: int = 5001) -> dict[str, Any]:
    return {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": pipeline, "iid": 3, "ref": "main", "tag": False, "sha": sha("c2"),
            "source": "push", "status": "success",
        },
        "project": {"id": 20, "path_with_namespace": "acme/app"},
        "builds": [{"id": 42, "name": "build", "status": "success"}],
    }  # fmt: skip


def job_event(pipeline: int = 5001) -> dict[str, Any]:
    return {
        "object_kind": "build", "ref": "main", "tag": False, "sha": sha("c2"),
        "build_id": 42, "build_name": "build", "build_status": "success",
        "pipeline_id": pipeline, "project_id": 20, "project": {"id": 20},
    }  # fmt: skip


def outcomes(gitlab: GitLabWhole, name: str) -> list[str]:
    found = gitlab.admin.get("build-systems/gitlab/deliveries")["items"]
    return [one["outcome"] for one in found if one["name"] == name and one["outcome"]]


def test_trigger_signs_what_a_pipeline_left(tmp_path: Path, gitlab: GitLabWhole) -> None:
    """Its job's news come first and twice, the pipeline's twice; forged ones mean nothing."""
    gitlab.fill()
    project = gitlab.gitlab.projects[20]
    project.status_checks = [{"id": 7, "name": "Sealwright"}]
    head = {"iid": 1, "state": "opened", "sha": sha("c2"), "source_project_id": 20}
    project.merge_requests = {1: head}
    gitlab.add_trigger("triggered", refs=["refs/heads/main"], artifact="build")
    assert gitlab.deliver("Job Hook", job_event()) == 202
    eventually(lambda: outcomes(gitlab, "Job Hook"), "the job's news")
    assert outcomes(gitlab, "Job Hook") == ["the run goes on, or did not succeed"]
    del gitlab.gitlab.jobs[43]
    gitlab.gitlab.pipelines[5001]["status"] = "success"
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    assert gitlab.deliver("Pipeline Hook", pipeline_event(), other) == 401
    assert gitlab.of_policy("triggered") == []
    for _ in range(2):
        assert gitlab.deliver("Job Hook", job_event()) == 202
        assert gitlab.deliver("Pipeline Hook", pipeline_event()) == 202
    eventually(lambda: len(outcomes(gitlab, "Pipeline Hook")) == 2, "both outcomes")
    [request] = gitlab.of_policy("triggered")
    done = gitlab.wait_for(request["id"], "Completed", "Failed")
    assert (done["state"], done["origin"]["proof"]) == ("Completed", "run-verified"), done["reason"]
    signed = members(gitlab.signed_artifact(request["id"]))
    (tmp_path / "app.exe").write_bytes(signed["dist/app.exe"])
    gitlab.check_signed(tmp_path / "app.exe")
    eventually(lambda: gitlab.shown(request["id"]) == ["success"], "one green status")

    def passed() -> list[str]:
        answers = gitlab.gitlab.check_responses
        return [one["status"] for one in answers if one["external_status_check_id"] == 7]

    eventually(lambda: "passed" in passed(), "the merge request's external status check")
    before = len(passed())
    moved = {
        "object_kind": "merge_request",
        "project": {"id": 20},
        "object_attributes": {
            "iid": 1, "source_project_id": 20, "state": "opened", "action": "update",
            "last_commit": {"id": sha("c2")},
        },
    }  # fmt: skip
    assert gitlab.deliver("Merge Request Hook", moved) == 202
    eventually(lambda: len(passed()) > before, "the check of the merge request again")


def test_tag_that_is_deleted_before_anything_is_signed(gitlab: GitLabWhole) -> None:
    gitlab.fill()
    fake = gitlab.gitlab
    fake.add_pipeline(5002, ref="v1.0", sha=sha("c2"), tag=True, status="success")
    own = gitlab_runner(12270835, "instance_type")
    fake.add_job(52, "build", 5002, runner=own, archive=gitlab.content)
    gitlab.add_trigger("held", refs=["refs/tags/v*"], artifact="build")
    assert gitlab.deliver("Pipeline Hook", pipeline_event(5002)) == 202
    [request] = eventually(lambda: gitlab.of_policy("held"), "a request")
    gitlab.wait_for(request["id"], "WaitingForApproval")
    pushed = {
        "object_kind": "tag_push", "ref": "refs/tags/v1.0", "checkout_sha": None,
        "project_id": 20, "project": {"id": 20},
    }  # fmt: skip
    del fake.projects[20].tags["v1.0"]
    assert gitlab.deliver("Tag Push Hook", pushed) == 202
    done = gitlab.wait_for(request["id"], "Canceled")
    assert "moved or deleted" in done["reason"]


def test_killed_in_the_middle(tmp_path: Path, runners: Runners, gitlab: GitLabWhole) -> None:
    gitlab.fill()
    pipeline = Pipeline(tmp_path, runners, gitlab)
    asked = len(gitlab.gitlab.requests)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(pipeline.run, **{"project": "product", "signing-policy": "killed"})
        eventually(lambda: len(gitlab.gitlab.requests) > asked, "the first question")
        for part in ("web", "worker"):
            gitlab.system.wait_replaced(part, gitlab.system.kill(part))
        eventually(lambda: gitlab.of_policy("killed"), "a request")
        for part in ("worker", "web"):
            gitlab.system.wait_replaced(part, gitlab.system.kill(part))
        done = running.result(120)
    assert done.status == 0, done.output
    gitlab.check_signed(tmp_path / "home" / "signed" / "dist" / "app.exe")
    [request] = gitlab.of_policy("killed")
    assert request["state"] == "Completed"
    eventually(lambda: gitlab.shown(request["id"]) == ["success"], "one green status")
    log = gitlab.admin.get(f"signing-requests/{request['id']}")["log"]
    actions = [one["action"] for one in log]
    assert actions.count("request.completed") == actions.count("artifact.released") == 1
