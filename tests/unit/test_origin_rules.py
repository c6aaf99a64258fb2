"""Every fact changed singly is refused (G15). The changes are generated from the dataclasses, so
that a fact that is added without a rule fails here."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from tests.shared import REPOSITORY

from sealwright.model.build_system import BuildSystemKind, RepositoryLink
from sealwright.model.origin import (
    ArtifactFacts,
    JobFacts,
    Locator,
    OriginRules,
    Proof,
    RulesetFacts,
    RunFacts,
)
from sealwright.origin.claims import CLAIMS
from sealwright.origin.rules import (
    EVENTS,
    RULES,
    Case,
    Occasion,
    OriginRefusedError,
    judge,
    judge_again,
)

COMMIT = "c" * 40
OTHER = "d" * 40
WHEN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
KINDS = tuple(BuildSystemKind)

#: what only describes: shown to people, and the reason why no rule reads it
DESCRIBES = {
    ("job", "name"): "names are free; the definition's path is what counts",
    ("job", "labels"): "whoever registers a runner chooses them",
    ("job", "runner_group_id"): "the group is demanded by its name",
    ("job", "status"): "of the asking job alone, through its identity token",
    ("job", "id"): "of the asking job alone, through its identity token",
    ("artifact", "name"): "free; its id is what the submission names",
    ("artifact", "file_name"): "free; bytes count",
    ("artifact", "size"): "the bytes are counted as they come",
    ("artifact", "sha256"): "compared with the bytes when they come, see test_retrieval",
    ("rulesets", "active_since"): "told, not demanded",
}
#: without a token, its claims are missing; with one, these are compared
SEEN_BY_TOKEN_ALONE = {("job", "status"), ("job", "id")}


def facts(kind: BuildSystemKind, *, proven: bool = True) -> RunFacts:
    """A run that every rule accepts."""
    job = JobFacts("9001", "build", 1, "in_progress", True, "1", "release", ("linux",))
    definition = {
        BuildSystemKind.GITHUB: ".github/workflows/release.yml",
        BuildSystemKind.GITLAB: ".gitlab-ci.yml",
        BuildSystemKind.JENKINS: "Jenkinsfile",
    }[kind]
    found = RunFacts(
        repository_id="1001",
        repository_url="https://ci.example.com/octo/app",
        owner_id="77",
        head_repository_id="1001",
        run_id="5001",
        run_attempt=1,
        event={BuildSystemKind.JENKINS: "SCMTriggerCause"}.get(kind, "push"),
        status="in_progress",
        conclusion="",
        commit=COMMIT,
        ref="refs/heads/main",
        ref_type="branch",
        reachable=True,
        definition=definition,
        definition_commit=COMMIT,
        run_url="https://ci.example.com/octo/app/runs/5001",
        jobs=(job,),
        artifact=ArtifactFacts(
            "7001", "package", "package.zip", 10, "a" * 64, False, "5001", "1001", "1001", COMMIT
        ),
        rulesets=RulesetFacts({"pull_request": "2", "protected": ""}, (), "2026-01-01T00:00:00Z"),
    )
    return dataclasses.replace(found, claims=claims(kind, found)) if proven else found


def claims(kind: BuildSystemKind, found: RunFacts) -> dict[str, str]:
    """The identity token of the run's job."""
    common = {"jti": "token-1", "exp": "1900000000", "sub": "whatever it says"}
    if kind is BuildSystemKind.GITHUB:
        workflow = f"octo/app/{found.definition}@{found.ref}"
        return common | {
            "repository_id": "1001", "repository_owner_id": "77", "run_id": "5001",
            "run_attempt": "1", "sha": COMMIT, "ref": found.ref, "ref_type": "branch",
            "event_name": "push", "workflow_ref": workflow, "job_workflow_ref": workflow,
            "job_workflow_sha": COMMIT, "runner_environment": "github-hosted",
            "check_run_id": "9001",
        }  # fmt: skip
    if kind is BuildSystemKind.GITLAB:
        return common | {
            "project_id": "1001", "namespace_id": "77", "job_project_id": "1001",
            "pipeline_source": "push", "ref": "main", "ref_type": "branch",
            "ref_path": found.ref, "ref_protected": "true", "sha": COMMIT,
            "ci_config_ref_uri": f"ci.example.com/octo/app//.gitlab-ci.yml@{found.ref}",
            "ci_config_sha": COMMIT, "runner_environment": "gitlab-hosted",
            "pipeline_id": "5001", "job_id": "9001",
            "project_path": "octo/app",
        }  # fmt: skip
    return common | {"build_number": "5001"}


def rules(kind: BuildSystemKind) -> OriginRules:
    """A policy that demands everything."""
    found = facts(kind)
    return OriginRules(
        branches=("main",),
        tags=("v*",),
        events=(found.event,),
        definitions=(found.definition,),
        caller_proof=True,
        no_reruns=True,
        hosted_runners_only=True,
        runner_groups=("release",),
        rulesets={"pull_request": "2", "protected": ""},
    )


def case(kind: BuildSystemKind, found: RunFacts | None = None, **changes: Any) -> Case:
    """A submission from a build."""
    found = found or facts(kind)
    owner = "" if kind is BuildSystemKind.JENKINS else "77"
    link = RepositoryLink("l", "o", "p", "b", "1001", owner, "octo/app", "3001", WHEN)
    locator = Locator("octo/app", "5001", 1, "7001")
    values: dict[str, Any] = {"kind": kind, "occasion": Occasion.SUBMISSION, "link": link,
                              "locator": locator, "facts": found, "rules": rules(kind)}  # fmt: skip
    return Case(**values | changes)


def refused(of: Case) -> set[str]:
    """Names of the rules that refuse it; every one says what is wrong and what to do."""
    with pytest.raises(OriginRefusedError) as caught:
        judge(of)
    for refusal in caught.value.refusals:
        assert refusal.error
        assert "{" not in refusal.error
        assert len(refusal.how_to_fix) > 10
    return {refusal.rule for refusal in caught.value.refusals}


def others(name: str, value: Any) -> list[Any]:
    """Other values of the same kind: what a liar, a fork or an old answer would hold."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, 0]
        case str() if name == "ref":
            return ["refs/heads/mainx", "refs/tags/main", "main", "refs/pull/1/merge", ""]
        case str() if name == "event":
            return ["pull_request", "pull_request_target", "workflow_run", "ReplayCause",
                    "merge_request_event", "external_pull_request_event", ""]  # fmt: skip
        case str() if name == "status":
            return ["completed", "nonsense", ""]
        case str() if name in {"commit", "definition_commit"}:
            return [OTHER, COMMIT[:7]]
        case str() if name == "conclusion":
            return ["success", "failure", "cancelled"]
        case str() if not value:
            return ["x"]
        case str():
            return [f"{value}x", f"x{value}"] + ([] if name == "definition_commit" else [""])
    return [None]


def changed_runs(kind: BuildSystemKind) -> Iterator[tuple[str, str, RunFacts]]:
    """(part, field, a run with that one fact changed)."""
    good = facts(kind)
    for one in dataclasses.fields(good):
        value = getattr(good, one.name)
        if one.name in {"jobs", "artifact", "rulesets", "claims"}:
            continue
        for other in others(one.name, value):
            yield "run", one.name, dataclasses.replace(good, **{one.name: other})
    for part, of in (("job", good.jobs[0]), ("artifact", good.artifact)):
        assert of is not None
        for one in dataclasses.fields(of):
            for other in others(one.name, getattr(of, one.name)):
                changed = dataclasses.replace(of, **{one.name: other})
                whole = {"jobs": (changed,)} if part == "job" else {"artifact": changed}
                yield part, one.name, dataclasses.replace(good, **whole)
    for name, ruleset in (
        ("rules", RulesetFacts({"pull_request": "1", "protected": ""})),
        ("rules", RulesetFacts({"protected": ""})),
        ("rules", RulesetFacts({"pull_request": "2"})),
        ("bypass_actors", RulesetFacts({"pull_request": "2", "protected": ""}, ("Team 1",))),
        ("missing", None),
    ):
        yield "rulesets", name, dataclasses.replace(good, rulesets=ruleset)
    for missing in ("jobs", "artifact", "claims"):
        empty: Any = () if missing == "jobs" else None
        yield missing, "missing", dataclasses.replace(good, **{missing: empty})
    assert good.claims is not None
    for claim in (*(one.name for one in CLAIMS[kind]), "jti", "exp"):
        for other_claim in ("", f"{good.claims[claim]}0", "nonsense"):
            if claim == "jti" and other_claim:
                continue
            if claim == "exp" and other_claim.isdecimal():
                continue
            changed_claims = dict(good.claims) | {claim: other_claim}
            yield "claims", claim, dataclasses.replace(good, claims=changed_claims)


#: facts that a build controller does not know of, and no rule can read there
UNKNOWN_TO_JENKINS = {"repository_url", "owner_id", "run_url", "definition_commit"}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_right_is_accepted(kind: BuildSystemKind) -> None:
    origin = judge(case(kind))
    assert origin.verified
    assert origin.proof is Proof.CALLER
    assert (origin.commit, origin.ref, origin.branch) == (COMMIT, "refs/heads/main", "main")
    assert (origin.run_id, origin.artifact_id) == ("5001", "7001")
    assert {"repository", "head-repository", "event", "claims"} <= set(origin.checks)


@pytest.mark.parametrize("kind", KINDS)
def test_each_fact_changed_singly_is_refused(kind: BuildSystemKind) -> None:
    tried: set[tuple[str, str]] = set()
    for part, name, found in changed_runs(kind):
        tried.add((part, name))
        if kind is BuildSystemKind.JENKINS and name in UNKNOWN_TO_JENKINS:
            continue
        if (part, name) in DESCRIBES:
            continue
        if found.claims is not None and part == "run":
            # as if the token told the same: the rule itself must see it, not the comparison alone
            assert refused(case(kind, found)), (part, name)
            continue
        assert refused(case(kind, found)), (part, name, found)
    expected = {("run", one.name) for one in dataclasses.fields(RunFacts)} - {
        ("run", name) for name in ("jobs", "artifact", "rulesets", "claims")
    }
    expected |= {("job", one.name) for one in dataclasses.fields(JobFacts)}
    expected |= {("artifact", one.name) for one in dataclasses.fields(ArtifactFacts)}
    assert expected <= tried


@pytest.mark.parametrize("kind", [BuildSystemKind.GITHUB, BuildSystemKind.GITLAB])
def test_each_fact_without_a_token_and_without_a_policy(kind: BuildSystemKind) -> None:
    """What has to hold always, with nothing demanded and no token to compare with."""
    good = facts(kind, proven=False)
    judge(case(kind, good, rules=OriginRules()))
    always = {
        "repository_id", "owner_id", "head_repository_id", "run_id", "run_attempt", "event",
        "status", "conclusion", "commit", "ref", "ref_type", "reachable", "definition",
        "definition_commit", "repository_url", "run_url",
    }  # fmt: skip
    for part, name, found in changed_runs(kind):
        if part != "run":
            continue
        assert name in always
        other = dataclasses.replace(found, claims=None)
        if name == "ref" and other.ref.startswith("refs/heads/"):
            continue  # another branch, which this policy allows as well
        if name == "definition" and kind is BuildSystemKind.GITLAB and other.definition:
            continue  # another file, which this policy allows as well
        assert refused(case(kind, other, rules=OriginRules())), (name, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", [("job", "status"), ("job", "id")])
def test_the_asking_job_must_be_at_work(kind: BuildSystemKind, field: tuple[str, str]) -> None:
    assert field in DESCRIBES
    if kind is BuildSystemKind.JENKINS:
        return
    good = facts(kind)
    other = {"status": "completed", "id": "9002"}[field[1]]
    job = dataclasses.replace(good.jobs[0], **{field[1]: other})
    assert "claims" in refused(case(kind, dataclasses.replace(good, jobs=(job,))))


@pytest.mark.parametrize("kind", KINDS)
def test_the_subject_of_the_token_is_never_read(kind: BuildSystemKind) -> None:
    good = facts(kind)
    assert good.claims is not None
    for subject in ("", "repo:mallory/app:ref:refs/heads/main", "x" * 10_000):
        judge(case(kind, dataclasses.replace(good, claims=dict(good.claims) | {"sub": subject})))
    assert all(claim.name != "sub" for claim in CLAIMS[kind])


def test_an_older_github_sends_no_check_run_id() -> None:
    good = facts(BuildSystemKind.GITHUB)
    assert good.claims is not None
    older = {name: value for name, value in good.claims.items() if name != "check_run_id"}
    judge(case(BuildSystemKind.GITHUB, dataclasses.replace(good, claims=older)))


def test_every_claim_of_the_design_is_compared() -> None:
    assert {claim.name for claim in CLAIMS[BuildSystemKind.GITHUB]} == {
        "repository_id", "repository_owner_id", "run_id", "run_attempt", "sha", "ref", "ref_type",
        "event_name", "workflow_ref", "job_workflow_ref", "job_workflow_sha",
        "runner_environment", "check_run_id",
    }  # fmt: skip
    assert {claim.name for claim in CLAIMS[BuildSystemKind.GITLAB]} == {
        "project_id", "namespace_id", "job_project_id", "pipeline_source", "ref", "ref_type",
        "ref_path", "ref_protected", "sha", "ci_config_ref_uri", "ci_config_sha",
        "runner_environment", "pipeline_id", "job_id",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_event_of_pull_or_merge_requests_is_allowed(kind: BuildSystemKind) -> None:
    words = ("pull", "merge", "workflow_run", "fork", "issue", "comment")
    assert not [event for event in EVENTS[kind] if any(word in event.lower() for word in words)]


@pytest.mark.parametrize("event", ["pull_request", "workflow_run"])
def test_a_policy_cannot_allow_what_is_never_allowed(event: str) -> None:
    kind = BuildSystemKind.GITHUB
    found = dataclasses.replace(facts(kind, proven=False), event=event)
    assert refused(case(kind, found, rules=OriginRules(events=(event,)))) == {"event"}


def test_a_fork_with_a_branch_main_is_refused() -> None:
    kind = BuildSystemKind.GITHUB
    found = dataclasses.replace(facts(kind, proven=False), head_repository_id="1003")
    assert refused(case(kind, found, rules=OriginRules())) == {"head-repository"}


@pytest.mark.parametrize(
    ("occasion", "changes", "rule"),
    [
        (Occasion.TRIGGER, {"status": "in_progress"}, "succeeded"),
        (Occasion.TRIGGER, {"status": "completed", "conclusion": "failure"}, "succeeded"),
        (Occasion.SUBMISSION, {"status": "completed", "conclusion": "success"}, "live"),
        (Occasion.UPLOAD, {}, "caller"),
    ],
)
def test_occasions(occasion: Occasion, changes: dict[str, str], rule: str) -> None:
    kind = BuildSystemKind.GITHUB
    found = dataclasses.replace(facts(kind, proven=False), **changes)
    assert refused(case(kind, found, rules=OriginRules(), occasion=occasion)) == {rule}


def test_a_trigger_gives_no_proof_of_the_caller() -> None:
    kind = BuildSystemKind.GITHUB
    found = dataclasses.replace(facts(kind, proven=False), status="completed", conclusion="success")
    judge(case(kind, found, rules=OriginRules(), occasion=Occasion.TRIGGER))
    demanding = case(kind, found, rules=OriginRules(caller_proof=True), occasion=Occasion.TRIGGER)
    assert refused(demanding) == {"no-proof-by-trigger"}


def test_retrieval_compares_with_what_was_recorded() -> None:
    kind = BuildSystemKind.GITHUB
    found = facts(kind, proven=False)
    recorded = judge(case(kind, found, rules=OriginRules()))
    ended = dataclasses.replace(found, status="completed", conclusion="success")
    again = case(kind, ended, rules=OriginRules(), occasion=Occasion.RETRIEVAL, recorded=recorded)
    judge(again)
    for name in ("repository_id", "run_id", "commit", "ref", "event", "artifact_id",
                 "artifact_sha256"):  # fmt: skip
        other = dataclasses.replace(recorded, **{name: "b" * 40})
        assert "unchanged" in refused(dataclasses.replace(again, recorded=other)), name
    assert "unchanged" in refused(dataclasses.replace(again, recorded=None))


@pytest.mark.parametrize(
    ("kind", "proven", "proof"),
    [
        (BuildSystemKind.GITHUB, False, Proof.RUN),
        (BuildSystemKind.GITLAB, False, Proof.RUN),
        (BuildSystemKind.JENKINS, False, Proof.CONTROLLER),
        (BuildSystemKind.GITHUB, True, Proof.CALLER),
    ],
)
def test_what_is_proven(kind: BuildSystemKind, proven: bool, proof: Proof) -> None:
    found = facts(kind, proven=proven)
    assert judge(case(kind, found, rules=OriginRules())).proof is proof


def test_another_policy_judges_an_earlier_origin_again() -> None:
    kind = BuildSystemKind.GITHUB
    origin = judge(case(kind, facts(kind, proven=False), rules=OriginRules()))
    judge_again(origin, OriginRules(), None)
    judge_again(origin, rules(kind), rules(kind))
    judge_again(origin, OriginRules(branches=("ma*",), events=("push",)), OriginRules())
    for stricter in (
        OriginRules(branches=("release/**",)),
        OriginRules(tags=("v*",)),
        OriginRules(events=("schedule",)),
        OriginRules(definitions=("other.yml",)),
        OriginRules(caller_proof=True),
        OriginRules(no_reruns=True),
        OriginRules(hosted_runners_only=True),
        OriginRules(runner_groups=("release",)),
        OriginRules(rulesets={"pull_request": ""}),
    ):
        with pytest.raises(OriginRefusedError):
            judge_again(origin, stricter, OriginRules())


def test_every_rule_is_documented() -> None:
    page = (REPOSITORY / "docs" / "origin.md").read_text()
    for rule in RULES:
        assert f"`{rule.name}`" in page, rule.name
    assert len({rule.name for rule in RULES}) == len(RULES)
