"""EST servers, and how far certificates are with them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping

import sqlalchemy as sa

from sealwright.db.certificates import pending_enrolled
from sealwright.db.database import Transaction
from sealwright.db.tables import certificates, enrolment_servers, enrolments
from sealwright.model.certificate import Certificate
from sealwright.model.enrolment import Enrolment, EnrolmentServer

_T = enrolment_servers
_COLUMNS = tuple(field.name for field in dataclasses.fields(EnrolmentServer))


def _server(row: sa.RowMapping) -> EnrolmentServer:
    return EnrolmentServer(**{name: row[name] for name in _COLUMNS})


async def add(tx: Transaction, server: EnrolmentServer, sealed: Mapping[str, str]) -> None:
    """Insert a server with its sealed credentials."""
    await tx.change(_T.insert().values(**vars(server), credentials=dict(sealed)))


async def update(tx: Transaction, server: EnrolmentServer, sealed: Mapping[str, str]) -> None:
    """Write a server's present fields and credentials."""
    await tx.change(
        _T.update()
        .where(_T.c.id == server.id, _T.c.organization_id == server.organization_id)
        .values(**vars(server), credentials=dict(sealed))
    )


async def remove(tx: Transaction, server: EnrolmentServer) -> None:
    """Delete a server and its credentials."""
    await tx.change(
        _T.delete().where(_T.c.id == server.id, _T.c.organization_id == server.organization_id)
    )


async def find(tx: Transaction, organization_id: str, id_or_slug: str) -> EnrolmentServer | None:
    """The server with this id or slug in this organization."""
    row = await tx.one(
        sa.select(_T).where(
            _T.c.organization_id == organization_id,
            sa.or_(_T.c.id == id_or_slug, _T.c.slug == id_or_slug),
        )
    )
    return _server(row) if row else None


async def exists(tx: Transaction, organization_id: str, server_id: str) -> bool:
    """Whether an enabled server has this id in this organization: all that the signer asks."""
    row = await tx.one(
        sa.select(_T.c.id).where(
            _T.c.organization_id == organization_id, _T.c.id == server_id, _T.c.enabled
        )
    )
    return row is not None


async def every(tx: Transaction, organization_id: str) -> list[EnrolmentServer]:
    """All servers of the organization, by slug."""
    rows = await tx.all(
        sa.select(_T).where(_T.c.organization_id == organization_id).order_by(_T.c.slug)
    )
    return [_server(row) for row in rows]


async def enabled(tx: Transaction) -> list[EnrolmentServer]:
    """Enabled servers of every organization."""
    return [_server(row) for row in await tx.all(sa.select(_T).where(_T.c.enabled))]


async def sealed_credentials(tx: Transaction, server_id: str) -> dict[str, str]:
    """The credentials of a server, sealed."""
    row = await tx.one(sa.select(_T.c.credentials).where(_T.c.id == server_id))
    return dict(row["credentials"]) if row else {}


async def due(tx: Transaction, now: dt.datetime) -> list[tuple[Certificate, Enrolment]]:
    """Pending certificates that their servers are to be asked about now."""
    found = []
    for certificate in await pending_enrolled(tx):
        row = await tx.one(
            sa.select(enrolments).where(enrolments.c.certificate_id == certificate.id)
        )
        progress = Enrolment(**row) if row else Enrolment(certificate.id, 0, now, "")
        if progress.due_at is not None and progress.due_at <= now:
            found.append((certificate, progress))
    return found


async def claim(tx: Transaction, progress: Enrolment, until: dt.datetime) -> bool:
    """Begin an attempt; False where another worker did.

    Raises:
        ConflictError: another worker began the first one at this moment.
    """
    row = await tx.one(
        sa.select(enrolments.c.attempts).where(
            enrolments.c.certificate_id == progress.certificate_id
        )
    )
    values = {"attempts": progress.attempts + 1, "due_at": until, "error": progress.error}
    if row is None:
        await tx.change(
            enrolments.insert().values(certificate_id=progress.certificate_id, **values)
        )
        return True
    return (
        await tx.change(
            enrolments.update()
            .where(
                enrolments.c.certificate_id == progress.certificate_id,
                enrolments.c.attempts == progress.attempts,
            )
            .values(**values)
        )
        == 1
    )


async def settle(
    tx: Transaction, certificate_id: str, due_at: dt.datetime | None, error: str
) -> None:
    """Note what came of an attempt, and when the next one is due."""
    await tx.change(
        enrolments.update()
        .where(enrolments.c.certificate_id == certificate_id)
        .values(due_at=due_at, error=error[:1000])
    )


async def hurry(tx: Transaction, server: EnrolmentServer, now: dt.datetime) -> None:
    """Have the server asked at once about what it has failed to issue: it may be mended."""
    its = sa.select(certificates.c.id).where(
        certificates.c.organization_id == server.organization_id,
        certificates.c.enrolment_id == server.id,
    )
    await tx.change(
        enrolments.update()
        .where(enrolments.c.certificate_id.in_(its), enrolments.c.error != "")
        .values(due_at=now)
    )


async def error_of(tx: Transaction, certificate_id: str) -> str:
    """What the last attempt came to, where it failed."""
    row = await tx.one(
        sa.select(enrolments.c.error).where(enrolments.c.certificate_id == certificate_id)
    )
    return str(row["error"]) if row else ""
