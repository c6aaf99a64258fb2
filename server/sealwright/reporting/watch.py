"""What is looked at now and then: what waits for approvers, and whether anything is unusual."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from collections.abc import AsyncIterator

from sealwright.db import Database, Transaction, notifications, organizations, requests
from sealwright.errors import SealwrightError
from sealwright.model.identifiers import utc_now
from sealwright.model.notification import Channel, Notification
from sealwright.model.request import SigningRequest, State
from sealwright.reporting.letters import digest_is_wanted
from sealwright.reporting.notify import DIGEST
from sealwright.reporting.unusual import look_at_rates

_log = logging.getLogger(__name__)

_ROUND_SECONDS = 300.0
#: hour of the day (UTC) from which approvers get the digest of the day
_DIGEST_HOUR = 6
_BATCH = 100


async def watch(database: Database) -> None:
    """Look every five minutes, spread over workers."""
    while True:
        await asyncio.sleep(_ROUND_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        try:
            async with database.transaction() as tx:
                await look_at_rates(tx, utc_now())
            async with database.transaction() as tx:
                await write_digests(tx, utc_now())
        except SealwrightError as error:
            _log.warning("cannot look for what is unusual now: %s", error)


async def _waiting(tx: Transaction, organization_id: str) -> AsyncIterator[SigningRequest]:
    before: str | None = None
    while True:
        some = await requests.page(
            tx, organization_id, state=State.WAITING_FOR_APPROVAL, before=before, limit=_BATCH
        )
        for request in some:
            yield request
        if len(some) < _BATCH:
            return
        before = some[-1].id


async def write_digests(tx: Transaction, now: dt.datetime) -> int:
    """Have each approver who wants it told once a day what waits; how many were written."""
    if now.hour < _DIGEST_HOUR:
        return 0
    written = 0
    for organization in await organizations.every(tx):
        approvers: set[str] = set()
        async for request in _waiting(tx, organization.id):
            if await digest_is_wanted(tx, request):
                approvers |= set(request.snapshot.fields["approvers"]) - {request.submitted_by}
        for user_id in sorted(approvers):
            key = f"digest/{now:%Y-%m-%d}/{user_id}"
            if await notifications.is_known(tx, key):
                continue
            await notifications.add(
                tx,
                Notification(organization.id, Channel.MAIL, user_id, DIGEST, now, now, key=key),
            )
            written += 1
    return written
