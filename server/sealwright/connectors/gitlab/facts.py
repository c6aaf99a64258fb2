"""What GitLab says of a pipeline: its commit, ref, jobs and artifacts. Judged elsewhere.

Statuses and conclusions are given in GitHub's words, so that one set of rules reads them all.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from sealwright.connectors import fields
from sealwright.connectors.gitlab.client import GitLabApi, GitLabError, checked_id
from sealwright.errors import OriginError
from sealwright.model.origin import ArtifactFacts, JobFacts

_DEFAULT_CONFIGURATION = ".gitlab-ci.yml"
_MERGE_REQUEST_REF = re.compile(r"refs/merge-requests/([0-9]{1,19})/(?:head|merge|train)")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_REF = 255
_VENDOR_HOST = "gitlab.com"

# https://docs.gitlab.com/ci/pipelines/: pipeline and job statuses.
_QUEUED = frozenset(
    {"created", "waiting_for_resource", "waiting_for_callback", "preparing", "pending"}
) | {"manual", "scheduled"}
_LIVE = frozenset({"running", "canceling"})
_CONCLUSIONS = {
    "success": "success",
    "failed": "failure",
    "canceled": "cancelled",
    "skipped": "skipped",
}

# Pipelines of these sources take their configuration from elsewhere than the project's file.
_FOREIGN_CONFIGURATION = frozenset(
    {"parent_pipeline", "security_orchestration_policy", "ondemand_dast_scan", "webide"}
) | {"ondemand_dast_validation", "pipeline_execution_policy_forced", "container_registry_push"}


@dataclass(frozen=True)
class RefFacts:
    """The ref of a pipeline, as it is now.

    Attributes:
        ref: full ref.
        type: ``branch`` or ``tag``; empty where the ref is gone or neither.
        name: of branch or tag.
        commit: what it points to.
    """

    ref: str
    type: str = ""
    name: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Definition:
    """Where a pipeline's configuration was read from; empty where GitLab does not say."""

    path: str = ""
    commit: str = ""


def read_project(api: GitLabApi, project_id: str) -> Mapping[str, Any]:
    """The linked project.

    Raises:
        OriginError: it is gone, or hidden from the server's token.
    """
    return _existing(api, "project", f"/projects/{checked_id(project_id)}", project_id)


def read_pipeline(api: GitLabApi, project_id: str, pipeline_id: str) -> Mapping[str, Any]:
    """One pipeline of the project.

    Raises:
        OriginError: the project has no such pipeline.
    """
    path = f"/projects/{project_id}/pipelines/{checked_id(pipeline_id)}"
    return _existing(api, "pipeline", path, pipeline_id)


def read_job(api: GitLabApi, project_id: str, job_id: str) -> Mapping[str, Any]:
    """One job of the project.

    Raises:
        OriginError: the project has no such job.
    """
    path = f"/projects/{project_id}/jobs/{checked_id(job_id)}"
    return _existing(api, "job", path, job_id)


def read_jobs(api: GitLabApi, project_id: str, pipeline_id: str) -> tuple[JobFacts, ...]:
    """Every job of the pipeline that ran, retried ones too; those that never started did nothing.

    GitLab does not number attempts: a retry is a new job of the same name with a higher id.
    """
    listed = api.pages(
        f"/projects/{project_id}/pipelines/{checked_id(pipeline_id)}/jobs", include_retried="true"
    )
    attempts: Counter[str] = Counter()
    found = []
    for job in sorted(listed, key=lambda item: fields.number(item, "id")):
        name = fields.text(job, "name")
        attempts[name] += 1
        if fields.text(job, "started_at") or isinstance(job.get("runner"), Mapping):
            found.append(_job_facts(job, attempts[name], api.host))
    return tuple(found)


def resolve_ref(api: GitLabApi, project_id: str, pipeline: Mapping[str, Any]) -> RefFacts:
    """Whether the pipeline's ref is a branch or a tag, and still there.

    A pipeline has the short name alone, which a branch and a tag may share. Which of the two it
    was made for is recorded in its ``tag``.
    """
    name = fields.text(pipeline, "ref")
    is_tag = fields.flag(pipeline, "tag")
    if _MERGE_REQUEST_REF.fullmatch(name) or is_tag is None:
        return RefFacts(name)
    ref = f"refs/{'tags' if is_tag else 'heads'}/{name}"
    if not _is_ref_name(name):
        return RefFacts(ref)
    kind = "tags" if is_tag else "branches"
    found = api.find(f"/projects/{project_id}/repository/{kind}/{quote(name, safe='')}")
    if found is None or fields.text(found, "name") != name:
        return RefFacts(ref)
    commit = fields.text(found, "commit", "id")
    return RefFacts(ref, "tag" if is_tag else "branch", name, commit)


def is_reachable(api: GitLabApi, project_id: str, commit: str, head: str) -> bool:
    """Whether `commit` is `head` or one of its ancestors. Both are commit ids, never names."""
    if not _COMMIT.fullmatch(commit) or not _COMMIT.fullmatch(head):
        return False
    if commit == head:
        return True
    path = f"/projects/{project_id}/repository/merge_base"
    try:
        base = api.find(path, **{"refs[]": [commit, head]})
    except GitLabError as error:
        if error.status == 400:  # it does not know the commit
            return False
        raise
    return fields.text(base, "id") == commit


def head_repository(api: GitLabApi, project_id: str, pipeline: Mapping[str, Any]) -> str:
    """Id of the project whose commit the pipeline builds; empty where GitLab does not say.

    A merge request pipeline runs in the target project with the code of the source project, which
    may be a fork.
    """
    if fields.text(pipeline, "source") == "external_pull_request_event":
        return ""
    merge_request = _MERGE_REQUEST_REF.fullmatch(fields.text(pipeline, "ref"))
    if merge_request is None:
        return fields.text(pipeline, "project_id")
    found = api.find(f"/projects/{project_id}/merge_requests/{merge_request[1]}")
    return fields.text(found, "source_project_id")


def read_definition(
    api: GitLabApi, project: Mapping[str, Any], pipeline: Mapping[str, Any]
) -> Definition:
    """The file that defines the pipeline.

    GitLab keeps the project's setting of today, not the one that the pipeline began with; an
    identity token has the latter in ``ci_config_ref_uri`` and ``ci_config_sha``.
    """
    if fields.text(pipeline, "source") in _FOREIGN_CONFIGURATION:
        return Definition()
    path = fields.text(project, "ci_config_path") or _DEFAULT_CONFIGURATION
    if "@" in path or "://" in path:  # of another project, or from a web server
        return Definition(path)
    commit = fields.text(pipeline, "sha")
    file = f"/projects/{fields.text(project, 'id')}/repository/files/{quote(path, safe='')}"
    if not _is_path(path) or not _COMMIT.fullmatch(commit) or not api.exists(file, ref=commit):
        return Definition()  # Auto DevOps, or a configuration that was given by a policy
    return Definition(path, commit)


def artifact_facts(job: Mapping[str, Any], head_repository_id: str) -> ArtifactFacts | None:
    """The archive that a job uploaded, or None if it did not. GitLab's API gives no digest of it.

    What counts is whether the archive is there: the newest of a ref outlives its expiry date.
    """
    archive = next(
        (item for item in fields.objects(job, "artifacts") if item.get("file_type") == "archive"),
        fields.at(job, "artifacts_file") or {},
    )
    file_name = fields.text(archive, "filename")
    if not file_name and not _is_past(fields.text(job, "artifacts_expire_at")):
        return None
    return ArtifactFacts(
        id=fields.text(job, "id"),
        name=fields.text(job, "name"),
        file_name=file_name,
        size=fields.number(archive, "size"),
        sha256="",
        expired=not file_name,
        run_id=fields.text(job, "pipeline", "id"),
        repository_id=fields.text(job, "pipeline", "project_id"),
        head_repository_id=head_repository_id,
        commit=fields.text(job, "commit", "id") or fields.text(job, "pipeline", "sha"),
    )


def run_attempt(jobs: tuple[JobFacts, ...], job_id: str) -> int:
    """Attempt of the job whose artifact it is; without one, the highest of the pipeline."""
    of_job = [job.attempt for job in jobs if job.id == job_id]
    return max(of_job or [job.attempt for job in jobs], default=1)


def status_of(state: str) -> str:
    """GitLab's state of a pipeline or job -> ``queued``, ``in_progress``, ``completed``."""
    if state in _CONCLUSIONS:
        return "completed"
    if state in _LIVE:
        return "in_progress"
    return "queued" if state in _QUEUED else ""


def conclusion_of(state: str) -> str:
    """GitLab's state -> ``success``, ``failure``, ``cancelled``, ``skipped``; empty while open."""
    return _CONCLUSIONS.get(state, "")


def _existing(api: GitLabApi, noun: str, path: str, value: str) -> Mapping[str, Any]:
    found = api.find(path)
    if found is None or fields.text(found, "id") != value:
        message = f"GitLab shows no {noun} {value} in the linked project."
        advice = "Submit from a pipeline of the project's own repository."
        raise OriginError(message, advice=advice)
    return found


def _job_facts(job: Mapping[str, Any], attempt: int, host: str) -> JobFacts:
    runner = job.get("runner")
    runner_id = fields.text(runner, "id")
    kind = fields.text(runner, "runner_type").removesuffix("_type")
    return JobFacts(
        id=fields.text(job, "id"),
        name=fields.text(job, "name"),
        attempt=attempt,
        status=status_of(fields.text(job, "status")),
        hosted=_is_hosted(runner, host),
        runner_group_id=runner_id,
        runner_group=f"{kind}/{runner_id}" if kind and runner_id else "",
        labels=fields.texts(job, "tag_list"),
    )


def _is_hosted(runner: object, host: str) -> bool | None:
    """Whether GitLab's own machine ran it: gitlab.com's instance runners, and no others.

    The instance runners of a self-managed GitLab are machines of whoever manages it.
    """
    if not isinstance(runner, Mapping) or not fields.text(runner, "runner_type"):
        return None
    return host == _VENDOR_HOST and fields.text(runner, "runner_type") == "instance_type"


def _is_ref_name(name: str) -> bool:
    """Enough of git-check-ref-format to stand in a path."""
    return 0 < len(name) <= _MAX_REF and _has_plain_segments(name)


def _is_path(path: str) -> bool:
    return 0 < len(path) <= 1024 and all(part not in {"", ".", ".."} for part in path.split("/"))


def _has_plain_segments(name: str) -> bool:
    return all(part and not part.startswith(".") and ".." not in part for part in name.split("/"))


def _is_past(timestamp: str) -> bool:
    try:
        return dt.datetime.fromisoformat(timestamp) <= dt.datetime.now(dt.UTC)
    except (ValueError, TypeError):
        return False


def web_address(url: str) -> str:
    """A page's address as GitLab gave it, if it is one that may be shown as a link."""
    return url if urlsplit(url).scheme in {"https", "http"} and len(url) <= 2048 else ""
