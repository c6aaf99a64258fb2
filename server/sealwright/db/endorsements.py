"""Trust anchors, which the signer alone writes, and endorsements, which are only ever added."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from sealwright.db import certificates, projects
from sealwright.db.chunks import chunked
from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import artifact_configurations, endorsements, passkeys, trust_anchors
from sealwright.model.endorsement import (
    Endorsement,
    EndorsementKind,
    Trust,
    TrustAnchor,
    configuration_subject,
)
from sealwright.model.passkey import Assertion, Passkey
from sealwright.model.project import ArtifactConfiguration
from sealwright.model.request import Approval, SigningRequest

_NEWEST = 50  # of one subject; more of them are nobody's honest work
_ANCHORS = Prepared(
    sa.select(trust_anchors, passkeys.c.removed_at)
    .select_from(trust_anchors.outerjoin(passkeys, passkeys.c.id == trust_anchors.c.passkey_id))
    .where(trust_anchors.c.organization_id == sa.bindparam("organization"))
    .order_by(trust_anchors.c.passkey_id)
)
_MAX_RENEWALS = 100  # that are followed back to the certificate that a policy named


async def anchors(tx: Transaction, organization_id: str) -> list[TrustAnchor]:
    """The organization's trust anchors, also removed ones; none: it does without endorsements."""
    rows = await tx.all(_ANCHORS, organization=organization_id)
    return [
        TrustAnchor(
            **{
                **row,
                "credential_id": bytes(row["credential_id"]),
                "public_key": bytes(row["public_key"]),
            }
        )
        for row in rows
    ]


async def add_anchor(tx: Transaction, anchor: TrustAnchor) -> None:
    """Insert an anchor."""
    fields = dataclasses.asdict(anchor)
    del fields["removed_at"]  # the passkey's
    await tx.change(trust_anchors.insert().values(**fields))


async def remove_anchor(tx: Transaction, organization_id: str, passkey_id: str) -> bool:
    """Forget an anchor; False where there is none."""
    return (
        await tx.change(
            trust_anchors.delete().where(
                trust_anchors.c.organization_id == organization_id,
                trust_anchors.c.passkey_id == passkey_id,
            )
        )
        == 1
    )


async def add(tx: Transaction, endorsement: Endorsement) -> None:
    """Insert an endorsement; its version is a new one of its subject."""
    fields = dataclasses.asdict(endorsement)
    fields |= fields.pop("assertion")
    fields |= {"kind": endorsement.kind.value, "approvers": list(endorsement.approvers)}
    await tx.change(endorsements.insert().values(**fields))


async def of_subject(
    tx: Transaction, organization_id: str, kind: EndorsementKind, subject_id: str
) -> list[Endorsement]:
    """The newest of one subject, newest first. Whether they hold is not looked at."""
    rows = await tx.all(
        sa.select(endorsements)
        .where(
            endorsements.c.organization_id == organization_id,
            endorsements.c.kind == kind.value,
            endorsements.c.subject_id == subject_id,
        )
        .order_by(endorsements.c.version.desc())
        .limit(_NEWEST)
    )
    return [_endorsement(row) for row in rows]


async def of_subjects(
    tx: Transaction, organization_id: str, kind: EndorsementKind, subject_ids: Iterable[str]
) -> dict[str, list[Endorsement]]:
    """All of several subjects. Whether they hold is not looked at."""
    found: dict[str, list[Endorsement]] = {}
    for part in chunked(sorted(set(subject_ids))):
        rows = await tx.all(
            sa.select(endorsements).where(
                endorsements.c.organization_id == organization_id,
                endorsements.c.kind == kind.value,
                endorsements.c.subject_id.in_(part),
            )
        )
        for row in rows:
            found.setdefault(row["subject_id"], []).append(_endorsement(row))
    return found


async def of_request(
    tx: Transaction,
    request: SigningRequest,
    approvals: Sequence[Approval] = (),
    keys: Sequence[Passkey] = (),
) -> Trust | None:
    """What is there for the request; None where its organization has no trust anchors.

    Args:
        approvals: those whose passkeys are looked at.
        keys: passkeys of their users.
    """
    organization = request.organization_id
    found = await anchors(tx, organization)
    if not found:
        return None
    configuration = None
    if request.artifact_configuration_id is not None:
        configuration = await projects.find_configuration(
            tx, organization, request.project_id, request.artifact_configuration_id
        )
    of_configuration: list[Endorsement] = []
    outdated = False
    if configuration is not None:
        outdated = await _is_outdated(tx, configuration)
        subject = configuration_subject(configuration.project_id, configuration.slug)
        of_configuration = await of_subject(
            tx, organization, EndorsementKind.CONFIGURATION, subject
        )
    used = {one.assertion.credential_id for one in approvals if one.assertion}
    asserted = [key.id for key in keys if key.credential_id in used]
    return Trust(
        found,
        await of_subject(tx, organization, EndorsementKind.POLICY, request.signing_policy_id),
        configuration,
        of_configuration,
        outdated,
        {one: await of_subject(tx, organization, EndorsementKind.PASSKEY, one) for one in asserted},
        await _lineage(tx, organization, request.certificate_id),
    )


async def _is_outdated(tx: Transaction, configuration: ArtifactConfiguration) -> bool:
    table = artifact_configurations
    newer = await tx.one(
        sa.select(table.c.id)
        .where(
            table.c.organization_id == configuration.organization_id,
            table.c.project_id == configuration.project_id,
            table.c.slug == configuration.slug,
            table.c.version > configuration.version,
        )
        .limit(1)
    )
    return newer is not None


async def _lineage(tx: Transaction, organization_id: str, certificate_id: str) -> frozenset[str]:
    seen: list[str] = []
    following: str | None = certificate_id
    while following and following not in seen and len(seen) < _MAX_RENEWALS:
        seen.append(following)
        found = await certificates.get(tx, organization_id, following)
        following = found.replaces_id if found else None
    return frozenset(seen)


def _endorsement(row: sa.RowMapping) -> Endorsement:
    fields = dict(row)
    assertion = Assertion(
        **{field.name: bytes(fields.pop(field.name)) for field in dataclasses.fields(Assertion)}
    )
    fields |= {"kind": EndorsementKind(row["kind"]), "approvers": tuple(row["approvers"])}
    return Endorsement(**fields, assertion=assertion)
