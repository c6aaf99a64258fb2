"""Trust anchors, which the signer alone writes, and endorsements, which are only ever added."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import endorsements, trust_anchors
from sealwright.model.endorsement import Endorsement, EndorsementKind, TrustAnchor
from sealwright.model.passkey import Assertion

_NEWEST = 50  # of one subject; more of them are nobody's honest work
_CHUNK = 500


async def anchors(tx: Transaction, organization_id: str) -> list[TrustAnchor]:
    """The organization's trust anchors; none: it does without endorsements."""
    rows = await tx.all(
        sa.select(trust_anchors)
        .where(trust_anchors.c.organization_id == organization_id)
        .order_by(trust_anchors.c.passkey_id)
    )
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
    await tx.change(trust_anchors.insert().values(**dataclasses.asdict(anchor)))


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
    ids = sorted(set(subject_ids))
    found: dict[str, list[Endorsement]] = {}
    for start in range(0, len(ids), _CHUNK):
        rows = await tx.all(
            sa.select(endorsements).where(
                endorsements.c.organization_id == organization_id,
                endorsements.c.kind == kind.value,
                endorsements.c.subject_id.in_(ids[start : start + _CHUNK]),
            )
        )
        for row in rows:
            found.setdefault(row["subject_id"], []).append(_endorsement(row))
    return found


def _endorsement(row: sa.RowMapping) -> Endorsement:
    fields = dict(row)
    assertion = Assertion(
        **{field.name: bytes(fields.pop(field.name)) for field in dataclasses.fields(Assertion)}
    )
    fields |= {"kind": EndorsementKind(row["kind"]), "approvers": tuple(row["approvers"])}
    return Endorsement(**fields, assertion=assertion)
