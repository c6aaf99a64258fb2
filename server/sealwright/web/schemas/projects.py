"""Projects, artifact configurations and signing policies."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from sealwright.model.project import ApproverMail, PolicyKind, SubmitterMail
from sealwright.origin.rules import EVENTS
from sealwright.web.schemas.awaited import AwaitedOut
from sealwright.web.schemas.fields import (
    In,
    Line,
    Name,
    Out,
    Pattern,
    Reference,
    Slug,
    Url,
    UserIds,
)


class ProjectIn(In):
    """A new project."""

    slug: Slug
    name: Name
    repository_url: Url = ""
    readers: UserIds = Field(default=frozenset(), description="ids of users and groups")
    configurators: UserIds = Field(default=frozenset(), description="ids of users and groups")


class ProjectPatch(In):
    """What is to change."""

    name: Name | None = None
    repository_url: Url | None = None
    readers: UserIds | None = None
    configurators: UserIds | None = None


class ProjectOut(Out):
    """A project."""

    id: str
    slug: str
    name: str
    repository_url: str
    readers: list[str]
    configurators: list[str]
    created_at: dt.datetime


class ProjectsOut(Out):
    """One page."""

    items: list[ProjectOut]
    next_cursor: str | None


class ArtifactConfigurationIn(In):
    """A new version of an artifact configuration; the first of its slug is version 1."""

    slug: Slug
    name: Name
    xml: Annotated[str, StringConstraints(min_length=1, max_length=512_000)]
    is_default: bool = False


class ArtifactConfigurationOut(Out):
    """One version of an artifact configuration."""

    id: str
    project_id: str
    slug: str
    name: str
    version: int
    sha256: str
    is_default: bool
    created_at: dt.datetime
    awaits_endorsement_by: AwaitedOut = None


class ArtifactConfigurationXmlOut(ArtifactConfigurationOut):
    """One version, with its XML."""

    xml: str


class ArtifactConfigurationsOut(Out):
    """One page."""

    items: list[ArtifactConfigurationOut]
    next_cursor: str | None


Patterns = Annotated[tuple[Pattern, ...], Field(max_length=100)]
Words = Annotated[tuple[Line, ...], Field(max_length=100)]


class OriginRulesIn(In):
    """What a signing policy demands of an origin. Patterns know `*`, `?`, `[a-z]` and `**`, and
    case. Empty lists: anything."""

    branches: Patterns = ()
    tags: Patterns = ()
    events: Words = Field(default=(), description="from the build system's allowlist")
    definitions: Words = Field(default=(), description="paths of workflows or pipelines")
    caller_proof: bool = Field(default=False, description="demand the job's identity token")
    no_reruns: bool = False
    hosted_runners_only: bool = False
    runner_groups: Words = ()
    rulesets: Annotated[dict[Line, Line], Field(max_length=100)] = Field(
        default_factory=dict, description="rule of the ref -> its least value, or empty"
    )
    allow_bypass: bool = False

    @field_validator("events")
    @classmethod
    def _known_events(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        if not set(events) <= frozenset().union(*EVENTS.values()):
            message = "names an event from which nothing is ever signed"
            raise ValueError(message)
        return events


class SigningPolicyIn(In):
    """A new signing policy."""

    slug: Slug
    name: Name
    kind: PolicyKind = PolicyKind.TEST
    certificate: Reference = Field(description="id or slug")
    submitters: UserIds = frozenset()
    approvers: UserIds = frozenset()
    quorum: int = Field(0, ge=0, le=100, description="approvals needed")
    timestamp_required: bool = True
    hash_signing_allowed: bool = False
    malware_scan: bool = False
    origin_required: bool = False
    origin_rules: OriginRulesIn = OriginRulesIn()
    passkey_required: bool = Field(
        default=False, description="count only approvals that a passkey has signed"
    )
    approval_hours: int = Field(
        0, ge=0, le=8760, description="hours until a waiting request fails; 0: never"
    )
    submitter_mail: SubmitterMail = Field(
        SubmitterMail.PROBLEMS, description="of which ends submitters are told by mail"
    )
    approver_mail: ApproverMail = Field(
        ApproverMail.EACH, description="how approvers hear by mail of what waits for them"
    )
    enabled: bool = True


class SigningPolicyPatch(In):
    """What is to change. Requests submitted before keep the policy they were submitted under."""

    name: Name | None = None
    certificate: Reference | None = None
    submitters: UserIds | None = None
    approvers: UserIds | None = None
    quorum: int | None = Field(None, ge=0, le=100)
    timestamp_required: bool | None = None
    hash_signing_allowed: bool | None = None
    malware_scan: bool | None = None
    origin_required: bool | None = None
    origin_rules: OriginRulesIn | None = None
    passkey_required: bool | None = None
    approval_hours: int | None = Field(None, ge=0, le=8760)
    submitter_mail: SubmitterMail | None = None
    approver_mail: ApproverMail | None = None
    enabled: bool | None = None


class OriginRulesOut(Out):
    """What a signing policy demands of an origin."""

    branches: list[str]
    tags: list[str]
    events: list[str]
    definitions: list[str]
    caller_proof: bool
    no_reruns: bool
    hosted_runners_only: bool
    runner_groups: list[str]
    rulesets: dict[str, str]
    allow_bypass: bool


class SigningPolicyOut(Out):
    """A signing policy. Submitters and approvers are ids of users and groups."""

    id: str
    project_id: str
    slug: str
    name: str
    kind: PolicyKind
    certificate_id: str
    submitters: list[str]
    approvers: list[str]
    quorum: int
    timestamp_required: bool
    hash_signing_allowed: bool
    malware_scan: bool
    origin_required: bool
    origin_rules: OriginRulesOut
    passkey_required: bool
    approval_hours: int
    submitter_mail: SubmitterMail
    approver_mail: ApproverMail
    enabled: bool
    created_at: dt.datetime
    awaits_endorsement_by: AwaitedOut = None


class SigningPoliciesOut(Out):
    """One page."""

    items: list[SigningPolicyOut]
    next_cursor: str | None
