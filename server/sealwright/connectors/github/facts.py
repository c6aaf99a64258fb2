"""What GitHub says of a run: its commit, ref, jobs and artifacts. Judged elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sealwright.connectors import fields
from sealwright.connectors.github.client import GitHubError, RepositoryApi
from sealwright.errors import OriginError
from sealwright.model.origin import ArtifactFacts, JobFacts, RulesetFacts, RunFacts

HOSTED_GROUP = "GitHub Actions"
"""The runner group that GitHub reports for its standard hosted runners."""

_REF_NAMESPACES = {"branch": "heads", "tag": "tags"}
_MAX_REF = 255
_MAX_TAG_DEPTH = 5
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class RefFacts:
    """A ref that exists now. `commit` is what it points to, tags peeled."""

    ref: str
    type: str
    commit: str


def read_run(api: RepositoryApi, run_id: str) -> Mapping[str, Any]:
    """The run as GitHub describes it: its latest attempt.

    Raises:
        OriginError: the repository has no such run.
    """
    return _existing(api, "workflow run", "/actions/runs", run_id)


def read_artifact(api: RepositoryApi, artifact_id: str) -> ArtifactFacts:
    """One artifact.

    Raises:
        OriginError: the repository has no such artifact.
    """
    return artifact_facts(_existing(api, "artifact", "/actions/artifacts", artifact_id))


def read_artifacts(api: RepositoryApi, run_id: str) -> tuple[ArtifactFacts, ...]:
    """Every artifact of a run, of all its attempts."""
    listed = api.pages(f"/actions/runs/{checked_id(run_id)}/artifacts", "artifacts")
    return tuple(artifact_facts(item) for item in listed)


def read_jobs(api: RepositoryApi, run_id: str) -> tuple[JobFacts, ...]:
    """Every job of every attempt, but for those that were skipped: they contributed nothing."""
    listed = api.pages(f"/actions/runs/{checked_id(run_id)}/jobs", "jobs", filter="all")
    return tuple(_job(item) for item in listed if not _never_ran(item))


def resolve_ref(api: RepositoryApi, name: str, claimed_ref: str) -> RefFacts | None:
    """Find out whether a run's ``head_branch``, which may be a tag, is a branch or a tag.

    Args:
        name: without ``refs/heads/`` or ``refs/tags/``.
        claimed_ref: full ref out of a verified identity token: it decides where both exist.

    Returns:
        None if there is neither, or both and nothing decides.
    """
    if not _is_ref_name(name):
        return None
    found = []
    for ref_type, namespace in _REF_NAMESPACES.items():
        target = _get_or_none(api, f"/git/ref/{namespace}/{quote(name)}")
        if target is not None and fields.text(target, "ref") == f"refs/{namespace}/{name}":
            commit = _peel(api, target)
            found.append(RefFacts(f"refs/{namespace}/{name}", ref_type, commit))
    if len(found) > 1:
        found = [ref for ref in found if ref.ref == claimed_ref]
    return found[0] if found else None


def is_reachable(api: RepositoryApi, commit: str, head: str) -> bool:
    """Whether `commit` is `head` or one of its ancestors. Both are commit ids."""
    if not _COMMIT.fullmatch(commit) or not _COMMIT.fullmatch(head):
        return False
    if commit == head:
        return True
    # The second page has no diff, which could be large. The status is on every page.
    comparison = _get_or_none(api, f"/compare/{head}...{commit}", per_page=1, page=2)
    return fields.text(comparison, "status") in {"behind", "identical"}


def run_facts(
    run: Mapping[str, Any],
    *,
    ref: RefFacts | None,
    reachable: bool | None,
    jobs: tuple[JobFacts, ...],
    artifact: ArtifactFacts | None,
    rulesets: RulesetFacts | None,
    claims: Mapping[str, str] | None,
) -> RunFacts:
    """Put together what was read. A ref that is gone, or not told apart, has no type."""
    return RunFacts(
        repository_id=fields.text(run, "repository", "id"),
        repository_url=fields.text(run, "repository", "html_url"),
        owner_id=fields.text(run, "repository", "owner", "id"),
        head_repository_id=fields.text(run, "head_repository", "id"),
        run_id=fields.text(run, "id"),
        run_attempt=fields.number(run, "run_attempt"),
        event=fields.text(run, "event"),
        status=fields.text(run, "status"),
        conclusion=fields.text(run, "conclusion"),
        commit=fields.text(run, "head_sha"),
        ref=ref.ref if ref else fields.text(run, "head_branch"),
        ref_type=ref.type if ref else "",
        reachable=reachable,
        definition=definition_path(run),
        definition_commit=_definition_commit(run, claims),
        run_url=fields.text(run, "html_url"),
        jobs=jobs,
        artifact=artifact,
        rulesets=rulesets,
        claims=claims,
    )


def definition_path(run: Mapping[str, Any]) -> str:
    """The workflow's path without the ref that GitHub may put behind it."""
    return fields.text(run, "path").partition("@")[0]


def artifact_facts(data: Mapping[str, Any]) -> ArtifactFacts:
    """An artifact of the API. GitHub wraps what was uploaded in a ZIP, whose SHA-256 it keeps."""
    digest = _DIGEST.fullmatch(fields.text(data, "digest"))
    name = fields.text(data, "name")
    return ArtifactFacts(
        id=fields.text(data, "id"),
        name=name,
        file_name=f"{name}.zip",
        size=fields.number(data, "size_in_bytes"),
        sha256=digest[1] if digest else "",
        expired=fields.at(data, "expired") is not False,
        run_id=fields.text(data, "workflow_run", "id"),
        repository_id=fields.text(data, "workflow_run", "repository_id"),
        head_repository_id=fields.text(data, "workflow_run", "head_repository_id"),
        commit=fields.text(data, "workflow_run", "head_sha"),
    )


def checked_id(value: str) -> str:
    """A numeric id that may stand in a path.

    Raises:
        OriginError: it is not one.
    """
    if not value.isascii() or not value.isdecimal() or len(value) > 19:
        message = f"{value[:40]!r} is not an id of GitHub."
        raise OriginError(message, advice="Send the number that the job's context has.")
    return value


def _existing(api: RepositoryApi, noun: str, path: str, value: str) -> Mapping[str, Any]:
    found = _get_or_none(api, f"{path}/{checked_id(value)}")
    if found is None or fields.text(found, "id") != value:
        message = f"The linked repository has no {noun} {value}."
        raise OriginError(message, advice="Submit from a run of the project's own repository.")
    return found


def _get_or_none(
    api: RepositoryApi, path: str, **parameters: str | int
) -> Mapping[str, Any] | None:
    try:
        return api.get(path, **parameters)
    except GitHubError as error:
        if error.status in {404, 410}:
            return None
        raise


def _job(data: Mapping[str, Any]) -> JobFacts:
    return JobFacts(
        id=fields.text(data, "id"),
        name=fields.text(data, "name"),
        attempt=fields.number(data, "run_attempt"),
        status=fields.text(data, "status"),
        hosted=_is_hosted(data),
        runner_group_id=fields.text(data, "runner_group_id"),
        runner_group=fields.text(data, "runner_group_name"),
        labels=fields.texts(data, "labels"),
    )


def _is_hosted(data: Mapping[str, Any]) -> bool | None:
    """Whether GitHub's own machine ran it; None where GitHub does not say.

    Larger hosted runners have groups and names of the customer's choice, and a self-hosted runner
    may come without its label: only the standard group, or the label, tell.
    """
    group = fields.text(data, "runner_group_name")
    if "self-hosted" in fields.texts(data, "labels") or group == "Default":
        return False
    return True if group == HOSTED_GROUP else None


def _never_ran(data: Mapping[str, Any]) -> bool:
    return fields.text(data, "conclusion") == "skipped" and not fields.text(data, "runner_name")


def _peel(api: RepositoryApi, target: Mapping[str, Any]) -> str:
    """The commit that a ref names, through annotated tags."""
    for _ in range(_MAX_TAG_DEPTH):
        sha = fields.text(target, "object", "sha")
        if not _COMMIT.fullmatch(sha):
            return ""
        kind = fields.text(target, "object", "type")
        if kind != "tag":
            return sha if kind == "commit" else ""
        target = _get_or_none(api, f"/git/tags/{sha}") or {}
    return ""


def _is_ref_name(name: str) -> bool:
    """Enough of git-check-ref-format to stand in a path."""
    parts = name.split("/")
    return 0 < len(name) <= _MAX_REF and all(
        part and not part.startswith(".") and ".." not in part for part in parts
    )


def _definition_commit(run: Mapping[str, Any], claims: Mapping[str, str] | None) -> str:
    """Which commit the workflow file was read from.

    That is the head commit, except where GitHub takes it from the target of a pull request.
    """
    if claims is not None and claims.get("workflow_sha"):
        return claims["workflow_sha"]
    is_pull_request = fields.text(run, "event").startswith("pull_request")
    return "" if is_pull_request else fields.text(run, "head_sha")
