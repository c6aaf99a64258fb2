"""The signing request and its state machine."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from sealwright.errors import ConflictError
from sealwright.model.origin import Origin
from sealwright.model.passkey import Assertion
from sealwright.model.project import PolicySnapshot
from sealwright.model.signed_member import SignedMember


class State(enum.StrEnum):
    """Where a signing request stands."""

    SUBMITTED = "Submitted"
    RETRIEVING_ARTIFACT = "RetrievingArtifact"
    WAITING_FOR_APPROVAL = "WaitingForApproval"
    SCANNING_FOR_MALWARE = "ScanningForMalware"
    QUEUED = "QueuedForProcessing"
    WAITING_FOR_ENDORSEMENT = "WaitingForEndorsement"
    PROCESSING = "Processing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    DENIED = "Denied"
    CANCELED = "Canceled"

    @property
    def is_final(self) -> bool:
        """Final states never change."""
        return not TRANSITIONS[self]


_ENDS = frozenset({State.FAILED, State.DENIED, State.CANCELED})

#: The one table of transitions: state -> states that may follow.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.SUBMITTED: _ENDS
    | {
        State.RETRIEVING_ARTIFACT,
        State.WAITING_FOR_APPROVAL,
        State.SCANNING_FOR_MALWARE,
        State.QUEUED,
    },
    State.RETRIEVING_ARTIFACT: _ENDS
    | {State.WAITING_FOR_APPROVAL, State.SCANNING_FOR_MALWARE, State.QUEUED},
    State.WAITING_FOR_APPROVAL: _ENDS | {State.SCANNING_FOR_MALWARE, State.QUEUED},
    State.SCANNING_FOR_MALWARE: _ENDS | {State.QUEUED},
    State.QUEUED: _ENDS | {State.PROCESSING, State.WAITING_FOR_ENDORSEMENT},
    # as soon as nothing is waited for; its place in the queue was kept by nobody
    State.WAITING_FOR_ENDORSEMENT: _ENDS | {State.QUEUED},
    # back to waiting where the signer, which decides, says that an endorsement is missing
    State.PROCESSING: _ENDS | {State.COMPLETED, State.WAITING_FOR_ENDORSEMENT},
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.DENIED: frozenset(),
    State.CANCELED: frozenset(),
}


def check_transition(current: State, following: State) -> None:
    """Refuse a step that the table does not hold.

    Raises:
        ConflictError: `following` may not come after `current`.
    """
    if following not in TRANSITIONS[current]:
        message = f"A request that is {current.value} cannot become {following.value}."
        raise ConflictError(message, advice="Read the request again: it has moved on.")


class RequestKind(enum.StrEnum):
    """What was handed in."""

    ARTIFACT = "artifact"
    HASH = "hash"  # a bare digest: the server never sees the artifact


@dataclass(frozen=True)
class StoredArtifact:
    """Bytes in the artifact store. `sha256` is hex."""

    key: str
    file_name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class RetrievalLink:
    """Where the server fetches the artifact itself. `headers` may hold credentials: never log."""

    url: str
    file_name: str
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class MalwareScan:
    """What a scanner said of the artifact.

    Attributes:
        sha256: of the bytes that it saw.
        engine: its version and that of its signatures.
        finding: what it found; empty: nothing.
        scanned_at: when, in ISO 8601.
    """

    sha256: str
    engine: str
    finding: str
    scanned_at: str

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.finding


@dataclass(frozen=True)
class HashToSign:
    """The payload of a hash signing request. `digest` is raw, of `hash_algorithm`'s length."""

    digest: bytes
    hash_algorithm: str
    mechanism: str
    signature: bytes | None = None


class Stage(enum.StrEnum):
    """What a worker is doing for a request that is Processing."""

    FETCHING = "fetching"
    PLANNING = "planning"
    SIGNING = "signing"
    VERIFYING = "verifying"
    RELEASING = "releasing"


@dataclass(frozen=True)
class Progress:
    """How far the present attempt has come, as of about a second ago.

    Attributes:
        stage: what is being done.
        files: to be signed, 0 until the plan is made.
        done: of them that the stage has finished.
    """

    stage: Stage
    files: int = 0
    done: int = 0


@dataclass(frozen=True)
class SigningRequest:
    """One artifact (or digest) to be signed under one policy.

    Attributes:
        reason: why it failed, was denied or canceled, or which endorsement it waits for; for
            people.
        advice: what to do about it.
        failed_stage: the state in which it failed.
        original_request_id: the request that this one retries or resubmits.
        attempt: how often a worker has begun; with `lease_until` it is the worker's claim.
        approval_until: it fails when it still waits for approval or endorsement then; None: it
            waits for ever.
        signatures: how many signatures its plan asks for (0 until planned).
        artifacts_removed_at: when its artifacts were removed from the store by the rules of
            retention; their names, sizes and digests stay.
        progress: of the attempt under way; None where there is none, or it has only begun.
    """

    id: str
    organization_id: str
    kind: RequestKind
    state: State
    project_id: str
    project_slug: str
    project_name: str
    signing_policy_id: str
    signing_policy_slug: str
    signing_policy_name: str
    artifact_configuration_id: str | None
    artifact_configuration_slug: str | None
    artifact_configuration_name: str | None
    certificate_id: str
    snapshot: PolicySnapshot
    policy_hash: str
    description: str
    parameters: Mapping[str, str]
    origin: Origin
    submitted_by: str
    submitted_at: dt.datetime
    updated_at: dt.datetime
    input: StoredArtifact | None = None
    output: StoredArtifact | None = None
    retrieval: RetrievalLink | None = None
    hash: HashToSign | None = None
    original_request_id: str | None = None
    reason: str = ""
    advice: str = ""
    failed_stage: State | None = None
    attempt: int = 0
    lease_until: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    plan_hash: str = ""
    signatures: int = 0
    scan: MalwareScan | None = None
    approval_until: dt.datetime | None = None
    artifacts_removed_at: dt.datetime | None = None
    results_removed_at: dt.datetime | None = None
    progress: Progress | None = None

    @property
    def content_digest(self) -> str | None:
        """What an approver sees: hex SHA-256 of the artifact, or the digest to be signed."""
        if self.hash:
            return self.hash.digest.hex()
        return self.input.sha256 if self.input else None

    @property
    def version(self) -> str:
        """Names what a reader has seen: another one after every change. Opaque; fits into a URL."""
        return f"{self.state.value}-{round(self.updated_at.timestamp() * 1e6)}"


class Verdict(enum.StrEnum):
    """An approver's decision."""

    APPROVE = "approve"
    DENY = "deny"


@dataclass(frozen=True)
class Approval:
    """One approver's decision on one request. `assertion`: their passkey's signature over it."""

    id: str
    request_id: str
    user_id: str
    user_name: str
    verdict: Verdict
    comment: str
    decided_at: dt.datetime
    assertion: Assertion | None = None


@dataclass(frozen=True)
class FileResult:
    """What was done to one file. Digests are hex SHA-256.

    `path` runs through containers from the artifact's own name: ``setup.zip!/bin/app.exe``.
    `outputs` are the paths of files made beside it, such as a detached signature; `members` what
    came into its container with the signature: into the signed one itself, or with a detached
    signature into the one around the file.
    """

    path: str
    format: str
    directive: str
    summary: str
    sha256_before: str
    sha256_after: str
    size_after: int
    timestamp: dt.datetime | None = None
    outputs: tuple[str, ...] = ()
    members: tuple[SignedMember, ...] = ()
