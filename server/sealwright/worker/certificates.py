"""Watching certificates come to their end."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random

from sealwright.db import Database, certificates
from sealwright.errors import ConflictError, SealwrightError
from sealwright.model.certificate import WARNING_DAYS, Certificate
from sealwright.model.identifiers import utc_now
from sealwright.reporting.certificates import tell_of_the_end
from sealwright.transparency.record import organization_entry, record

_log = logging.getLogger(__name__)
_ROUND_SECONDS = 600.0


async def watch_certificates(database: Database) -> None:
    """Look for warnings that are due, now and then every few minutes."""
    while True:
        try:
            await warn(database, utc_now())
        except SealwrightError as error:
            _log.warning("cannot watch certificates now: %s", error)
        await asyncio.sleep(_ROUND_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


async def warn(database: Database, now: dt.datetime) -> list[tuple[Certificate, int]]:
    """Log ``certificate.expiring`` for what has come within one more of `WARNING_DAYS` of its end.

    Each number is used once for a certificate, whatever number of workers look; of several that
    were passed since the last look the narrowest counts.

    Returns:
        The certificates that were warned of, with the days.

    Raises:
        UnavailableError: the database is away.
    """
    async with database.read() as tx:
        ending = await certificates.ending(tx, now + dt.timedelta(days=max(WARNING_DAYS)))
    found = []
    for certificate in ending:
        days = certificate.warning(now)
        if days is not None and await _warn(database, certificate, days, now):
            found.append((certificate, days))
    return found


async def _warn(database: Database, certificate: Certificate, days: int, now: dt.datetime) -> bool:
    passed = [one for one in WARNING_DAYS if one >= days]
    try:
        async with database.transaction() as tx:
            warned = await certificates.warned(tx, certificate.id)
            if days in warned:
                return False
            for one in passed:
                if one not in warned:
                    await certificates.add_warning(tx, certificate, one, now)
            facts = {
                "certificate": certificate.id,
                "days": days,
                "not_after": int(certificate.not_after.timestamp()),
            }
            entry = organization_entry(
                certificate.organization_id,
                "certificate.expiring",
                actor="worker",
                now=now,
                data=facts,
            )
            await record(tx, entry)
            await tell_of_the_end(tx, certificate, days, now)
    except ConflictError:
        return False  # another worker was quicker
    _log.warning(
        "the certificate %s ends on %s", certificate.slug, certificate.not_after.date().isoformat()
    )
    return True
