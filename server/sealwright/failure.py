"""How a worker's attempt at a request ends badly, whatever it was at."""

from __future__ import annotations

from typing import TypeGuard

from sealwright.db import Transaction
from sealwright.errors import InternalError, SealwrightError
from sealwright.model.identifiers import utc_now
from sealwright.model.request import SigningRequest, State
from sealwright.queueing.lifecycle import advance
from sealwright.workbench import ACTOR

_FIRST_PAUSE = 5.0  #: seconds until the second attempt; three times as long for each later one
_LONGEST_PAUSE = 300.0
_MAX_REASON = 2000  #: characters


def is_expected(error: Exception) -> TypeGuard[SealwrightError]:
    """Whether it says something about the request: others say something about the server."""
    return isinstance(error, SealwrightError) and not isinstance(error, InternalError)


def pause_after(attempt: int) -> float:
    """Seconds between an attempt, counted from 1, and the next one."""
    return min(_FIRST_PAUSE * 3.0 ** (attempt - 1), _LONGEST_PAUSE)


async def fail(tx: Transaction, request: SigningRequest, error: Exception) -> None:
    """End a request by an error.

    Raises:
        ConflictError: somebody else has moved it meanwhile.
    """
    if is_expected(error):
        place = f"{error.where}: " if error.where else ""
        code, reason, advice = error.code, f"{place}{error.message}", error.advice
    else:
        code, reason = InternalError.code, "The server failed on this request."
        advice = "Ask the server's operator: the worker's log says more under the request's id."
    await advance(
        tx,
        request,
        State.FAILED,
        actor=ACTOR,
        now=utc_now(),
        data={"code": code, "stage": request.state.value, "attempt": request.attempt},
        failed_stage=request.state,
        reason=reason[:_MAX_REASON],
        advice=advice[:_MAX_REASON],
    )
