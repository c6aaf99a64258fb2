"""Certificates, what is ordered of the signer, and which warnings were given."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import certificate_warnings, certificates
from sealwright.model.certificate import (
    Certificate,
    CertificateKind,
    CertificateSource,
    CertificateState,
    KeyType,
    current,
)
from sealwright.model.identifiers import is_id, is_slug

_T = certificates
_SUCCESSOR = certificates.alias("successor")
_COLUMNS = tuple(
    field.name for field in dataclasses.fields(Certificate) if field.name != "replaced_by_id"
)


#: as the index of issued renewals has it: a parameter would keep it from being used
_IS_ISSUED = _SUCCESSOR.c.sha256 != sa.literal_column("''")


def _select() -> sa.Select[Any]:
    return sa.select(_T, _SUCCESSOR.c.id.label("replaced_by_id")).select_from(
        _T.outerjoin(_SUCCESSOR, sa.and_(_SUCCESSOR.c.replaces_id == _T.c.id, _IS_ISSUED))
    )


_BY_ID = Prepared(
    _select().where(
        _T.c.id == sa.bindparam("certificate"), _T.c.organization_id == sa.bindparam("organization")
    )
)
_BY_SLUG = Prepared(
    _select().where(
        _T.c.slug == sa.bindparam("slug"), _T.c.organization_id == sa.bindparam("organization")
    )
)


def _certificate(row: sa.RowMapping) -> Certificate:
    fields = {field.name: row[field.name] for field in dataclasses.fields(Certificate)}
    # the signer writes the revocation, the switch is not its own
    state = row["state"] if row["revoked_at"] is None else CertificateState.DISABLED
    return Certificate(
        **fields
        | {
            "state": CertificateState(state),
            "key_type": KeyType(row["key_type"]),
            "kind": CertificateKind(row["kind"]),
            "source": CertificateSource(row["source"]),
            "certificate": bytes(row["certificate"]),
            "csr": bytes(row["csr"] or b""),
            "revocation": bytes(row["revocation"] or b""),
            "chain": tuple(base64.b64decode(one) for one in row["chain"]),
        }
    )


def _chain(chain: tuple[bytes, ...]) -> list[str]:
    return [base64.b64encode(one).decode() for one in chain]


async def add(tx: Transaction, certificate: Certificate) -> None:
    """Insert a certificate."""
    fields = {name: getattr(certificate, name) for name in _COLUMNS}
    fields["csr"] = certificate.csr or None
    fields["revocation"] = certificate.revocation or None
    await tx.change(_T.insert().values(**fields | {"chain": _chain(certificate.chain)}))


async def get(tx: Transaction, organization_id: str, certificate_id: str) -> Certificate | None:
    """The certificate with this id in this organization."""
    row = await tx.one(_BY_ID, certificate=certificate_id, organization=organization_id)
    return _certificate(row) if row else None


async def by_slug(tx: Transaction, organization_id: str, slug: str) -> Certificate | None:
    """The certificate with this slug in this organization."""
    if not is_slug(slug):
        return None
    row = await tx.one(_BY_SLUG, slug=slug, organization=organization_id)
    return _certificate(row) if row else None


async def find(tx: Transaction, organization_id: str, id_or_slug: str) -> Certificate | None:
    """The certificate with this id, else with this slug, in this organization."""
    found = None
    if is_id(id_or_slug):
        found = await get(tx, organization_id, id_or_slug)
    return found or await by_slug(tx, organization_id, id_or_slug)


async def get_current(
    tx: Transaction, organization_id: str, certificate_id: str
) -> Certificate | None:
    """The certificate that stands for this one today: itself, or its last issued renewal."""
    found = await get(tx, organization_id, certificate_id)
    if found is None or found.replaced_by_id is None:
        return found
    return current(found, {one.id: one for one in await every(tx, organization_id)})


async def every(tx: Transaction, organization_id: str) -> list[Certificate]:
    """All certificates of the organization, oldest first."""
    rows = await tx.all(_select().where(_T.c.organization_id == organization_id).order_by(_T.c.id))
    return [_certificate(row) for row in rows]


async def ending(tx: Transaction, before: dt.datetime) -> list[Certificate]:
    """Active certificates of every organization that end before this time and have no successor."""
    rows = await tx.all(
        _select().where(
            _T.c.state == CertificateState.ACTIVE.value,
            _T.c.sha256 != "",
            _T.c.not_after < before,
            _SUCCESSOR.c.id.is_(None),
        )
    )
    return [_certificate(row) for row in rows]


async def pending_enrolled(tx: Transaction) -> list[Certificate]:
    """Pending certificates of every organization that an EST server is to issue."""
    rows = await tx.all(
        _select().where(
            _T.c.state == CertificateState.ACTIVE.value,
            _T.c.sha256 == "",
            _T.c.enrolment_id.is_not(None),
        )
    )
    return [_certificate(row) for row in rows]


async def set_state(
    tx: Transaction, organization_id: str, certificate_id: str, state: CertificateState
) -> bool:
    """Enable or disable a certificate; False where there is none, or where a revoked one would be
    enabled."""
    usable = sa.or_(_T.c.revoked_at.is_(None), sa.literal(state is CertificateState.DISABLED))
    return (
        await tx.change(
            _T.update()
            .where(_T.c.id == certificate_id, _T.c.organization_id == organization_id, usable)
            .values(state=state.value)
        )
        == 1
    )


async def set_release(
    tx: Transaction, organization_id: str, certificate_id: str, *, release: bool
) -> bool:
    """Make it a release certificate, or none any more; False where there is none."""
    return (
        await tx.change(
            _T.update()
            .where(_T.c.id == certificate_id, _T.c.organization_id == organization_id)
            .values(release=release)
        )
        == 1
    )


async def rename(tx: Transaction, organization_id: str, certificate_id: str, name: str) -> bool:
    """Give a certificate another name; False where there is none."""
    return (
        await tx.change(
            _T.update()
            .where(_T.c.id == certificate_id, _T.c.organization_id == organization_id)
            .values(name=name)
        )
        == 1
    )


async def install(tx: Transaction, issued: Certificate) -> bool:
    """Give a pending certificate what was issued for it; False where it is not pending any more."""
    names = ("certificate", "sha256", "subject", "not_before", "not_after")
    values = {name: getattr(issued, name) for name in names}
    return (
        await tx.change(
            _T.update()
            .where(_T.c.id == issued.id, _T.c.sha256 == "")
            .values(**values | {"chain": _chain(issued.chain)})
        )
        == 1
    )


async def revoke(
    tx: Transaction, certificate: Certificate, revocation: bytes, reason: str, now: dt.datetime
) -> list[str]:
    """Note the revocation for every certificate of the same key, which disables them for good; ids
    of those that were not revoked before."""
    same = (
        _T.c.organization_id == certificate.organization_id,
        _T.c.key_uri == certificate.key_uri,
        _T.c.kind == certificate.kind.value,
        _T.c.revoked_at.is_(None),
    )
    rows = await tx.all(sa.select(_T.c.id).where(*same).order_by(_T.c.id))
    await tx.change(
        _T.update()
        .where(*same)
        .values(
            revocation=revocation,
            revocation_reason=reason,
            revoked_at=now,
        )
    )
    return [row["id"] for row in rows]


async def warned(tx: Transaction, certificate_id: str) -> set[int]:
    """Days for which the certificate's end was warned of already."""
    rows = await tx.all(
        sa.select(certificate_warnings.c.days).where(
            certificate_warnings.c.certificate_id == certificate_id
        )
    )
    return {row["days"] for row in rows}


async def add_warning(
    tx: Transaction, certificate: Certificate, days: int, now: dt.datetime
) -> None:
    """Note that a warning was given. Raises ConflictError where another worker has just done so."""
    await tx.change(
        certificate_warnings.insert().values(
            certificate_id=certificate.id,
            days=days,
            organization_id=certificate.organization_id,
            created_at=now,
        )
    )
