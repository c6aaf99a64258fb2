"""Commit statuses and answers to status checks, on a GitLab that keeps to its state machine."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse
from tests.fakes.gitlab import (
    DEVELOPER,
    LINK,
    REPORTER,
    FakeGitLab,
    Token,
    build_system,
    fake_gitlab,
    sha,
)
from tests.fakes.outgoing import LOOPBACK, TLS
from tests.fakes.reports import report

from sealwright.connectors.connector import RemoteError
from sealwright.connectors.gitlab import GitLabConnector, MergeRequestEvent
from sealwright.errors import OriginError
from sealwright.model.origin import Origin
from sealwright.model.report import Reported, ReportPhase

ORIGIN = Origin(build_system_id="b1", run_id="574", commit=sha("c2"), branch="main")
QUEUED, IN_PROGRESS, WAITING = (
    ReportPhase.QUEUED, ReportPhase.IN_PROGRESS, ReportPhase.ACTION_REQUIRED,
)  # fmt: skip
SUCCESS, FAILURE, CANCELED = ReportPhase.SUCCESS, ReportPhase.FAILURE, ReportPhase.CANCELED
NAME = "sealwright/app/release"


@pytest.fixture(scope="module")
def running() -> Iterator[FakeGitLab]:
    with fake_gitlab() as server:
        yield server


@pytest.fixture
def gitlab(running: FakeGitLab) -> Iterator[FakeGitLab]:
    running.reset()
    yield running
    assert running.violations == []


@pytest.fixture
def connector(gitlab: FakeGitLab) -> GitLabConnector:
    return _connector(gitlab)


def _connector(gitlab: FakeGitLab, **settings: str) -> GitLabConnector:
    system = build_system(gitlab)
    system = dataclasses.replace(system, settings={**system.settings, **settings})
    return GitLabConnector(system, outgoing=LOOPBACK, tls=TLS)


def _shown(gitlab: FakeGitLab) -> list[tuple[str, str]]:
    return [(status["name"], status["status"]) for status in gitlab.statuses]


def _posts(gitlab: FakeGitLab) -> int:
    return sum(method == "POST" for method, _, _ in gitlab.requests)


def test_a_request_from_start_to_end(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    reported: Reported | None = None
    for phase in (QUEUED, IN_PROGRESS, SUCCESS):
        reported = connector.report(LINK, report(phase, ORIGIN), reported)
    [status] = gitlab.statuses
    assert (status["name"], status["status"], status["pipeline_id"]) == (NAME, "success", 574)
    assert status["target_url"] == "https://sign.example.com/requests/r1"
    assert status["description"] == "Signing: success"
    assert reported == Reported(str(status["id"]), status["target_url"])


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (QUEUED, "pending"),
        (IN_PROGRESS, "running"),
        (WAITING, "pending"),
        (SUCCESS, "success"),
        (FAILURE, "failed"),
        (CANCELED, "canceled"),
    ],
)
def test_states_and_their_repetition(
    gitlab: FakeGitLab, connector: GitLabConnector, phase: ReportPhase, state: str
) -> None:
    first = connector.report(LINK, report(phase, ORIGIN), None)
    posts = _posts(gitlab)
    assert connector.report(LINK, report(phase, ORIGIN), None) == first
    assert connector.report(LINK, report(phase, ORIGIN), first) == first
    assert _shown(gitlab) == [(NAME, state)]
    assert _posts(gitlab) == posts == 1


@pytest.mark.parametrize(
    "order", list(itertools.permutations([QUEUED, WAITING, IN_PROGRESS, SUCCESS]))
)
def test_reports_in_any_order_end_well(
    gitlab: FakeGitLab, connector: GitLabConnector, order: tuple[ReportPhase, ...]
) -> None:
    for phase in order:
        connector.report(LINK, report(phase, ORIGIN), None)
    assert _shown(gitlab) == [(NAME, "success")]


def test_waiting_after_running_is_no_step_that_gitlab_has(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    for phase in (IN_PROGRESS, WAITING, IN_PROGRESS):
        connector.report(LINK, report(phase, ORIGIN), None)
    assert _shown(gitlab) == [(NAME, "running")]


def test_another_request_of_the_pipeline_begins_anew(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    connector.report(LINK, report(FAILURE, ORIGIN), None)
    for phase, state in ((QUEUED, "pending"), (IN_PROGRESS, "running"), (SUCCESS, "success")):
        connector.report(LINK, report(phase, ORIGIN, request_id="r2"), None)
        assert _shown(gitlab)[-1] == (NAME, state)
    assert _shown(gitlab) == [(NAME, "failed"), (NAME, "success")]
    assert gitlab.statuses[0]["retried"]
    assert gitlab.statuses[1]["target_url"].endswith("/r2")


def test_two_requests_at_once_share_the_status(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    connector.report(LINK, report(IN_PROGRESS, ORIGIN), None)
    connector.report(LINK, report(IN_PROGRESS, ORIGIN, request_id="r2"), None)  # refused: 400
    connector.report(LINK, report(SUCCESS, ORIGIN), None)
    connector.report(LINK, report(FAILURE, ORIGIN, request_id="r2"), None)
    assert _shown(gitlab) == [(NAME, "success"), (NAME, "failed")]


def test_the_same_commit_in_two_pipelines(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    gitlab.add_pipeline(575, ref="v1.0", tag=True)
    connector.report(LINK, report(SUCCESS, ORIGIN), None)
    tagged = dataclasses.replace(ORIGIN, run_id="575", branch="v1.0")
    connector.report(LINK, report(IN_PROGRESS, tagged), None)
    assert [(s["pipeline_id"], s["status"]) for s in gitlab.statuses] == [
        (574, "success"),
        (575, "running"),
    ]


def test_a_commit_that_another_system_built(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    foreign = dataclasses.replace(ORIGIN, build_system_id="jenkins", run_id="574")
    connector.report(LINK, report(IN_PROGRESS, foreign), None)
    connector.report(LINK, report(SUCCESS, foreign), None)
    assert _shown(gitlab) == [(NAME, "success")]


def test_long_and_many_lined_titles(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    connector.report(LINK, report(FAILURE, ORIGIN, title="Cannot\nsign: " + "x" * 400), None)
    description = gitlab.statuses[0]["description"]
    assert len(description) == 255
    assert description.startswith("Cannot sign: x")
    assert description.endswith("…")


def test_a_long_address_is_left_out(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    long = dataclasses.replace(report(SUCCESS, ORIGIN), url="https://sign.example.com/" + "x" * 255)
    connector.report(LINK, long, None)
    assert gitlab.statuses[0]["target_url"] is None


@pytest.mark.parametrize("commit", ["", "main", "../../x", "A" * 40])
def test_what_is_no_commit(gitlab: FakeGitLab, connector: GitLabConnector, commit: str) -> None:
    with pytest.raises(RemoteError, match="no commit"):
        connector.report(LINK, report(SUCCESS, dataclasses.replace(ORIGIN, commit=commit)), None)
    assert gitlab.requests == []


def test_a_pipeline_that_is_gone(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    gone = dataclasses.replace(ORIGIN, run_id="9999")
    with pytest.raises(RemoteError, match="404") as refused:
        connector.report(LINK, report(SUCCESS, gone), None)
    assert refused.value.retry_after is None


@pytest.mark.parametrize("token", [Token(scopes=frozenset({"read_api"})), Token(role=REPORTER)])
def test_a_token_that_may_only_read(
    gitlab: FakeGitLab, connector: GitLabConnector, token: Token
) -> None:
    gitlab.tokens["glpat-server"] = token
    with pytest.raises(RemoteError, match="403"):
        connector.report(LINK, report(SUCCESS, ORIGIN), None)


def test_a_refusal_for_another_reason_is_told(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    path = f"/api/v4/projects/20/statuses/{sha('c2')}"
    gitlab.answers[path] = JSONResponse({"message": {"name": ["is reserved"]}}, 400)
    with pytest.raises(RemoteError, match="is reserved"):
        connector.report(LINK, report(SUCCESS, ORIGIN), None)


def test_a_refused_step_that_leads_nowhere_is_told(
    gitlab: FakeGitLab, connector: GitLabConnector
) -> None:
    connector.report(LINK, report(QUEUED, ORIGIN), None)
    path = f"/api/v4/projects/20/statuses/{sha('c2')}"
    said = "Cannot transition status via :success from :pending"
    gitlab.answers[path] = JSONResponse({"message": said}, 400)
    with pytest.raises(RemoteError, match="Cannot transition"):
        connector.report(LINK, report(SUCCESS, ORIGIN), None)


# External status checks


def _with_check(gitlab: FakeGitLab) -> GitLabConnector:
    project = gitlab.projects[20]
    project.status_checks = [{"id": 7, "name": "Sealwright"}, {"id": 8, "name": "QA"}]
    project.merge_requests = {
        1: {"iid": 1, "state": "opened", "sha": sha("c2"), "source_project_id": 20},
        2: {"iid": 2, "state": "merged", "sha": sha("c2"), "source_project_id": 20},
        3: {"iid": 3, "state": "opened", "sha": sha("c3"), "source_project_id": 20},
    }
    return _connector(gitlab, status_check="Sealwright")


@pytest.mark.parametrize(
    ("phase", "answer"),
    [(QUEUED, "pending"), (WAITING, "pending"), (SUCCESS, "passed"), (FAILURE, "failed")],
)
def test_the_check_of_the_merge_request_is_answered(
    gitlab: FakeGitLab, phase: ReportPhase, answer: str
) -> None:
    _with_check(gitlab).report(LINK, report(phase, ORIGIN), None)
    assert gitlab.check_responses == [
        {"iid": 1, "external_status_check_id": 7, "sha": sha("c2"), "status": answer}
    ]


def test_no_check_is_answered_unasked(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    _with_check(gitlab)
    connector.report(LINK, report(SUCCESS, ORIGIN), None)
    assert gitlab.check_responses == []


def _event(**changes: Any) -> MergeRequestEvent:
    event = MergeRequestEvent("20", "20", "1", sha("c2"), "opened", "update", "7", "Sealwright")
    return dataclasses.replace(event, **changes)


def test_a_delivered_check_is_answered(gitlab: FakeGitLab) -> None:
    _with_check(gitlab).answer_status_check(LINK, _event(), FAILURE)
    assert [answer["status"] for answer in gitlab.check_responses] == ["failed"]


def test_an_answer_for_an_old_head_is_dropped(gitlab: FakeGitLab) -> None:
    _with_check(gitlab).answer_status_check(LINK, _event(commit=sha("c1")), SUCCESS)
    assert gitlab.check_responses == []


def test_a_check_that_is_not_there(gitlab: FakeGitLab) -> None:
    with pytest.raises(RemoteError, match="404"):
        _with_check(gitlab).answer_status_check(LINK, _event(status_check_id="99"), SUCCESS)
    with pytest.raises(OriginError):
        _with_check(gitlab).answer_status_check(LINK, _event(iid="1/../2"), SUCCESS)


def test_an_edition_without_checks(gitlab: FakeGitLab) -> None:
    connector = _with_check(gitlab)
    gitlab.projects[20].status_checks = None
    with pytest.raises(RemoteError, match="401"):
        connector.report(LINK, report(SUCCESS, ORIGIN), None)
    assert _shown(gitlab) == [(NAME, "success")]  # the commit status stands nevertheless


def test_a_developer_s_token_is_enough(gitlab: FakeGitLab, connector: GitLabConnector) -> None:
    gitlab.tokens["glpat-server"] = Token(role=DEVELOPER)
    connector.report(LINK, report(SUCCESS, ORIGIN), None)
    assert _shown(gitlab) == [(NAME, "success")]
