"""Requests that wait for an endorsement, since the signer would not sign without it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sealwright.db import Transaction, requests
from sealwright.errors import EndorsementAwaitedError
from sealwright.model.passkey import RelyingParty
from sealwright.model.request import SigningRequest, State
from sealwright.queueing.lifecycle import advance
from sealwright.reporting.objections import find_objection, tell_endorsers
from sealwright.reporting.outbox import announce

#: What waits for an endorsement is looked at when one was given. And after so long besides: the
#: last trusted passkey may have been taken back at the signer's socket.
LOOK_AGAIN = dt.timedelta(minutes=5)
_ACTOR = "worker"


async def wait_or_go_on(
    tx: Transaction, request: SigningRequest, rp: RelyingParty, now: dt.datetime
) -> SigningRequest:
    """Have a request that is due wait for an endorsement, or wait no more.

    Args:
        rp: the server that passkeys are for.

    Raises:
        ConflictError: somebody else moved the request meanwhile.
    """
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
