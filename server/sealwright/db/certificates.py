"""Certificates."""

from __future__ import annotations

import base64
import dataclasses

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import certificates
from sealwright.model.certificate import Certificate, CertificateState, KeyType


def _certificate(row: sa.RowMapping) -> Certificate:
    fields = {field.name: row[field.name] for field in dataclasses.fields(Certificate)}
    return Certificate(
        **fields
        | {
            "state": CertificateState(row["state"]),
            "key_type": KeyType(row["key_type"]),
            "chain": tuple(base64.b64decode(one) for one in row["chain"]),
        }
    )


async def add(tx: Transaction, certificate: Certificate) -> None:
    """Insert a certificate."""
    fields = {f.name: getattr(certificate, f.name) for f in dataclasses.fields(certificate)}
    fields["chain"] = [base64.b64encode(one).decode() for one in certificate.chain]
    await tx.change(certificates.insert().values(**fields))


async def get(tx: Transaction, organization_id: str, certificate_id: str) -> Certificate | None:
    """The certificate with this id in this organization."""
    row = await tx.one(
        sa.select(certificates).where(
            certificates.c.id == certificate_id,
            certificates.c.organization_id == organization_id,
        )
    )
    return _certificate(row) if row else None


async def every(tx: Transaction, organization_id: str) -> list[Certificate]:
    """All certificates of the organization, oldest first."""
    rows = await tx.all(
        sa.select(certificates)
        .where(certificates.c.organization_id == organization_id)
        .order_by(certificates.c.id)
    )
    return [_certificate(row) for row in rows]


async def set_state(
    tx: Transaction, organization_id: str, certificate_id: str, state: CertificateState
) -> bool:
    """Enable or disable a certificate; False where there is none."""
    return (
        await tx.change(
            certificates.update()
            .where(
                certificates.c.id == certificate_id,
                certificates.c.organization_id == organization_id,
            )
            .values(state=state.value)
        )
        == 1
    )
