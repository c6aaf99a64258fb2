"""The Jenkins connector against a strict controller: ordinary builds and odd ones."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from tests.fakes.jenkins import (
    COMMIT,
    FOLDER,
    LIBRARY,
    LINK,
    MULTIBRANCH,
    PASSWORD,
    REMOTE,
    USER_CAUSE,
    Build,
    FakeJenkins,
    Job,
    build_system,
    causes,
    checkout,
    config,
    fake_jenkins,
)
from tests.fakes.oidc import OTHER_KEY
from tests.fakes.outgoing import LOOPBACK, TLS
from tests.fakes.reports import report

from sealwright.connectors.blocking import BlockingClient
from sealwright.connectors.connector import Connector, RemoteError
from sealwright.connectors.jenkins import BuildEvent, JenkinsConnector, parse_event
from sealwright.connectors.jenkins.connector import matches
from sealwright.connectors.jenkins.definition import read_definition, without_credentials
from sealwright.connectors.jenkins.webhooks import SIGNATURE_HEADER, sign
from sealwright.connectors.oidc import IdentityTokenVerifier, IssuerKeys
from sealwright.errors import (
    ConfigurationError,
    InvalidInputError,
    OriginError,
    TooLargeError,
    UnauthenticatedError,
)
from sealwright.model.origin import ArtifactFacts, Locator, Origin, OriginRules, RunFacts
from sealwright.model.report import ReportPhase

RULES = OriginRules()
RUN = Locator(run_id="12", artifact_id="dist/app.exe")
MEBIBYTE = 1024 * 1024
SCM_BINDER = "org.jenkinsci.plugins.workflow.multibranch.SCMBinder"
BRANCH_HEAD = "org.jenkinsci.plugins.github_branch_source.BranchSCMHead"
TAG_HEAD = "jenkins.plugins.git.GitTagSCMHead"
PULL_REQUEST_HEAD = "org.jenkinsci.plugins.github_branch_source.PullRequestSCMHead"


@pytest.fixture(scope="module")
def running() -> Iterator[FakeJenkins]:
    with fake_jenkins("/ci") as server:
        yield server


@pytest.fixture
def jenkins(running: FakeJenkins) -> Iterator[FakeJenkins]:
    running.reset()
    yield running
    assert running.violations == []


def _connector(jenkins: FakeJenkins, **settings: str) -> JenkinsConnector:
    return JenkinsConnector(build_system(jenkins, **settings), outgoing=LOOPBACK, tls=TLS)


@pytest.fixture
def connector(jenkins: FakeJenkins) -> JenkinsConnector:
    return _connector(jenkins)


@pytest.fixture
def build(jenkins: FakeJenkins) -> Build:
    return jenkins.jobs["team/app"].builds[12]


def test_a_build_from_source_control(jenkins: FakeJenkins, connector: JenkinsConnector) -> None:
    facts = connector.facts(LINK, RUN, RULES)
    assert facts == RunFacts(
        repository_id="team/app",
        repository_url=REMOTE,
        owner_id="",
        head_repository_id="team/app",
        run_id="12",
        run_attempt=1,
        event="UserIdCause",
        status="in_progress",
        conclusion="",
        commit=COMMIT,
        ref="refs/heads/main",
        ref_type="branch",
        reachable=None,
        definition="Jenkinsfile",
        definition_commit="",  # a lightweight checkout may be of another moment
        run_url=f"{jenkins.url}/job/team/job/app/12/",
        jobs=facts.jobs,
        artifact=ArtifactFacts(
            id="dist/app.exe",
            name="app.exe",
            file_name="app.exe",
            size=0,
            sha256="",
            expired=False,
            run_id="12",
            repository_id="team/app",
            head_repository_id="team/app",
            commit=COMMIT,
        ),
    )
    assert [(job.id, job.attempt, job.hosted) for job in facts.jobs] == [("12", 1, None)]
    is_connector: Connector = connector
    assert is_connector


@pytest.mark.parametrize(
    ("result", "conclusion"),
    [
        ("SUCCESS", "success"),
        ("UNSTABLE", "failure"),
        ("FAILURE", "failure"),
        ("ABORTED", "cancelled"),
        ("NOT_BUILT", "skipped"),
        (None, ""),
    ],
)
def test_a_build_that_has_ended(
    connector: JenkinsConnector, build: Build, result: str | None, conclusion: str
) -> None:
    build.building, build.result = False, result
    facts = connector.facts(LINK, RUN, RULES)
    assert (facts.status, facts.conclusion) == ("completed", conclusion)


# Causes


@pytest.mark.parametrize(
    "cause",
    [
        "org.jenkinsci.plugins.workflow.cps.replay.ReplayCause",
        "com.sonyericsson.rebuild.RebuildCause",
        "org.jenkinsci.plugins.pipeline.modeldefinition.causes.RestartDeclarativePipelineCause",
        "com.chikli.hudson.plugin.naginator.NaginatorCause",
        "com.cloudbees.workflow.cps.checkpoint.RestoreFromCheckpointCause",
    ],
)
@pytest.mark.parametrize("beside", [(), (USER_CAUSE,), ("jenkins.branch.BranchEventCause",)])
def test_builds_that_run_again(
    connector: JenkinsConnector, build: Build, cause: str, beside: tuple[str, ...]
) -> None:
    build.actions = [causes(*beside), causes(cause), checkout()]
    with pytest.raises(OriginError, match="runs an earlier one again"):
        connector.facts(LINK, RUN, RULES)


@pytest.mark.parametrize(
    ("classes", "event"),
    [
        ((), ""),
        (("jenkins.branch.BranchEventCause",), "BranchEventCause"),
        (("hudson.triggers.TimerTrigger$TimerTriggerCause",), "TimerTriggerCause"),
        ((USER_CAUSE, USER_CAUSE), "UserIdCause"),
        ((USER_CAUSE, "jenkins.branch.BranchEventCause"), "BranchEventCause,UserIdCause"),
    ],
)
def test_the_event_is_every_cause(
    connector: JenkinsConnector, build: Build, classes: tuple[str, ...], event: str
) -> None:
    build.actions = [causes(*classes), checkout()]
    assert connector.facts(LINK, RUN, RULES).event == event


# Checkouts


@pytest.mark.parametrize(
    "actions",
    [
        [],
        [checkout(), checkout("https://git.example.com/other/app.git")],
        [checkout(), checkout(REMOTE, hashlib.sha1(b"other").hexdigest())],
        [checkout("https://git.example.com/other/app.git")],
        [checkout() | {"remoteUrls": [REMOTE, "https://git.example.com/other/app.git"]}],
        [checkout() | {"remoteUrls": []}],
        [checkout(), checkout() | {"remoteUrls": None}],
        [checkout(REMOTE, "main")],
        [checkout() | {"lastBuiltRevision": None}],
        [checkout(), checkout(LIBRARY)],
    ],
)
def test_builds_of_other_than_one_checkout(
    connector: JenkinsConnector, build: Build, actions: list[dict[str, Any]]
) -> None:
    build.actions = [causes(USER_CAUSE), *actions]
    with pytest.raises(OriginError, match="checked out"):
        connector.facts(LINK, RUN, RULES)


def test_libraries_are_no_checkouts(jenkins: FakeJenkins, build: Build) -> None:
    build.actions += [checkout(LIBRARY, "0" * 40), checkout()]
    connector = _connector(jenkins, library_remotes=f"https://git.example.com/x {LIBRARY}")
    assert connector.facts(LINK, RUN, RULES).repository_url == REMOTE


def test_credentials_in_a_remote_go_no_further(
    jenkins: FakeJenkins, connector: JenkinsConnector, build: Build
) -> None:
    secret = REMOTE.replace("https://", "https://robot:s3cret@")
    jenkins.jobs["team/app"].config = config(remotes=(secret,))
    build.actions = [causes(USER_CAUSE), checkout(secret)]
    facts = connector.facts(LINK, RUN, RULES)
    assert facts.repository_url == REMOTE
    assert "s3cret" not in repr(facts)


def test_remotes_of_every_form_lose_their_credentials() -> None:
    assert without_credentials("ssh://git@host:22/a.git") == "ssh://host:22/a.git"
    assert without_credentials("git@host:team/a.git") == "git@host:team/a.git"
    assert without_credentials("https://a@b@host/x") == "https://host/x"


@pytest.mark.parametrize(
    ("names", "ref", "kind"),
    [
        (("refs/remotes/origin/main",), "refs/heads/main", "branch"),
        (("origin/release/1",), "refs/heads/release/1", "branch"),
        (("refs/tags/v1.0",), "refs/tags/v1.0", "tag"),
        (("detached",), "", ""),
        (("refs/remotes/upstream/main",), "", ""),
        (("refs/remotes/origin/main", "detached"), "refs/heads/main", "branch"),
        (("refs/remotes/origin/main", "refs/remotes/origin/dev"), "", ""),
        (("refs/remotes/origin/v1", "refs/tags/v1"), "", ""),
    ],
)
def test_refs_as_the_git_plugin_has_them(
    connector: JenkinsConnector, build: Build, names: tuple[str, ...], ref: str, kind: str
) -> None:
    build.actions = [causes(USER_CAUSE), checkout(REMOTE, COMMIT, *names)]
    facts = connector.facts(LINK, RUN, RULES)
    assert (facts.ref, facts.ref_type) == (ref, kind)


# Definitions


@pytest.mark.parametrize(
    "document",
    [
        config("org.jenkinsci.plugins.workflow.cps.CpsFlowDefinition"),
        config("hudson.Evil"),
        config(remotes=()),
        config(remotes=(REMOTE, "https://git.example.com/other/app.git")),
        config(remotes=("",)),
        config(scm="hudson.scm.SubversionSCM"),
        config(refspec="+refs/pull/*:refs/remotes/origin/pr/*"),
        config(refspec="+refs/heads/*:refs/remotes/origin/* +refs/pull/*:refs/remotes/origin/*"),
        config(refspec="+refs/heads/a:refs/remotes/origin/main"),
        config(SCM_BINDER),  # without a branch
        b"<project><scm class='hudson.plugins.git.GitSCM'/></project>",
        config().replace(b"<definition ", b"<definition class='x'/><definition "),
        config().replace(b"<triggers/>", b"<definition class='x'><script/></definition>"),
    ],
)
def test_definitions_outside_source_control(
    jenkins: FakeJenkins, connector: JenkinsConnector, document: bytes
) -> None:
    jenkins.jobs["team/app"].config = document
    with pytest.raises(OriginError):
        connector.facts(LINK, RUN, RULES)


def test_a_job_whose_repository_was_changed_since(
    jenkins: FakeJenkins, connector: JenkinsConnector
) -> None:
    jenkins.jobs["team/app"].config = config(remotes=("https://git.example.com/other/app.git",))
    with pytest.raises(OriginError, match="another repository"):
        connector.facts(LINK, RUN, RULES)


def test_branches_and_tags_may_be_fetched(
    jenkins: FakeJenkins, connector: JenkinsConnector
) -> None:
    jenkins.jobs["team/app"].config = config(
        refspec="+refs/heads/*:refs/remotes/origin/* +refs/tags/*:refs/tags/*", script="ci/Sign"
    )
    assert connector.facts(LINK, RUN, RULES).definition == "ci/Sign"


LAUGHS = (
    b'<?xml version="1.1"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    b"<flow-definition>&b;</flow-definition>"
)
OUTSIDE = (
    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><flow-definition>&x;</flow-definition>'
)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"<flow-definition>",
        b"<a/><b/>",
        LAUGHS,
        OUTSIDE,
        b"<!DOCTYPE flow-definition><flow-definition/>",
        b"<flow-definition>&undefined;</flow-definition>",
        b"<a>" * 10_000 + b"</a>" * 10_000,
        b"<a>" + b"<b/>" * 100_001 + b"</a>",
        b"<a>\x00</a>",
    ],
)
def test_hostile_xml(document: bytes) -> None:
    with pytest.raises(RemoteError, match=r"config\.xml"):
        read_definition(document)


# Multibranch Pipelines


@pytest.fixture
def branches(jenkins: FakeJenkins) -> FakeJenkins:
    jenkins.jobs["team/app"] = Job(MULTIBRANCH)
    for name, head, head_name in (
        ("main", BRANCH_HEAD, "main"),
        ("feature%2Fx", BRANCH_HEAD, "feature/x"),
        ("v1.0", TAG_HEAD, "v1.0"),
        ("PR-7", PULL_REQUEST_HEAD, "PR-7"),
    ):
        job = Job(config=config(SCM_BINDER, head=head, head_name=head_name))
        jenkins.jobs[f"team/app/{name}"] = job
        build = jenkins.add_build(f"team/app/{name}", Build(3))
        build.actions = [causes("jenkins.branch.BranchEventCause"), checkout(REMOTE, COMMIT, name)]
        jenkins.archive(f"team/app/{name}", build, "app.exe", b"MZ")
    return jenkins


@pytest.mark.parametrize(
    ("name", "ref", "kind"),
    [
        ("main", "refs/heads/main", "branch"),
        ("feature%2Fx", "refs/heads/feature/x", "branch"),
        ("v1.0", "refs/tags/v1.0", "tag"),
    ],
)
def test_a_branch_of_a_multibranch_pipeline(
    branches: FakeJenkins, connector: JenkinsConnector, name: str, ref: str, kind: str
) -> None:
    by_run = Locator(run_id=f"{name}/3", artifact_id="app.exe")
    by_job = Locator(repository=f"team/app/{name}", run_id="3", artifact_id="app.exe")
    facts = connector.facts(LINK, by_run, RULES)
    assert facts == connector.facts(LINK, by_job, RULES)
    assert (facts.ref, facts.ref_type, facts.run_id) == (ref, kind, f"{name}/3")
    assert facts.repository_id == facts.head_repository_id == "team/app"
    assert facts.definition_commit == COMMIT
    assert facts.artifact is not None
    target = io.BytesIO()
    connector.fetch_artifact(LINK, facts.artifact, target, MEBIBYTE)
    assert target.getvalue() == b"MZ"


def test_a_change_request_is_nobody_s_code(
    branches: FakeJenkins, connector: JenkinsConnector
) -> None:
    facts = connector.facts(LINK, Locator(run_id="PR-7/3", artifact_id="app.exe"), RULES)
    assert (facts.head_repository_id, facts.ref_type) == ("", "")
    assert facts.artifact is not None
    assert facts.artifact.head_repository_id == ""


def test_a_folder_is_no_multibranch_pipeline(
    branches: FakeJenkins, connector: JenkinsConnector
) -> None:
    branches.jobs["team/app"].kind = FOLDER
    with pytest.raises(OriginError, match="not a multibranch Pipeline"):
        connector.facts(LINK, Locator(run_id="main/3"), RULES)


# Which jobs and builds


@pytest.mark.parametrize(
    "locator",
    [
        Locator(),
        Locator(run_id="0"),
        Locator(run_id="12a"),
        Locator(run_id="-1"),
        Locator(run_id="\uff11\uff12"),
        Locator(run_id="../12"),
        Locator(run_id="a/b/12"),
        Locator(run_id="12/"),
        Locator(run_id="lastBuild"),
        Locator(repository="team/other", run_id="12"),
        Locator(repository="team/apple", run_id="12"),
        Locator(repository="team/app/a/b", run_id="12"),
        Locator(repository="team/app/dev", run_id="main/12"),
        Locator(run_id="99"),
        Locator(run_id="12", artifact_id="absent"),
        Locator(run_id="12", artifact_id="../app.exe"),
    ],
)
def test_locators_that_name_nothing(connector: JenkinsConnector, locator: Locator) -> None:
    with pytest.raises(OriginError):
        connector.facts(LINK, locator, RULES)


def test_the_linked_job_by_its_name(connector: JenkinsConnector) -> None:
    assert connector.facts(LINK, Locator(repository="team/app", run_id="12"), RULES).run_id == "12"


@pytest.mark.parametrize("jobs", ["", " , ", "other", "team", "team/app/*", "*", "Team/app"])
def test_jobs_that_are_not_on_the_allowlist(jenkins: FakeJenkins, jobs: str) -> None:
    connector = _connector(jenkins, jobs=jobs)
    with pytest.raises(OriginError, match="allowlist"):
        connector.facts(LINK, RUN, RULES)
    with pytest.raises(OriginError, match="allowlist"):
        connector.artifacts(LINK, "12")
    assert jenkins.requests == []


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("team/app", "team/app", True),
        ("team/*", "team/app", True),
        ("team/*", "team/app/main", False),
        ("team/**", "team/app/main", True),
        ("t?am/a*p", "team/app", True),
        ("my app", "my app", True),
        ("a.c", "abc", False),
        ("*a*a*a*a*a*a*b", "a" * 200, False),
    ],
)
def test_allowlist_patterns(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


def test_a_job_with_odd_signs_in_its_name(jenkins: FakeJenkins) -> None:
    name = "my app & more #1 äö"
    link = dataclasses.replace(LINK, repository_id=name)
    jenkins.jobs[name] = Job(builds={12: Build(12)})
    facts = _connector(jenkins, jobs=name).facts(link, Locator(run_id="12"), RULES)
    assert facts.run_url == f"{jenkins.url}/job/my%20app%20%26%20more%20%231%20%C3%A4%C3%B6/12/"


@pytest.mark.parametrize("name", ["", "..", "a//b", "a/../b", "/a", "a\nb", "x" * 2000])
def test_links_to_what_is_no_job(jenkins: FakeJenkins, name: str) -> None:
    link = dataclasses.replace(LINK, repository_id=name)
    with pytest.raises(OriginError):
        _connector(jenkins, jobs="**").facts(link, Locator(run_id="12"), RULES)
    assert jenkins.requests == []


# Artifacts


@pytest.mark.parametrize("path", ["dist/app.exe", "dist/notes & more.txt"])
def test_an_artifact_is_fetched_and_hashed(
    connector: JenkinsConnector, build: Build, path: str
) -> None:
    artifact = connector.facts(LINK, Locator(run_id="12", artifact_id=path), RULES).artifact
    assert artifact is not None
    target = io.BytesIO()
    digest = connector.fetch_artifact(LINK, artifact, target, MEBIBYTE)
    assert target.getvalue() == build.artifacts[path]
    assert digest == hashlib.sha256(target.getvalue()).hexdigest()


def test_triggers_see_every_artifact(connector: JenkinsConnector) -> None:
    found = connector.artifacts(LINK, "12")
    assert [artifact.id for artifact in found] == ["dist/app.exe", "dist/notes & more.txt"]


def _artifact(connector: JenkinsConnector) -> ArtifactFacts:
    artifact = connector.facts(LINK, RUN, RULES).artifact
    assert artifact is not None
    return artifact


def test_an_artifact_without_a_fingerprint(
    jenkins: FakeJenkins, connector: JenkinsConnector
) -> None:
    jenkins.fingerprints.clear()
    with pytest.raises(OriginError, match="no fingerprint"):
        connector.fetch_artifact(LINK, _artifact(connector), io.BytesIO(), MEBIBYTE)


def test_an_artifact_that_was_replaced_afterwards(
    connector: JenkinsConnector, build: Build
) -> None:
    build.artifacts["dist/app.exe"] = b"MZ something else"
    with pytest.raises(OriginError, match="no fingerprint"):
        connector.fetch_artifact(LINK, _artifact(connector), io.BytesIO(), MEBIBYTE)


@pytest.mark.parametrize(("job", "number"), [("team/app", 11), ("team/app", 13), ("other", 12)])
def test_a_fingerprint_of_another_build(
    jenkins: FakeJenkins, connector: JenkinsConnector, build: Build, job: str, number: int
) -> None:
    build.artifacts["dist/app.exe"] = b"MZ of another"
    jenkins.fingerprint(job, number, b"MZ of another")
    with pytest.raises(OriginError, match="no fingerprint"):
        connector.fetch_artifact(LINK, _artifact(connector), io.BytesIO(), MEBIBYTE)


def test_a_reproducible_artifact_has_two_uses(
    jenkins: FakeJenkins, connector: JenkinsConnector, build: Build
) -> None:
    build.artifacts["dist/app.exe"] = b"MZ the same again"
    jenkins.fingerprint("team/app", 11, b"MZ the same again")
    jenkins.fingerprint("team/app", 12, b"MZ the same again")
    assert connector.fetch_artifact(LINK, _artifact(connector), io.BytesIO(), MEBIBYTE)


def test_an_artifact_that_was_discarded(
    jenkins: FakeJenkins, connector: JenkinsConnector, build: Build
) -> None:
    artifact = _artifact(connector)
    build.artifacts.clear()
    with pytest.raises(OriginError, match="no longer there"):
        connector.fetch_artifact(LINK, artifact, io.BytesIO(), MEBIBYTE)


class _Discard(io.BytesIO):
    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def test_memory_does_not_grow_with_the_artifact(
    jenkins: FakeJenkins, connector: JenkinsConnector, build: Build
) -> None:
    chunk = bytes(MEBIBYTE)
    build.artifacts["dist/app.exe"] = lambda: (chunk for _ in range(32))
    jenkins.fingerprint("team/app", 12, chunk * 32)
    artifact, target = _artifact(connector), _Discard()
    tracemalloc.start()
    try:
        connector.fetch_artifact(LINK, artifact, target, 33 * MEBIBYTE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert target.size == 32 * MEBIBYTE
    assert peak < 12 * MEBIBYTE
    with pytest.raises(TooLargeError):
        connector.fetch_artifact(LINK, artifact, _Discard(), MEBIBYTE)


def test_an_artifact_in_an_object_store(jenkins: FakeJenkins, connector: JenkinsConnector) -> None:
    artifact = _artifact(connector)
    path = "/job/team/job/app/12/artifact/dist/app.exe"
    location = f"{jenkins.url}/-/store/1"
    jenkins.answers[path] = Response(b"", 302, {"Location": location})
    jenkins.answers["/-/store/1"] = Response(b"MZ an app")
    target = io.BytesIO()
    connector.fetch_artifact(LINK, artifact, target, MEBIBYTE)
    assert target.getvalue() == b"MZ an app"


# Identity tokens


def _with_token(jenkins: FakeJenkins, token: str) -> Locator:
    return dataclasses.replace(RUN, identity_token=token)


def test_the_build_s_identity_token(jenkins: FakeJenkins, connector: JenkinsConnector) -> None:
    token = jenkins.id_token(f"{jenkins.url}/job/team/job/app/", 12)
    claims = connector.facts(LINK, _with_token(jenkins, token), RULES).claims
    assert claims is not None
    assert claims["build_number"] == "12"
    assert claims["jti"].startswith("sha256:")
    again = connector.facts(LINK, _with_token(jenkins, token), RULES).claims
    assert again is not None
    assert again["jti"] == claims["jti"]


@pytest.mark.parametrize(
    ("job", "number", "changes"),
    [
        ("/job/team/job/app/", 13, {}),
        ("/job/team/job/other/", 12, {}),
        ("/job/team/job/app", 12, {}),
        ("/job/team/job/app/", 12, {"build_number": None}),
        ("/job/team/job/app/", 12, {"sub": ""}),
        ("/job/team/job/app/", 12, {"aud": "https://other.example.com"}),
        ("/job/team/job/app/", 12, {"iss": "https://other.example.com/oidc"}),
        ("/job/team/job/app/", 12, {"exp": 1_600_000_000}),
    ],
)
def test_identity_tokens_of_others(
    jenkins: FakeJenkins,
    connector: JenkinsConnector,
    job: str,
    number: int,
    changes: dict[str, Any],
) -> None:
    token = jenkins.id_token(jenkins.url + job, number, **changes)
    with pytest.raises(OriginError, match="identity token"):
        connector.facts(LINK, _with_token(jenkins, token), RULES)


def test_an_identity_token_under_another_key(
    jenkins: FakeJenkins, connector: JenkinsConnector
) -> None:
    now = int(time.time())
    claims = {
        "iss": jenkins.issuer.url, "aud": "https://sign.example.com", "iat": now, "exp": now + 60,
        "sub": f"{jenkins.url}/job/team/job/app/", "build_number": 12,
    }  # fmt: skip
    token = jenkins.issuer.token(claims, key=OTHER_KEY)
    with pytest.raises(OriginError, match="signature is wrong"):
        connector.facts(LINK, _with_token(jenkins, token), RULES)


def test_tokens_without_an_id_are_told_apart_by_what_is_signed(jenkins: FakeJenkins) -> None:
    """Another encoding of the same signature is the same token."""
    keys = IssuerKeys(jenkins.issuer.url, BlockingClient(LOOPBACK, tls=TLS))
    lenient = IdentityTokenVerifier(keys, "https://sign.example.com", names_tokens=False)
    token = jenkins.id_token("x", 1)
    # 256 bytes leave four bits of the last character unused.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    twin = token[:-1] + alphabet[last & ~0b1111 | (last + 1) & 0b1111]
    assert twin != token
    known = lenient.verify(token).jti
    with contextlib.suppress(OriginError):  # newer versions of the library refuse it
        assert lenient.verify(twin).jti == known
    assert lenient.verify(jenkins.id_token("x", 2)).jti != known
    with pytest.raises(OriginError, match="claim is missing"):
        IdentityTokenVerifier(keys, "https://sign.example.com").verify(token)


# Refusals


def test_credentials_that_are_missing(jenkins: FakeJenkins) -> None:
    for settings in ({"user": ""}, {"user": "a:b"}):
        with pytest.raises(ConfigurationError):
            _connector(jenkins, **settings).facts(LINK, RUN, RULES)


def _as_password(jenkins: FakeJenkins) -> JenkinsConnector:
    system = build_system(jenkins)
    credentials = {**system.credentials, "token": PASSWORD}
    system = dataclasses.replace(system, credentials=credentials)
    return JenkinsConnector(system, outgoing=LOOPBACK, tls=TLS)


def test_a_wrong_token(jenkins: FakeJenkins) -> None:
    system = dataclasses.replace(build_system(jenkins), credentials={"token": "wrong-token"})
    connector = JenkinsConnector(system, outgoing=LOOPBACK, tls=TLS)
    with pytest.raises(RemoteError, match="401") as refused:
        connector.facts(LINK, RUN, RULES)
    assert refused.value.retry_after is None
    assert "wrong-token" not in str(refused.value)


def test_permissions_that_are_missing(jenkins: FakeJenkins, connector: JenkinsConnector) -> None:
    jenkins.permissions = {"read"}
    with pytest.raises(RemoteError, match="403"):
        connector.facts(LINK, RUN, RULES)
    jenkins.permissions = set()
    with pytest.raises(OriginError, match="no build"):
        connector.facts(LINK, RUN, RULES)


@pytest.mark.parametrize(
    ("answer", "retry"),
    [
        (Response(b"", 503), True),
        (Response(b"", 429), True),
        (Response(b"", 302, {"Location": "http://169.254.169.254/"}), False),
        (Response(b"<html>", 200), False),
        (Response(b"[]", 200), False),
        (Response(b'{"number": 12, "number": 13}', 200), False),
        (Response(b'{"a": ' + b"[" * 100_000, 200), False),
        (Response(b"\xff", 200), False),
        (Response(b'{"a": "' + b"x" * 5_000_000 + b'"}', 200), False),
    ],
)
def test_hostile_answers(
    jenkins: FakeJenkins, connector: JenkinsConnector, answer: Response, retry: bool
) -> None:
    jenkins.answers["/job/team/job/app/12/api/json"] = answer
    with pytest.raises(RemoteError) as refused:
        connector.facts(LINK, RUN, RULES)
    assert (refused.value.retry_after is not None) is retry


@pytest.mark.parametrize("shape", [None, [], "text", 7, True, {}, [None, 1, "x", {}, [[]]]])
def test_builds_of_any_shape_have_no_origin(
    jenkins: FakeJenkins, connector: JenkinsConnector, shape: object
) -> None:
    names = ("actions", "artifacts", "building", "result", "causes")
    odd = {**dict.fromkeys(names, shape), "number": 12}
    jenkins.answers["/job/team/job/app/12/api/json"] = JSONResponse(odd)
    with pytest.raises(OriginError):
        connector.facts(LINK, RUN, RULES)


# Reports

ORIGIN = Origin(build_system_id="b1", run_id="12", commit=COMMIT)
LINE = "Sealwright app/release: Signing: {} https://sign.example.com/requests/r1"


def test_the_description_is_brought_up_to_date(
    jenkins: FakeJenkins, connector: JenkinsConnector, build: Build
) -> None:
    build.description = "set by the Jenkinsfile\r\nin two lines"
    for phase in (ReportPhase.QUEUED, ReportPhase.SUCCESS, ReportPhase.SUCCESS):
        reported = connector.report(LINK, report(phase, ORIGIN), None)
    assert build.description == ("set by the Jenkinsfile\nin two lines\n" + LINE.format("success"))
    assert sum(method == "POST" for method, _ in jenkins.requests) == 2
    assert reported.url == f"{jenkins.url}/job/team/job/app/12/"
    assert reported.reference == "team/app#12"


def test_a_build_without_a_description(connector: JenkinsConnector, build: Build) -> None:
    connector.report(LINK, report(ReportPhase.FAILURE, ORIGIN, title="Not\nsigned"), None)
    assert build.description is not None
    assert build.description.startswith("Sealwright app/release: Not signed https://")


def test_reports_that_cannot_be_made(jenkins: FakeJenkins, connector: JenkinsConnector) -> None:
    success = report(ReportPhase.SUCCESS, ORIGIN)
    with pytest.raises(OriginError):
        connector.report(LINK, report(ReportPhase.SUCCESS, Origin(run_id="99")), None)
    with pytest.raises(RemoteError, match="crumb"):
        _as_password(jenkins).report(LINK, success, None)
    jenkins.permissions = {"read"}
    with pytest.raises(RemoteError, match="403"):
        connector.report(LINK, success, None)


# Notifications


def _notification(**changes: Any) -> bytes:
    payload = {
        "delivery_id": "d-1", "sent_at": int(time.time()), "event": "build",
        "repository": "team/app", "run_id": "12", "status": "completed", "result": "SUCCESS",
    }  # fmt: skip
    return json.dumps(payload | changes).encode()


def _signed(body: bytes, secret: str = "controller") -> tuple[dict[str, str], bytes]:
    return {SIGNATURE_HEADER: sign(body, secret)}, body


def test_a_notification(connector: JenkinsConnector) -> None:
    event = connector.webhook(*_signed(_notification()))
    assert (event.delivery_id, event.name, event.repository_id) == ("d-1", "build", "team/app")
    assert parse_event(event) == BuildEvent("team/app", "12", "completed", "SUCCESS")
    lower = {name.lower(): value for name, value in _signed(_notification())[0].items()}
    assert connector.webhook(lower, _notification())


def test_the_signature_is_a_plain_hmac() -> None:
    """RFC 4231, test case 2."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert sign(b"what do ya want for nothing?", "Jefe") == f"sha256={expected}"


@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=" + "0" * 64, "sha1=x", "\udcff"])
def test_forged_notifications(connector: JenkinsConnector, signature: str) -> None:
    with pytest.raises(UnauthenticatedError):
        connector.webhook({SIGNATURE_HEADER: signature}, _notification())


def test_notifications_under_other_secrets(jenkins: FakeJenkins) -> None:
    body = _notification()
    for secret in ("", "other", "11d0e2f4a6"):  # nor under the API token
        with pytest.raises(UnauthenticatedError):
            _connector(jenkins).webhook(*_signed(body, secret))
    headers, _ = _signed(body)
    with pytest.raises(UnauthenticatedError):
        _connector(jenkins).webhook(headers, body + b" ")
    bare = dataclasses.replace(build_system(jenkins), credentials={})
    with pytest.raises(UnauthenticatedError):
        JenkinsConnector(bare, outgoing=LOOPBACK, tls=TLS).webhook(*_signed(body, ""))


@pytest.mark.parametrize("age", [-301, 301, -(10**12)])
def test_notifications_grow_old(connector: JenkinsConnector, age: int) -> None:
    with pytest.raises(UnauthenticatedError, match="too long ago"):
        connector.webhook(*_signed(_notification(sent_at=int(time.time()) + age)))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"delivery_id": "a", "delivery_id": "b"}', b"{}", b"x" * 70_000]
    + [_notification(delivery_id=given) for given in ("", None, "a\nb", "x" * 300, {})],
)
def test_malformed_notifications(connector: JenkinsConnector, body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        connector.webhook(*_signed(body))


def test_other_notifications_mean_nothing(connector: JenkinsConnector) -> None:
    assert parse_event(connector.webhook(*_signed(_notification(event="ping")))) is None
