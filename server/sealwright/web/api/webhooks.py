"""Where build systems send their webhooks. The body is verified as it came, before it is parsed."""

from __future__ import annotations

import logging

from starlette.responses import JSONResponse, Response

from sealwright.db import build_systems
from sealwright.deliveries import keep
from sealwright.errors import UnauthenticatedError
from sealwright.model.identifiers import is_id
from sealwright.web import bodies
from sealwright.web.routes import Answer, Call, Endpoint

_log = logging.getLogger(__name__)

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
        raise _unproven()  # whether there is such a system is nobody's business
    connector = await services.systems.connector(system)
    body = await bodies.read(call.request, MAX_WEBHOOK_BYTES)
    try:
        event = await services.systems.ask(connector.webhook, dict(call.request.headers), body)
    except UnauthenticatedError as error:
        _log.warning("webhook of %s refused: %s", system.slug, error)
        raise _unproven() from error
    outcome = await keep(services.database, system, event)
    return JSONResponse({"outcome": outcome}, 202)


def _unproven() -> UnauthenticatedError:
    message = "The webhook's address, or its signature, is wrong."
    return UnauthenticatedError(message, advice="Compare both with those of the build system.")


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
