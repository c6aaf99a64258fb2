"""What waits, what failed, what was signed."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from sealwright.web.routes import Call, Endpoint, Face


async def home(_call: Call) -> Response:
    """The requests."""
    return RedirectResponse("/signing-requests", 303)


ENDPOINTS = (Endpoint("ui.home", "GET", "/", home, "", face=Face.UI),)
