"""The connector for GitHub: github.com, GitHub Enterprise Cloud and GitHub Enterprise Server.

Settings of the build system: ``client_id`` (or ``app_id``) of the GitHub App; ``oidc_issuer`` and
``oidc_audience`` of identity tokens; ``bypass_actors`` = ``read`` to read them, for which the App
needs the permission to administer. Credentials: ``private_key`` (PEM), ``webhook_secret``,
``webhook_secret_previous`` while it is changed, ``client_secret`` for linking; or ``token``, an
access token, where there is no App.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import BinaryIO

from sealwright.connectors.blocking import (
    CALL_TIMEOUTS,
    DOWNLOAD_TIMEOUTS,
    BlockingClient,
)
from sealwright.connectors.connector import WebhookEvent
from sealwright.connectors.github.checks import APPROVE, DENY, report_check_run, report_status
from sealwright.connectors.github.client import (
    ANSWER_DEPLOYMENTS,
    READ_BYPASS_ACTORS,
    READ_RULESETS,
    READ_RUN,
    WRITE_CHECKS,
    GitHubClient,
    GitHubError,
    SignJwt,
    host_of,
)
from sealwright.connectors.github.facts import (
    RefFacts,
    checked_id,
    is_reachable,
    read_artifact,
    read_artifacts,
    read_jobs,
    read_run,
    resolve_ref,
    run_facts,
)
from sealwright.connectors.github.linking import GitHubLinking, GitHubUser, LinkableRepository
from sealwright.connectors.github.rulesets import UNKNOWN_BYPASS, read_rulesets
from sealwright.connectors.github.webhooks import (
    CheckRerequested,
    DeploymentRequested,
    GitHubEvent,
    InstallationChanged,
    JobChanged,
    RequestedAction,
    RunChanged,
    TagPushed,
    parse_event,
    verified,
)
from sealwright.connectors.oidc import IdentityTokenVerifier, IssuerKeys
from sealwright.connectors.outgoing import OutgoingPolicy, Timeouts
from sealwright.errors import OriginError
from sealwright.model.build_system import (
    LinkStanding,
    RepositoryLink,
    StandingFacts,
    TrustedBuildSystem,
)
from sealwright.model.origin import (
    ArtifactFacts,
    Locator,
    OriginRules,
    RulesetFacts,
    RunFacts,
)
from sealwright.model.report import Report, Reported

__all__ = [
    "APPROVE",
    "DENY",
    "UNKNOWN_BYPASS",
    "CheckRerequested",
    "DeploymentRequested",
    "GitHubConnector",
    "GitHubError",
    "GitHubEvent",
    "GitHubLinking",
    "GitHubUser",
    "InstallationChanged",
    "JobChanged",
    "LinkableRepository",
    "RequestedAction",
    "RunChanged",
    "TagPushed",
    "default_issuer",
    "parse_event",
]

_MAX_COMMENT = 1000
_TOKEN_REFUSALS = {
    403: LinkStanding.SUSPENDED,
    404: LinkStanding.UNINSTALLED,
    422: LinkStanding.REMOVED,
}
_PUBLIC_HOSTS = OutgoingPolicy()


class GitHubConnector:
    """One GitHub, as one App. Keep it: it holds installation tokens and the issuer's keys.

    Threads may share it. See `sealwright.connectors.connector.Connector` for what is promised.
    """

    def __init__(
        self,
        build_system: TrustedBuildSystem,
        *,
        outgoing: OutgoingPolicy = _PUBLIC_HOSTS,
        tls: ssl.SSLContext | None = None,
        timeouts: Timeouts = CALL_TIMEOUTS,
        download_timeouts: Timeouts = DOWNLOAD_TIMEOUTS,
        sign_jwt: SignJwt | None = None,
    ) -> None:
        """
        Args:
            outgoing: which addresses may be called; an Enterprise Server, and the store of its
                artifacts, are ``internal_hosts`` if they have private addresses.
            tls: trust; None trusts the bundled public authorities.
            sign_jwt: signs the App's JWT instead of ``private_key``.
        """
        self._build_system = build_system
        self._http = BlockingClient(
            outgoing, tls=tls, timeouts=timeouts, download_timeouts=download_timeouts
        )
        self._client = GitHubClient(build_system, self._http, sign_jwt)
        issuer = build_system.settings.get("oidc_issuer") or default_issuer(build_system)
        self._issuer_keys = IssuerKeys(issuer, self._http)

    def facts(self, link: RepositoryLink, locator: Locator, rules: OriginRules) -> RunFacts:
        """See `Connector.facts`. The run's latest attempt is described, the jobs of all."""
        claims = self._claims(locator.identity_token)
        api = self._client.repository(link, READ_RUN)
        run = read_run(api, locator.run_id)
        ref: RefFacts | None = None
        bare = run_facts(
            run, ref=None, reachable=None, jobs=(), artifact=None, rulesets=None, claims=claims
        )
        # The head branch of a fork's run is the fork's, whatever the linked repository has.
        if bare.head_repository_id == bare.repository_id == link.repository_id:
            ref = resolve_ref(api, bare.ref, (claims or {}).get("ref", ""))
        return run_facts(
            run,
            ref=ref,
            reachable=ref is not None and is_reachable(api, bare.commit, ref.commit),
            jobs=read_jobs(api, locator.run_id),
            artifact=read_artifact(api, locator.artifact_id) if locator.artifact_id else None,
            rulesets=self._rulesets(link, ref) if ref is not None and rules.rulesets else None,
            claims=claims,
        )

    def artifacts(self, link: RepositoryLink, run_id: str) -> tuple[ArtifactFacts, ...]:
        """Every artifact of a run, for triggers that know its name alone.

        Raises:
            RemoteError: refused or away.
        """
        return read_artifacts(self._client.repository(link, READ_RUN), run_id)

    def has_succeeded(self, link: RepositoryLink, run_id: str) -> bool:
        """See `RunWatcher.has_succeeded`."""
        run = read_run(self._client.repository(link, READ_RUN), run_id)
        return (run.get("status"), run.get("conclusion")) == ("completed", "success")

    def standing(self, link: RepositoryLink) -> StandingFacts:
        """See `StandingTeller.standing`.

        Source: docs.github.com, "Create an installation access token for an app": 404 where the App
        is not installed, 403 while it is suspended, 422 for repositories that it may not access.
        """
        if not self._client.is_app:  # an access token's reach nobody tells of
            return StandingFacts(LinkStanding.ACTIVE)
        try:
            return StandingFacts(LinkStanding.ACTIVE, self._client.installed_at(link))
        except GitHubError as error:
            found = _TOKEN_REFUSALS.get(error.status)
            if found is None or error.retry_after is not None:
                raise
            return StandingFacts(found)

    def fetch_artifact(
        self, link: RepositoryLink, artifact: ArtifactFacts, target: BinaryIO, limit: int
    ) -> str:
        """See `Connector.fetch_artifact`. What comes is GitHub's ZIP of what was uploaded.

        Raises:
            OriginError: besides, the artifact has expired or was deleted.
        """
        path = f"/actions/artifacts/{checked_id(artifact.id)}/zip"
        try:
            location = self._client.repository(link, READ_RUN).location(path)
        except GitHubError as error:
            if error.status not in {404, 410}:
                raise
            message = f"GitHub no longer has the artifact {artifact.id}."
            raise OriginError(message, advice="Run the workflow again.") from error
        # The store's address carries its own authorization; the token stays here.
        return self._http.download(location, target, limit)

    def report(self, link: RepositoryLink, report: Report, earlier: Reported | None) -> Reported:
        """See `Connector.report`: a check run, or without an App a commit status."""
        api = self._client.repository(link, WRITE_CHECKS)
        if self._client.is_app:
            return report_check_run(api, report, earlier)
        return report_status(api, report)

    def answer_deployment(
        self, link: RepositoryLink, run_id: str, environment: str, *, approved: bool, comment: str
    ) -> None:
        """Let the jobs of a run that wait for an environment go on, or not.

        Args:
            comment: shown with the deployment; cut at 1,000 characters.

        Raises:
            RemoteError: refused (nothing waits) or away.
        """
        self._client.repository(link, ANSWER_DEPLOYMENTS).send(
            "POST",
            f"/actions/runs/{checked_id(run_id)}/deployment_protection_rule",
            {
                "environment_name": environment,
                "state": "approved" if approved else "rejected",
                "comment": comment[:_MAX_COMMENT],
            },
        )

    def webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """See `Connector.webhook`. `parse_event` tells what it says."""
        credentials = self._build_system.credentials
        names = ("webhook_secret", "webhook_secret_previous")
        return verified(tuple(credentials.get(name, "") for name in names), headers, body)

    def linking(self) -> GitHubLinking:
        """How users prove which repositories they may link."""
        return GitHubLinking(self._build_system, self._client, self._http)

    def _claims(self, token: str) -> Mapping[str, str] | None:
        if not token:
            return None
        audience = self._build_system.settings.get("oidc_audience", "")
        return IdentityTokenVerifier(self._issuer_keys, audience).verify(token).claims

    def _rulesets(self, link: RepositoryLink, ref: RefFacts) -> RulesetFacts:
        reads_bypass = self._build_system.settings.get("bypass_actors") == "read"
        permissions = READ_BYPASS_ACTORS if reads_bypass else READ_RULESETS
        return read_rulesets(self._client.repository(link, permissions), ref)


def default_issuer(build_system: TrustedBuildSystem) -> str:
    """Who issues the identity tokens of jobs: github.com, a tenant of GHE.com, or the server."""
    host = host_of(build_system.base_url)
    if host == "api.github.com":
        return "https://token.actions.githubusercontent.com"
    if host.endswith(".ghe.com"):
        return f"https://token.actions.{host.removeprefix('api.')}"
    return f"{build_system.web_url.rstrip('/')}/_services/token"
