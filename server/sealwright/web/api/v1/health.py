"""Health, for those who start, watch and balance the server."""

from __future__ import annotations

from starlette.responses import Response

from sealwright import __version__
from sealwright.errors import UnavailableError
from sealwright.web.answers import json_answer
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.health import HealthOut, LiveOut


async def live(_call: Call) -> Response:
    """The process runs."""
    return json_answer(LiveOut(version=__version__))


async def ready(call: Call) -> Response:
    """Database, queue and artifact store answer. Without the queue requests are still taken in."""
    services = call.services
    database = store = True
    try:
        await services.database.check()
    except UnavailableError:
        database = False
    try:
        await services.store.health()
    except UnavailableError:
        store = False
    queue = await services.queue.healthy()
    is_ready = database and store
    out = HealthOut(ready=is_ready, database=database, queue=queue, store=store)
    return json_answer(out, 200 if is_ready else 503)


ENDPOINTS = (
    Endpoint(
        "health.live",
        "GET",
        "/healthz",
        live,
        "Tell whether the process runs",
        (Answer(200, "It does", LiveOut),),
    ),
    Endpoint(
        "health.ready",
        "GET",
        "/readyz",
        ready,
        "Tell whether the server can work",
        (Answer(200, "It can", HealthOut), Answer(503, "It cannot", HealthOut)),
    ),
)
