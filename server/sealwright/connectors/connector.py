"""What every CI system's connector offers: facts in, reports out.

Connectors are synchronous and enter the event loop's thread pool by `asyncio.to_thread`; every call
to the remote has a timeout. A connector is made for one trusted build system with its decrypted
credentials. It decides nothing: rules over facts are in `origin/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, runtime_checkable

from sealwright.errors import SealwrightError
from sealwright.model.build_system import RepositoryLink, StandingFacts
from sealwright.model.origin import ArtifactFacts, Locator, OriginRules, RunFacts
from sealwright.model.report import Report, Reported


class RemoteError(SealwrightError):
    """The CI system refused or does not answer.

    Attributes:
        retry_after: seconds to wait before the same call may succeed; None: it will not.
    """

    code = "build_system"

    def __init__(
        self, message: str, *, advice: str = "", where: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, advice=advice, where=where)
        self.retry_after = retry_after


@dataclass(frozen=True)
class WebhookEvent:
    """A delivery whose signature has been verified. It only ever triggers a fetch.

    Attributes:
        delivery_id: the remote's id, for deduplication.
        name: ``workflow_run``, ``check_run``, ``Pipeline Hook``, ...
        action: GitHub's ``action``; empty elsewhere.
        repository_id: numeric id as text, or empty.
        payload: the parsed body.
    """

    delivery_id: str
    name: str
    action: str
    repository_id: str
    payload: Mapping[str, object] = field(repr=False)


class Connector(Protocol):
    """One trusted build system."""

    def facts(self, link: RepositoryLink, locator: Locator, rules: OriginRules) -> RunFacts:
        """Everything about the run that the rules may ask for, fetched now.

        `rules` tells what need not be fetched (rulesets, jobs).

        Raises:
            RemoteError: refused or away.
            OriginError: there is no such run or artifact in the linked repository, or the identity
                token is not valid.
        """
        ...

    def fetch_artifact(
        self, link: RepositoryLink, artifact: ArtifactFacts, target: BinaryIO, limit: int
    ) -> str:
        """Stream the artifact into `target`; returns the hex SHA-256 of what was written.

        Raises:
            RemoteError: as above. TooLargeError: more than `limit` bytes.
        """
        ...

    def report(self, link: RepositoryLink, report: Report, earlier: Reported | None) -> Reported:
        """Show the report on the commit: create it, or update `earlier`. Idempotent."""
        ...

    def webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify a delivery over its raw body, in constant time, and parse it.

        Raises:
            UnauthenticatedError: the signature or token is missing or wrong.
            InvalidInputError: the body is not what the remote sends.
        """
        ...


@runtime_checkable
class ArtifactLister(Protocol):
    """A connector that can list what a run left, for triggers."""

    def artifacts(self, link: RepositoryLink, run_id: str) -> tuple[ArtifactFacts, ...]:
        """Artifacts of the run; `name` is what a trigger's pattern is matched with.

        Raises:
            RemoteError: refused or away.
        """
        ...


@runtime_checkable
class RunWatcher(Protocol):
    """A connector that can tell cheaply whether a run has ended, for news of its jobs."""

    def has_succeeded(self, link: RepositoryLink, run_id: str) -> bool:
        """Whether the run has ended, and well.

        Raises:
            RemoteError: refused or away. OriginError: there is no such run.
        """
        ...


@runtime_checkable
class StandingTeller(Protocol):
    """A connector whose access to a repository others can take away and give back."""

    def standing(self, link: RepositoryLink) -> StandingFacts:
        """Whether the linked repository can be reached now.

        Raises:
            RemoteError: away, or it does not say.
        """
        ...


@runtime_checkable
class DeploymentGate(Protocol):
    """A connector whose CI system asks before it deploys."""

    def answer_deployment(
        self, link: RepositoryLink, run_id: str, environment: str, *, approved: bool, comment: str
    ) -> None:
        """Let the jobs of a run that wait for an environment go on, or not.

        Raises:
            RemoteError: refused (nothing waits) or away.
        """
        ...
