"""Check runs, commit statuses and deployment answers; and markdown that nothing breaks out of."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from starlette.responses import JSONResponse
from tests.fakes.github_state import commit
from tests.fakes.github_world import LINK, World, running_world

from sealwright.connectors.connector import RemoteError
from sealwright.connectors.github import APPROVE, DENY, GitHubError
from sealwright.connectors.github.checks import check_name
from sealwright.connectors.github.client import WRITE_CHECKS
from sealwright.connectors.github.markdown import MAX_BYTES, literal, summary
from sealwright.model.origin import Origin, Proof
from sealwright.model.project import PolicySnapshot
from sealwright.model.report import Report, Reported, ReportPhase
from sealwright.model.request import (
    FileResult,
    RequestKind,
    SigningRequest,
    State,
    StoredArtifact,
)

WHEN = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
URL = "https://sealwright.example/requests/r-1"
ORIGIN = Origin(
    verified=True,
    repository_url="https://github.com/octo-org/app",
    branch="main",
    commit=commit("c"),
    build_url="https://github.com/octo-org/app/actions/runs/5001",
    build_settings_file=".github/workflows/release.yml",
    proof=Proof.RUN,
    ref="refs/heads/main",
    ref_type="branch",
    runner="github-hosted",
)
REQUEST = SigningRequest(
    id="r-1",
    organization_id="o1",
    kind=RequestKind.ARTIFACT,
    state=State.COMPLETED,
    project_id="p1",
    project_slug="app",
    project_name="The App",
    signing_policy_id="s1",
    signing_policy_slug="release",
    signing_policy_name="Release signing",
    artifact_configuration_id="c1",
    artifact_configuration_slug="default",
    artifact_configuration_name="Default",
    certificate_id="k1",
    snapshot=PolicySnapshot("{}"),
    policy_hash="h",
    description="Release 1.0",
    parameters={},
    origin=ORIGIN,
    submitted_by="u1",
    submitted_at=WHEN,
    updated_at=WHEN,
    input=StoredArtifact("k", "setup-x64.zip", 123456, "a" * 64),
)
FILE = FileResult(
    "setup.zip!/bin/app.exe",
    "pe",
    "authenticode",
    "Authenticode, SHA-256",
    "b" * 64,
    "c" * 64,
    9,
    WHEN,
)


def report(phase: ReportPhase = ReportPhase.SUCCESS, **changes: Any) -> Report:
    own = {"files": (FILE,), "certificate_subject": "CN=Octo Org", "log_index": 41, "sequence": 1}
    fixed: dict[str, Any] = {
        "request": REQUEST,
        "phase": phase,
        "url": URL,
        "title": "Signed 1 file",
    }
    return Report(**fixed | own | changes)


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with running_world() as world:
        yield world


@pytest.fixture
def world(running: World) -> Iterator[World]:
    running.fill()
    yield running
    assert running.fake.faults == []


# Check runs


@pytest.mark.parametrize(
    ("phase", "status", "conclusion"),
    [
        (ReportPhase.QUEUED, "queued", None),
        (ReportPhase.IN_PROGRESS, "in_progress", None),
        (ReportPhase.ACTION_REQUIRED, "completed", "action_required"),
        (ReportPhase.SUCCESS, "completed", "success"),
        (ReportPhase.FAILURE, "completed", "failure"),
        (ReportPhase.CANCELED, "completed", "cancelled"),
    ],
)
def test_every_phase_is_a_check_run(
    world: World, phase: ReportPhase, status: str, conclusion: str | None
) -> None:
    reported = world.connector().report(LINK, report(phase), None)
    (check,) = world.state.checks.values()
    assert reported == Reported(str(check["id"]), f"{world.fake.web_url}/runs/{check['id']}")
    assert (check["status"], check.get("conclusion")) == (status, conclusion)
    assert check["head_sha"] == commit("c")
    assert (check["external_id"], check["details_url"]) == ("r-1", URL)
    assert check["name"] == "Sealwright: app/release (setup-x64.zip)"
    assert check["output"]["title"] == "Signed 1 file"
    assert check["actions"] == []


@pytest.mark.parametrize(
    ("state", "buttons"),
    [(State.WAITING_FOR_APPROVAL, [APPROVE, DENY]), (State.WAITING_FOR_ENDORSEMENT, [])],
)
def test_buttons_are_for_approvers(world: World, state: State, buttons: list[str]) -> None:
    request = dataclasses.replace(REQUEST, state=state)
    asking = report(ReportPhase.ACTION_REQUIRED, request=request)
    world.connector().report(LINK, asking, None)
    (check,) = world.state.checks.values()
    assert [button["identifier"] for button in check["actions"]] == buttons


def test_one_check_run_through_its_life(world: World) -> None:
    connector = world.connector()
    reported = None
    for phase in ReportPhase:
        reported = connector.report(LINK, report(phase), reported)
        for _ in range(2):  # repeated
            assert connector.report(LINK, report(phase), reported) == reported
    assert len(world.state.checks) == 1
    assert world.tokens_asked() == 1
    (token,) = world.state.tokens.values()
    assert token.permissions == {"checks": "write", "metadata": "read"}


def test_going_on_after_an_approval_takes_the_conclusion_back(world: World) -> None:
    connector = world.connector()
    reported = connector.report(LINK, report(ReportPhase.ACTION_REQUIRED), None)
    connector.report(LINK, report(ReportPhase.IN_PROGRESS), reported)
    (check,) = world.state.checks.values()
    assert (check["status"], check["conclusion"], check["actions"]) == ("in_progress", None, [])


def test_a_lost_answer_makes_no_second_check_run(world: World) -> None:
    connector = world.connector()
    first = connector.report(LINK, report(ReportPhase.QUEUED), None)
    assert connector.report(LINK, report(ReportPhase.IN_PROGRESS), None) == first
    assert len(world.state.checks) == 1


def test_another_request_has_its_own_check_run(world: World) -> None:
    connector = world.connector()
    connector.report(LINK, report(), None)
    other = dataclasses.replace(REQUEST, id="r-2")
    connector.report(LINK, report(request=other), None)
    assert [check["external_id"] for check in world.state.checks.values()] == ["r-1", "r-2"]


def test_a_dropped_check_run_is_made_anew(world: World) -> None:
    connector = world.connector()
    first = connector.report(LINK, report(), None)
    world.state.checks.clear()
    assert connector.report(LINK, report(), first).reference
    assert len(world.state.checks) == 1


def test_matrix_builds_have_distinct_names(world: World) -> None:
    artifact = dataclasses.replace(REQUEST.input, file_name="setup-arm64.zip")
    other = report(request=dataclasses.replace(REQUEST, input=artifact))
    assert check_name(other) != check_name(report())


def test_names_and_titles_are_plain_and_short(world: World) -> None:
    hostile = "a\u202eb\x00\n" + "x" * 500
    artifact = dataclasses.replace(REQUEST.input, file_name=hostile)
    changed = report(request=dataclasses.replace(REQUEST, input=artifact), title=hostile)
    world.connector().report(LINK, changed, None)
    (check,) = world.state.checks.values()
    assert len(check["name"]) == 100
    assert len(check["output"]["title"]) <= 200
    assert not re.search(r"[\u202e\x00\n]", check["name"] + check["output"]["title"])


@pytest.mark.parametrize("head", ["", "main", "HEAD~1", "a" * 39, "../" + "a" * 37])
def test_without_a_commit_nothing_is_sent(world: World, head: str) -> None:
    origin = dataclasses.replace(ORIGIN, commit=head)
    with pytest.raises(RemoteError, match="no commit"):
        world.connector().report(
            LINK, report(request=dataclasses.replace(REQUEST, origin=origin)), None
        )
    assert not [item for item in world.fake.received if "check" in item.path]


def test_an_unknown_commit_is_refused_for_good(world: World) -> None:
    origin = dataclasses.replace(ORIGIN, commit="e" * 40)
    with pytest.raises(RemoteError, match="No commit found") as refused:
        world.connector().report(
            LINK, report(request=dataclasses.replace(REQUEST, origin=origin)), None
        )
    assert refused.value.retry_after is None


def test_a_limit_on_reports_says_when(world: World) -> None:
    connector = world.connector()
    first = connector.report(LINK, report(ReportPhase.QUEUED), None)
    message = {"message": "You have exceeded a secondary rate limit."}
    world.fake.scripted = [JSONResponse(message, 403, headers={"retry-after": "42"})]
    with pytest.raises(RemoteError) as limited:
        connector.report(LINK, report(), first)
    assert limited.value.retry_after == 42
    connector.report(LINK, report(), first)
    (check,) = world.state.checks.values()
    assert check["conclusion"] == "success"


def test_the_permission_must_be_granted(world: World) -> None:
    world.state.installations[3001].permissions["checks"] = "read"
    with pytest.raises(RemoteError, match="not granted") as refused:
        world.connector().report(LINK, report(), None)
    assert "permissions" in refused.value.advice


# What GitHub refuses, the fake refuses: a mistake above would not go unseen.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"actions": [{"label": "x" * 21, "description": "d", "identifier": "i"}]}, "too long"),
        ({"actions": [{"label": "l", "description": "d" * 41, "identifier": "i"}]}, "too long"),
        ({"actions": [{"label": "l", "description": "d", "identifier": "i" * 21}]}, "too long"),
        ({"actions": [{"label": "l", "description": "d", "identifier": "i"}] * 4}, "too long"),
        ({"output": {"title": "t", "summary": "x" * 65_536}}, "too long"),
        ({"output": {"title": "t"}}, "summary"),
        ({"conclusion": "canceled"}, "not one of"),
        ({"status": "done"}, "not one of"),
        ({"status": "completed"}, "conclusion"),
        ({"started_at": "yesterday"}, "date-time"),
        ({"nmae": "typo"}, "unknown field"),
        ({"name": None}, "None is not"),
    ],
)
def test_the_fake_is_strict(world: World, change: dict[str, Any], reason: str) -> None:
    api = world.connector()._client.repository(LINK, WRITE_CHECKS)
    with pytest.raises(GitHubError, match="422") as refused:
        api.send("POST", "/check-runs", {"name": "n", "head_sha": commit("c"), **change})
    assert refused.value.status == 422
    assert reason in str(refused.value.__cause__)
    with pytest.raises(GitHubError) as forbidden:
        api.get("/actions/runs/5001")
    assert forbidden.value.status == 403


# Commit statuses


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (ReportPhase.QUEUED, "pending"),
        (ReportPhase.IN_PROGRESS, "pending"),
        (ReportPhase.ACTION_REQUIRED, "pending"),
        (ReportPhase.SUCCESS, "success"),
        (ReportPhase.FAILURE, "failure"),
        (ReportPhase.CANCELED, "error"),
    ],
)
def test_without_an_app_there_are_statuses(world: World, phase: ReportPhase, state: str) -> None:
    token = world.state.issue({"statuses": "write"}, {1001}, app=False).value
    connector = world.connector(credentials={"token": token})
    reported = connector.report(LINK, report(phase, title="t" * 300), None)
    (status,) = world.state.statuses
    assert reported == Reported(str(status["id"]), URL)
    assert (status["sha"], status["state"], status["target_url"]) == (commit("c"), state, URL)
    assert status["context"] == "Sealwright: app/release (setup-x64.zip)"
    assert len(status["description"]) == 140
    assert world.state.checks == {}


# Deployments


@pytest.mark.parametrize(("approved", "state"), [(True, "approved"), (False, "rejected")])
def test_a_deployment_is_answered(world: World, approved: bool, state: str) -> None:
    world.run.waiting_environments = {"production"}
    connector = world.connector()
    connector.answer_deployment(LINK, "5001", "production", approved=approved, comment="x" * 5000)
    (answer,) = world.state.deployments
    assert (answer["run_id"], answer["state"]) == (5001, state)
    assert len(answer["comment"]) == 1000
    (token,) = world.state.tokens.values()
    assert token.permissions == {"deployments": "write", "metadata": "read"}
    with pytest.raises(RemoteError, match="No pending"):
        connector.answer_deployment(LINK, "5001", "production", approved=True, comment="")


# Markdown


def rendered(text: str) -> lxml.html.HtmlElement:
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return lxml.html.fromstring(f"<div>{markdown.render(text)}</div>")


def test_the_summary_says_it_all() -> None:
    request = dataclasses.replace(REQUEST, reason="It failed.", advice="Do this.")
    page = rendered(summary(report(request=request, approvals=("Ada", "Bob"), quorum=2)))
    cells = [cell.text_content() for cell in page.iter("td", "th")]
    told = dict(zip(cells[0::2], cells[1::2], strict=False))
    assert told["Origin"] == "run verified, caller not verified"
    assert told["Artifact"] == "setup-x64.zip (123,456 bytes)"
    assert told["Approvals"] == "2 of 2: Ada, Bob"
    assert (told["Certificate"], told["Log index"]) == ("CN=Octo Org", "41")
    assert told["Time stamp"] == "2026-03-01 12:00:00 UTC"
    assert told["Commit"] == commit("c")
    for value in (FILE.path, FILE.format, FILE.summary, FILE.sha256_before, FILE.sha256_after):
        assert value in cells
    assert "It failed." in page.text_content()
    assert [link.get("href") for link in page.iter("a")] == [URL]


HOSTILE = [
    "| a | b |",
    "a\n\n# heading\n\n| x |",
    "`code`, ``code``, <code>",
    "</code></td></table><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](https://evil.example/p.png)",
    "https://evil.example www.evil.example mail@evil.example",
    "@octocat #1 GH-1 octo-org/app#1 " + "a" * 40,
    "**bold** __bold__ ~~gone~~ *x* _x_ :smile: $x$ $$x$$",
    "&lt;b&gt; &#60; &amp;",
    "\\| \\` \\",
    "<!-- comment -->",
    "- [ ] task",
    "```\nfence\n```",
    "\u202egnp.exe",
    "zero\u200bwidth\u2066x\ufeff",
    "\x1b[31mred\x07",
    "--- | ---",
    "[^1] [x]: y",
    " leading and trailing ",
    "ünïcödé 漢字 🙂",
    "x" * 5000,
]


def visible(value: str) -> str:
    """What a reader must see of it."""
    shown = value if len(value) <= 200 else f"{value[:100]}…{value[-100:]}"
    import unicodedata

    return "".join(
        "\ufffd" if unicodedata.category(char)[0] in "CZ" and char != " " else char
        for char in shown
    )


def shown_cell(value: str) -> str:
    page = rendered(f"| head | other |\n| --- | --- |\n| {literal(value)} | after |")
    elements = {element.tag for element in page.iter()}
    assert elements <= {"div", "table", "thead", "tbody", "tr", "th", "td", "code"}, elements
    cells = list(page.iter("td"))
    assert len(cells) == 2
    assert cells[1].text_content() == "after"
    codes = list(cells[0])
    assert [code.tag for code in codes] == ["code"]
    assert not cells[0].text
    assert not codes[0].tail
    return codes[0].text_content()


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_shown_and_nothing_more(value: str) -> None:
    assert shown_cell(value) == visible(value)


@given(st.text(min_size=1, max_size=250))
@settings(max_examples=150)
def test_any_value_is_shown_and_nothing_more(value: str) -> None:
    assert shown_cell(value) == visible(value)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_report_stays_a_report(world: World, value: str) -> None:
    origin = dataclasses.replace(
        ORIGIN, repository_url=value, ref=value, build_url=value, runner=value,
        build_settings_file=value,
    )  # fmt: skip
    artifact = dataclasses.replace(REQUEST.input, file_name=value)
    request = dataclasses.replace(
        REQUEST, description=value, reason=value, advice=value, project_name=value, origin=origin,
        input=artifact, signing_policy_name=value, artifact_configuration_name=value,
    )  # fmt: skip
    file = dataclasses.replace(FILE, path=value, summary=value, format=value)
    changed = report(
        request=request,
        files=(file,) * 3,
        certificate_subject=value,
        approvals=(value,) * 9,
        quorum=9,
    )
    page = rendered(summary(changed))
    allowed = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "a"}
    assert {element.tag for element in page.iter()} <= allowed
    assert [link.get("href") for link in page.iter("a")] == [URL]
    assert len(list(page.iter("table"))) == 2
    assert [cell.text_content() for cell in page.iter("td")].count(visible(value)) >= 9
    world.connector().report(LINK, changed, None)


def test_many_files_are_cut_with_a_count(world: World) -> None:
    files = tuple(
        dataclasses.replace(FILE, path=f"folder/ü-{number:05}.dll") for number in range(5000)
    )
    text = summary(report(files=files))
    assert MAX_BYTES - 1000 < len(text.encode()) <= MAX_BYTES
    page = rendered(text)
    shown = sum("folder/" in cell.text_content() for cell in page.iter("td"))
    assert f"and {5000 - shown} more files" in page.text_content()
    assert len(list(page.iter("a"))) == 2
    world.connector().report(LINK, report(files=files), None)


def test_the_worst_report_fits() -> None:
    value = "|" * 5000
    origin = dataclasses.replace(
        ORIGIN, repository_url=value, ref=value, build_url=value, runner=value, commit=value,
        build_settings_file=value,
    )  # fmt: skip
    request = dataclasses.replace(
        REQUEST, id=value, description=value, reason=value, advice=value, project_name=value,
        origin=origin, signing_policy_name=value, artifact_configuration_name=value,
        input=StoredArtifact("k", value, 10**18, value),
    )  # fmt: skip
    file = dataclasses.replace(
        FILE, path=value, summary=value, format=value, sha256_before=value, sha256_after=value
    )
    worst = report(
        request=request, files=(file,) * 100, certificate_subject=value, approvals=(value,) * 99,
        quorum=9,
    )  # fmt: skip
    assert len(summary(worst).encode()) <= MAX_BYTES
