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
from sealwright.errors import ConflictError, EndorsementAwaitedError, UnavailableError
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import RelyingParty
from sealwright.model.request import SigningRequest, State
from sealwright.queueing.lifecycle import advance
from sealwright.queueing.progress import ProgressMeter
from sealwright.reporting.objections import find_objection, tell_endorsers
from sealwright.reporting.outbox import announce

#: longest time until a worker learns that its request was canceled, and others how far it is
_NOTICE_SECONDS = 1.0
#: What waits for an endorsement is looked at when one was given. And after so long besides: the
#: last trusted passkey may have been taken back at the signer's socket.
LOOK_AGAIN = dt.timedelta(minutes=5)
_ACTOR = "worker"


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
                request = await _look(tx, request, rp, now)
            except ConflictError:
                return None
        if request.state is State.WAITING_FOR_ENDORSEMENT:
            return request
        until = now + dt.timedelta(seconds=seconds)
        claimed = await requests.claim(tx, request, now, until)
        if claimed is not None:
            await announce(tx, claimed, now)
        return claimed


async def _look(
    tx: Transaction, request: SigningRequest, rp: RelyingParty, now: dt.datetime
) -> SigningRequest:
    """Have the request wait for an endorsement, or wait no more."""
    objection = await find_objection(tx, request, rp)
    if isinstance(objection, EndorsementAwaitedError):
        return await wait_for_endorsement(tx, request, objection, now)
    if request.state is State.QUEUED:
        return request
    return await advance(
        tx, request, State.QUEUED, actor=_ACTOR, now=now, lease_until=None, reason="", advice=""
    )


async def wait_for_endorsement(
    tx: Transaction, request: SigningRequest, missing: EndorsementAwaitedError, now: dt.datetime
) -> SigningRequest:
    """Put the request where it waits for what is missing, or say there what is missing now.

    Raises:
        ConflictError: somebody else moved the request meanwhile.
    """
    said: dict[str, Any] = {"reason": missing.message, "advice": missing.advice}
    if request.state is not State.WAITING_FOR_ENDORSEMENT:
        # looked at once more at once: an endorsement may have come while this was decided
        said |= {"lease_until": None, "progress": None}
        to = State.WAITING_FOR_ENDORSEMENT
        await tell_endorsers(tx, request, missing, now)
        return await advance(tx, request, to, actor=_ACTOR, now=now, **said)
    until = now + LOOK_AGAIN
    if request.reason == missing.message:
        await requests.postpone(tx, request, until)
        return request
    amended = await requests.amend(tx, request, now, lease_until=until, **said)
    if amended is not None:
        await announce(tx, amended, now, again=True)
    return amended or request


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
