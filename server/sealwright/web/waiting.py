"""Following a request: long polling and server-sent events over `Queue.wait`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response, StreamingResponse

from sealwright.model.request import Progress, SigningRequest
from sealwright.policy.permissions import Grant
from sealwright.visible import find_request
from sealwright.web.routes import Call
from sealwright.web.services import Services

KEEP_ALIVE_SECONDS = 15.0
STREAM_SECONDS = 30 * 60.0  #: the client connects again


async def wait_until(
    call: Call, request_id: str, seconds: float, done: Callable[[SigningRequest], bool]
) -> SigningRequest:
    """The request once it is `done`, or as it is when the seconds are over.

    Raises:
        NotFoundError: missing, or not for the caller.
        ClientDisconnect: nobody waits any more.
    """
    if seconds <= 0:
        return await _read(call.services, call.grant, request_id)
    return await call.until_gone(
        call.services.queue.wait(
            request_id,
            lambda: _read(call.services, call.grant, request_id),
            done,
            seconds,
            end_only=done is is_final,
        )
    )


def is_final(request: SigningRequest) -> bool:
    """Whether nothing will change any more."""
    return request.state.is_final


def is_news(known: str) -> Callable[[SigningRequest], bool]:
    """Tell whether a request is final, or another than the version that its reader knows.

    Args:
        known: empty: only the end is news.
    """
    if not known:
        return is_final
    return lambda request: request.state.is_final or known != request.version


async def event_stream(call: Call, request_id: str) -> Response:
    """Server-sent events (HTML, 9.2): one ``state`` event now and for each change, to the last, and
    ``progress`` events while a worker is at it.

    Raises:
        NotFoundError: missing, or not for the caller.
    """
    first = await _read(call.services, call.grant, request_id)
    return StreamingResponse(
        _events(call.services, call.grant, first),
        headers={"X-Accel-Buffering": "no"},
        media_type="text/event-stream",
    )


async def _events(
    services: Services, grant: Grant, request: SigningRequest
) -> AsyncIterator[bytes]:
    ends = asyncio.get_running_loop().time() + STREAM_SECONDS
    yield b"retry: 2000\n\n" + _event(request)
    while not request.state.is_final and asyncio.get_running_loop().time() < ends:
        following = await _next(services, grant, request)
        if following.version != request.version:
            yield _event(following)
        elif following.progress is not None and following.progress != request.progress:
            yield _progress_event(following.progress)
        else:
            yield b": still here\n\n"
        request = following


async def _next(services: Services, grant: Grant, seen: SigningRequest) -> SigningRequest:
    return await services.queue.wait(
        seen.id,
        lambda: _read(services, grant, seen.id),
        lambda now: (now.version, now.progress) != (seen.version, seen.progress),
        KEEP_ALIVE_SECONDS,
    )


def _event(request: SigningRequest) -> bytes:
    facts = {
        "id": request.id,
        "state": request.state.value,
        "is_final": request.state.is_final,
        "version": request.version,
    }
    return f"id: {request.version}\nevent: state\ndata: {json.dumps(facts)}\n\n".encode()


def _progress_event(progress: Progress) -> bytes:
    return f"event: progress\ndata: {json.dumps(dataclasses.asdict(progress))}\n\n".encode()


async def _read(services: Services, grant: Grant, request_id: str) -> SigningRequest:
    async with services.database.read() as tx:
        return await find_request(tx, grant, request_id)
