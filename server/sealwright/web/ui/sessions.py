"""Logging in and out."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sealwright import accounts
from sealwright.db import identity_providers, users
from sealwright.errors import (
    ForbiddenError,
    InvalidInputError,
    SealwrightError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from sealwright.model.identifiers import utc_now
from sealwright.web import auth, bodies, passkeys, sign_on
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face, checked, checked_json
from sealwright.web.schemas.passkeys import AssertedCredentialIn
from sealwright.web.schemas.people import SessionIn
from sealwright.web.ui.forms import read_form
from sealwright.web.ui.rendering import page


async def login_page(call: Call) -> Response:
    """The form. Before the first organization exists, how to make it."""
    if await accounts.is_empty(call.services.database):
        return RedirectResponse("/setup", 303)
    shown = {"following": following(call.request), "fault": "", "email": ""}
    return page(call, "login.html", await log_in_options(call) | shown)


async def login(call: Call) -> Response:
    """Check the password and begin a new session."""
    auth.check_same_site(call.request)
    form = await bodies.read_page_form(call.request)
    target = _local(form.get("next", ""))
    try:
        given = checked(
            SessionIn, {"email": form.get("email", ""), "password": form.get("password", "")}
        )
        _, token, _ = await auth.log_in(
            call.services, call.request, given.email, given.password, auth.PAGE_SESSION
        )
    except (UnauthenticatedError, TooManyRequestsError, InvalidInputError) as error:
        email = form.get("email", "")[:320]
        shown = {"following": target, "fault": _told(error), "email": email}
        return page(call, "login.html", await log_in_options(call) | shown, status_of(error))
    response = RedirectResponse(target, 303)
    auth.set_session(call.services, response, token)
    return response


async def login_by_passkey(call: Call) -> Response:
    """Begin a new session of the user whose passkey it is."""
    auth.check_same_site(call.request)
    form = await bodies.read_page_form(call.request)
    target = _local(form.get("next", ""))
    try:
        given = checked_json(AssertedCredentialIn, form.get("credential", "").encode())
        user = await passkeys.authenticated_user(call.services, given.assertion())
    except (UnauthenticatedError, ForbiddenError, InvalidInputError) as error:
        shown = {"following": target, "fault": _told(error), "email": ""}
        return page(call, "login.html", await log_in_options(call) | shown, status_of(error))
    token, _ = await auth.begin_session(
        call.services, call.request, user, auth.PAGE_SESSION, "passkey"
    )
    response = RedirectResponse(target, 303)
    auth.set_session(call.services, response, token)
    return response


async def logout(call: Call) -> Response:
    """End the session here and in the database."""
    await read_form(call)
    async with call.services.database.transaction() as tx:
        await users.revoke_token(
            tx, call.grant.organization_id, call.grant.principal.token_id, utc_now()
        )
    elsewhere = await sign_on.forget(call.services, call.grant.principal.token_id)
    if elsewhere is None:
        response: Response = RedirectResponse("/login", 303)
    else:
        # a page of its own: the answer to a form may not lead to another server (form-action)
        name, address = elsewhere
        nobody = dataclasses.replace(call, authorized=None)
        response = page(nobody, "logged_out.html", {"name": name, "address": address})
    auth.clear_session(call.services, response)
    return response


async def log_in_options(call: Call) -> dict[str, Any]:
    """What the log-in page offers besides the password."""
    async with call.services.database.read() as tx:
        return {"providers": await identity_providers.every(tx)}


def following(request: Request) -> str:
    """Where the address says that the log-in leads to: a page of this server."""
    return _local(request.query_params.get("next", ""))


def _told(error: SealwrightError) -> str:
    return f"{error.message} {error.advice}".strip()


def _local(target: str) -> str:
    """Where to go after the log-in: a page of this server, nowhere else."""
    fine = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isascii()
    return target if fine and target.isprintable() else "/"


ENDPOINTS = (
    Endpoint("ui.login_page", "GET", "/login", login_page, "", face=Face.UI),
    Endpoint("ui.login", "POST", "/login", login, "", face=Face.UI),
    Endpoint("ui.login_by_passkey", "POST", "/login/passkey", login_by_passkey, "", face=Face.UI),
    Endpoint("ui.logout", "POST", "/logout", logout, "", face=Face.UI),
)
