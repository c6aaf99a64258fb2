"""Signing requests on the commit: one check run each, or commit statuses where there is no App."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from sealwright.connectors import fields
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.github.client import GitHubError, RepositoryApi
from sealwright.connectors.github.markdown import plain, summary
from sealwright.model.report import Report, Reported, ReportPhase
from sealwright.model.request import State

APPROVE, DENY = "approve", "deny"
"""Identifiers of the buttons, which come back in ``check_run.requested_action``."""

# At most three; label 20, identifier 20, description 40 characters (GitHub: "Create a check run").
_BUTTONS = (
    {"label": "Approve", "description": "Approve this signing request", "identifier": APPROVE},
    {"label": "Deny", "description": "Deny this signing request", "identifier": DENY},
)
_STATES: Mapping[ReportPhase, tuple[str, str]] = {
    ReportPhase.QUEUED: ("queued", ""),
    ReportPhase.IN_PROGRESS: ("in_progress", ""),
    ReportPhase.ACTION_REQUIRED: ("completed", "action_required"),
    ReportPhase.SUCCESS: ("completed", "success"),
    ReportPhase.FAILURE: ("completed", "failure"),
    ReportPhase.CANCELED: ("completed", "cancelled"),
}
_COMMIT_STATES: Mapping[ReportPhase, str] = {
    ReportPhase.QUEUED: "pending",
    ReportPhase.IN_PROGRESS: "pending",
    ReportPhase.ACTION_REQUIRED: "pending",
    ReportPhase.SUCCESS: "success",
    ReportPhase.FAILURE: "failure",
    ReportPhase.CANCELED: "error",
}
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_NAME = 100
_MAX_STATUS_DESCRIPTION = 140


def report_check_run(api: RepositoryApi, report: Report, earlier: Reported | None) -> Reported:
    """Create or update the request's check run. Repeating it changes nothing.

    Raises:
        RemoteError: besides, if the request has no commit.
    """
    body = _check_run(report)
    reference = earlier.reference if earlier else _find(api, report, body["name"])
    if reference:
        try:
            return _reported(api.send("PATCH", f"/check-runs/{int(reference)}", body))
        except GitHubError as error:
            if error.status != 404:  # GitHub drops old check runs
                raise
    return _reported(api.send("POST", "/check-runs", {**body, "head_sha": _commit(report)}))


def report_status(api: RepositoryApi, report: Report) -> Reported:
    """Add a commit status. The latest of a context is what GitHub shows.

    Raises:
        RemoteError: besides, if the request has no commit.
    """
    body = {
        "state": _COMMIT_STATES[report.phase],
        "context": check_name(report),
        "description": plain(report.title)[:_MAX_STATUS_DESCRIPTION],
        "target_url": report.url,
    }
    answer = api.send("POST", f"/statuses/{_commit(report)}", body)
    return Reported(fields.text(answer, "id"), report.url)


def check_name(report: Report) -> str:
    """What branch protection may require: stable over runs, apart for the artifacts of one run."""
    request = report.request
    name = f"Sealwright: {request.project_slug}/{request.signing_policy_slug}"
    if request.input is not None:
        name += f" ({request.input.file_name})"
    return plain(name)[:_MAX_NAME]


def _check_run(report: Report) -> dict[str, Any]:
    status, conclusion = _STATES[report.phase]
    request = report.request
    body: dict[str, Any] = {
        "name": check_name(report),
        "external_id": request.id,
        "details_url": report.url,
        "status": status,
        "started_at": _time(request.submitted_at),
        "output": {"title": plain(report.title), "summary": summary(report)},
        "actions": list(_BUTTONS) if request.state is State.WAITING_FOR_APPROVAL else [],
    }
    if conclusion:
        body["conclusion"] = conclusion
        body["completed_at"] = _time(request.finished_at or request.updated_at)
    return body


def _find(api: RepositoryApi, report: Report, name: str) -> str:
    """The check run of an earlier call whose answer was lost."""
    listed = api.pages(
        f"/commits/{_commit(report)}/check-runs", "check_runs", check_name=name, filter="all"
    )
    found = (item for item in listed if fields.text(item, "external_id") == report.request.id)
    return fields.text(next(found, None), "id")


def _reported(answer: Mapping[str, Any]) -> Reported:
    return Reported(fields.text(answer, "id"), fields.text(answer, "html_url"))


def _commit(report: Report) -> str:
    commit = report.request.origin.commit
    if not _COMMIT.fullmatch(commit):
        message = "The signing request names no commit to report to."
        raise RemoteError(message, where=report.request.id)
    return commit


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
