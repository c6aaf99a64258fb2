"""A worker's claim on a signing request: taken, renewed while it works, and given back.

The claim is the pair of attempt number and lease in the request's row. Whoever holds the newest
attempt may write; everybody else finds its compare-and-set refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Coroutine
from typing import Any

from sealwright.db import Database, Transaction, requests
from sealwright.errors import ConflictError, UnavailableError
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import RelyingParty
from sealwright.model.request import SigningRequest, State
from sealwright.queueing.endorsement_waits import wait_or_go_on
from sealwright.queueing.progress import ProgressMeter
from sealwright.reporting.outbox import announce

#: longest time until a worker learns that its request was canceled, and others how far it is
_NOTICE_SECONDS = 1.0


class LeaseLostError(ConflictError):
    """The request was canceled, finished, or taken over by a newer attempt."""


async def claim(
    database: Database, request_id: str, seconds: float, rp: RelyingParty
) -> SigningRequest | None:
    """Begin an attempt; None where the request is not due or somebody else works on it. Where the
    signer would not sign for want of an endorsement, no attempt begins: the request comes back as
    waiting for it.

    Args:
        rp: the server that passkeys are for.

    Raises:
        UnavailableError: the database is away.
    """
    async with database.transaction() as tx:
        request = await requests.get_any(tx, request_id)
        if request is None or request.state not in requests.WORKABLE:
            return None
        now = utc_now()
        if request.state in {State.QUEUED, State.WAITING_FOR_ENDORSEMENT}:
            try:
                request = await wait_or_go_on(tx, request, rp, now)
            except ConflictError:
                return None
        if request.state is State.WAITING_FOR_ENDORSEMENT:
            return request
        until = now + dt.timedelta(seconds=seconds)
        claimed = await requests.claim(tx, request, now, until)
        if claimed is not None:
            await announce(tx, claimed, now)
        return claimed


async def hold(
    database: Database,
    request: SigningRequest,
    seconds: float,
    work: Coroutine[Any, Any, None],
    meter: ProgressMeter,
) -> None:
    """Run `work`, renewing the lease in the background; whatever `work` raises comes out.

    Args:
        meter: its reading is written with each renewal.

    Raises:
        LeaseLostError: the lease was lost; `work` has been cancelled and has ended.
    """
    working = asyncio.create_task(work)
    renewing = asyncio.create_task(_renew(database, request, seconds, meter))
    try:
        await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        else:
            renewing.result()
    finally:
        for task in (working, renewing):
            task.cancel()
        await asyncio.gather(working, renewing, return_exceptions=True)


async def _renew(
    database: Database, request: SigningRequest, seconds: float, meter: ProgressMeter
) -> None:
    """Renew until the lease is lost. While the database is away, until it has run out."""
    loop = asyncio.get_running_loop()
    held_until = loop.time() + seconds
    while True:
        await asyncio.sleep(min(seconds / 4, _NOTICE_SECONDS))
        asked = loop.time()
        with contextlib.suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(max(held_until - asked, 0.01)), database.transaction() as tx:
                until = utc_now() + dt.timedelta(seconds=seconds)
                if not await requests.renew(tx, request, until, meter.reading):
                    raise _lost(request)
            held_until = asked + seconds
        if loop.time() >= held_until:
            raise _lost(request)


async def require(tx: Transaction, request: SigningRequest) -> None:
    """Lock the request until `tx` ends, and make sure that this attempt still holds it.

    Raises:
        LeaseLostError: it does not.
    """
    present = await requests.get(tx, request.organization_id, request.id, lock=True)
    if present is None or (present.state, present.attempt) != (request.state, request.attempt):
        raise _lost(request)


async def give_back(database: Database, request: SigningRequest, pause: float) -> None:
    """End the attempt without a result: the request is due again after `pause` seconds.

    Raises:
        UnavailableError: the database is away; the lease then runs out by itself.
    """
    now = utc_now()
    due = now + dt.timedelta(seconds=pause) if pause else None
    async with database.transaction() as tx:
        await requests.amend(tx, request, now, lease_until=due)


def _lost(request: SigningRequest) -> LeaseLostError:
    message = f"Attempt {request.attempt} no longer holds the signing request {request.id}."
    return LeaseLostError(message)
