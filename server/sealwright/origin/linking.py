"""Linking a repository to a project by a user's own proof. Ids are fetched here, never typed.

That the server reaches a repository proves nothing about the user who asks for the link: they prove
with the CI system that they administer it. What they prove it with is used once and kept nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sealwright.connectors.connector import Connector
from sealwright.connectors.github import GitHubConnector, GitHubUser
from sealwright.connectors.gitlab import GitLabConnector
from sealwright.connectors.jenkins.connector import matches
from sealwright.errors import InvalidInputError, OriginError
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem


@dataclass(frozen=True)
class LinkProof:
    """What a user proves with that a repository is theirs.

    Attributes:
        code, redirect_url: of the GitHub App's web application flow.
        token: a token of the user's own on the CI system instead.
        installation_id: of the GitHub App, as the redirect named it: believed only if the user's
            token reaches it.
    """

    code: str = field(default="", repr=False)
    redirect_url: str = ""
    token: str = field(default="", repr=False)
    installation_id: str = ""


@dataclass(frozen=True)
class FoundRepository:
    """What the CI system says of the repository; fields as in `RepositoryLink`."""

    repository_id: str
    owner_id: str
    path: str
    installation_id: str = ""


def find_repository(
    connector: Connector, system: TrustedBuildSystem, path: str, proof: LinkProof
) -> FoundRepository:
    """The repository at `path`, which the user proved to administer. Blocks: run it in a thread.

    Raises:
        OriginError: there is none, or the user does not administer it.
        ForbiddenError: the proof is not accepted.
        InvalidInputError: no proof, or not one for this kind of system.
        RemoteError: the CI system is away.
    """
    if isinstance(connector, GitHubConnector):
        return _on_github(connector, path, proof)
    if isinstance(connector, GitLabConnector):
        if not proof.token:
            advice = "Send an access token of your own with the scope read_api."
            raise _unproven(advice)
        found = connector.administered(path, proof.token)
        return FoundRepository(found.project_id, found.namespace_id, found.path)
    return _by_allowlist(system, path)


def _on_github(connector: GitHubConnector, path: str, proof: LinkProof) -> FoundRepository:
    linking = connector.linking()
    if proof.code:
        user = linking.user(proof.code, proof.redirect_url)
    elif proof.token:
        user = GitHubUser("", "", proof.token)
    else:
        advice = "Send the code that GitHub redirected with, or a user token of the App."
        raise _unproven(advice)
    if proof.installation_id:
        listed = linking.repositories(user, proof.installation_id)
    else:
        listed = tuple(one for one in [linking.administered(user, path)] if one)
    for one in listed:
        if one.path.casefold() == path.casefold():
            return FoundRepository(one.repository_id, one.owner_id, one.path, one.installation_id)
    raise _foreign(path)


def _by_allowlist(system: TrustedBuildSystem, path: str) -> FoundRepository:
    """A controller's jobs have no owner: the administrator who trusted it named those allowed."""
    jobs = re.split(r"[,\n]", system.settings.get("jobs", ""))
    allowed = any(matches(job.strip(), path) for job in jobs)
    if system.kind is not BuildSystemKind.JENKINS or not allowed:
        raise _foreign(path)
    return FoundRepository(path, "", path)


def _foreign(path: str) -> OriginError:
    message = f"You do not administer a repository {path[:200]!r} that this server may read."
    return OriginError(
        message, advice="Check its name, your role in it, and where the App is installed."
    )


def _unproven(advice: str) -> InvalidInputError:
    message = "Nothing proves that the repository is yours."
    return InvalidInputError(message, advice=advice)
