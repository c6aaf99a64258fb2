"""Reports on GitLab: a commit status on the pipeline, an answer to the merge request's check.

Sources: docs.gitlab.com, "Commits API" (statuses) and "External status checks API".

A commit status is a small state machine: pending, running, then success, failed or canceled. GitLab
refuses any other step with 400. A status that has ended is never found again: posting then makes a
second one of the same name. So what is there is read first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sealwright.connectors import fields
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.gitlab.client import GitLabApi, GitLabError, checked_id
from sealwright.model.report import Report, Reported, ReportPhase

_STATES = {
    ReportPhase.QUEUED: "pending",
    ReportPhase.IN_PROGRESS: "running",
    ReportPhase.ACTION_REQUIRED: "pending",
    ReportPhase.SUCCESS: "success",
    ReportPhase.FAILURE: "failed",
    ReportPhase.CANCELED: "canceled",
}
_ANSWERS = {ReportPhase.SUCCESS: "passed", ReportPhase.FAILURE: "failed"} | {
    ReportPhase.CANCELED: "failed"
}
_RANKS = {"pending": 0, "running": 1}  # every other state ends
_MAX_TEXT = 255
_MAX_MERGE_REQUESTS = 20
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REFUSED_STEP = "cannot transition status"


def report_status(api: GitLabApi, project_id: str, report: Report, pipeline_id: str) -> Reported:
    """Bring the commit status for a report about, whatever was reported before. Idempotent.

    Args:
        pipeline_id: of this GitLab; empty where another system built the commit.

    Raises:
        RemoteError: refused or away, or the request has no commit.
    """
    commit = report.request.origin.commit
    if not _COMMIT.fullmatch(commit):
        message = "The signing request has no commit to report on."
        raise RemoteError(message)
    wanted = _wanted(report, pipeline_id)
    path = f"/projects/{project_id}/repository/commits/{commit}/statuses"
    current = _latest(api, path, wanted)
    if current is None or not _is_settled(current, wanted):
        try:
            current = api.post(f"/projects/{project_id}/statuses/{commit}", wanted)
        except GitLabError as error:
            if not _is_refused_step(error):
                raise
            current = _after_refusal(api, path, wanted, error)
    return Reported(fields.text(current, "id"), fields.text(current, "target_url"))


def answer_status_checks(api: GitLabApi, project_id: str, report: Report, check: str) -> None:
    """Answer the external status check named `check` on merge requests whose head is the commit.

    Raises:
        RemoteError: refused or away.
    """
    commit = report.request.origin.commit
    merge_requests = api.pages(f"/projects/{project_id}/repository/commits/{commit}/merge_requests")
    heads = [m for m in merge_requests if m.get("state") == "opened" and m.get("sha") == commit]
    for merge_request in heads[:_MAX_MERGE_REQUESTS]:
        iid = fields.text(merge_request, "iid")
        prefix = f"/projects/{project_id}/merge_requests/{iid}"
        for listed in api.pages(f"{prefix}/status_checks"):
            if listed.get("name") == check:
                answer_status_check(
                    api, project_id, iid, fields.text(listed, "id"), commit, report.phase
                )


def answer_status_check(
    api: GitLabApi, project_id: str, iid: str, check_id: str, commit: str, phase: ReportPhase
) -> None:
    """Answer one check of one merge request. An answer for a head that has moved on is dropped.

    Raises:
        RemoteError: refused or away. OriginError: the ids are none.
    """
    answer = {
        "external_status_check_id": int(checked_id(check_id)),
        "sha": commit,
        "status": _ANSWERS.get(phase, "pending"),
    }
    path = f"/projects/{project_id}/merge_requests/{checked_id(iid)}/status_check_responses"
    try:
        api.post(path, answer)
    except GitLabError as error:
        if error.status != 409:
            raise


def status_name(report: Report) -> str:
    """What the status is called: one for each project and policy."""
    request = report.request
    return f"sealwright/{request.project_slug}/{request.signing_policy_slug}"[:_MAX_TEXT]


def _wanted(report: Report, pipeline_id: str) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "state": _STATES[report.phase],
        "name": status_name(report),
        "description": _shortened(report.title),
    }
    if len(report.url) <= _MAX_TEXT:
        wanted["target_url"] = report.url
    if pipeline_id:
        wanted["pipeline_id"] = int(pipeline_id)
    elif report.request.origin.branch:
        wanted["ref"] = report.request.origin.branch
    return wanted


def _latest(api: GitLabApi, path: str, wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The newest status of this name in this pipeline."""
    pipeline_id = wanted.get("pipeline_id")
    found = [
        status
        for status in api.pages(path, name=wanted["name"])
        if status.get("name") == wanted["name"]
        # Older versions do not say of which pipeline a status is.
        and (pipeline_id is None or status.get("pipeline_id") in (None, pipeline_id))
    ]
    return max(found, key=lambda status: fields.number(status, "id"), default=None)


def _is_settled(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether nothing is left to say: the same is shown, or something later of this request."""
    if fields.text(current, "target_url") != fields.text(wanted, "target_url"):
        return False  # another request's: it may begin anew
    shown, state = fields.text(current, "status"), wanted["state"]
    if shown == state:
        return fields.text(current, "description") == wanted["description"] or _rank(shown) == 2
    return _rank(shown) > _rank(state)


def _after_refusal(
    api: GitLabApi, path: str, wanted: Mapping[str, Any], error: GitLabError
) -> Mapping[str, Any]:
    """GitLab refused the step. That is well if it stands where the step leads, or further."""
    current = _latest(api, path, wanted)
    if current is None or _rank(fields.text(current, "status")) < _rank(wanted["state"]):
        raise error
    return current


def _rank(state: str) -> int:
    return _RANKS.get(state, 2)


def _is_refused_step(error: GitLabError) -> bool:
    return error.status == 400 and _REFUSED_STEP in error.message.lower()


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"
