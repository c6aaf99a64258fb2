"""Telling administrators that a certificate is about to end."""

from __future__ import annotations

import datetime as dt

from sealwright.db import Transaction, users
from sealwright.model.certificate import Certificate
from sealwright.model.user import Role
from sealwright.reporting.notify import Letter, tell

_TOLD = frozenset({Role.GLOBAL_ADMINISTRATOR, Role.CERTIFICATE_ADMINISTRATOR})


async def tell_of_the_end(
    tx: Transaction, certificate: Certificate, days: int, now: dt.datetime
) -> None:
    """Write to global and certificate administrators: within `days` days the certificate ends."""
    people = await users.with_roles(tx, certificate.organization_id, _TOLD)
    left = "tomorrow" if days == 1 else f"within {days} days"
    letter = Letter(
        f"The certificate {certificate.name} ends {left}",
        "Renew it in time: from its last day on, every signing policy that uses it refuses.",
        (
            ("Subject", certificate.subject),
            ("Ends", f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"),
        ),
        f"/certificates/{certificate.slug}",
        "Open the certificate",
        "Global and certificate administrators are told in time.",
    )
    administrators = [one.id for one in people]
    await tell(tx, certificate.organization_id, administrators, letter, now)
