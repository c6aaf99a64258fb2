"""The GitLab connector's facts against a strict GitLab: ordinary pipelines and odd ones."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gitlab as python_gitlab
import pytest
from starlette.responses import JSONResponse, Response
from tests.fakes.gitlab import (
    AUDIENCE,
    DEVELOPER,
    LINK,
    FakeGitLab,
    Project,
    Token,
    build_system,
    fake_gitlab,
    runner,
    sha,
)
from tests.fakes.oidc import OTHER_KEY
from tests.fakes.outgoing import LOOPBACK, TLS
from tests.file_server import certificate_for, file_server

from sealwright.connectors.connector import Connector, RemoteError
from sealwright.connectors.gitlab import GitLabConnector
from sealwright.connectors.gitlab.facts import _is_hosted
from sealwright.connectors.gitlab.protection import matches
from sealwright.connectors.outgoing import OutgoingPolicy, Timeouts
from sealwright.errors import ConfigurationError, OriginError, TooLargeError
from sealwright.model.origin import ArtifactFacts, Locator, OriginRules, RunFacts

RULES = OriginRules()
WITH_RULESETS = OriginRules(rulesets={"protected": ""})
OF_JOB = Locator(run_id="574", artifact_id="300")
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def running() -> Iterator[FakeGitLab]:
    # Under a path, as many self-managed instances are.
    with fake_gitlab("/git") as server:
        yield server


@pytest.fixture
def gitlab(running: FakeGitLab) -> Iterator[FakeGitLab]:
    running.reset()
    yield running
    assert running.violations == []


@pytest.fixture
def connector(gitlab: FakeGitLab) -> GitLabConnector:
    return GitLabConnector(build_system(gitlab), outgoing=LOOPBACK, tls=TLS)


@pytest.fixture
def project(gitlab: FakeGitLab) -> Project:
    return gitlab.projects[20]


def test_a_pipeline_on_a_branch(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    facts = connector.facts(LINK, OF_JOB, RULES)
    assert facts == RunFacts(
        repository_id="20",
        repository_url=f"{gitlab.url}/team/app",
        owner_id="72",
        head_repository_id="20",
        run_id="574",
        run_attempt=1,
        event="push",
        status="in_progress",
        conclusion="",
        commit=sha("c2"),
        ref="refs/heads/main",
        ref_type="branch",
        reachable=True,
        definition=".gitlab-ci.yml",
        definition_commit=sha("c2"),
        run_url=f"{gitlab.url}/team/app/-/pipelines/574",
        jobs=facts.jobs,
        artifact=ArtifactFacts(
            id="300",
            name="build",
            file_name="artifacts.zip",
            size=12,
            sha256="",
            expired=False,
            run_id="574",
            repository_id="20",
            head_repository_id="20",
            commit=sha("c2"),
        ),
    )
    assert [(job.id, job.name, job.attempt, job.status) for job in facts.jobs] == [
        ("300", "build", 1, "completed"),
        ("301", "sign", 1, "in_progress"),
    ]
    assert facts.jobs[0].runner_group == "instance/12270835"
    assert facts.jobs[0].labels == ("linux",)
    assert facts.jobs[0].hosted is False  # not gitlab.com: somebody's own instance runner
    is_connector: Connector = connector
    assert is_connector


def test_the_run_is_found_by_the_job_alone(connector: GitLabConnector) -> None:
    assert connector.facts(LINK, Locator(artifact_id="300"), RULES).run_id == "574"


def test_another_client_reads_the_same_of_this_gitlab(gitlab: FakeGitLab) -> None:
    """The fake is a GitLab to a client that others wrote."""
    with python_gitlab.Gitlab(gitlab.url, private_token="glpat-server") as client:
        project = client.projects.get(20)
        assert project.path_with_namespace == "team/app"
        assert project.branches.get("main").commit["id"] == sha("c2")
        jobs = project.pipelines.get(574).jobs.list(include_retried="true", get_all=True)
        assert [job.id for job in jobs] == [301, 300]
        assert project.jobs.get(300).artifacts() == b"PK artifacts"
        status = {"state": "running", "name": "other", "pipeline_id": 574}
        created = project.commits.get(sha("c2"), lazy=True).statuses.create(status)
        assert created.status == "running"
        with pytest.raises(python_gitlab.GitlabCreateError, match="Cannot transition status"):
            project.commits.get(sha("c2"), lazy=True).statuses.create(status)
    gitlab.violations.clear()


# Odd pipelines


def test_a_fork_s_merge_request_names_the_fork(
    gitlab: FakeGitLab, connector: GitLabConnector, project: Project
) -> None:
    project.merge_requests[12] = {"iid": 12, "source_project_id": 99, "sha": sha("evil")}
    ref = "refs/merge-requests/12/head"
    gitlab.add_pipeline(600, source="merge_request_event", ref=ref, sha=sha("evil"))
    gitlab.add_job(310, "build", 600, archive=b"PK evil")
    facts = connector.facts(LINK, Locator(artifact_id="310"), RULES)
    assert (facts.repository_id, facts.head_repository_id) == ("20", "99")
    assert (facts.event, facts.ref, facts.ref_type) == ("merge_request_event", ref, "")
    assert facts.reachable is False
    assert facts.artifact is not None
    assert facts.artifact.head_repository_id == "99"


def test_a_merge_request_whose_fork_is_gone_has_no_source(
    gitlab: FakeGitLab, connector: GitLabConnector, project: Project
) -> None:
    project.merge_requests[12] = {"iid": 12, "source_project_id": None, "sha": sha("evil")}
    gitlab.add_pipeline(600, source="merge_request_event", ref="refs/merge-requests/12/train")
    assert connector.facts(LINK, Locator(run_id="600"), RULES).head_repository_id == ""


def test_a_child_pipeline_of_a_merge_request_is_one_too(
    gitlab: FakeGitLab, connector: GitLabConnector, project: Project
) -> None:
    project.merge_requests[12] = {"iid": 12, "source_project_id": 99, "sha": sha("evil")}
    gitlab.add_pipeline(601, source="parent_pipeline", ref="refs/merge-requests/12/head")
    facts = connector.facts(LINK, Locator(run_id="601"), RULES)
    assert (facts.event, facts.head_repository_id) == ("parent_pipeline", "99")
    assert (facts.definition, facts.definition_commit) == ("", "")


def test_the_source_of_an_external_pull_request_is_unknown(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.add_pipeline(602, source="external_pull_request_event", ref="main")
    assert connector.facts(LINK, Locator(run_id="602"), RULES).head_repository_id == ""


@pytest.mark.parametrize(
    ("is_tag", "folder", "kind"), [(True, "tags", "tag"), (False, "heads", "branch")]
)
def test_a_tag_with_the_name_of_a_branch(
    gitlab: FakeGitLab,
    connector: GitLabConnector,
    project: Project,
    is_tag: bool,
    folder: str,
    kind: str,
) -> None:
    project.branches["1.0"] = sha("side")
    project.tags["1.0"] = sha("c3")
    built = sha("c3") if is_tag else sha("side")
    gitlab.add_pipeline(610, ref="1.0", tag=is_tag, sha=built)
    facts = connector.facts(LINK, Locator(run_id="610"), RULES)
    assert (facts.ref, facts.ref_type, facts.reachable) == (f"refs/{folder}/1.0", kind, True)


def test_a_tag_that_was_moved_away_does_not_reach_its_commit(
    gitlab: FakeGitLab, connector: GitLabConnector, project: Project
) -> None:
    gitlab.add_pipeline(611, ref="v1.0", tag=True, sha=sha("c2"))
    project.tags["v1.0"] = sha("side")
    facts = connector.facts(LINK, Locator(run_id="611"), RULES)
    assert (facts.ref_type, facts.reachable) == ("tag", False)


def test_a_deleted_branch(gitlab: FakeGitLab, connector: GitLabConnector, project: Project) -> None:
    del project.branches["main"]
    facts = connector.facts(LINK, OF_JOB, WITH_RULESETS)
    assert (facts.ref, facts.ref_type, facts.reachable) == ("refs/heads/main", "", False)
    assert facts.rulesets is None


def test_an_older_commit_is_reachable_and_one_that_was_forced_away_is_not(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.add_pipeline(620, sha=sha("c1"))
    assert connector.facts(LINK, Locator(run_id="620"), RULES).reachable is True
    gitlab.add_pipeline(621, sha=sha("side"))
    assert connector.facts(LINK, Locator(run_id="621"), RULES).reachable is False


def test_a_commit_that_was_removed_is_not_reachable(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.add_pipeline(622, sha=sha("gone"))
    gitlab.answers["/api/v4/projects/20/repository/merge_base"] = JSONResponse(
        {"message": f"Could not find ref: {sha('gone')}"}, 400
    )
    assert connector.facts(LINK, Locator(run_id="622"), RULES).reachable is False


def test_a_branch_with_slashes_and_signs(
    gitlab: FakeGitLab, connector: GitLabConnector, project: Project
) -> None:
    name = "feature/ä#1?x=%2e%2e"
    project.branches[name] = sha("c2")
    gitlab.add_pipeline(630, ref=name)
    facts = connector.facts(LINK, Locator(run_id="630"), RULES)
    assert (facts.ref, facts.ref_type) == (f"refs/heads/{name}", "branch")


@pytest.mark.parametrize("name", ["..", "a/../../../../user", "", "x" * 300, ".hidden"])
def test_a_ref_that_git_would_not_have_is_not_looked_for(
    gitlab: FakeGitLab, connector: GitLabConnector, name: str
) -> None:
    gitlab.add_pipeline(631, ref=name)
    facts = connector.facts(LINK, Locator(run_id="631"), RULES)
    assert (facts.ref_type, facts.reachable) == ("", False)


def test_retried_jobs_are_counted(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    project_runner = runner(42, "project_type")
    gitlab.add_job(320, "build", 574, status="failed", runner=project_runner)
    gitlab.add_job(330, "build", 574, runner=runner(7, "group_type"), archive=b"PK 3")
    facts = connector.facts(LINK, Locator(artifact_id="330"), RULES)
    assert facts.run_attempt == 3
    builds = [job for job in facts.jobs if job.name == "build"]
    assert [(job.id, job.attempt, job.runner_group) for job in builds] == [
        ("300", 1, "instance/12270835"),
        ("320", 2, "project/42"),
        ("330", 3, "group/7"),
    ]
    assert connector.facts(LINK, OF_JOB, RULES).run_attempt == 1
    assert connector.facts(LINK, Locator(run_id="574"), RULES).run_attempt == 3


def test_jobs_that_never_ran_contribute_nothing(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.add_job(340, "deploy", 574, status="manual", started_at=None)
    gitlab.add_job(341, "lost", 574, status="success", runner=None)  # its runner was deleted
    jobs = {job.name: job for job in connector.facts(LINK, OF_JOB, RULES).jobs}
    assert "deploy" not in jobs
    assert jobs["lost"].hosted is None
    assert jobs["lost"].runner_group == ""


def test_every_page_of_jobs_is_read(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    for number in range(1000, 1234):
        gitlab.add_job(number, f"test {number}", 574)
    assert len(connector.facts(LINK, OF_JOB, RULES).jobs) == 236


def test_only_gitlab_com_has_hosted_runners() -> None:
    assert _is_hosted(runner(1, "instance_type"), "gitlab.com") is True
    assert _is_hosted(runner(1, "group_type"), "gitlab.com") is False
    assert _is_hosted(runner(1, "instance_type"), "gitlab.com.example.net") is False
    assert _is_hosted(None, "gitlab.com") is None


@pytest.mark.parametrize(
    ("setting", "definition", "commit"),
    [
        ("", ".gitlab-ci.yml", sha("c2")),
        ("ci/build.yml", "ci/build.yml", sha("c2")),
        ("ci/absent.yml", "", ""),  # Auto DevOps, or a policy's
        ("ci.yml@other/project", "ci.yml@other/project", ""),
        ("https://example.com/ci.yml", "https://example.com/ci.yml", ""),
        ("../../x", "", ""),
    ],
)
def test_the_definition(
    connector: GitLabConnector, project: Project, setting: str, definition: str, commit: str
) -> None:
    project.settings["ci_config_path"] = setting
    project.files[sha("c2")].add("ci/build.yml")
    facts = connector.facts(LINK, OF_JOB, RULES)
    assert (facts.definition, facts.definition_commit) == (definition, commit)


@pytest.mark.parametrize(
    ("state", "status", "conclusion"),
    [
        ("created", "queued", ""),
        ("manual", "queued", ""),
        ("running", "in_progress", ""),
        ("canceling", "in_progress", ""),
        ("success", "completed", "success"),
        ("failed", "completed", "failure"),
        ("canceled", "completed", "cancelled"),
        ("unheard-of", "", ""),
    ],
)
def test_states(
    gitlab: FakeGitLab, connector: GitLabConnector, state: str, status: str, conclusion: str
) -> None:
    gitlab.pipelines[574]["status"] = state
    facts = connector.facts(LINK, OF_JOB, RULES)
    assert (facts.status, facts.conclusion) == (status, conclusion)


# Artifacts


def test_an_artifact_that_has_expired(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    gitlab.add_job(350, "old", 574, archive=None, expire_at="2020-01-01T00:00:00.000Z")
    artifact = connector.facts(LINK, Locator(artifact_id="350"), RULES).artifact
    assert artifact is not None
    assert artifact.expired
    with pytest.raises(OriginError, match="no longer there"):
        connector.fetch_artifact(LINK, artifact, io.BytesIO(), MEBIBYTE)


def test_an_artifact_that_is_kept_past_its_date(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.add_job(351, "kept", 574, archive=b"PK", expire_at="2020-01-01T00:00:00.000Z")
    artifact = connector.facts(LINK, Locator(artifact_id="351"), RULES).artifact
    assert artifact is not None
    assert (artifact.expired, artifact.size) == (False, 2)


def test_a_job_without_artifacts(connector: GitLabConnector) -> None:
    with pytest.raises(OriginError, match="has no artifacts"):
        connector.facts(LINK, Locator(artifact_id="301"), RULES)


def test_an_artifact_of_another_pipeline_shows(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.add_pipeline(640, ref="dev", sha=sha("side"))
    gitlab.add_job(360, "build", 640, archive=b"PK other")
    facts = connector.facts(LINK, Locator(run_id="574", artifact_id="360"), RULES)
    assert facts.artifact is not None
    assert (facts.run_id, facts.artifact.run_id) == ("574", "640")
    assert (facts.commit, facts.artifact.commit) == (sha("c2"), sha("side"))


def test_triggers_see_the_archives_of_a_pipeline(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.add_job(370, "build", 574, archive=b"PK again")
    found = connector.artifacts(LINK, "574")
    assert [(artifact.id, artifact.name) for artifact in found] == [("370", "build")]


@pytest.mark.parametrize("redirects", [False, True])
def test_the_archive_is_hashed_as_it_streams(
    gitlab: FakeGitLab, connector: GitLabConnector, redirects: bool
) -> None:
    gitlab.store_redirects = redirects
    target = io.BytesIO()
    digest = connector.fetch_artifact(LINK, _artifact(connector), target, MEBIBYTE)
    assert target.getvalue() == b"PK artifacts"
    assert digest == hashlib.sha256(b"PK artifacts").hexdigest()


def test_memory_does_not_grow_with_the_archive(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    chunk, count = bytes(MEBIBYTE), 64
    gitlab.jobs[300].archive = lambda: (chunk for _ in range(count))
    target = _Discard()
    tracemalloc.start()
    try:
        digest = connector.fetch_artifact(LINK, _artifact(connector), target, 65 * MEBIBYTE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest == hashlib.sha256(chunk * count).hexdigest()
    assert target.size == count * MEBIBYTE
    assert peak < 16 * MEBIBYTE


def test_a_larger_archive_than_allowed_is_cut_off(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.jobs[300].archive = lambda: (bytes(MEBIBYTE) for _ in range(64))
    target = _Discard()
    with pytest.raises(TooLargeError):
        connector.fetch_artifact(LINK, _artifact(connector), target, 3 * MEBIBYTE)
    assert target.size <= 3 * MEBIBYTE


def _artifact(connector: GitLabConnector) -> ArtifactFacts:
    artifact = connector.facts(LINK, OF_JOB, RULES).artifact
    assert artifact is not None
    return artifact


class _Discard(io.BytesIO):
    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


# Protection

LEVEL = {"access_level": 40, "user_id": None, "group_id": None, "deploy_key_id": None}
NO_ONE = LEVEL | {"access_level": 0}


def protected(name: str = "main", **values: Any) -> dict[str, Any]:
    return {
        "id": 1, "name": name, "push_access_levels": [LEVEL], "merge_access_levels": [LEVEL],
        "allow_force_push": False, "unprotect_access_levels": [],
        "code_owner_approval_required": False, "inherited": False, **values,
    }  # fmt: skip


def test_a_ref_without_protection(connector: GitLabConnector) -> None:
    rulesets = connector.facts(LINK, OF_JOB, WITH_RULESETS).rulesets
    assert rulesets is not None
    assert dict(rulesets.rules) == {}


def test_rulesets_are_not_asked_for_in_vain(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    assert connector.facts(LINK, OF_JOB, RULES).rulesets is None
    assert not any("protected" in path for _, path, _ in gitlab.requests)


def test_maintainers_may_push(connector: GitLabConnector, project: Project) -> None:
    project.protected_branches = [protected()]
    rulesets = connector.facts(LINK, OF_JOB, WITH_RULESETS).rulesets
    assert rulesets is not None
    assert dict(rulesets.rules) == {
        "protected": "true",
        "push.access_level": "40",
        "merge.access_level": "40",
        "non_fast_forward": "true",
    }
    assert rulesets.bypass_actors == ()
    assert rulesets.active_since == ""


def test_of_several_protections_the_weakest_lets_in(
    connector: GitLabConnector, project: Project
) -> None:
    weak = protected(
        "ma*", push_access_levels=[LEVEL | {"access_level": 30}], allow_force_push=True
    )
    project.protected_branches = [protected(push_access_levels=[NO_ONE]), weak, protected("other")]
    rulesets = connector.facts(LINK, OF_JOB, WITH_RULESETS).rulesets
    assert rulesets is not None
    assert rulesets.rules["push.access_level"] == "30"
    assert "non_fast_forward" not in rulesets.rules
    assert "pull_request" not in rulesets.rules


def test_what_is_not_said_of_forced_pushes_does_not_forbid_them(
    connector: GitLabConnector, project: Project
) -> None:
    silent = protected()
    del silent["allow_force_push"]
    project.protected_branches = [silent]
    rulesets = connector.facts(LINK, OF_JOB, WITH_RULESETS).rulesets
    assert rulesets is not None
    assert "non_fast_forward" not in rulesets.rules


def test_who_is_let_past_is_named(connector: GitLabConnector, project: Project) -> None:
    key = LEVEL | {"deploy_key_id": 5}
    people = [LEVEL | {"access_level": None, "user_id": 1}, LEVEL | {"group_id": 3}]
    project.protected_branches = [protected(push_access_levels=[NO_ONE, key, *people])]
    rulesets = connector.facts(LINK, OF_JOB, WITH_RULESETS).rulesets
    assert rulesets is not None
    assert rulesets.bypass_actors == ("deploy-key/5", "group/3", "user/1")
    assert rulesets.rules["push.access_level"] == "100"


APPROVALS = {
    "reset_approvals_on_push": True,
    "disable_overriding_approvers_per_merge_request": True,
    "merge_requests_author_approval": False,
    "merge_requests_disable_committers_approval": False,
}


def test_merge_requests_alone_with_approvals(connector: GitLabConnector, project: Project) -> None:
    project.protected_branches = [
        protected(push_access_levels=[NO_ONE], code_owner_approval_required=True)
    ]
    project.settings |= {
        "merge_method": "ff",
        "only_allow_merge_if_pipeline_succeeds": True,
        "only_allow_merge_if_all_discussions_are_resolved": True,
    }
    project.approvals = APPROVALS
    project.approval_rules = [
        {"approvals_required": 2, "applies_to_all_protected_branches": True},
        {"approvals_required": 1, "protected_branches": []},
        {"approvals_required": 9, "protected_branches": [{"name": "release/*"}]},
    ]
    rulesets = connector.facts(LINK, OF_JOB, WITH_RULESETS).rulesets
    assert rulesets is not None
    assert dict(rulesets.rules) == {
        "protected": "true",
        "push.access_level": "100",
        "merge.access_level": "40",
        "non_fast_forward": "true",
        "pull_request": "true",
        "pull_request.require_code_owner_review": "true",
        "pull_request.required_review_thread_resolution": "true",
        "pull_request.required_approving_review_count": "2",
        "pull_request.dismiss_stale_reviews_on_push": "true",
        "pull_request.author_approval_prevented": "true",
        "required_status_checks": "true",
        "required_linear_history": "true",
    }


def test_approvals_that_authors_may_lower_do_not_count(
    connector: GitLabConnector, project: Project
) -> None:
    project.protected_branches = [protected(push_access_levels=[NO_ONE])]
    project.approvals = APPROVALS | {"disable_overriding_approvers_per_merge_request": False}
    project.approval_rules = [{"approvals_required": 2, "protected_branches": []}]
    rulesets = connector.facts(LINK, OF_JOB, WITH_RULESETS).rulesets
    assert rulesets is not None
    assert "pull_request" in rulesets.rules
    assert "pull_request.required_approving_review_count" not in rulesets.rules


def test_a_protected_tag(gitlab: FakeGitLab, connector: GitLabConnector, project: Project) -> None:
    gitlab.add_pipeline(650, ref="v1.0", tag=True)
    project.protected_branches = [protected("v*", push_access_levels=[NO_ONE])]
    project.protected_tags = [
        {"name": "v*", "create_access_levels": [NO_ONE, LEVEL | {"user_id": 4}]}
    ]
    rulesets = connector.facts(LINK, Locator(run_id="650"), WITH_RULESETS).rulesets
    assert rulesets is not None
    assert dict(rulesets.rules) == {
        "protected": "true",
        "update": "true",
        "creation": "true",
        "creation.access_level": "100",
    }
    assert rulesets.bypass_actors == ("user/4",)


def test_protection_needs_the_role_to_see_it(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    gitlab.tokens["glpat-server"] = Token(role=DEVELOPER)
    with pytest.raises(RemoteError, match=r"403.*role"):
        connector.facts(LINK, OF_JOB, WITH_RULESETS)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("main", "main", True),
        ("main", "Main", False),
        ("ma*", "main", True),
        ("*", "a/b", True),
        ("release/*", "release/1/2", True),
        ("release/*", "release", False),
        ("*-stable", "1-stable", True),
        ("a.c", "abc", False),
        ("", "main", False),
        ("*a" * 40, "a" * 40, False),  # more stars than anybody needs
    ],
)
def test_protection_patterns(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


# Identity


def test_claims_come_as_texts(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    locator = dataclasses.replace(OF_JOB, identity_token=gitlab.id_token(301))
    claims = connector.facts(LINK, locator, RULES).claims
    assert claims is not None
    assert claims["job_id"] == "301"
    assert claims["runner_id"] == "12270835"
    assert claims["job_project_id"] == claims["project_id"] == "20"
    assert claims["jti"]


def test_claims_of_a_fork_are_told_as_they_are(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    token = gitlab.id_token(301, project_id="99", pipeline_source="merge_request_event")
    claims = connector.facts(LINK, dataclasses.replace(OF_JOB, identity_token=token), RULES).claims
    assert claims is not None
    assert (claims["project_id"], claims["job_project_id"]) == ("99", "20")


@pytest.mark.parametrize(
    "forgery",
    [
        {"aud": "https://other.example.com"},
        {"aud": [AUDIENCE, "https://other.example.com"]},
        {"iss": "https://gitlab.com"},
        {"exp": 1_600_000_000},
        {"nbf": 4_000_000_000},
        {"jti": ""},
    ],
)
def test_forged_identity_tokens(
    gitlab: FakeGitLab, connector: GitLabConnector, forgery: dict[str, Any]
) -> None:
    locator = dataclasses.replace(OF_JOB, identity_token=gitlab.id_token(301, **forgery))
    with pytest.raises(OriginError, match="identity token is not valid"):
        connector.facts(LINK, locator, RULES)
    assert not any("/api/v4/" in path for _, path, _ in gitlab.requests)


def test_an_identity_token_under_another_key(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    token = gitlab.issuer.token(gitlab.claims(301), key=OTHER_KEY)
    with pytest.raises(OriginError, match="signature is wrong"):
        connector.facts(LINK, dataclasses.replace(OF_JOB, identity_token=token), RULES)


def test_a_job_token_identifies_its_job(
    gitlab: FakeGitLab, connector: GitLabConnector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    identity = connector.identify_job("glcbt-64_running")
    assert (identity.project_id, identity.pipeline_id, identity.job_id) == ("20", "574", "301")
    assert (identity.commit, identity.status) == (sha("c2"), "in_progress")
    assert "glcbt-64_running" not in caplog.text + repr(vars(connector))
    assert [headers.get("private-token") for _, _, headers in gitlab.requests] == [None]


@pytest.mark.parametrize("token", ["", "short", "glcbt-unknown", "glpat-server", "x\r\nA: b" * 4])
def test_what_is_no_job_token(connector: GitLabConnector, token: str) -> None:
    with pytest.raises(OriginError, match="job token") as refused:
        connector.identify_job(token)
    assert not token or token not in str(refused.value)


def test_the_token_of_a_job_that_has_ended(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    gitlab.jobs[301].status = "success"
    with pytest.raises(OriginError, match="running job"):
        connector.identify_job("glcbt-64_running")


# Refusals


@pytest.mark.parametrize(
    "given", ["574/../../..", "\uff11\uff12", "-1", "5" * 30, "abc", "574?x=1"]
)
def test_locators_that_are_no_numbers(connector: GitLabConnector, given: str) -> None:
    with pytest.raises(OriginError, match="is not an id"):
        connector.facts(LINK, Locator(run_id=given), RULES)
    with pytest.raises(OriginError, match="is not an id"):
        connector.facts(LINK, Locator(artifact_id=given), RULES)


def test_an_empty_locator(connector: GitLabConnector) -> None:
    with pytest.raises(OriginError):
        connector.facts(LINK, Locator(), RULES)


def test_pipelines_and_jobs_of_others(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    gitlab.add_pipeline(700, project_id=99)
    gitlab.add_job(380, "build", 700, archive=b"PK")
    with pytest.raises(OriginError, match="no pipeline 700"):
        connector.facts(LINK, Locator(run_id="700"), RULES)
    with pytest.raises(OriginError, match="no job 380"):
        connector.facts(LINK, Locator(artifact_id="380"), RULES)


def test_an_answer_about_something_else(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    for path in ("/api/v4/projects/20/pipelines/574", "/api/v4/projects/20/jobs/300"):
        gitlab.reset()
        gitlab.answers[path] = JSONResponse({"id": 999, "project_id": 20, "pipeline": {"id": 574}})
        with pytest.raises(OriginError, match="shows no"):
            connector.facts(LINK, OF_JOB, RULES)


def test_a_project_that_the_token_does_not_see(connector: GitLabConnector) -> None:
    foreign = dataclasses.replace(LINK, repository_id="99")
    with pytest.raises(OriginError, match="no project 99"):
        connector.facts(foreign, OF_JOB, RULES)


@pytest.mark.parametrize("repository_id", ["", "team/app", "20/../99"])
def test_a_link_without_an_id(connector: GitLabConnector, repository_id: str) -> None:
    with pytest.raises(ConfigurationError):
        connector.facts(dataclasses.replace(LINK, repository_id=repository_id), OF_JOB, RULES)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (Token(state="revoked"), "401"),
        (Token(state="expired"), "401"),
        (Token(scopes=frozenset({"read_repository"})), "insufficient_scope"),
        (Token(role=10), "403"),
    ],
)
def test_tokens_that_may_not(
    gitlab: FakeGitLab, connector: GitLabConnector, token: Token, said: str
) -> None:
    gitlab.tokens["glpat-server"] = token
    with pytest.raises(RemoteError, match=said) as refused:
        connector.facts(LINK, OF_JOB, RULES)
    assert refused.value.retry_after is None
    assert "glpat-server" not in str(refused.value)


def test_no_token_at_all(gitlab: FakeGitLab) -> None:
    connector = GitLabConnector(build_system(gitlab, token=""), outgoing=LOOPBACK, tls=TLS)
    with pytest.raises(ConfigurationError, match="no access token"):
        connector.facts(LINK, OF_JOB, RULES)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"RateLimit-Reset": "1050"}, 51.0),
        ({"RateLimit-Reset": "10"}, 1.0),
        ({"Retry-After": "9" * 9}, 86_400.0),
        ({"Retry-After": "soon"}, 60.0),
        ({}, 60.0),
    ],
)
def test_rate_limits_are_told_and_not_waited_for(
    gitlab: FakeGitLab, headers: dict[str, str], seconds: float
) -> None:
    gitlab.rate_limit = headers
    connector = GitLabConnector(
        build_system(gitlab), outgoing=LOOPBACK, tls=TLS, clock=lambda: 1000.0
    )
    with pytest.raises(RemoteError, match="rate limit") as refused:
        connector.facts(LINK, OF_JOB, RULES)
    assert refused.value.retry_after == seconds
    assert len(gitlab.requests) == 1


@pytest.mark.parametrize(
    ("answer", "retry"),
    [
        (Response(b"", 502), True),
        (Response(b"[" * 100_000, 500), True),
        (Response(b"{}", 302, {"Location": "http://169.254.169.254/"}), False),
        (Response(b"<html>", 200, media_type="text/html"), False),
        (Response(b"[" * 100_000, 200, media_type="application/json"), False),
        (Response(b'{"id": ' + b"9" * 10_000 + b"}", 200, media_type="application/json"), False),
        (Response(b"[]", 200, media_type="application/json"), False),
        (Response(b"\xff\xfe", 200, media_type="application/json"), False),
        (Response(b'"' + b"x" * 9_000_000 + b'"', 200, media_type="application/json"), False),
        (Response(b'{"message": {"a": [1]}}', 418, media_type="application/json"), False),
    ],
)
def test_hostile_answers(
    gitlab: FakeGitLab, connector: GitLabConnector, answer: Response, retry: bool
) -> None:
    gitlab.answers["/api/v4/projects/20"] = answer
    with pytest.raises(RemoteError) as refused:
        connector.facts(LINK, OF_JOB, RULES)
    assert (refused.value.retry_after is not None) is retry


@pytest.mark.parametrize("shape", [None, [], "text", 7, True, {"id": []}, [None, 1, "x", {}]])
def test_fields_of_any_shape_read_as_empty(
    gitlab: FakeGitLab, connector: GitLabConnector, shape: object
) -> None:
    odd = dict.fromkeys(
        ("project_id", "ref", "tag", "source", "sha", "web_url", "status", "namespace"), shape
    )
    gitlab.answers["/api/v4/projects/20"] = JSONResponse({**odd, "id": 20, "ci_config_path": shape})
    gitlab.answers["/api/v4/projects/20/pipelines/574"] = JSONResponse({**odd, "id": 574})
    job = {"id": 300, "started_at": "x", "runner": shape, "tag_list": shape, "name": shape}
    gitlab.answers["/api/v4/projects/20/pipelines/574/jobs"] = JSONResponse([job, shape, shape])
    facts = connector.facts(LINK, Locator(run_id="574"), WITH_RULESETS)
    assert (facts.ref_type, facts.reachable, facts.rulesets) == ("", False, None)
    assert facts.repository_id in {"", "text", "7"}


@pytest.mark.parametrize("shape", [None, [], "text", {}, {"filename": []}])
def test_artifacts_of_any_shape_are_none(
    gitlab: FakeGitLab, connector: GitLabConnector, shape: object
) -> None:
    job = {"id": 300, "pipeline": {"id": 574}, "artifacts": shape, "artifacts_file": shape}
    gitlab.answers["/api/v4/projects/20/jobs/300"] = JSONResponse(job)
    with pytest.raises(OriginError, match="has no artifacts"):
        connector.facts(LINK, Locator(artifact_id="300"), RULES)


def test_lists_without_end(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    page = [{"id": number} for number in range(100)]
    path = "/api/v4/projects/20/pipelines/574/jobs"
    gitlab.answers[path] = Response(json.dumps(page), media_type="application/json")
    with pytest.raises(RemoteError, match="more than 2000"):
        connector.facts(LINK, OF_JOB, RULES)


def test_a_gitlab_that_is_away() -> None:
    system = build_system(FakeGitLab())
    system = dataclasses.replace(system, base_url="http://127.0.0.1:9")
    quick = Timeouts(connect=1, idle=1, total=2)
    connector = GitLabConnector(system, outgoing=LOOPBACK, tls=TLS, timeouts=quick)
    with pytest.raises(RemoteError) as refused:
        connector.facts(LINK, OF_JOB, RULES)
    assert refused.value.retry_after is not None


def test_an_address_that_may_not_be_called(gitlab: FakeGitLab) -> None:
    connector = GitLabConnector(build_system(gitlab))  # public hosts alone
    with pytest.raises(RemoteError):
        connector.facts(LINK, OF_JOB, RULES)
    assert gitlab.requests == []


def test_the_store_may_not_lead_into_the_own_network(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    artifact = _artifact(connector)
    location = {"Location": "http://169.254.169.254/latest/meta-data"}
    gitlab.answers["/api/v4/projects/20/jobs/300/artifacts"] = Response(b"", 302, location)
    with pytest.raises(RemoteError, match="may not call"):
        connector.fetch_artifact(LINK, artifact, io.BytesIO(), MEBIBYTE)


def test_a_store_that_redirects_without_end(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    artifact = _artifact(connector)
    path = "/api/v4/projects/20/jobs/300/artifacts"
    gitlab.answers[path] = Response(b"", 302, {"Location": gitlab.url + path})
    with pytest.raises(RemoteError, match="302"):
        connector.fetch_artifact(LINK, artifact, io.BytesIO(), MEBIBYTE)


async def test_the_store_may_not_be_without_tls(tmp_path: Path) -> None:
    server, client = certificate_for("localhost", tmp_path)
    async with file_server(server) as files:
        path = "/api/v4/projects/20/jobs/300/artifacts"
        files.serve(path, b"", "302 Found", "Location: http://127.0.0.1:9/x\r\n")
        system = build_system(FakeGitLab())
        system = dataclasses.replace(system, base_url=f"https://localhost:{files.port}")
        policy = OutgoingPolicy(internal_hosts=("localhost", "127.0.0.1"), allow_http=True)
        connector = GitLabConnector(system, outgoing=policy, tls=client)
        artifact = ArtifactFacts("300", "", "", 0, "", False, "574", "20", "20", "")
        with pytest.raises(RemoteError, match="without TLS"):
            await asyncio.to_thread(
                connector.fetch_artifact, LINK, artifact, io.BytesIO(), MEBIBYTE
            )
        assert [request.header("PRIVATE-TOKEN") for request in files.received] == ["glpat-server"]
