"""A Jenkins controller as a trusted build system: the weakest kind, it vouches for itself.

Facts come from the controller's REST API, never from the build. A build of which they cannot be
said plainly has no origin: its job is not on the allowlist or not defined in source control, it was
replayed, rebuilt or restarted, or it checked out more than one repository or commit.

Settings: ``user`` (whose API token it is), ``jobs`` (patterns of full job names, apart by commas or
lines; without any, no job is allowed), ``library_remotes`` (repositories of shared libraries, which
are no checkouts), ``oidc_issuer`` (default: ``oidc`` below the web URL), ``oidc_audience``.
Credentials: ``token`` (the API token) and ``controller_secret`` (notifications; another one).
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

from sealwright.connectors import fields
from sealwright.connectors.blocking import (
    CALL_TIMEOUTS,
    DOWNLOAD_TIMEOUTS,
    BlockingClient,
    GoneError,
)
from sealwright.connectors.connector import WebhookEvent
from sealwright.connectors.jenkins import webhooks
from sealwright.connectors.jenkins.client import JenkinsApi, job_path, quoted
from sealwright.connectors.jenkins.definition import read_definition, without_credentials
from sealwright.connectors.jenkins.facts import (
    BuildName,
    artifact_facts,
    build_name,
    check_fingerprint,
    find_artifact,
    is_own_code,
    read_build,
    read_checkout,
    read_event,
    resolve_ref,
    status_of,
)
from sealwright.connectors.oidc import IdentityTokenVerifier, IssuerKeys
from sealwright.connectors.outgoing import OutgoingPolicy, Timeouts
from sealwright.errors import OriginError
from sealwright.model.build_system import RepositoryLink, TrustedBuildSystem
from sealwright.model.origin import ArtifactFacts, JobFacts, Locator, OriginRules, RunFacts
from sealwright.model.report import Report, Reported

_PUBLIC_HOSTS = OutgoingPolicy()
_MAX_DESCRIPTION = 4096


class JenkinsConnector:
    """One controller. Keep it: it holds the issuer's keys. Threads may share it."""

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
            outgoing: which addresses may be called; a controller with a private address is an
                ``internal_host``.
            tls: trust; None trusts the bundled public authorities.
            clock: POSIX seconds.
        """
        self._build_system = build_system
        self._clock = clock
        self._http = BlockingClient(
            outgoing, tls=tls, timeouts=timeouts, download_timeouts=download_timeouts
        )
        self._web_url = build_system.web_url.rstrip("/")
        issuer = build_system.settings.get("oidc_issuer") or f"{self._web_url}/oidc"
        self._issuer_keys = IssuerKeys(issuer, self._http)

    def facts(self, link: RepositoryLink, locator: Locator, rules: OriginRules) -> RunFacts:
        """See `Connector`. The run is a build, the artifact a path in its archive.

        The controller knows nothing of refs' present state, runners' owners or protection.

        Raises:
            OriginError: besides, the build is one of those that have no origin (see above), or the
                identity token is another build's.
        """
        del rules
        name = build_name(link, locator)
        self._check_allowed(name)
        claims = self._claims(locator.identity_token, name)
        api = self._api()
        build = read_build(api, name)
        event = read_event(build)
        definition = read_definition(api.read(f"{job_path(name.job)}/config.xml"))
        checkout = read_checkout(build, definition, self._libraries())
        ref, ref_type = resolve_ref(definition, checkout)
        status, conclusion = status_of(build)
        own_code = is_own_code(definition)
        artifacts = artifact_facts(build, name, checkout, own_code=own_code)
        return RunFacts(
            repository_id=name.linked,
            repository_url=checkout.remote,
            owner_id="",
            head_repository_id=name.linked if own_code else "",
            run_id=name.run_id,
            run_attempt=1,
            event=event,
            status=status,
            conclusion=conclusion,
            commit=checkout.commit,
            ref=ref,
            ref_type=ref_type,
            reachable=None,
            definition=definition.script,
            definition_commit=checkout.commit if definition.is_pinned else "",
            run_url=f"{self._web_url}{name.path}/",
            jobs=(JobFacts(name.run_id, name.job, 1, status, hosted=None),),
            artifact=find_artifact(artifacts, locator.artifact_id) if locator.artifact_id else None,
            claims=claims,
        )

    def artifacts(self, link: RepositoryLink, run_id: str) -> tuple[ArtifactFacts, ...]:
        """Every archived file of a build, for triggers.

        Raises:
            OriginError, RemoteError: as for `facts`.
        """
        name = build_name(link, Locator(run_id=run_id))
        self._check_allowed(name)
        api = self._api()
        build = read_build(api, name)
        definition = read_definition(api.read(f"{job_path(name.job)}/config.xml"))
        checkout = read_checkout(build, definition, self._libraries())
        own_code = is_own_code(definition)
        return tuple(artifact_facts(build, name, checkout, own_code=own_code))

    def fetch_artifact(
        self, link: RepositoryLink, artifact: ArtifactFacts, target: BinaryIO, limit: int
    ) -> str:
        """See `Connector`. The controller must have fingerprinted these very bytes in the build.

        Raises:
            OriginError: besides, it has not, or the file is gone.
        """
        name = build_name(link, Locator(run_id=artifact.run_id))
        self._check_allowed(name)
        path = "/".join(quoted(segment) for segment in artifact.id.split("/"))
        api = self._api()
        fingerprint = _Fingerprint(target)
        try:
            digest = api.download(
                f"{name.path}/artifact/{path}", cast("BinaryIO", fingerprint), limit
            )
        except GoneError as error:
            message = f"The artifact {fields.printable(artifact.id, 100)!r} is no longer there."
            raise OriginError(message, advice="Start a new build.") from error
        check_fingerprint(api, name, fingerprint.md5.hexdigest())
        return digest

    def report(self, link: RepositoryLink, report: Report, earlier: Reported | None) -> Reported:
        """See `Connector`: a line in the build's description, for each project and policy one.

        The check on the commit is the business of the connector that its repository is linked to.
        """
        del earlier
        name = build_name(link, Locator(run_id=report.request.origin.run_id))
        api = self._api()
        found = api.find(name.path, "description")
        if found is None:
            message = f"The controller shows no build {name.number} of {name.job!r}."
            advice = "Check job and number, and that the build was not deleted."
            raise OriginError(message, advice=advice)
        shown = fields.text(found, "description")
        wanted = _described(shown, report)
        if wanted != shown:
            api.submit(f"{name.path}/submitDescription", {"description": wanted})
        return Reported(f"{name.job}#{name.number}", f"{self._web_url}{name.path}/")

    def webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """See `Connector` and `webhooks.verify`."""
        return webhooks.verify(headers, body, self._build_system.credentials, self._clock())

    def _api(self) -> JenkinsApi:
        system = self._build_system
        user, token = system.settings.get("user", ""), system.credentials.get("token", "")
        return JenkinsApi(system.base_url, user, token, self._http)

    def _libraries(self) -> frozenset[str]:
        listed = self._build_system.settings.get("library_remotes", "").split()
        return frozenset(without_credentials(remote) for remote in listed)

    def _check_allowed(self, name: BuildName) -> None:
        listed = re.split(r"[,\n]", self._build_system.settings.get("jobs", ""))
        patterns = [pattern.strip() for pattern in listed if pattern.strip()]
        if not any(
            matches(pattern, job) for pattern in patterns for job in (name.linked, name.job)
        ):
            message = f"The job {fields.printable(name.job, 100)!r} is not on the allowlist."
            advice = "Add it to the build system's jobs."
            raise OriginError(message, advice=advice)

    def _claims(self, identity_token: str, name: BuildName) -> Mapping[str, str] | None:
        """The token's claims, if it is this build's.

        The plugin puts the job's URL into ``sub`` and its ``build_number`` besides; its tokens have
        no ``jti``.
        """
        if not identity_token:
            return None
        audience = self._build_system.settings.get("oidc_audience", "")
        verifier = IdentityTokenVerifier(self._issuer_keys, audience, names_tokens=False)
        claims = verifier.verify(identity_token).claims
        job_url = f"{self._web_url}{job_path(name.job)}/"
        if claims.get("sub") != job_url or claims.get("build_number") != name.number:
            message = "The identity token is another build's."
            advice = "Leave the plugin's claim templates as they are: sub and build_number."
            raise OriginError(message, advice=advice)
        return claims


class _Fingerprint:
    """A file that is written, and its MD5: the digest that Jenkins knows files by."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> int:
        self.md5.update(data)
        return self._target.write(data)


def matches(pattern: str, name: str) -> bool:
    """Whether a full job name fits: ``*`` and ``?`` stop at a slash, ``**`` does not."""
    expressions = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.findall(r"\*\*|\*|\?|[^*?]+", pattern[:256])
    if sum(piece in {"*", "**"} for piece in pieces) > 4:  # bounds the matcher's backtracking
        return False
    expression = "".join(expressions.get(piece) or re.escape(piece) for piece in pieces)
    return re.fullmatch(expression, name) is not None


def _described(shown: str, report: Report) -> str:
    """The description with this report's line in place of the one before; other lines stay."""
    request = report.request
    prefix = f"Sealwright {request.project_slug}/{request.signing_policy_slug}: "
    own = f"{prefix}{' '.join(report.title.split())} {report.url}"
    lines = [line for line in shown.splitlines() if not line.startswith(prefix)]
    return "\n".join([*lines, own])[:_MAX_DESCRIPTION]
