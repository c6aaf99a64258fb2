"""Where build systems send their webhooks. The body is verified as it came, before it is parsed."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from sealwright.db import build_systems
from sealwright.deliveries import keep
from sealwright.model.identifiers import is_id
from sealwright.visible import missing
from sealwright.web import bodies
from sealwright.web.routes import Answer, Call, Endpoint

MAX_WEBHOOK_BYTES = 25 << 20  #: GitHub sends no larger ones


async def receive(call: Call) -> Response:
    """Verify a delivery and keep it; a worker acts on it."""
    services = call.services
    name = call.path("build_system")
    system = None
    if is_id(name):
        async with services.database.read() as tx:
            system = await build_systems.get_any(tx, name)
    if system is None or not system.enabled:
        raise missing(name, "trusted build system")
    connector = await services.systems.connector(system)
    body = await bodies.read(call.request, MAX_WEBHOOK_BYTES)
    event = await services.systems.ask(connector.webhook, dict(call.request.headers), body)
    outcome = await keep(services.database, system, event)
    return JSONResponse({"outcome": outcome}, 202)


ENDPOINTS = (
    Endpoint(
        "webhooks.receive",
        "POST",
        "/webhooks/{build_system}",
        receive,
        "Receive a build system's webhook",
        (Answer(202, "Kept, or of no meaning here", None),),
        {"application/json": None},
    ),
)
