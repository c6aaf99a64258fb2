"""Build systems, links, triggers, remote identities, and what CI submits."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from sealwright.model.build_system import BuildSystemKind, LinkStanding
from sealwright.model.request import State
from sealwright.web.schemas.fields import (
    In,
    Line,
    Name,
    Out,
    Parameters,
    Pattern,
    Reference,
    Slug,
    Text,
    without_controls,
)

SettingName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
SettingText = Annotated[str, StringConstraints(max_length=4000), AfterValidator(without_controls)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=16_000)]
WebUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#@]{1,500}$")]
BuildSystemSettings = Annotated[dict[SettingName, SettingText], Field(max_length=40)]
Credentials = Annotated[dict[SettingName, Secret], Field(max_length=20)]


class BuildSystemIn(In):
    """A CI system to trust. What a kind's settings and credentials are, docs/origin.md tells."""

    slug: Slug
    name: Name
    kind: BuildSystemKind
    base_url: WebUrl = Field(description="of its API")
    web_url: WebUrl = Field(description="of its pages")
    settings: BuildSystemSettings = Field(default_factory=dict)
    credentials: Credentials = Field(default_factory=dict, description="never shown again")


class BuildSystemPatch(In):
    """What is to change. Credentials that are not named stay, empty ones are taken away."""

    name: Name | None = None
    enabled: bool | None = None
    settings: BuildSystemSettings | None = None
    credentials: Annotated[dict[SettingName, Secret | Literal[""]], Field(max_length=20)] | None = (
        None
    )


class BuildSystemOut(Out):
    """A trusted build system. Of credentials only the names are shown."""

    id: str
    slug: str
    name: str
    kind: BuildSystemKind
    base_url: str
    web_url: str
    enabled: bool
    settings: dict[str, str]
    credentials: list[str]
    webhook_url: str
    created_at: dt.datetime


class BuildSystemsOut(Out):
    """One page."""

    items: list[BuildSystemOut]
    next_cursor: str | None


class DeliveryOut(Out):
    """A webhook that was received, and what came of it."""

    delivery_id: str
    name: str
    action: str
    repository_id: str
    received_at: dt.datetime
    repeats: int
    attempts: int
    outcome: str


class DeliveriesOut(Out):
    """The latest, newest first."""

    items: list[DeliveryOut]


class LinkProofIn(In):
    """What proves that the user administers the repository. Used once, kept nowhere."""

    code: Annotated[str, StringConstraints(max_length=500)] = Field(
        default="", description="of the GitHub App's web application flow"
    )
    redirect_url: Annotated[str, StringConstraints(max_length=1000)] = ""
    token: Annotated[str, StringConstraints(max_length=1000)] = Field(
        default="", description="instead: a token of the user's own"
    )
    installation_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{0,19}$")] = ""


class RepositoryLinkIn(In):
    """Which repository is the project's."""

    build_system: Reference = Field(description="id or slug")
    repository: Annotated[str, StringConstraints(min_length=1, max_length=500)] = Field(
        description="owner/name; for Jenkins the job's full name"
    )
    proof: LinkProofIn = LinkProofIn()
    submitter: Reference | None = Field(
        None, description="CI user in whose name builds submit by identity token alone"
    )


class RepositoryLinkPatch(In):
    """What is to change; null: builds need an API token."""

    submitter: Reference | None


class RepositoryLinkOut(Out):
    """A project's repository, by the build system's immutable ids."""

    id: str
    project_id: str
    build_system_id: str
    repository_id: str
    owner_id: str
    path: str
    installation_id: str
    submitter_id: str | None
    created_at: dt.datetime
    standing: LinkStanding = Field(
        description="whether the build system lets the server at the repository, as it said last"
    )
    standing_at: dt.datetime | None = Field(description="since when, where it has ever changed")


class RepositoryLinksOut(Out):
    """All of a project."""

    items: list[RepositoryLinkOut]


class TriggerIn(In):
    """Sign what a run left, once it has succeeded."""

    link: Reference
    signing_policy: Reference = Field(description="id or slug")
    artifact_configuration: Reference | None = Field(
        None, description="id or slug; else the project's default"
    )
    submitter: Reference = Field(description="id of the CI user in whose name it counts")
    definition: Line = Field("", description="path of the workflow; empty: any")
    refs: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=100)] = Field(
        description="patterns of full refs, such as refs/tags/v*"
    )
    artifact: Pattern = Field(description="pattern of the artifact's name; on GitLab of the job's")
    enabled: bool = True


class TriggerPatch(In):
    """What is to change."""

    definition: Line | None = None
    refs: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=100)] | None = None
    artifact: Pattern | None = None
    enabled: bool | None = None


class TriggerOut(Out):
    """A trigger."""

    id: str
    project_id: str
    link_id: str
    signing_policy_id: str
    artifact_configuration_id: str | None
    submitter_id: str
    definition: str
    refs: list[str]
    artifact: str
    enabled: bool
    created_at: dt.datetime


class TriggersOut(Out):
    """All of a project."""

    items: list[TriggerOut]


class RemoteIdentityIn(In):
    """Who a build system's user is here. With `code` the caller proves to be that user; without,
    a global administrator says so."""

    build_system: Reference = Field(description="id or slug")
    code: Annotated[str, StringConstraints(max_length=500)] = Field(
        "", description="of the GitHub App's web application flow"
    )
    redirect_url: Annotated[str, StringConstraints(max_length=1000)] = ""
    remote_user_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{0,19}$")] = ""
    login: Line = ""
    user: Reference | None = Field(None, description="id; else the caller")


class RemoteIdentityOut(Out):
    """Who a build system's user is here."""

    id: str
    build_system_id: str
    remote_user_id: str
    login: str
    user_id: str
    created_at: dt.datetime


class RemoteIdentitiesOut(Out):
    """All that the caller may see."""

    items: list[RemoteIdentityOut]


class CiSubmissionIn(In):
    """A submission from a build. Nothing in it is believed: it tells the server where to look."""

    project: Reference
    signing_policy: Reference
    artifact_configuration: Reference | None = None
    description: Text = ""
    parameters: Parameters = Field(default_factory=dict)
    repository: Annotated[str, StringConstraints(max_length=500)] = ""
    run_id: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    run_attempt: int = Field(0, ge=0, le=10_000, description="0: the present one")
    artifact_id: Annotated[str, StringConstraints(max_length=1000)] = Field(
        "", description="GitHub: artifact id; GitLab: job id; Jenkins: path; none with a file"
    )


class CiFormIn(In):
    """A submission with the artifact itself. The artifact comes last."""

    request: str = Field(description="JSON of a CiSubmissionIn without artifact_id")
    artifact: bytes = Field(
        description="the file", json_schema_extra={"contentMediaType": "application/octet-stream"}
    )


class CiSubmissionOut(Out):
    """The request, and a token that reads it and nothing else."""

    id: str
    state: State
    url: str
    web_url: str
    status_url: str
    signed_artifact_url: str
    access_token: str
    access_token_expires_at: dt.datetime
    labels: list[str] = Field(description="what the origin's proof lacks")
