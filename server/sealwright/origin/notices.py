"""What a verified delivery of a webhook is about, in words that all CI systems share.

A notice holds what to look up, never what is true. The one exception is who pressed a button: that
only the delivery tells, and its signature proves it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sealwright.connectors.connector import WebhookEvent
from sealwright.connectors.github import webhooks as github
from sealwright.connectors.gitlab import webhooks as gitlab
from sealwright.connectors.jenkins import webhooks as jenkins
from sealwright.model.build_system import BuildSystemKind


class NoticeKind(enum.StrEnum):
    """What happened."""

    RUN_ENDED = "run-ended"  # successfully, it is said
    ACTION = "action"  # somebody pressed a button of a check
    REPORT_AGAIN = "report-again"  # somebody wants checks again, or a merge request moved
    DEPLOYMENT = "deployment"  # a deployment waits for an answer
    JOB_ENDED = "job-ended"  # perhaps the last one of its run
    TAG_MOVED = "tag-moved"  # made, moved or deleted
    ACCESS_CHANGED = "access-changed"  # an App was installed, suspended, given other repositories
    NOTED = "noted"  # nothing to do but to keep it


@dataclass(frozen=True)
class Notice:
    """One delivery's meaning. `locators`: what to look up, by name."""

    kind: NoticeKind
    repository_id: str = ""
    locators: Mapping[str, str] = field(default_factory=dict)


def read_notice(kind: BuildSystemKind, event: WebhookEvent) -> Notice | None:
    """The meaning of a delivery; None where it has none here."""
    return _READERS[kind](event)


def _github(event: WebhookEvent) -> Notice | None:
    match github.parse_event(event):
        case github.RunChanged(action="completed", conclusion="success") as run:
            return Notice(NoticeKind.RUN_ENDED, run.repository_id, {"run_id": run.run_id})
        case github.RequestedAction() as pressed:
            locators = {
                "reference": pressed.check_run_id,
                "request_id": pressed.request_id,
                "action": pressed.identifier,
                "user_id": pressed.user_id,
                "login": pressed.user_login,
            }
            return Notice(NoticeKind.ACTION, pressed.repository_id, locators)
        case github.CheckRerequested() as asked:
            locators = {"request_id": asked.request_id, "commit": asked.commit}
            return Notice(NoticeKind.REPORT_AGAIN, asked.repository_id, locators)
        case github.DeploymentRequested() as asked:
            locators = {"run_id": asked.run_id, "environment": asked.environment}
            return Notice(NoticeKind.DEPLOYMENT, asked.repository_id, locators)
        case github.JobChanged(action="completed") as job:
            return Notice(NoticeKind.JOB_ENDED, job.repository_id, {"run_id": job.run_id})
        case github.TagPushed() as tag:
            return Notice(NoticeKind.TAG_MOVED, tag.repository_id, {"ref": tag.ref})
        case github.InstallationChanged() as changed:
            installation = {"installation_id": changed.installation_id}
            return Notice(NoticeKind.ACCESS_CHANGED, "", installation)
        case None if event.name not in {"workflow_job", "check_run", "check_suite"}:
            return None
        case _:
            return Notice(NoticeKind.NOTED, event.repository_id)


def _gitlab(event: WebhookEvent) -> Notice | None:
    pipeline = gitlab.pipeline_event(event.payload)
    if pipeline is not None:
        ended = pipeline.status == "success"
        kind = NoticeKind.RUN_ENDED if ended else NoticeKind.NOTED
        return Notice(kind, pipeline.project_id, {"run_id": pipeline.pipeline_id})
    merge_request = gitlab.merge_request_event(event.payload)
    if merge_request is not None:
        commit = {"commit": merge_request.commit}
        return Notice(NoticeKind.REPORT_AGAIN, merge_request.project_id, commit)
    job = gitlab.job_event(event.payload)
    if job is not None:
        kind = NoticeKind.JOB_ENDED if job.status == "success" else NoticeKind.NOTED
        return Notice(kind, job.project_id, {"run_id": job.pipeline_id})
    tag = gitlab.tag_push_event(event.payload)
    if tag is not None:
        return Notice(NoticeKind.TAG_MOVED, tag.project_id, {"ref": tag.ref})
    return None


def _jenkins(event: WebhookEvent) -> Notice | None:
    build = jenkins.parse_event(event)
    if build is None:
        return None
    ended = build.status == "completed" and build.result == "SUCCESS"
    kind = NoticeKind.RUN_ENDED if ended else NoticeKind.NOTED
    return Notice(kind, build.repository_id, {"run_id": build.run_id})


_READERS: Mapping[BuildSystemKind, Callable[[WebhookEvent], Notice | None]] = {
    BuildSystemKind.GITHUB: _github,
    BuildSystemKind.GITLAB: _gitlab,
    BuildSystemKind.JENKINS: _jenkins,
}
