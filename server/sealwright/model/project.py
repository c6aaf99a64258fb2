"""Projects, their artifact configurations and their signing policies."""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sealwright.model.origin import OriginRules


@dataclass(frozen=True)
class Project:
    """What is signed: one product, usually one repository.

    Attributes:
        readers: ids of users and groups that may see everything of it.
        configurators: ids of users and groups that may besides change it, but not its policies.
    """

    id: str
    organization_id: str
    slug: str
    name: str
    repository_url: str
    created_at: dt.datetime
    readers: frozenset[str] = frozenset()
    configurators: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ArtifactConfiguration:
    """One version of an artifact configuration. Versions are never changed, only added."""

    id: str
    organization_id: str
    project_id: str
    slug: str
    name: str
    version: int
    xml: str
    sha256: str
    is_default: bool
    created_at: dt.datetime


class PolicyKind(enum.StrEnum):
    """What the certificate of the policy is trusted for."""

    TEST = "test-signing"
    RELEASE = "release-signing"


class SubmitterMail(enum.StrEnum):
    """Of which ends of their requests submitters are told by mail."""

    NONE = "none"
    PROBLEMS = "problems"  # failed and denied
    ALL = "all"


class ApproverMail(enum.StrEnum):
    """How approvers are told by mail that requests wait for them."""

    NONE = "none"
    EACH = "each"
    DIGEST = "digest"  # once a day, all that wait


@dataclass(frozen=True)
class SigningPolicy:
    """Who may have what signed with which certificate, and under which conditions.

    Attributes:
        submitters: ids of users and groups that may submit.
        approvers: ids of users and groups that may approve or deny.
        quorum: approvals needed; 0: none.
        timestamp_required: sign only with RFC 3161 time stamps.
        hash_signing_allowed: whether bare digests may be signed (no artifact is seen).
        origin_required: accept only requests whose origin was verified with the CI system.
        enabled: a disabled policy takes no requests and signs none.
        origin_rules: what it demands of a verified origin.
        passkey_required: count only approvals that a passkey has signed.
        malware_scan: sign only what a malware scanner found nothing in.
        approval_hours: after so long a request that still waits for approval fails; 0: never.
        submitter_mail, approver_mail: who hears what by mail.
    """

    id: str
    organization_id: str
    project_id: str
    slug: str
    name: str
    kind: PolicyKind
    certificate_id: str
    submitters: frozenset[str]
    approvers: frozenset[str]
    quorum: int
    timestamp_required: bool
    hash_signing_allowed: bool
    origin_required: bool
    enabled: bool
    created_at: dt.datetime
    origin_rules: OriginRules = field(default_factory=OriginRules)
    passkey_required: bool = False
    approval_hours: int = 0
    malware_scan: bool = False
    submitter_mail: SubmitterMail = SubmitterMail.PROBLEMS
    approver_mail: ApproverMail = ApproverMail.EACH


@dataclass(frozen=True)
class PolicySnapshot:
    """The policy as it stood when the request was decided: what the signer decides by.

    `text` is canonical JSON; `sha256` (hex) names it in the log and on the request.
    """

    text: str

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the text's UTF-8 bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def malware_scan(self) -> bool:
        """Whether the artifact is scanned for malware before it is signed."""
        return bool(self.fields.get("malware_scan", False))

    @property
    def fields(self) -> Mapping[str, Any]:
        """The snapshot as an object; its keys are those of `snapshot`."""
        loaded: dict[str, Any] = json.loads(self.text)
        return loaded


def snapshot(
    policy: SigningPolicy,
    certificate_sha256: str,
    configuration: ArtifactConfiguration | None,
    approvers: frozenset[str] | None = None,
) -> PolicySnapshot:
    """Freeze everything the decision rested on, in a form that hashes the same everywhere.

    Args:
        approvers: ids of the users that the policy's approvers are at this time, groups resolved;
            None where it names no groups.
    """
    fields = {
        "policy_id": policy.id,
        "policy_slug": policy.slug,
        "kind": policy.kind.value,
        "project_id": policy.project_id,
        "certificate_id": policy.certificate_id,
        "certificate_sha256": certificate_sha256,
        "submitters": sorted(policy.submitters),
        "approvers": sorted(policy.approvers if approvers is None else approvers),
        "quorum": policy.quorum,
        "timestamp_required": policy.timestamp_required,
        "hash_signing_allowed": policy.hash_signing_allowed,
        "origin_required": policy.origin_required,
        "origin_rules": asdict(policy.origin_rules),
        "passkey_required": policy.passkey_required,
        "malware_scan": policy.malware_scan,
        "approval_hours": policy.approval_hours,
        "artifact_configuration_id": configuration.id if configuration else None,
        "artifact_configuration_sha256": configuration.sha256 if configuration else None,
    }
    return PolicySnapshot(json.dumps(fields, sort_keys=True, separators=(",", ":")))
