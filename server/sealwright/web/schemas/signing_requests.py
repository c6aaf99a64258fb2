"""Signing requests: how they are made, decided on and shown."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Base64Bytes, Field, StringConstraints

from sealwright.model.mechanism import Mechanism
from sealwright.model.origin import Proof
from sealwright.model.plan import PlanState
from sealwright.model.request import RequestKind, Stage, State, Verdict
from sealwright.model.signed_member import Change
from sealwright.web.schemas.awaited import NeededEndorsementOut
from sealwright.web.schemas.fields import (
    MAX_WAIT_SECONDS,
    In,
    Line,
    Name,
    Out,
    Parameters,
    Reference,
    Sha256,
    Text,
    Url,
)


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
