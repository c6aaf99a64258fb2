"""Trusted build systems, and which repository of one belongs to which project."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class BuildSystemKind(enum.StrEnum):
    """CI systems that there is a connector for."""

    GITHUB = "github"
    GITLAB = "gitlab"
    JENKINS = "jenkins"


@dataclass(frozen=True)
class TrustedBuildSystem:
    """A CI system whose word counts: a GitHub App, a GitLab instance, a Jenkins controller.

    Attributes:
        base_url: of its API, such as ``https://api.github.com`` or ``https://gitlab.example.com``.
        web_url: of its pages.
        settings: what is not secret, by name: ``app_id``, ``client_id``, ``oidc_issuer``,
            ``oidc_audience``, ``jobs`` and so on; each connector declares its own.
        credentials: what is secret, by name (``private_key``, ``webhook_secret``, ``token``);
            decrypted, present only where the caller needs it. Kept encrypted, never logged.
    """

    id: str
    organization_id: str
    slug: str
    name: str
    kind: BuildSystemKind
    base_url: str
    web_url: str
    enabled: bool
    created_at: dt.datetime
    settings: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


class LinkStanding(enum.StrEnum):
    """Whether the CI system lets the server at a linked repository, as far as is known."""

    ACTIVE = "active"
    SUSPENDED = "suspended"  # the installation of the App is
    UNINSTALLED = "uninstalled"  # the App is no longer installed there
    REMOVED = "removed"  # the App may not access this repository any more, or it is gone


@dataclass(frozen=True)
class StandingFacts:
    """What the CI system says of a linked repository now; `path` is empty unless it is active."""

    standing: LinkStanding
    path: str = ""


@dataclass(frozen=True)
class RepositoryLink:
    """A project's repository on a trusted build system, bound by the system's immutable ids.

    Attributes:
        repository_id: numeric id as text (GitHub repository id, GitLab project id); for Jenkins
            the full name of the job.
        owner_id: numeric id of the owner or namespace; empty for Jenkins.
        path: ``owner/name`` for people; a rename changes it and breaks nothing.
        installation_id: of the GitHub App; empty elsewhere.
        submitter_id: the CI user in whose name a build submits that has nothing but its system's
            identity token; None: every build needs an API token.
        standing: as the CI system said last; asked again before it stands in the way.
        standing_at: since when, where it has ever changed.
    """

    id: str
    organization_id: str
    project_id: str
    build_system_id: str
    repository_id: str
    owner_id: str
    path: str
    installation_id: str
    created_at: dt.datetime
    submitter_id: str | None = None
    standing: LinkStanding = LinkStanding.ACTIVE
    standing_at: dt.datetime | None = None


@dataclass(frozen=True)
class RemoteIdentity:
    """Who a CI system's user is here, so that they may decide from over there.

    Attributes:
        remote_user_id: the system's immutable numeric id as text; names can be taken over.
        login: the name over there, for people.
    """

    id: str
    organization_id: str
    build_system_id: str
    remote_user_id: str
    login: str
    user_id: str
    created_at: dt.datetime


@dataclass(frozen=True)
class Trigger:
    """Sign without any step of ours in the build: when a pipeline succeeds, fetch and submit.

    Attributes:
        definition: workflow path (``.github/workflows/release.yml``); empty: any (GitLab, Jenkins).
        refs: patterns of full refs (``refs/heads/main``, ``refs/tags/v*``).
        artifact: pattern of the artifact's name (GitHub, Jenkins) or of the job's name (GitLab).
        submitter_id: the CI user in whose name the request is made.
    """

    id: str
    organization_id: str
    project_id: str
    link_id: str
    signing_policy_id: str
    artifact_configuration_id: str | None
    submitter_id: str
    definition: str
    refs: tuple[str, ...]
    artifact: str
    enabled: bool
    created_at: dt.datetime
