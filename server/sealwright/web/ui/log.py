"""The log's head, and how to check it without this server."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import log as db_log
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.ui.rendering import page


async def log(call: Call) -> Response:
    """The head and what to do with it."""
    async with call.services.database.read() as tx:
        head = await db_log.head(tx)
    return page(call, "log.html", {"head": head, "url": call.services.settings.url})


ENDPOINTS = (Endpoint("ui.log", "GET", "/log", log, "", face=Face.UI),)
