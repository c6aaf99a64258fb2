"""Canceling a signing request that is not finished."""

from __future__ import annotations

from sealwright.db import Database
from sealwright.errors import ConflictError
from sealwright.model.identifiers import utc_now
from sealwright.model.request import SigningRequest, State
from sealwright.policy.permissions import Grant, check_may_cancel
from sealwright.queueing import lifecycle
from sealwright.queueing.queue import Queue
from sealwright.visible import find_request


async def cancel(
    database: Database, queue: Queue, grant: Grant, request_id: str, reason: str = ""
) -> SigningRequest:
    """End the request for good. A worker that has it notices when it next renews its lease.

    Raises:
        NotFoundError: missing, or not for the caller.
        ForbiddenError: the caller is neither its submitter nor an administrator.
        ConflictError: it is finished.
    """
    async with database.transaction() as tx:
        request = await find_request(tx, grant, request_id, lock=True)
        check_may_cancel(grant.user, request)
        if request.state.is_final:
            message = f"The signing request is {request.state.value} already."
            raise ConflictError(message)
        request = await lifecycle.advance(
            tx,
            request,
            State.CANCELED,
            actor=grant.actor,
            now=utc_now(),
            address=grant.principal.address,
            reason=reason,
        )
    await queue.announce(request.id)
    return request
