"""Facts of a run and its artifact, out of a GitHub that refuses what GitHub refuses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import logging
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse
from tests.fakes.github_state import Artifact, Content, Job, Run, commit
from tests.fakes.github_world import AUDIENCE, LINK, LOCAL, LOCATOR, WHEN, World, running_world
from tests.fakes.oidc import github_claims

from sealwright.connectors.connector import RemoteError
from sealwright.connectors.github import UNKNOWN_BYPASS, default_issuer
from sealwright.connectors.github.rulesets import matches
from sealwright.connectors.outgoing import OutgoingPolicy, Timeouts
from sealwright.errors import ConfigurationError, OriginError, TooLargeError
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem
from sealwright.model.origin import JobFacts, Locator, OriginRules, RunFacts

ANY = OriginRules()
WITH_RULESETS = OriginRules(rulesets={"pull_request": ""})
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with running_world() as world:
        yield world


@pytest.fixture
def world(running: World) -> Iterator[World]:
    running.fill()
    yield running
    assert running.fake.faults == []


def facts(world: World, **changes: str) -> RunFacts:
    return world.connector().facts(LINK, dataclasses.replace(LOCATOR, **changes), ANY)


def test_facts_of_a_run(world: World) -> None:
    found = facts(world)
    web = f"{world.fake.web_url}/octo-org/app"
    assert found.repository_id == found.head_repository_id == "1001"
    assert (found.owner_id, found.repository_url) == ("77", web)
    assert (found.run_id, found.run_attempt) == ("5001", 1)
    assert found.run_url == f"{web}/actions/runs/5001"
    assert (found.event, found.status, found.conclusion) == ("push", "in_progress", "")
    assert found.commit == found.definition_commit == commit("c")
    assert (found.ref, found.ref_type, found.reachable) == ("refs/heads/main", "branch", True)
    assert found.definition == ".github/workflows/release.yml"
    assert found.jobs == (
        JobFacts("9001", "build", 1, "completed", True, "0", "GitHub Actions", ("ubuntu-latest",)),
    )
    assert found.rulesets is None
    assert found.claims is None


def test_facts_of_an_artifact(world: World) -> None:
    artifact = facts(world).artifact
    assert artifact is not None
    assert (artifact.id, artifact.name, artifact.file_name) == ("7001", "package", "package.zip")
    assert (artifact.size, artifact.expired) == (10, False)
    assert artifact.sha256 == hashlib.sha256(b"PK content").hexdigest()
    assert (artifact.run_id, artifact.commit) == ("5001", commit("c"))
    assert artifact.repository_id == artifact.head_repository_id == "1001"


@pytest.mark.parametrize("digest", [None, "sha512:aa", "sha256:zz", "md5:x"])
def test_an_unusable_digest_is_none(world: World, digest: str | None) -> None:
    world.artifact.digest = digest
    artifact = facts(world).artifact
    assert artifact is not None
    assert artifact.sha256 == ""


def test_an_artifact_without_a_run(world: World) -> None:
    world.artifact.run_id = None
    artifact = facts(world).artifact
    assert artifact is not None
    assert (artifact.run_id, artifact.repository_id, artifact.commit) == ("", "", "")


def test_an_artifact_of_another_run_says_so(world: World) -> None:
    world.state.runs[5002] = Run(5002, 1001, commit("d"), head_repository_id=1003)
    world.state.artifacts[7002] = Artifact(7002, 5002, Content(b"x"))
    artifact = facts(world, artifact_id="7002").artifact
    assert artifact is not None
    assert (artifact.run_id, artifact.head_repository_id) == ("5002", "1003")
    assert artifact.commit == commit("d")


def test_artifacts_of_a_run(world: World) -> None:
    for number in range(8000, 8150):
        world.state.artifacts[number] = Artifact(number, 5001, Content(b"x"), name=f"n{number}")
    found = world.connector().artifacts(LINK, "5001")
    assert len(found) == 151
    assert len({artifact.id for artifact in found}) == 151


def test_without_an_artifact_id_none_is_fetched(world: World) -> None:
    assert facts(world, artifact_id="").artifact is None


@pytest.mark.parametrize(
    "changes",
    [
        {"run_id": "5999"},
        {"run_id": "0005001"},
        {"run_id": "5001/../5002"},
        {"run_id": "-1"},
        {"run_id": "\N{ARABIC-INDIC DIGIT FIVE}001"},
        {"run_id": ""},
        {"run_id": "9" * 20},
        {"artifact_id": "7999"},
        {"artifact_id": "x"},
        {"artifact_id": "7001/zip"},
    ],
)
def test_what_the_repository_does_not_have(world: World, changes: dict[str, str]) -> None:
    with pytest.raises(OriginError):
        facts(world, **changes)


def test_a_run_of_another_repository_is_not_there(world: World) -> None:
    world.state.runs[5002] = Run(5002, 1002, commit("c"), head_repository_id=1002)
    with pytest.raises(OriginError, match="no workflow run 5002"):
        facts(world, run_id="5002")


def test_a_forks_run_shows_the_fork_and_no_ref(world: World) -> None:
    world.run.head_repository_id = 1003
    found = facts(world)
    assert (found.repository_id, found.head_repository_id) == ("1001", "1003")
    assert (found.ref, found.ref_type, found.reachable) == ("main", "", False)


def test_a_deleted_fork_is_empty(world: World) -> None:
    world.run.head_repository_id = None
    assert facts(world).head_repository_id == ""
    assert facts(world).ref_type == ""


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (".github/workflows/x.yml@refs/heads/main", ".github/workflows/x.yml"),
        ("dynamic/x", "dynamic/x"),
    ],
)
def test_the_definition_is_without_a_ref(world: World, path: str, shown: str) -> None:
    world.run.path = path
    assert facts(world).definition == shown


@pytest.mark.parametrize(
    ("event", "expected"),
    [("push", commit("c")), ("schedule", commit("c")), ("pull_request_target", "")],
)
def test_the_definitions_commit(world: World, event: str, expected: str) -> None:
    world.run.event = event
    assert facts(world).definition_commit == expected


def test_a_completed_and_repeated_run(world: World) -> None:
    world.run.status, world.run.conclusion, world.run.attempt = "completed", "failure", 3
    found = facts(world)
    assert (found.status, found.conclusion, found.run_attempt) == ("completed", "failure", 3)


# Refs


def test_a_tag_is_a_tag(world: World) -> None:
    world.run.head_branch = "v1.0"
    world.repository.refs["refs/tags/v1.0"] = commit("c")
    found = facts(world)
    assert (found.ref, found.ref_type, found.reachable) == ("refs/tags/v1.0", "tag", True)


def test_annotated_and_nested_tags_are_peeled(world: World) -> None:
    world.run.head_branch = "v1.0"
    world.repository.refs["refs/tags/v1.0"] = "1" * 40
    world.repository.tags = {"1" * 40: ("tag", "2" * 40), "2" * 40: ("commit", commit("c"))}
    assert facts(world).reachable is True
    world.repository.tags["2" * 40] = ("commit", commit("a"))
    assert facts(world).reachable is False
    world.repository.tags["2" * 40] = ("tag", "1" * 40)  # never ends
    assert facts(world).reachable is False
    world.repository.tags["2" * 40] = ("tree", commit("c"))
    assert facts(world).reachable is False


def test_a_deleted_ref_has_no_type(world: World) -> None:
    del world.repository.refs["refs/heads/main"]
    found = facts(world)
    assert (found.ref, found.ref_type, found.reachable) == ("main", "", False)


def test_branch_and_tag_of_one_name_are_not_told_apart(world: World) -> None:
    world.repository.refs["refs/tags/main"] = commit("c")
    assert facts(world).ref_type == ""


@pytest.mark.parametrize(("ref", "kind"), [("heads", "branch"), ("tags", "tag")])
def test_but_by_an_identity_token(world: World, ref: str, kind: str) -> None:
    world.repository.refs["refs/tags/main"] = commit("c")
    token = identity(world, ref=f"refs/{ref}/main")
    assert facts(world, identity_token=token).ref_type == kind


def test_a_prefix_of_a_ref_is_not_the_ref(world: World) -> None:
    world.run.head_branch = "mai"
    assert facts(world).ref_type == ""


def test_an_answer_about_another_ref_is_not_the_ref(world: World) -> None:
    connector = world.connector()
    connector.facts(LINK, LOCATOR, ANY)
    repository = {"id": 1001}
    run = {"id": 5001, "repository": repository, "head_repository": repository}
    other = {"ref": "refs/heads/main2", "object": {"type": "commit", "sha": commit("c")}}
    more = {"head_branch": "main", "head_sha": commit("c")}
    world.fake.scripted = [JSONResponse(run | more), JSONResponse(other)]
    assert connector.facts(LINK, LOCATOR, ANY).ref_type == ""


@pytest.mark.parametrize(
    "name", [None, "", "../../actions/runs/5001", "a/../b", ".hidden", "a//b", "x" * 256]
)
def test_odd_ref_names_are_not_asked_for(world: World, name: str | None) -> None:
    world.run.head_branch = name
    assert facts(world).ref_type == ""
    assert not [item for item in world.fake.received if "/git/" in item.path]


@pytest.mark.parametrize("name", ["feature/one", "a b", "50%25", "q?x=1", "h#1", "ümlaut", "a+b"])
def test_ref_names_are_quoted(world: World, name: str) -> None:
    world.run.head_branch = name
    world.repository.refs[f"refs/heads/{name}"] = commit("c")
    found = facts(world)
    assert (found.ref, found.reachable) == (f"refs/heads/{name}", True)


@pytest.mark.parametrize(
    ("head", "reachable"),
    [("a", True), ("b", True), ("c", True), ("d", False), ("e", False)],
    ids=["old", "before", "same", "diverged", "unknown"],
)
def test_reachability(world: World, head: str, reachable: bool) -> None:
    world.run.head_sha = commit(head)
    assert facts(world).reachable is reachable


def test_a_commit_ahead_of_the_ref_is_not_reachable(world: World) -> None:
    world.repository.refs["refs/heads/main"] = commit("b")
    assert facts(world).reachable is False


def test_unrelated_history_is_not_reachable(world: World) -> None:
    world.repository.parents["e" * 40] = []
    world.run.head_sha = "e" * 40
    assert facts(world).reachable is False


# Jobs


@pytest.mark.parametrize(
    ("changes", "hosted"),
    [
        ({}, True),
        ({"labels": ["self-hosted", "linux"]}, False),
        ({"runner_group_name": "Default", "runner_group_id": 1}, False),
        ({"runner_group_name": "release machines", "runner_group_id": 5}, None),
        ({"runner_group_name": None, "runner_group_id": None}, None),
        ({"runner_group_name": "github actions"}, None),
    ],
)
def test_where_a_job_ran(world: World, changes: dict[str, Any], hosted: bool | None) -> None:
    world.state.jobs = [Job(9001, 5001, **changes)]
    (job,) = facts(world).jobs
    assert job.hosted is hosted
    assert job.runner_group == (changes.get("runner_group_name", "GitHub Actions") or "")


def test_jobs_of_all_attempts_on_all_pages(world: World) -> None:
    world.run.attempt = 2
    world.state.jobs = [Job(9000 + i, 5001, attempt=1 + i % 2) for i in range(250)]
    jobs = facts(world).jobs
    assert [job.attempt for job in jobs].count(1) == 125
    assert len({job.id for job in jobs}) == 250


def test_jobs_without_end_are_refused(world: World) -> None:
    connector = world.connector()
    connector.facts(LINK, LOCATOR, ANY)
    link = {"link": '<https://api.github.com/x?page=2>; rel="next"'}
    world.fake.scripted = [JSONResponse({"id": 5001})] + [JSONResponse({}, headers=link)] * 50
    with pytest.raises(RemoteError, match="more than 2000"):
        connector.facts(LINK, LOCATOR, ANY)
    assert len(world.fake.scripted) == 30


def test_skipped_jobs_did_not_contribute(world: World) -> None:
    nowhere: dict[str, Any] = {"runner_name": None, "runner_group_name": None}
    world.state.jobs += [
        Job(9002, 5001, conclusion="skipped", **nowhere),
        Job(9003, 5001, conclusion="skipped"),
        Job(9004, 5001, conclusion="cancelled", **nowhere),
        Job(9005, 5001, status="queued", conclusion=None, **nowhere),
    ]
    assert [job.id for job in facts(world).jobs] == ["9001", "9003", "9004", "9005"]


# Rulesets


def ruleset(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"ruleset {number}",
        "target": "branch",
        "source_type": "Repository",
        "source": "octo-org/app",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": ["refs/tags/v*"], "exclude": []}},
        "rules": [{"type": "deletion"}, {"type": "non_fast_forward"}],
        "bypass_actors": [],
        "created_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-06-01T00:00:00Z",
        **changes,
    }


def rule(kind: str, number: int, **parameters: Any) -> dict[str, Any]:
    source = {"ruleset_source_type": "Repository", "ruleset_source": "octo-org/app"}
    own = {"type": kind, **source, "ruleset_id": number}
    return own | ({"parameters": parameters} if parameters else {})


def pull_request(number: int, approvals: int, *, owners: bool) -> dict[str, Any]:
    return rule(
        "pull_request",
        number,
        dismiss_stale_reviews_on_push=True,
        require_code_owner_review=owners,
        require_last_push_approval=False,
        required_approving_review_count=approvals,
        required_review_thread_resolution=False,
    )


def test_rulesets_of_a_branch(world: World) -> None:
    world.repository.rulesets = [
        ruleset(1),
        ruleset(
            2,
            source_type="Organization",
            updated_at="2025-06-01T02:30:00+02:00",
            bypass_actors=[
                {"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"},
                {"actor_id": None, "actor_type": "DeployKey", "bypass_mode": "always"},
            ],
        ),
    ]
    checks = {
        "required_status_checks": [{"context": "test"}, {"context": "lint", "integration_id": 1}],
        "strict_required_status_checks_policy": True,
    }
    tools = [
        {"tool": "CodeQL", "alerts_threshold": "all", "security_alerts_threshold": "all"},
    ]
    world.repository.branch_rules["main"] = [
        pull_request(1, 1, owners=True),
        pull_request(2, 2, owners=False),
        rule("required_linear_history", 1),
        rule("non_fast_forward", 2),
        rule("required_status_checks", 1, **checks),
        rule("code_scanning", 2, code_scanning_tools=tools),
    ]
    world.state.installations[3001].permissions["administration"] = "write"
    connector = world.connector(settings={"bypass_actors": "read"})
    found = connector.facts(LINK, LOCATOR, WITH_RULESETS).rulesets
    assert found is not None
    assert found.rules.keys() >= {
        "pull_request", "required_linear_history", "non_fast_forward", "code_scanning"
    }  # fmt: skip
    assert found.rules["pull_request.required_approving_review_count"] == "2"
    assert found.rules["pull_request.require_code_owner_review"] == "true"
    assert found.rules["pull_request.require_last_push_approval"] == "false"
    assert found.rules["required_status_checks.required_status_checks"] == "lint,test"
    assert found.rules["code_scanning.code_scanning_tools"] == "CodeQL"
    assert found.bypass_actors == ("DeployKey::always", "RepositoryRole:5:always")
    assert found.active_since == "2025-06-01T00:30:00Z"


def test_unseen_bypass_actors_are_unknown(world: World) -> None:
    world.repository.rulesets = [ruleset(1)]
    world.repository.branch_rules["main"] = [rule("deletion", 1)]
    found = world.connector().facts(LINK, LOCATOR, WITH_RULESETS).rulesets
    assert found is not None
    assert found.rules == {"deletion": "true"}
    assert found.bypass_actors == (UNKNOWN_BYPASS,)


def test_a_branch_without_rules(world: World) -> None:
    found = world.connector().facts(LINK, LOCATOR, WITH_RULESETS).rulesets
    assert found is not None
    assert (dict(found.rules), found.bypass_actors, found.active_since) == ({}, (), "")


def test_branch_names_with_slashes_have_rules(world: World) -> None:
    world.run.head_branch = "release/1%2"
    world.repository.refs["refs/heads/release/1%2"] = commit("c")
    world.repository.rulesets = [ruleset(1)]
    world.repository.branch_rules["release/1%2"] = [rule("deletion", 1)]
    found = world.connector().facts(LINK, LOCATOR, WITH_RULESETS).rulesets
    assert found is not None
    assert found.rules == {"deletion": "true"}


def test_rulesets_of_a_tag(world: World) -> None:
    world.run.head_branch = "v1.0"
    world.repository.refs["refs/tags/v1.0"] = commit("c")
    names = {"ref_name": {"include": ["refs/tags/v*"], "exclude": ["refs/tags/v1.*"]}}
    odd = {"ref_name": {"include": ["~ALL"], "exclude": ["refs/tags/[x]*"]}}
    world.repository.rulesets = [
        ruleset(1),  # of branches
        ruleset(2, target="tag"),
        ruleset(3, target="tag", enforcement="evaluate", rules=[{"type": "creation"}]),
        ruleset(4, target="tag", conditions=names, rules=[{"type": "required_signatures"}]),
        ruleset(5, target="tag", conditions=odd, rules=[{"type": "update"}]),
    ]
    found = world.connector().facts(LINK, LOCATOR, WITH_RULESETS).rulesets
    assert found is not None
    assert found.rules == {"deletion": "true", "non_fast_forward": "true"}
    assert found.active_since == "2025-06-01T00:00:00Z"


@pytest.mark.parametrize(
    ("pattern", "ref", "expected"),
    [
        ("~ALL", "refs/tags/v1", True),
        ("refs/tags/v1", "refs/tags/v1", True),
        ("refs/tags/v*", "refs/tags/v1.2", True),
        ("refs/tags/v?", "refs/tags/v12", False),
        ("refs/tags/*", "refs/tags/a/b", False),
        ("refs/tags/**/*", "refs/tags/a/b", True),
        ("refs/tags/**/*", "refs/tags/b", True),
        ("refs/**/b", "refs/tags/a/b", True),
        ("refs/tags/**", "refs/tags/a/b", False),
        ("refs/tags/V*", "refs/tags/v1", False),
        ("refs/tags/v[0-9]", "refs/tags/v1", None),
        ("refs/tags/{a,b}", "refs/tags/a", None),
        ("~DEFAULT_BRANCH", "refs/tags/a", None),
        ("", "refs/tags/a", False),
    ],
)
def test_conditions_of_rulesets(pattern: str, ref: str, expected: bool | None) -> None:
    assert matches(pattern, ref) is expected


def test_conditions_end_soon() -> None:
    began = time.perf_counter()
    assert not matches("**/a*a*a*a*/" * 60 + "x", "a/" * 120 + "y")
    assert time.perf_counter() - began < 0.5


# Identity tokens


def identity(world: World, **changes: str) -> str:
    issuer = world.fake.issuer
    return issuer.token(github_claims(issuer.url, AUDIENCE, **changes))


def test_claims_of_an_identity_token(world: World) -> None:
    claims = facts(world, identity_token=identity(world, workflow_sha=commit("b"))).claims
    assert claims is not None
    wanted = (
        "repository_id repository_owner_id run_id run_attempt sha ref ref_type event_name "
        "workflow_ref job_workflow_ref job_workflow_sha runner_environment check_run_id jti exp"
    )
    assert set(wanted.split()) <= claims.keys()
    assert claims["check_run_id"] == "9001"


def test_the_definitions_commit_out_of_the_token(world: World) -> None:
    token = identity(world, workflow_sha=commit("b"))
    assert facts(world, identity_token=token).definition_commit == commit("b")


def test_a_forged_identity_token_ends_it(world: World) -> None:
    head, body, signature = identity(world).split(".")
    with pytest.raises(OriginError, match="identity token"):
        facts(world, identity_token=f"{head}.{body}.{signature[::-1]}")
    assert not [item for item in world.fake.received if "/actions/" in item.path]


def test_an_audience_must_be_configured(world: World) -> None:
    connector = world.connector(settings={"oidc_audience": ""})
    with pytest.raises(ConfigurationError, match="audience"):
        connector.facts(LINK, Locator(run_id="5001", identity_token=identity(world)), ANY)


@pytest.mark.parametrize(
    ("base", "web", "issuer"),
    [
        (
            "https://api.github.com",
            "https://github.com",
            "https://token.actions.githubusercontent.com",
        ),
        ("https://api.acme.ghe.com", "https://acme.ghe.com", "https://token.actions.acme.ghe.com"),
        (
            "https://ghes.example/api/v3",
            "https://ghes.example/",
            "https://ghes.example/_services/token",
        ),
        (
            "https://api.github.com.evil.example",
            "https://evil.example",
            "https://evil.example/_services/token",
        ),
    ],
)
def test_issuers(base: str, web: str, issuer: str) -> None:
    kind = BuildSystemKind.GITHUB
    system = TrustedBuildSystem("b", "o", "s", "n", kind, base, web, True, WHEN)
    assert default_issuer(system) == issuer


# Authentication


def test_tokens_are_narrow_and_kept(world: World) -> None:
    connector = world.connector()
    for _ in range(3):
        connector.facts(LINK, LOCATOR, ANY)
    assert world.tokens_asked() == 1
    (token,) = world.state.tokens.values()
    assert token.repository_ids == {1001}
    assert token.permissions == {"actions": "read", "contents": "read", "metadata": "read"}


def test_tokens_about_to_expire_are_replaced(world: World) -> None:
    world.state.token_lifetime = dt.timedelta(minutes=4)
    connector = world.connector()
    connector.facts(LINK, LOCATOR, ANY)
    connector.facts(LINK, LOCATOR, ANY)
    assert world.tokens_asked() == 2


def test_a_revoked_token_is_forgotten(world: World) -> None:
    connector = world.connector()
    connector.facts(LINK, LOCATOR, ANY)
    asked = world.tokens_asked()
    world.state.tokens.clear()
    assert connector.facts(LINK, LOCATOR, ANY).run_id == "5001"
    assert world.tokens_asked() == asked + 1


def test_a_new_token_that_is_refused_too_ends_it(world: World) -> None:
    connector = world.connector()
    world.state.token_lifetime = dt.timedelta(hours=-1)
    with pytest.raises(RemoteError, match="401"):
        connector.facts(LINK, LOCATOR, ANY)
    assert world.tokens_asked() == 2


def test_no_call_follows_an_address_of_an_answer(world: World) -> None:
    world.repository.refs["refs/heads/main"] = commit("c")
    world.state.jobs = [Job(9000 + i, 5001) for i in range(101)]
    facts(world)
    allowed = ("/app/installations/3001/access_tokens", "/repositories/1001/")
    assert all(item.path.startswith(allowed) for item in world.fake.received)


def test_a_key_on_a_token_can_sign(world: World) -> None:
    seen: list[dict[str, Any]] = []

    def sign(claims: dict[str, Any]) -> str:
        seen.append(claims)
        return jwt.encode(claims, world.state.app.key, algorithm="RS256")

    connector = world.connector(credentials={}, sign_jwt=sign)
    assert connector.facts(LINK, LOCATOR, ANY).run_id == "5001"
    assert seen[0].keys() == {"iat", "exp", "iss"}


def test_the_app_by_its_number(world: World) -> None:
    connector = world.connector(settings={"client_id": "", "app_id": str(world.state.app.id)})
    assert connector.facts(LINK, LOCATOR, ANY).run_id == "5001"


def test_a_wrong_key_is_refused(world: World) -> None:
    from tests.fakes.oidc import OTHER_KEY

    world.state.app.key, key = OTHER_KEY, world.state.app.key
    connector = world.connector()
    world.state.app.key = key
    with pytest.raises(RemoteError, match="could not be decoded") as refused:
        connector.facts(LINK, LOCATOR, ANY)
    assert refused.value.retry_after is None
    assert "private key" in refused.value.advice


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.state.installations.clear(), "404"),
        (lambda w: setattr(w.state.installations[3001], "suspended", True), "suspended"),
        (lambda w: w.state.installations[3001].permissions.pop("actions"), "not granted"),
        (lambda w: w.state.installations[3001].repository_ids.remove(1001), "not accessible"),
    ],
)
def test_what_the_installation_does_not_allow(world: World, change: Any, reason: str) -> None:
    change(world)
    with pytest.raises(RemoteError, match=reason) as refused:
        facts(world)
    assert refused.value.retry_after is None
    assert refused.value.advice


def test_a_token_for_other_repositories_is_not_used(world: World) -> None:
    token = world.state.issue({"actions": "read"}, {1001, 1002}).value
    repositories = [{"id": 1001}, {"id": 1002}]
    body = {"token": token, "expires_at": "2099-01-01T00:00:00Z", "repositories": repositories}
    world.fake.scripted = [JSONResponse(body, 201)]
    with pytest.raises(RemoteError, match="other repositories"):
        facts(world)


@pytest.mark.parametrize(
    "link",
    [
        dataclasses.replace(LINK, repository_id="octo-org/app"),
        dataclasses.replace(LINK, repository_id=""),
        dataclasses.replace(LINK, installation_id=""),
        dataclasses.replace(LINK, installation_id="1/../2"),
    ],
)
def test_an_incomplete_link(world: World, link: Any) -> None:
    with pytest.raises(ConfigurationError):
        world.connector().facts(link, LOCATOR, ANY)
    assert world.fake.received == []


@pytest.mark.parametrize(
    "change", [{"credentials": {}}, {"settings": {"client_id": ""}}, {"credentials": {"token": ""}}]
)
def test_incomplete_credentials(world: World, change: Any) -> None:
    with pytest.raises(ConfigurationError):
        world.connector(**change).facts(LINK, LOCATOR, ANY)


def test_an_access_token_instead_of_an_app(world: World) -> None:
    permissions = {"actions": "read", "contents": "read", "metadata": "read"}
    token = world.state.issue(permissions, {1001}, app=False).value
    connector = world.connector(credentials={"token": token})
    assert connector.facts(LINK, LOCATOR, ANY).commit == commit("c")


def test_a_renamed_repository_stays_linked(world: World) -> None:
    world.repository.former_names = {"octo-org/app"}
    world.repository.name = "application"
    assert facts(world).repository_url.endswith("/octo-org/application")


def test_secrets_stay_out_of_logs_and_errors(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    connector = world.connector()
    token = identity(world)
    connector.facts(LINK, dataclasses.replace(LOCATOR, identity_token=token), ANY)
    artifact = facts(world).artifact
    assert artifact is not None
    connector.fetch_artifact(LINK, artifact, io.BytesIO(), 100)
    canaries = [*world.state.tokens, token, "sig=signed", "eyJ"]
    assert not [canary for canary in canaries if canary in caplog.text]
    assert not [canary for canary in canaries if canary in repr(vars(connector))]


def test_threads_share_a_connector(world: World) -> None:
    for number in range(6000, 6016):
        world.state.runs[number] = Run(number, 1001, commit("c"), head_repository_id=1001)
    connector = world.connector()
    connector.facts(LINK, LOCATOR, ANY)
    with ThreadPoolExecutor(8) as threads:
        runs = [str(number) for number in range(6000, 6016)]
        found = threads.map(lambda run: connector.facts(LINK, Locator(run_id=run), ANY), runs)
        assert [item.run_id for item in found] == runs
    assert world.tokens_asked() == 1


# When GitHub does not answer as it should


def limited(status: int, message: str, **headers: str) -> Response:
    return JSONResponse(
        {"message": message}, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


PRIMARY = "API rate limit exceeded for installation ID 3001."
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)


@pytest.mark.parametrize(
    ("answer", "least", "most"),
    [
        (limited(429, PRIMARY, retry_after="17"), 17, 17),
        (limited(403, SECONDARY, retry_after="90"), 90, 90),
        (limited(403, SECONDARY), 60, 60),
        (limited(429, ""), 60, 60),
        (
            limited(
                403,
                PRIMARY,
                x_ratelimit_remaining="0",
                x_ratelimit_reset=f"{time.time() + 36_000:.0f}",  # counted from collection
            ),
            30_000,
            36_002,
        ),
        (limited(403, PRIMARY, x_ratelimit_remaining="0", x_ratelimit_reset="5"), 1, 1),
        (limited(403, PRIMARY, retry_after="999999999999"), 86_400, 86_400),
        (limited(403, SECONDARY, retry_after="soon"), 60, 60),
        (limited(500, "Server Error"), 30, 30),
        (limited(503, ""), 30, 30),
        (Response("<html>Bad gateway</html>", 502), 30, 30),
        (JSONResponse({}, 202), 30, 30),
    ],
)
def test_it_says_when_to_try_again(
    world: World, answer: Response, least: float, most: float
) -> None:
    world.fake.scripted = [answer]
    with pytest.raises(RemoteError) as refused:
        facts(world)
    assert refused.value.retry_after is not None
    assert least <= refused.value.retry_after <= most
    assert len(world.fake.received) == 1


@pytest.mark.parametrize(
    "answer",
    [
        limited(403, "Resource not accessible by integration", x_ratelimit_remaining="4999"),
        limited(418, "\x1b[31mteapot" + "x" * 5000),
        Response("{", media_type="application/json"),
        Response(b"\xff\xfe", media_type="application/json"),
        Response("[" * 100_000),
        JSONResponse({"token": 7, "expires_at": "x"}, 201),
        JSONResponse({"token": "ghs_x"}, 201),
        JSONResponse([], 201),
        Response(status_code=301, headers={"location": "http://127.0.0.1/elsewhere"}),
        Response(status_code=307, headers={"location": "/api/elsewhere"}),
        Response(b" " * (9 * MIB)),
    ],
)
def test_bad_answers_are_refused(world: World, answer: Response) -> None:
    world.fake.scripted = [answer]
    with pytest.raises(RemoteError) as refused:
        facts(world)
    assert refused.value.retry_after is None
    assert len(str(refused.value)) < 600
    assert "\x1b" not in str(refused.value)
    assert len(world.fake.received) == 1


def test_answers_of_odd_shape_read_as_empty(world: World) -> None:
    connector = world.connector()
    connector.facts(LINK, LOCATOR, ANY)
    run = {"id": 5001, "repository": [], "head_repository": "x", "head_sha": {}, "run_attempt": "1"}
    jobs = {"jobs": [{"labels": "x", "run_attempt": None, "name": True}, 7, None]}
    world.fake.scripted = [JSONResponse(run), JSONResponse(jobs), JSONResponse({"id": 7001})]
    found = connector.facts(LINK, LOCATOR, ANY)
    assert (found.repository_id, found.head_repository_id, found.commit) == ("", "", "")
    assert (found.run_attempt, found.ref, found.ref_type, found.reachable) == (0, "", "", False)
    assert found.jobs == (JobFacts("", "", 0, "", None),)
    assert found.artifact is not None
    assert found.artifact.expired


def test_an_unreachable_github(world: World) -> None:
    connector = world.connector(policy=OutgoingPolicy(allow_http=True))
    with pytest.raises(RemoteError, match="may not call") as refused:
        connector.facts(LINK, LOCATOR, ANY)
    assert refused.value.retry_after is None


def test_a_github_that_hangs(world: World) -> None:
    async def nothing() -> Any:
        import asyncio

        await asyncio.sleep(5)
        yield b""

    world.fake.scripted = [StreamingResponse(nothing())]
    connector = world.connector(timeouts=Timeouts(connect=1, idle=0.2, total=0.3))
    began = time.monotonic()
    with pytest.raises(RemoteError, match="in time") as refused:
        connector.facts(LINK, LOCATOR, ANY)
    assert refused.value.retry_after is not None
    assert time.monotonic() - began < 2


# Artifacts


def test_an_artifact_is_fetched_without_the_token(world: World) -> None:
    target = io.BytesIO()
    connector = world.connector()
    artifact = connector.facts(LINK, LOCATOR, ANY).artifact
    assert artifact is not None
    assert connector.fetch_artifact(LINK, artifact, target, 10) == artifact.sha256
    assert target.getvalue() == b"PK content"
    (received,) = world.fake.blob_received
    assert "authorization" not in received.headers
    assert not [value for value in received.headers.values() if "ghs_" in value]


def fetch(world: World, limit: int = 1000, **more: Any) -> bytes:
    connector = world.connector(**more)
    artifact = connector.facts(LINK, LOCATOR, ANY).artifact
    assert artifact is not None
    target = io.BytesIO()
    connector.fetch_artifact(LINK, artifact, target, limit)
    return target.getvalue()


def test_what_hashes_differently_says_so(world: World) -> None:
    world.artifact.digest = f"sha256:{'0' * 64}"
    connector = world.connector()
    artifact = connector.facts(LINK, LOCATOR, ANY).artifact
    assert artifact is not None
    digest = connector.fetch_artifact(LINK, artifact, io.BytesIO(), 100)
    assert digest == hashlib.sha256(b"PK content").hexdigest() != artifact.sha256


def test_an_expired_artifact(world: World) -> None:
    world.artifact.expired = True
    artifact = facts(world).artifact
    assert artifact is not None
    assert artifact.expired
    with pytest.raises(OriginError, match="no longer"):
        fetch(world)


def test_an_artifact_deleted_meanwhile(world: World) -> None:
    connector = world.connector()
    artifact = connector.facts(LINK, LOCATOR, ANY).artifact
    assert artifact is not None
    world.state.artifacts.clear()
    with pytest.raises(OriginError, match="no longer"):
        connector.fetch_artifact(LINK, artifact, io.BytesIO(), 100)


def test_an_artifact_over_the_limit_is_not_read(world: World) -> None:
    with pytest.raises(TooLargeError):
        fetch(world, 9)


def test_an_artifact_that_hides_its_size(world: World) -> None:
    async def chunks() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    world.fake.blob_script = lambda: StreamingResponse(chunks())
    with pytest.raises(TooLargeError):
        fetch(world, 5000)


def answer(*arguments: Any, **more: Any) -> Any:
    return lambda: Response(*arguments, **more)


@pytest.mark.parametrize(
    ("script", "retries"),
    [
        (answer(status_code=404), False),
        (answer(status_code=503), True),
        (answer(status_code=429), True),
        (answer(status_code=302, headers={"location": "http://127.0.0.1/x"}), False),
        (answer(b"x", headers={"content-encoding": "gzip"}), False),
        (answer(b"", status_code=204), False),
    ],
)
def test_a_store_that_misbehaves(world: World, script: Any, retries: bool) -> None:
    world.fake.blob_script = script
    with pytest.raises(RemoteError) as refused:
        fetch(world)
    assert (refused.value.retry_after is not None) == retries
    assert "signed" not in str(refused.value)


def test_a_cut_download(world: World) -> None:
    async def chunks() -> Any:
        yield b"x" * 10

    world.fake.blob_script = lambda: StreamingResponse(chunks(), headers={"content-length": "20"})
    with pytest.raises(RemoteError) as refused:
        fetch(world)
    assert refused.value.retry_after is not None


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "ftp://a/b",
        "x",
        "",
    ],
)
def test_the_stores_address_is_judged(world: World, location: str) -> None:
    connector = world.connector()
    artifact = connector.facts(LINK, LOCATOR, ANY).artifact
    assert artifact is not None
    world.fake.scripted = [Response(status_code=302, headers={"location": location})]
    with pytest.raises(RemoteError):
        connector.fetch_artifact(LINK, artifact, io.BytesIO(), 100)


def test_a_large_artifact_needs_little_memory(world: World) -> None:
    content = world.artifact.content = Content(bytes(range(256)) * 4096, 200)

    class Sink(io.RawIOBase):
        size = 0

        def write(self, data: Any) -> int:
            self.size += len(data)
            return len(data)

    sink: Any = Sink()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connector = world.connector()
    artifact = connector.facts(LINK, LOCATOR, ANY).artifact
    assert artifact is not None
    digest = connector.fetch_artifact(LINK, artifact, sink, 200 * MIB)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert sink.size == 200 * MIB
    assert digest == artifact.sha256 == content.sha256()
    assert grown < 40, f"grew by {grown:.0f} MiB (server and client in one process)"


# GitHub Enterprise Server


def test_enterprise_server() -> None:
    with running_world("/api/v3") as world:
        world.fill()
        assert world.fake.url.endswith("/api/v3")
        connector = world.connector()
        token = identity(world)
        found = connector.facts(LINK, dataclasses.replace(LOCATOR, identity_token=token), ANY)
        assert (found.run_id, found.ref_type) == ("5001", "branch")
        assert found.claims is not None
        assert found.artifact is not None
        assert connector.fetch_artifact(LINK, found.artifact, io.BytesIO(), 100)
        assert all(item.path.startswith("/api/v3/") for item in world.fake.received)
        assert world.fake.faults == []


def test_an_enterprise_server_without_its_path(world: World) -> None:
    world.fake.prefix = "/api/v3"
    try:
        connector = world.connector()
        world.fake.prefix = "/elsewhere"
        with pytest.raises(RemoteError, match="404"):
            connector.facts(LINK, LOCATOR, ANY)
    finally:
        world.fake.prefix = ""


def test_internal_hosts_are_the_operators_choice(world: World) -> None:
    with pytest.raises(RemoteError, match="scheme"):
        world.connector(policy=dataclasses.replace(LOCAL, allow_http=False)).facts(
            LINK, LOCATOR, ANY
        )
