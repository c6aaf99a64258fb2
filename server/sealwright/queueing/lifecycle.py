"""The one function that moves a signing request from state to state."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sealwright.db import Transaction, plans, requests
from sealwright.errors import ConflictError
from sealwright.model.request import RequestKind, SigningRequest, State
from sealwright.reporting.notify import notify
from sealwright.reporting.outbox import announce
from sealwright.transparency.record import record, request_entry


async def advance(
    tx: Transaction,
    request: SigningRequest,
    to: State,
    *,
    actor: str,
    now: dt.datetime,
    data: Mapping[str, Any] | None = None,
    address: str = "",
    **changes: Any,
) -> SigningRequest:
    """Move `request`, as it was read, to `to`, log it, have it reported where its origin is
    verified, and whom it concerns told: all in the same transaction. Of an artifact that comes to
    wait for approval, what would be signed is to be shown: it is to be planned.

    Args:
        data: goes into the log's leaf besides the two states.
        address: where the actor called from.
        changes: other fields of the request that change with it.

    Returns:
        The request as it is once `tx` commits.

    Raises:
        ConflictError: the step is not in the table, or somebody else moved the request meanwhile.
    """
    moved = await requests.move(tx, request, to, now, **changes)
    if moved is None:
        message = f"The signing request {request.id} was changed by somebody else meanwhile."
        raise ConflictError(message, advice="Read it again and decide anew.")
    if to is State.WAITING_FOR_APPROVAL and request.kind is RequestKind.ARTIFACT:
        await plans.ask_ahead(tx, request.id, now)
    entry = request_entry(
        request,
        f"request.{_verb(to)}",
        actor=actor,
        now=now,
        data={"from": request.state.value, "to": to.value} | dict(data or {}),
        address=address,
    )
    await record(tx, entry)
    await announce(tx, moved, now)
    await notify(tx, moved, now)
    return moved


def _verb(state: State) -> str:
    """``QueuedForProcessing`` -> ``queued_for_processing``: the log's grammar for actions."""
    return "".join(
        f"_{letter.lower()}" if letter.isupper() and index else letter.lower()
        for index, letter in enumerate(state.value)
    )
