"""Log-out that begins at an identity provider (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from sealwright.errors import SealwrightError
from sealwright.web import bodies, sign_on
from sealwright.web.problems import status_of
from sealwright.web.routes import Answer, Call, Endpoint


async def log_out(call: Call) -> Response:
    """End the sessions that the provider says have ended."""
    form = await bodies.read_page_form(call.request)
    token = form.get("logout_token", "")
    await sign_on.end_sessions(call.services, call.request, call.path("provider"), token)
    return Response(None, 200, {"Cache-Control": "no-store"})


def problem(error: SealwrightError) -> Response:
    """An error as OAuth has them (2.8)."""
    status = status_of(error)
    body = {"error": "invalid_request" if status < 500 else "server_error"}
    if status < 500:
        body["error_description"] = error.message
    return JSONResponse(body, status, {"Cache-Control": "no-store"})


ENDPOINTS = (
    Endpoint(
        "sign_on.log_out",
        "POST",
        "/login/back-channel/{provider}",
        log_out,
        "Take a logout token of an identity provider",
        (Answer(200, "The sessions have ended", None),),
        {"application/x-www-form-urlencoded": None},
        problem=problem,
    ),
)
