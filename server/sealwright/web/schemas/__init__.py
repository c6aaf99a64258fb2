"""Forms of the project's own API: checked where they enter, described where they leave."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from sealwright.model.build_system import BuildSystemKind, LinkStanding
from sealwright.model.identifiers import is_slug
from sealwright.model.mechanism import Mechanism
from sealwright.model.origin import Proof
from sealwright.model.plan import PlanState
from sealwright.model.project import ApproverMail, PolicyKind, SubmitterMail
from sealwright.model.request import RequestKind, Stage, State, Verdict
from sealwright.model.signed_member import Change
from sealwright.model.user import Role, TokenKind, TokenScope, UserKind
from sealwright.origin.patterns import is_pattern
from sealwright.origin.rules import EVENTS
from sealwright.web.schemas.awaited import AwaitedOut, NeededEndorsementOut

MAX_WAIT_SECONDS = 60
MAX_PARAMETERS = 64
PARAMETER_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _without_controls(text: str) -> str:
    if _CONTROL.search(text):
        message = "holds control characters"
        raise ValueError(message)
    return text


def _slug(text: str) -> str:
    if not is_slug(text):
        message = "is no slug: lower-case letters, digits, '.', '_', '-', at most 100"
        raise ValueError(message)
    return text


def _plain_url(text: str) -> str:
    """Addresses that people and commit checks see: no credentials in them."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        fine = parts.scheme in {"http", "https", "ssh", "git"} and parts.hostname is not None
    except ValueError:
        fine = False
    if not fine or parts.password is not None:
        message = "is no URL, or holds a password"
        raise ValueError(message)
    return text


Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_without_controls)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(_without_controls),
]
Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_without_controls)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Slug = Annotated[str, AfterValidator(_slug)]
Url = Annotated[
    str,
    StringConstraints(max_length=2000),
    AfterValidator(_without_controls),
    AfterValidator(_plain_url),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$", to_lower=True)]
Email = Annotated[
    str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]{1,250}$", to_lower=True, max_length=320)
]
ParameterName = Annotated[str, StringConstraints(pattern=PARAMETER_NAME)]
Parameters = Annotated[dict[ParameterName, Text], Field(max_length=MAX_PARAMETERS)]
UserIds = Annotated[frozenset[str], Field(max_length=500)]


def _pattern(text: str) -> str:
    if not is_pattern(text):
        message = "is no pattern: 1 to 300 characters, every '[' closed"
        raise ValueError(message)
    return text


Pattern = Annotated[
    str,
    StringConstraints(max_length=300),
    AfterValidator(_without_controls),
    AfterValidator(_pattern),
]


class In(BaseModel):
    """What a client sends: nothing that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """What the server answers."""

    model_config = ConfigDict(frozen=True)


# --- queries ---------------------------------------------------------------------------------


class PageQuery(In):
    """Paging of a list."""

    cursor: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="`next_cursor` of the page before"
    )
    limit: int = Field(50, ge=1, le=200)


class RequestsQuery(PageQuery):
    """Which signing requests to list."""

    project: Reference | None = Field(None, description="id or slug")
    signing_policy: Reference | None = Field(None, description="id")
    state: State | None = None
    submitter: Reference | None = Field(None, description="id of a user, or `me`")
    submitted_from: dt.date | None = Field(None, description="of this day (UTC) or later")
    submitted_to: dt.date | None = Field(None, description="of this day (UTC) or earlier")
    text: Line = Field(
        "",
        description="words, each perhaps only begun, of file names, SHA-256, commit, description",
    )


class WaitQuery(In):
    """How long to wait, and for what."""

    wait: int = Field(
        0, ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait until the state is final"
    )
    known: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{0,100}$")] = Field(
        "",
        description="the `version` that the caller has seen: the wait ends with any other one, too",
    )


# --- people ----------------------------------------------------------------------------------


class SessionIn(In):
    """A log-in."""

    email: Annotated[str, StringConstraints(max_length=320), AfterValidator(_without_controls)]
    password: Annotated[str, StringConstraints(max_length=1024)]


class SessionOut(Out):
    """A short-lived token."""

    token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (the name of a scheme)
    expires_at: dt.datetime


class UserOut(Out):
    """A user."""

    id: str
    kind: UserKind
    name: str
    email: str | None
    role: Role
    active: bool
    groups: list[str] = Field(description="ids")
    created_at: dt.datetime


class MeOut(UserOut):
    """The caller."""

    organization_id: str
    organization_slug: str
    organization_name: str


class UserIn(In):
    """A new user. Interactive ones have an address and a password, CI users neither."""

    kind: UserKind
    name: Name
    email: Email | None = None
    password: Annotated[str, StringConstraints(max_length=1024)] | None = None
    role: Role = Role.REGULAR_USER


class UserPatch(In):
    """What is to change."""

    name: Name | None = None
    role: Role | None = None
    active: bool | None = None
    password: Annotated[str, StringConstraints(max_length=1024)] | None = None


class UsersOut(Out):
    """One page."""

    items: list[UserOut]
    next_cursor: str | None


class TokenIn(In):
    """A new API token."""

    name: Name
    expires_in_days: int | None = Field(90, ge=1, le=3650, description="null: never")
    scope: TokenScope = Field(
        TokenScope.FULL, description="what of the user's rights the token carries"
    )
    project: Reference | None = Field(
        None, description="id or slug of the one project that the token may be used for"
    )


class TokenOut(Out):
    """A token, without its text."""

    id: str
    kind: TokenKind
    name: str
    scope: TokenScope
    project_id: str | None
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None = Field(description="to within ten minutes")
    address: str = Field(description="from where a session was begun")
    agent: str = Field(description="with what program a session was begun")
    created_at: dt.datetime


class NewTokenOut(TokenOut):
    """A new token: its text is shown this once."""

    token: str


class TokensOut(Out):
    """All tokens of a user."""

    items: list[TokenOut]


# --- projects --------------------------------------------------------------------------------


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


# --- signing requests ------------------------------------------------------------------------


class OriginIn(In):
    """Where the submitter says the artifact comes from."""

    repository_url: Url = ""
    branch: Line = ""
    commit: Line = ""
    source_control: Line = ""
    build_url: Url = ""
    build_settings_file: Line = ""


class OriginOut(Out):
    """The origin. Unless `verified`, it is what the submitter says."""

    verified: bool
    repository_url: str
    branch: str
    commit: str
    source_control: str
    build_url: str
    build_settings_file: str
    proof: Proof
    build_system_id: str
    repository_id: str
    ref: str
    ref_type: str
    event: str
    run_id: str
    run_attempt: int
    definition_commit: str
    runner: str
    artifact_id: str
    artifact_sha256: str
    checks: list[str] = Field(description="rules that were applied and held")


class SubmissionIn(In):
    """What every submission names. In a form and in a query, parameters are `parameters[name]` and
    the origin's facts `origin[name]`."""

    project: Reference | None = Field(None, description="id or slug; not needed with a policy's id")
    signing_policy: Reference = Field(description="id or slug")
    artifact_configuration: Reference | None = Field(
        None, description="id or slug; else the project's default"
    )
    description: Text = ""
    parameters: Parameters = Field(default_factory=dict)
    origin: OriginIn = Field(default_factory=OriginIn)


class RetrievalLinkIn(In):
    """Where the server is to fetch the artifact."""

    url: Annotated[str, StringConstraints(max_length=4000, pattern=r"^https?://")]
    file_name: Name
    sha256: Sha256 | Literal[""] = ""
    headers: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")],
            Annotated[str, StringConstraints(max_length=8000, pattern=r"^[\x20-\x7e]*$")],
        ],
        Field(max_length=20),
    ] = Field(default_factory=dict)


class LinkSubmissionIn(SubmissionIn):
    """A submission whose artifact the server fetches."""

    retrieval_link: RetrievalLinkIn


class FormSubmissionIn(SubmissionIn):
    """A submission as a form. The artifact comes last."""

    artifact: bytes = Field(
        description="the file", json_schema_extra={"contentMediaType": "application/octet-stream"}
    )


class RawSubmissionQuery(In):
    """A submission whose body is the artifact: these, and `parameters[name]` and `origin[name]`."""

    project: Reference | None = Field(None, description="id or slug; not needed with a policy's id")
    signing_policy: Reference | None = Field(None, description="id or slug; for bodies of bytes")
    artifact_configuration: Reference | None = None
    description: Text = ""
    file_name: Name = "artifact"
    sha256: Sha256 | None = Field(None, description="refuse other content")
    wait: int = Field(
        0, ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait until the state is final"
    )


class HashSubmissionIn(In):
    """A digest to be signed."""

    project: Reference | None = None
    signing_policy: Reference
    description: Text = ""
    digest: Base64Bytes = Field(max_length=64)
    hash_algorithm: Literal["sha256", "sha384", "sha512"]
    mechanism: Mechanism


class ResubmissionIn(In):
    """Under which policy to sign the artifact again."""

    signing_policy: Reference
    artifact_configuration: Reference | None = None
    description: Text = ""
    parameters: Parameters = Field(default_factory=dict)


class DecisionIn(In):
    """An approver's words."""

    comment: Text = ""


class CancelIn(In):
    """The reason."""

    reason: Text = ""


class ReferenceOut(Out):
    """What a request refers to."""

    id: str
    slug: str
    name: str


class PersonOut(Out):
    """A user, by name."""

    id: str
    name: str


class ArtifactOut(Out):
    """Bytes in the store."""

    file_name: str
    size: int
    sha256: str


class RetrievalOut(Out):
    """Where the artifact is fetched; without query and headers, which may hold credentials."""

    url: str
    file_name: str
    sha256: str


class HashOut(Out):
    """A digest and, once it is there, its signature; both base64."""

    digest: str
    hash_algorithm: str
    mechanism: str
    signature: str | None


class ApprovalOut(Out):
    """One decision."""

    user: PersonOut
    verdict: Verdict
    comment: str
    decided_at: dt.datetime
    by_passkey: bool = Field(description="whether the approver's passkey has signed it")


class SignedMemberOut(Out):
    """A member of a container that came with a signature, changed or went with it."""

    path: str = Field(description="inside the container")
    size: int = Field(description="bytes")
    change: Change
    what: str = Field(description="what it is, for people")


class FileResultOut(Out):
    """What was done to one file."""

    path: str
    format: str
    directive: str
    summary: str
    sha256_before: str
    sha256_after: str
    size_after: int
    timestamp: dt.datetime | None
    outputs: list[str] = Field(description="paths of files made beside it: detached signatures")
    members: list[SignedMemberOut] = Field(
        description="what signing added, changed or removed in the container that was signed; with "
        "a detached signature, its file in the container around; at most 100"
    )


class LogEntryOut(Out):
    """A leaf of the log; `sequence` is null until it is in the tree."""

    id: int
    action: str
    sequence: int | None
    created_at: dt.datetime
    body: str = Field(description="the leaf's JSON without its sequence")


class ProgressOut(Out):
    """How far a worker has come with a request, as of about a second ago."""

    stage: Stage
    files: int = Field(description="files to be signed; 0 until the plan is made")
    done: int = Field(description="files that the stage has finished")


class MalwareScanOut(Out):
    """What the malware scanner said of the artifact."""

    sha256: str = Field(description="of the bytes that it saw")
    engine: str
    finding: str = Field(description="empty: nothing was found")
    scanned_at: dt.datetime


class SigningRequestOut(Out):
    """A signing request."""

    id: str
    url: str = Field(description="its page")
    kind: RequestKind
    state: State
    is_final: bool
    version: str = Field(description="another one after every change; to be given back as `known`")
    project: ReferenceOut
    signing_policy: ReferenceOut
    artifact_configuration: ReferenceOut | None
    certificate_id: str
    policy_hash: str
    description: str
    parameters: dict[str, str]
    origin: OriginOut
    submitted_by: PersonOut
    submitted_at: dt.datetime
    updated_at: dt.datetime
    finished_at: dt.datetime | None
    input: ArtifactOut | None
    output: ArtifactOut | None
    retrieval: RetrievalOut | None
    hash: HashOut | None
    scan: MalwareScanOut | None
    original_request_id: str | None
    quorum: int
    reason: str
    advice: str
    failed_stage: State | None
    attempt: int
    progress: ProgressOut | None = Field(
        description="of the attempt under way; null before and after"
    )


class SigningRequestDetailOut(SigningRequestOut):
    """A signing request with what is about it. Of many files it has the first, `.../files` has all;
    `.../log` has the leaves of single signatures besides."""

    approvals: list[ApprovalOut]
    files: list[FileResultOut] = Field(description="the first 100")
    file_count: int = Field(description="how many there are")
    log: list[LogEntryOut] = Field(
        description="the first 100 leaves, without those of single signatures"
    )
    plan_state: PlanState = Field(
        description="none: a digest, or no worker has opened the artifact; under-way: it is being "
        "planned for who decides; ahead: planned for them; unknown: that was not possible, it is "
        "planned when it is signed; made: what it is signed by. `.../plan` has the plan"
    )
    plan_warnings: list[str] = Field(
        description="what is done as asked and may not be what is meant; the first 50"
    )
    needed_endorsement: NeededEndorsementOut | None = Field(
        description="why it would not be signed now; null once it is at its end: then `reason` says"
    )


class SigningRequestsOut(Out):
    """One page, newest first."""

    items: list[SigningRequestOut]
    next_cursor: str | None


class PlanOut(Out):
    """What is signed, or will be."""

    request_id: str
    sha256: str
    plan: dict[str, object]
    ahead: bool = Field(
        description="made for who decides; the one that is signed by is made anew, does the same "
        "and differs in its signing time and so in its digest"
    )


# --- build systems ---------------------------------------------------------------------------

SettingName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
SettingText = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_without_controls)]
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


class HealthOut(Out):
    """Which parts answer."""

    ready: bool
    database: bool
    queue: bool
    store: bool


class LiveOut(Out):
    """That the process runs."""

    live: Literal[True] = True
    version: str


class RefusalOut(Out):
    """A rule that does not hold."""

    error: str
    how_to_fix: str


class ProblemOut(Out):
    """An error (RFC 9457). `code` is stable."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    advice: str
    where: str
    request_id: str
    errors: list[RefusalOut] = Field(description="each rule of the origin that does not hold")
