"""Single sign-on in the browser: to the identity provider, and back from it."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from sealwright.errors import (
    ForbiddenError,
    OriginError,
    UnauthenticatedError,
    UnavailableError,
)
from sealwright.web import auth, sign_on
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.ui.rendering import page
from sealwright.web.ui.sessions import following, log_in_options

_COOKIE_SECONDS = 600


async def begin(call: Call) -> Response:
    """Off to the identity provider."""
    target, state = await sign_on.begin(
        call.services, call.request, call.path("provider"), following(call.request)
    )
    response = RedirectResponse(target, 303)
    response.set_cookie(
        _cookie(call),
        state,
        max_age=_COOKIE_SECONDS,
        path="/",
        secure=call.services.is_https,
        httponly=True,
        samesite="lax",  # the provider's answer is a navigation from another site
    )
    return response


async def finish(call: Call) -> Response:
    """Back from it: a new session, or why not."""
    cookie = call.request.cookies.get(_cookie(call), "")
    try:
        arrival = await sign_on.finish(call.services, call.request, cookie)
    except (UnauthenticatedError, ForbiddenError, OriginError, UnavailableError) as error:
        shown = await log_in_options(call)
        shown |= {"following": "/", "fault": f"{error.message} {error.advice}", "email": ""}
        return page(call, "login.html", shown, status_of(error))
    text, token = await auth.begin_session(
        call.services, call.request, arrival.user, auth.PAGE_SESSION, "single-sign-on"
    )
    await sign_on.remember(call.services, arrival, token.id)
    response = RedirectResponse(arrival.following, 303)
    response.delete_cookie(
        _cookie(call), path="/", secure=call.services.is_https, httponly=True, samesite="lax"
    )
    auth.set_session(call.services, response, text)
    return response


def _cookie(call: Call) -> str:
    return "__Host-sealwright-sign-on" if call.services.is_https else "sealwright-sign-on"


ENDPOINTS = (
    Endpoint("ui.sign_on_callback", "GET", "/login/callback", finish, "", face=Face.UI),
    Endpoint("ui.sign_on", "GET", "/login/with/{provider}", begin, "", face=Face.UI),
)
