"""Puts right what the queue lost: the database is asked for what is due, and that is enqueued anew.

Runs in every worker. What it does twice is harmless: a request is worked on by who claims it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random

from sealwright.db import Database, plans, requests
from sealwright.errors import ConflictError, SealwrightError
from sealwright.model.identifiers import utc_now
from sealwright.model.request import SigningRequest, State
from sealwright.queueing.lifecycle import advance
from sealwright.queueing.queue import Queue

_log = logging.getLogger(__name__)

#: between two rounds of one worker, on average
ROUND_SECONDS = 2.0
#: what changed more recently is left to the message that was sent with it
QUIET_SECONDS = 2.0
#: a request still Submitted after so long was abandoned by the process that took it in
STRANDED_SECONDS = 3600.0


async def reconcile_forever(database: Database, queue: Queue) -> None:
    """Reconcile every `ROUND_SECONDS`, spread out so that many workers do not ask at once."""
    while True:
        await asyncio.sleep(ROUND_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
        try:
            await reconcile(database, queue, utc_now())
        except SealwrightError as error:
            _log.warning("cannot reconcile now: %s", error)


async def reconcile(database: Database, queue: Queue, now: dt.datetime) -> int:
    """Enqueue what is due and not in the queue; how many. Fail what is stranded, or was not decided
    in time.

    Raises:
        UnavailableError: the database or the queue is away.
    """
    async with database.read() as tx:
        due = await requests.due(tx, now, quiet_seconds=QUIET_SECONDS)
        stranded = await requests.stranded(tx, now, quiet_seconds=STRANDED_SECONDS)
        undecided = await requests.undecided(tx, now)
        unplanned = await plans.due_ahead(tx, now - dt.timedelta(seconds=QUIET_SECONDS))
    lost = sorted(set(due) - await queue.waiting(due)) if due else []
    for request_id in lost:
        await queue.enqueue(request_id)
    if lost:
        _log.info("enqueued %d requests that the queue had lost", len(lost))
    for request_id in sorted(set(unplanned) - await queue.plans_waiting()) if unplanned else []:
        await queue.enqueue_plan(request_id)
    for request in stranded:
        reason = "The server was interrupted while it took the request in."
        await _give_up(database, queue, request, now, reason, "Submit the artifact again.")
    for request in undecided:
        hours = request.snapshot.fields.get("approval_hours")
        endorsing = request.state is State.WAITING_FOR_ENDORSEMENT
        missing = "The endorsement did not come" if endorsing else "Nobody decided"
        reason = f"{missing} within the {hours} hours that the signing policy gives."
        advice = f"Retry it, and have it {'endorsed' if endorsing else 'decided'}."
        await _give_up(database, queue, request, now, reason, advice)
    return len(lost)


async def _give_up(
    database: Database,
    queue: Queue,
    request: SigningRequest,
    now: dt.datetime,
    reason: str,
    advice: str,
) -> None:
    """Fail a request where it stands, unless it has moved meanwhile."""
    try:
        async with database.transaction() as tx:
            await advance(
                tx,
                request,
                State.FAILED,
                actor="system",
                now=now,
                failed_stage=request.state,
                reason=reason,
                advice=advice,
            )
    except ConflictError:
        return
    await queue.announce(request.id)
