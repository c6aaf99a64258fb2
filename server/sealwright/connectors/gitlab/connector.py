"""GitLab, gitlab.com or self-managed, as a trusted build system.

Settings: ``oidc_issuer`` (default: the base URL), ``oidc_audience``, ``status_check`` (name of the
external status check to answer; empty: none). Credentials: ``token``, and ``webhook_signing_token``
or ``webhook_secret``, and ``status_check_secret``.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from sealwright.connectors import fields
from sealwright.connectors.blocking import (
    CALL_TIMEOUTS,
    DOWNLOAD_TIMEOUTS,
    BlockingClient,
    GoneError,
)
from sealwright.connectors.connector import WebhookEvent
from sealwright.connectors.gitlab import reports, webhooks
from sealwright.connectors.gitlab.client import GitLabApi, GitLabError, checked_id
from sealwright.connectors.gitlab.facts import (
    artifact_facts,
    conclusion_of,
    head_repository,
    is_reachable,
    read_definition,
    read_job,
    read_jobs,
    read_pipeline,
    read_project,
    resolve_ref,
    run_attempt,
    status_of,
    web_address,
)
from sealwright.connectors.gitlab.protection import read_protection
from sealwright.connectors.oidc import IdentityTokenVerifier, IssuerKeys
from sealwright.connectors.outgoing import OutgoingPolicy, Timeouts
from sealwright.errors import ConfigurationError, OriginError
from sealwright.model.build_system import RepositoryLink, TrustedBuildSystem
from sealwright.model.origin import ArtifactFacts, Locator, OriginRules, RunFacts
from sealwright.model.report import Report, Reported, ReportPhase

_PUBLIC_HOSTS = OutgoingPolicy()


MAINTAINER = 40  # https://docs.gitlab.com/api/members/#roles


@dataclass(frozen=True)
class JobIdentity:
    """The running job that a job token belongs to, as GitLab says. Statuses as in `JobFacts`."""

    project_id: str
    pipeline_id: str
    job_id: str
    name: str
    ref: str
    commit: str
    status: str


@dataclass(frozen=True)
class AdministeredProject:
    """A project that a user maintains."""

    project_id: str
    namespace_id: str
    path: str


class GitLabConnector:
    """One GitLab instance. Keep it: it holds the issuer's keys. Threads may share it."""

    def __init__(
        self,
        build_system: TrustedBuildSystem,
        *,
        outgoing: OutgoingPolicy = _PUBLIC_HOSTS,
        tls: ssl.SSLContext | None = None,
        timeouts: Timeouts = CALL_TIMEOUTS,
        download_timeouts: Timeouts = DOWNLOAD_TIMEOUTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            outgoing: which addresses may be called; a self-managed GitLab, and its object store,
                are ``internal_hosts`` if they have private addresses.
            tls: trust; None trusts the bundled public authorities.
            clock: POSIX seconds.
        """
        self._build_system = build_system
        self._clock = clock
        self._http = BlockingClient(
            outgoing, tls=tls, timeouts=timeouts, download_timeouts=download_timeouts
        )
        issuer = build_system.settings.get("oidc_issuer") or build_system.base_url.rstrip("/")
        self._issuer_keys = IssuerKeys(issuer, self._http)

    def facts(self, link: RepositoryLink, locator: Locator, rules: OriginRules) -> RunFacts:
        """See `Connector`. A run is a pipeline, an artifact is a job's archive.

        Either id of the locator is enough; where both are given and do not belong together, the
        artifact's `run_id` shows it. `run_attempt` counts retries of the artifact's job.
        """
        claims = self._claims(locator.identity_token)
        api = self._api()
        project = read_project(api, _project_id(link))
        project_id = fields.text(project, "id")
        job = read_job(api, project_id, locator.artifact_id) if locator.artifact_id else None
        pipeline_id = locator.run_id or fields.text(job, "pipeline", "id")
        pipeline = read_pipeline(api, project_id, pipeline_id)
        ref = resolve_ref(api, project_id, pipeline)
        commit = fields.text(pipeline, "sha")
        head = head_repository(api, project_id, pipeline)
        definition = read_definition(api, project, pipeline)
        jobs = read_jobs(api, project_id, pipeline_id)
        state = fields.text(pipeline, "status")
        return RunFacts(
            repository_id=fields.text(pipeline, "project_id"),
            repository_url=web_address(fields.text(project, "web_url")),
            owner_id=fields.text(project, "namespace", "id"),
            head_repository_id=head,
            run_id=fields.text(pipeline, "id"),
            run_attempt=run_attempt(jobs, locator.artifact_id),
            event=fields.text(pipeline, "source"),
            status=status_of(state),
            conclusion=conclusion_of(state),
            commit=commit,
            ref=ref.ref,
            ref_type=ref.type,
            reachable=is_reachable(api, project_id, commit, ref.commit),
            definition=definition.path,
            definition_commit=definition.commit,
            run_url=web_address(fields.text(pipeline, "web_url")),
            jobs=jobs,
            artifact=None if job is None else _existing_artifact(job, head),
            rulesets=read_protection(api, project, ref) if rules.rulesets else None,
            claims=claims,
        )

    def artifacts(self, link: RepositoryLink, run_id: str) -> tuple[ArtifactFacts, ...]:
        """The archive of every job of a pipeline, retried jobs left out: for triggers, which know
        the job's name alone. `id` is what a locator's `artifact_id` is to be.

        Raises:
            OriginError: no such pipeline. RemoteError: refused or away.
        """
        api, project_id = self._api(), _project_id(link)
        pipeline = read_pipeline(api, project_id, run_id)
        head = head_repository(api, project_id, pipeline)
        jobs = api.pages(f"/projects/{project_id}/pipelines/{run_id}/jobs")
        return tuple(found for job in jobs if (found := artifact_facts(job, head)) is not None)

    def has_succeeded(self, link: RepositoryLink, run_id: str) -> bool:
        """See `RunWatcher.has_succeeded`."""
        pipeline = read_pipeline(self._api(), _project_id(link), run_id)
        return fields.text(pipeline, "status") == "success"

    def fetch_artifact(
        self, link: RepositoryLink, artifact: ArtifactFacts, target: BinaryIO, limit: int
    ) -> str:
        """See `Connector`. GitLab gives no digest of archives: the one returned is the first.

        Raises:
            OriginError: besides, the artifact has expired or was erased.
        """
        path = f"/projects/{_project_id(link)}/jobs/{checked_id(artifact.id)}/artifacts"
        try:
            return self._api().download(path, target, limit)
        except GoneError as error:
            message = f"The artifacts of job {artifact.id} are no longer there."
            raise OriginError(message, advice="Run the job again.") from error

    def report(self, link: RepositoryLink, report: Report, earlier: Reported | None) -> Reported:
        """See `Connector`. What was reported earlier is read from GitLab itself."""
        del earlier  # statuses are found by their name
        api, project_id = self._api(), _project_id(link)
        origin = report.request.origin
        own = origin.build_system_id == self._build_system.id and origin.run_id.isdecimal()
        reported = reports.report_status(api, project_id, report, origin.run_id if own else "")
        check = self._build_system.settings.get("status_check", "")
        if check:
            reports.answer_status_checks(api, project_id, report, check)
        return reported

    def answer_status_check(
        self, link: RepositoryLink, event: webhooks.MergeRequestEvent, phase: ReportPhase
    ) -> None:
        """Answer the external status check whose delivery `event` is."""
        reports.answer_status_check(
            self._api(),
            _project_id(link),
            event.iid,
            event.status_check_id,
            event.commit,
            phase,
        )

    def webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """See `Connector` and `webhooks.verify`."""
        return webhooks.verify(headers, body, self._build_system.credentials, self._clock())

    def identify_job(self, job_token: str) -> JobIdentity:
        """Ask GitLab whose token a ``CI_JOB_TOKEN`` is. The token is neither kept nor logged.

        Raises:
            OriginError: no running job has this token.
            RemoteError: GitLab is away.
        """
        if (
            not job_token.isascii()
            or not job_token.isprintable()
            or not 8 <= len(job_token) <= 4096
        ):
            raise _no_job()
        api = GitLabApi(
            self._build_system.base_url, self._http, job_token=job_token, clock=self._clock
        )
        try:
            job = api.get("/job")
        except GitLabError as error:
            if error.status in {401, 403, 404}:
                raise _no_job() from None  # the cause would hold the request
            raise
        return JobIdentity(
            project_id=fields.text(job, "pipeline", "project_id"),
            pipeline_id=fields.text(job, "pipeline", "id"),
            job_id=fields.text(job, "id"),
            name=fields.text(job, "name"),
            ref=fields.text(job, "ref"),
            commit=fields.text(job, "commit", "id"),
            status=status_of(fields.text(job, "status")),
        )

    def administered(self, path: str, user_token: str) -> AdministeredProject:
        """The project at `path`, if the user of that token maintains it and the server reads it.

        Args:
            user_token: of the user's own; used for this call alone, neither kept nor logged.

        Raises:
            OriginError: there is none, or the user is not its maintainer.
            RemoteError: GitLab is away.
        """
        address = f"/projects/{quote(path, safe='')}"
        api = GitLabApi(
            self._build_system.base_url, self._http, private_token=user_token, clock=self._clock
        )
        try:
            found = api.get(address)
        except GitLabError as error:
            if error.status not in {401, 403, 404}:
                raise
            raise _not_yours(path) from None  # the cause would hold the request
        access = max(
            fields.number(found, "permissions", kind, "access_level")
            for kind in ("project_access", "group_access")
        )
        if access < MAINTAINER:
            raise _not_yours(path)
        project = read_project(self._api(), fields.text(found, "id"))
        return AdministeredProject(
            fields.text(project, "id"),
            fields.text(project, "namespace", "id"),
            fields.text(project, "path_with_namespace"),
        )

    def _api(self) -> GitLabApi:
        token = self._build_system.credentials.get("token", "")
        if not token:
            message = f"The build system {self._build_system.slug} has no access token."
            raise ConfigurationError(message, advice="Give it a project or group access token.")
        return GitLabApi(
            self._build_system.base_url, self._http, private_token=token, clock=self._clock
        )

    def _claims(self, identity_token: str) -> Mapping[str, str] | None:
        if not identity_token:
            return None
        audience = self._build_system.settings.get("oidc_audience", "")
        return IdentityTokenVerifier(self._issuer_keys, audience).verify(identity_token).claims


def _project_id(link: RepositoryLink) -> str:
    if not link.repository_id.isascii() or not link.repository_id.isdecimal():
        message = "The link has no numeric project id."
        raise ConfigurationError(message, advice="Link the repository again.")
    return link.repository_id


def _not_yours(path: str) -> OriginError:
    message = f"You do not maintain a project {path[:200]!r} on this GitLab."
    return OriginError(message, advice="Ask one of its maintainers to link it.")


def _existing_artifact(job: Mapping[str, object], head: str) -> ArtifactFacts:
    artifact = artifact_facts(job, head)
    if artifact is None:
        message = f"The job {fields.text(job, 'id')} has no artifacts."
        raise OriginError(message, advice="Let it upload artifacts:paths before it submits.")
    return artifact


def _no_job() -> OriginError:
    message = "No running job of this GitLab has that job token."
    return OriginError(message, advice="Send CI_JOB_TOKEN from the job itself, while it runs.")
