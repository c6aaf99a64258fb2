"""Planning ahead: what would be signed is shown to those who decide on it.

`plan_ahead` is called with the id of a request that may wait for that. As `fulfil`, it may be
called too often, too late, or by many workers at once: a claim in the database decides who works.
What is signed afterwards is planned anew, and compared with what is recorded here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Coroutine
from typing import Any

from sealwright import decided
from sealwright.db import Database, Transaction, plans, requests
from sealwright.errors import (
    ArtifactError,
    ConflictError,
    InternalError,
    UnavailableError,
)
from sealwright.failure import fail, is_expected, pause_after
from sealwright.model.identifiers import utc_now
from sealwright.model.plan import AheadClaim, StoredPlan
from sealwright.model.request import SigningRequest, State
from sealwright.planning import fetch, make_plan
from sealwright.queueing.claims import CLAIM
from sealwright.reporting.notify import plan_is_known
from sealwright.signing.artifact import Identity
from sealwright.signing.stored_plan import stored_plan
from sealwright.signing.team import is_divisible, team_of
from sealwright.workbench import Workbench

_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 10


class _UnwantedError(ConflictError):
    """The request waits no more, or another worker plans it."""


async def plan_ahead(bench: Workbench, request_id: str) -> None:
    """Plan a request that waits for approval, if that is due: to the end, or until a later attempt
    may do better. A request that cannot be signed as it is configured fails at once.

    Raises:
        UnavailableError: the database is away; the reconciler comes back to the request.
        asyncio.CancelledError: the worker stops; another one may take it up.
    """
    claimed = await _claim(bench.database, request_id)
    if claimed is None:
        return
    request, claim = claimed
    try:
        plan = await _while_wanted(bench.database, claim, _make(bench, request))
        await _record(bench, request, claim, plan)
    except _UnwantedError:
        _log.info("%s: waits no more for its plan", request.id)
    except asyncio.CancelledError:
        await asyncio.shield(_end(bench, request, claim, again=utc_now(), uncounted=True))
        await bench.queue.enqueue_plan(request.id)
        raise
    except Exception as error:  # noqa: BLE001 - the job wrapper: whatever it is, it ends the attempt
        await _end_badly(bench, request, claim, error)


async def _claim(database: Database, request_id: str) -> tuple[SigningRequest, AheadClaim] | None:
    now = utc_now()
    async with database.transaction() as tx:
        claim = await plans.claim_ahead(tx, request_id, now, now + CLAIM)
        request = await requests.get_any(tx, request_id) if claim else None
    return (request, claim) if request and claim else None


async def _while_wanted(
    database: Database, claim: AheadClaim, work: Coroutine[Any, Any, StoredPlan]
) -> StoredPlan:
    """Run `work`, renewing the claim; whatever it raises comes out.

    Raises:
        _UnwantedError: the claim is lost, or the request was decided; the work has ended.
    """
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({working}, timeout=CLAIM.total_seconds() / 5))[0]:
            # while the database is away the claim runs out: then two may work, and one records
            with contextlib.suppress(UnavailableError):
                async with database.transaction() as tx:
                    if not await plans.renew_ahead(tx, claim, utc_now() + CLAIM):
                        raise _unwanted(claim)
        return working.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _make(bench: Workbench, request: SigningRequest) -> StoredPlan:
    """What is made of it for signing, with the same limits."""
    artifact = request.input
    if artifact is None:
        message = "The request has no artifact."
        raise InternalError(message)
    seconds = bench.settings.request_seconds
    try:
        async with asyncio.timeout(seconds) as limit:
            async with bench.database.read() as tx:
                configuration = await decided.configuration(tx, request)
                certificate = await decided.certificate(tx, request)
            identity = Identity(certificate.certificate, certificate.chain)
            bench.scratch.require_room(artifact.size)
            divisible = is_divisible(configuration.encode(), artifact.size)
            async with bench.room, team_of(bench.children, bench.room, divisible=divisible) as team:
                await fetch(bench, artifact, team.first)
                await team.share_input()
                now = int(utc_now().timestamp())
                plan = await make_plan(request, team, configuration, identity, now)
                listing = team.listing
            return await asyncio.to_thread(stored_plan, plan, listing)
    except TimeoutError:
        if not limit.expired():
            raise
        message = f"Planning took longer than {seconds:.0f} s."
        raise ArtifactError(
            message, advice="Submit a smaller artifact, or have request_seconds raised."
        ) from None


async def _record(
    bench: Workbench, request: SigningRequest, claim: AheadClaim, plan: StoredPlan
) -> None:
    """Write the plan down, unless somebody has decided meanwhile: they did not see it."""
    async with bench.database.transaction() as tx:
        present = await _require_waiting(tx, request)
        if not await plans.end_ahead(tx, claim, plan):
            raise _unwanted(claim)
        await _tell_readers(tx, present)
    _log.info("%s: planned for who decides", request.id)
    await bench.queue.announce(request.id)


async def _end_badly(
    bench: Workbench, request: SigningRequest, claim: AheadClaim, error: Exception
) -> None:
    """Fail the request, or leave the plan to a later attempt where that may do better."""
    if is_expected(error):
        _log.warning("%s: planning, attempt %d: %s", request.id, claim.attempt, error)
    else:
        _log.error("%s: planning, attempt %d", request.id, claim.attempt, exc_info=error)
    try:
        if isinstance(error, UnavailableError) or not is_expected(error):
            again = utc_now() + dt.timedelta(seconds=pause_after(claim.attempt))
            await _end(bench, request, claim, again=again)
            return
        async with bench.database.transaction() as tx:
            present = await _require_waiting(tx, request)
            if await plans.end_ahead(tx, claim, None):
                await fail(tx, present, error)
    except ConflictError:
        _log.info("%s: somebody else has moved the request on", request.id)
    except UnavailableError as away:
        _log.warning("%s: %s The claim runs out by itself.", request.id, away.message)
    await bench.queue.announce(request.id)


async def _end(
    bench: Workbench,
    request: SigningRequest,
    claim: AheadClaim,
    *,
    again: dt.datetime,
    uncounted: bool = False,
) -> None:
    """End an attempt that made nothing: it is due `again`, unless it was the last."""
    last = claim.attempt >= MAX_ATTEMPTS and not uncounted
    try:
        async with bench.database.transaction() as tx:
            ended = await plans.end_ahead(
                tx, claim, None, again=None if last else again, uncounted=uncounted
            )
            if ended and last:
                present = await requests.get(tx, request.organization_id, request.id, lock=True)
                if present is not None:
                    await _tell_readers(tx, present)
    except UnavailableError as away:
        _log.warning("%s: %s The claim runs out by itself.", request.id, away.message)


async def _require_waiting(tx: Transaction, request: SigningRequest) -> SigningRequest:
    """Lock the request until `tx` ends; it as it is now.

    Raises:
        _UnwantedError: it waits no more.
    """
    present = await requests.get(tx, request.organization_id, request.id, lock=True)
    if present is None or present.state is not State.WAITING_FOR_APPROVAL:
        message = f"The signing request {request.id} does not wait for approval any more."
        raise _UnwantedError(message)
    return present


async def _tell_readers(tx: Transaction, request: SigningRequest) -> None:
    """Another version: pages that show the request are drawn anew. Approvers hear of it now."""
    now = utc_now()
    await requests.amend(tx, request, now)
    await plan_is_known(tx, request, now)


def _unwanted(claim: AheadClaim) -> _UnwantedError:
    message = f"Attempt {claim.attempt} no longer plans the signing request {claim.request_id}."
    return _UnwantedError(message)
