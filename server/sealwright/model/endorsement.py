"""Endorsements: what people with a trusted passkey have said of policies, artifact configurations,
passkeys and orders.

In an organization that has trust anchors the signer believes no row of the web process about
who may have what signed, unless the passkey of one of them signed that very content.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sealwright.model.certificate import CertificateOrder
from sealwright.model.passkey import Assertion, Passkey
from sealwright.model.project import ArtifactConfiguration

#: Approvers that an endorsement of a policy can name.
MAX_APPROVERS = 500
#: Members of a snapshot that are not the policy's own, or that an endorsement states itself.
_NOT_OF_THE_POLICY = frozenset(
    {
        "approvers",
        "certificate_id",
        "certificate_sha256",
        "artifact_configuration_id",
        "artifact_configuration_sha256",
    }
)


class EndorsementKind(enum.StrEnum):
    """What is endorsed."""

    POLICY = "signing-policy"
    CONFIGURATION = "artifact-configuration"
    PASSKEY = "passkey"
    ORDER = "certificate-order"


@dataclass(frozen=True)
class TrustAnchor:
    """A passkey that the operator told the signer to believe. Only the signer writes these.

    Attributes:
        public_key: CBOR of the COSE_Key, copied when it was named: later changes of the passkey's
            row change nothing.
        removed_at: since when its owner wants it to count no more. It then endorses nothing, and
            what it endorsed holds no more: only the web process says when that was.
    """

    passkey_id: str
    organization_id: str
    user_id: str
    credential_id: bytes
    public_key: bytes
    created_at: dt.datetime
    removed_at: dt.datetime | None = None

    @property
    def fingerprint(self) -> str:
        """What people compare: hex SHA-256 of the public key."""
        return self.as_passkey().fingerprint

    def as_passkey(self) -> Passkey:
        """The same, to verify assertions with."""
        return Passkey(
            self.passkey_id,
            self.organization_id,
            self.user_id,
            "",
            self.credential_id,
            self.public_key,
            0,
            self.created_at,
            removed_at=self.removed_at,
        )


@dataclass(frozen=True)
class Endorsement:
    """That a trust anchor's passkey signed for a content.

    Attributes:
        version: grows with every endorsement of a subject; the newest one counts.
        terms_sha256: hex SHA-256 of what was endorsed, see `policy_terms` and its like.
        approvers, certificate_id: of a policy: who its approvers were, groups resolved, and which
            certificate it named. Part of the terms.
        user_id: whose passkey.
    """

    organization_id: str
    kind: EndorsementKind
    subject_id: str
    version: int
    terms_sha256: str
    approvers: tuple[str, ...]
    certificate_id: str | None
    user_id: str
    assertion: Assertion
    created_at: dt.datetime

    @property
    def challenge(self) -> bytes:
        """What the passkey must have signed."""
        return endorsement_challenge(
            self.organization_id,
            self.kind,
            self.subject_id,
            self.version,
            self.terms_sha256,
            self.user_id,
        )

    @property
    def sha256(self) -> str:
        """Names it in the log: hex SHA-256 of challenge and signature."""
        return hashlib.sha256(self.challenge + self.assertion.signature).hexdigest()


@dataclass(frozen=True)
class Trust:
    """What an organization with trust anchors has endorsed of what a request rests on. Whether it
    holds is still to be seen (`policy.endorsements`).

    Attributes:
        of_policy: of the request's policy.
        configuration: the artifact configuration that the request names, if there is one.
        of_configuration: of the configuration's slug, whichever its version.
        configuration_outdated: the slug has a newer version; only the newest is up for endorsement.
        of_passkeys: passkey id -> endorsements of it.
        lineage: the request's certificate and all that it renews, directly or not.
    """

    anchors: Sequence[TrustAnchor]
    of_policy: Sequence[Endorsement]
    configuration: ArtifactConfiguration | None = None
    of_configuration: Sequence[Endorsement] = ()
    configuration_outdated: bool = False
    of_passkeys: Mapping[str, Sequence[Endorsement]] = field(default_factory=dict)
    lineage: frozenset[str] = frozenset()


def endorsement_challenge(
    organization_id: str,
    kind: EndorsementKind,
    subject_id: str,
    version: int,
    terms_sha256: str,
    user_id: str,
) -> bytes:
    """What a passkey signs to endorse: 32 bytes, bound to subject, content and user."""
    said = {
        "purpose": "sealwright endorsement v1",
        "organization": organization_id,
        "kind": kind.value,
        "subject": subject_id,
        "version": version,
        "terms": terms_sha256,
        "user": user_id,
    }
    return hashlib.sha256(_canonical(said)).digest()


def policy_terms(
    fields: Mapping[str, Any], approvers: Iterable[str], certificate_id: str | None
) -> str:
    """Hex SHA-256 of a policy's terms.

    What is off, zero or empty is left out, so that a setting which a later version adds, and which
    is off, changes no hash.

    Args:
        fields: of a policy snapshot, without its certificate, configuration and approvers.
        approvers: ids of users, groups resolved.
        certificate_id: the one that the policy names, of which the used one may be a renewal.
    """
    terms = {name: value for name, value in fields.items() if name not in _NOT_OF_THE_POLICY}
    terms |= {"approvers": sorted(approvers), "certificate_id": certificate_id}
    return _sha256(_pruned(terms))


def disabled_terms(policy_id: str) -> str:
    """Hex SHA-256 of the terms of a policy that is disabled: no request is ever decided by them."""
    return _sha256({"policy_id": policy_id, "disabled": True})


def configuration_subject(project_id: str, slug: str) -> str:
    """What endorsements of a configuration's versions are of: the newest counts, so that no earlier
    version comes back. A UUID by name (RFC 9562, 5.5).
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"sealwright:{project_id}/{slug}"))


def configuration_terms(configuration: ArtifactConfiguration) -> str:
    """Hex SHA-256 of one version of an artifact configuration; of its XML as it is, not as its row
    says."""
    return _sha256(
        {
            "project": configuration.project_id,
            "slug": configuration.slug,
            "version": configuration.version,
            "xml": hashlib.sha256(configuration.xml.encode()).hexdigest(),
        }
    )


def passkey_terms(passkey: Passkey) -> str:
    """Hex SHA-256 of whose passkey this is, and of its public key."""
    return _sha256(
        {
            "user": passkey.user_id,
            "credential": passkey.credential_id.hex(),
            "public_key": passkey.public_key.hex(),
        }
    )


def order_terms(order: CertificateOrder) -> str:
    """Hex SHA-256 of what is ordered, and by whom."""
    return _sha256(
        {
            "operation": order.operation.value,
            "certificate": order.certificate_id,
            "arguments": dict(order.arguments),
            "payload": hashlib.sha256(order.payload).hexdigest(),
            "requested_by": order.requested_by,
        }
    )


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        pruned = {name: _pruned(one) for name, one in value.items()}
        return {name: one for name, one in pruned.items() if one}
    return [_pruned(one) for one in value] if isinstance(value, list | tuple) else value


def _sha256(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(said)).hexdigest()


def _canonical(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
