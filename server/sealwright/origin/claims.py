"""Claims of identity tokens against the API's facts, as tables: one row a claim.

Sources: GitHub Docs, "OpenID Connect reference"; GitLab Docs, "OpenID Connect (OIDC) authentication
using ID tokens"; Jenkins' "OpenID Connect Provider" plugin. ``sub`` is never read: its form can be
customized, and names in it can be taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sealwright.model.build_system import BuildSystemKind
from sealwright.model.origin import JobFacts, RunFacts

RUNNING = frozenset({"in_progress", "running"})


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        expected: the values that fit the facts; None: the facts do not tell, any value fits.
        optional: an older issuer does not send it. What it sends must fit.
    """

    name: str
    expected: Callable[[RunFacts, Mapping[str, str]], frozenset[str] | None]
    optional: bool = False


def misfits(kind: BuildSystemKind, facts: RunFacts) -> tuple[str, ...]:
    """Names of the claims that do not fit the facts; all of them where there is no token."""
    claims = facts.claims
    table = CLAIMS[kind]
    if claims is None:
        return tuple(claim.name for claim in table)
    return tuple(claim.name for claim in table if not _fits(claim, facts, claims))


def _fits(claim: Claim, facts: RunFacts, claims: Mapping[str, str]) -> bool:
    value = claims.get(claim.name, "")
    if not value:
        return claim.optional and claim.name not in claims
    expected = claim.expected(facts, claims)
    return expected is None or value in expected


def _fact(name: str) -> Callable[[RunFacts, Mapping[str, str]], frozenset[str]]:
    return lambda facts, _claims: frozenset({str(getattr(facts, name))})


def _short_ref(facts: RunFacts, _claims: Mapping[str, str]) -> frozenset[str]:
    return frozenset({facts.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")})


def _definition_commit(facts: RunFacts, _claims: Mapping[str, str]) -> frozenset[str]:
    return frozenset({facts.definition_commit or facts.commit})


def _github_workflow(facts: RunFacts, _claims: Mapping[str, str]) -> frozenset[str]:
    name = urlsplit(facts.repository_url).path.strip("/")
    return frozenset({f"{name}/{facts.definition}@{facts.ref}"})


def _gitlab_configuration(facts: RunFacts, claims: Mapping[str, str]) -> frozenset[str]:
    """Host and port without the path that GitLab may be installed under, then the project's."""
    parts = urlsplit(facts.repository_url)
    project = claims.get("project_path", "")
    if not project or not f"{parts.path}/".endswith(f"/{project}/"):
        return frozenset()
    return frozenset({f"{parts.netloc}/{project}//{facts.definition}@{facts.ref}"})


def _build_number(facts: RunFacts, _claims: Mapping[str, str]) -> frozenset[str]:
    return frozenset({facts.run_id.rpartition("/")[2]})


def _protected(facts: RunFacts, _claims: Mapping[str, str]) -> frozenset[str] | None:
    if facts.rulesets is None:
        return None
    return frozenset({"true" if "protected" in facts.rulesets.rules else "false"})


def _running_jobs(facts: RunFacts, _claims: Mapping[str, str]) -> frozenset[str]:
    """The job that asks must be one of the run's, and still at work."""
    jobs = [job for job in facts.jobs if job.attempt == facts.run_attempt]
    return frozenset(job.id for job in jobs if job.status in RUNNING)


def _environment(vendor: str, job_claim: str) -> Callable[..., frozenset[str] | None]:
    def expected(facts: RunFacts, claims: Mapping[str, str]) -> frozenset[str] | None:
        asking = [job for job in facts.jobs if claims.get(job_claim, job.id) == job.id]
        if any(job.hosted is None for job in asking):
            return None
        return frozenset(_runner(job, vendor) for job in asking)

    return expected


def _runner(job: JobFacts, vendor: str) -> str:
    return f"{vendor}-hosted" if job.hosted else "self-hosted"


CLAIMS: Mapping[BuildSystemKind, tuple[Claim, ...]] = {
    BuildSystemKind.GITHUB: (
        Claim("repository_id", _fact("repository_id")),
        Claim("repository_owner_id", _fact("owner_id")),
        Claim("run_id", _fact("run_id")),
        Claim("run_attempt", _fact("run_attempt")),
        Claim("sha", _fact("commit")),
        Claim("ref", _fact("ref")),
        Claim("ref_type", _fact("ref_type")),
        Claim("event_name", _fact("event")),
        Claim("workflow_ref", _github_workflow),
        # a reusable workflow of somebody else's is another definition than the run's
        Claim("job_workflow_ref", _github_workflow),
        Claim("job_workflow_sha", _definition_commit),
        Claim("runner_environment", _environment("github", "check_run_id")),
        Claim("check_run_id", _running_jobs, optional=True),
    ),
    BuildSystemKind.GITLAB: (
        Claim("project_id", _fact("repository_id")),
        Claim("namespace_id", _fact("owner_id")),
        # pipelines of a fork's merge request can run in the target project
        Claim("job_project_id", _fact("repository_id")),
        Claim("pipeline_source", _fact("event")),
        Claim("ref", _short_ref),
        Claim("ref_type", _fact("ref_type")),
        Claim("ref_path", _fact("ref")),
        Claim("ref_protected", _protected),
        Claim("sha", _fact("commit")),
        Claim("ci_config_ref_uri", _gitlab_configuration),
        Claim("ci_config_sha", _definition_commit),
        Claim("runner_environment", _environment("gitlab", "job_id")),
        Claim("pipeline_id", _fact("run_id")),
        Claim("job_id", _running_jobs),
    ),
    BuildSystemKind.JENKINS: (Claim("build_number", _build_number),),
}
