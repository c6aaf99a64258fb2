"""The pages: log-in, requests, one request, the log. Rendered here; no page needs a script."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sealwright.approve import approve_or_deny
from sealwright.cancel import cancel as cancel_request
from sealwright.db import log as db_log
from sealwright.db import requests, users
from sealwright.errors import (
    InvalidInputError,
    SealwrightError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from sealwright.model.identifiers import utc_now
from sealwright.model.request import SigningRequest, State, Verdict
from sealwright.policy.approvals import may_decide
from sealwright.policy.permissions import may_cancel
from sealwright.visible import find_policy, find_request, missing, project_ids
from sealwright.web import auth, bodies, views
from sealwright.web.answers import next_cursor, read_cursor
from sealwright.web.api.v1.signing_requests import find, signed_of, unsigned_of
from sealwright.web.downloads import artifact_response
from sealwright.web.problems import status_of
from sealwright.web.proofs import proof_response
from sealwright.web.routes import Call, Endpoint, Face, checked
from sealwright.web.schemas import RequestsQuery, SessionIn
from sealwright.web.waiting import event_stream

_FOLDER = Path(__file__).parent.parent
_TEMPLATES = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"), autoescape=True, undefined=StrictUndefined
)
_STATIC = {
    name: ((_FOLDER / "static" / name).read_bytes(), media_type)
    for name, media_type in (
        ("style.css", "text/css; charset=utf-8"),
        ("live.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    )
}
_PAGE_SIZE = 25
_MAX_COMMENT = 4000


async def static(call: Call) -> Response:
    """A file of the pages: one of the few that there are."""
    found = _STATIC.get(call.path("file"))
    if found is None:
        raise missing(call.path("file"), "file")
    content, media_type = found
    return Response(content, 200, {"Cache-Control": "public, max-age=3600"}, media_type)


async def login_page(call: Call) -> Response:
    """The form."""
    return _page(call, "login.html", {"following": _following(call.request), "fault": ""})


async def login(call: Call) -> Response:
    """Check the password and begin a new session."""
    auth.check_same_site(call.request)
    form = await bodies.read_page_form(call.request)
    following = _local(form.get("next", ""))
    try:
        given = checked(
            SessionIn, {"email": form.get("email", ""), "password": form.get("password", "")}
        )
        _, token, _ = await auth.log_in(
            call.services, call.request, given.email, given.password, auth.PAGE_SESSION
        )
    except (UnauthenticatedError, TooManyRequestsError, InvalidInputError) as error:
        shown = {"following": following, "fault": error.message}
        return _page(call, "login.html", shown, status_of(error))
    response = RedirectResponse(following, 303)
    auth.set_session(call.services, response, token)
    return response


async def logout(call: Call) -> Response:
    """End the session here and in the database."""
    await _checked_form(call)
    async with call.services.database.transaction() as tx:
        await users.revoke_token(
            tx, call.grant.organization_id, call.grant.principal.token_id, utc_now()
        )
    response = RedirectResponse("/login", 303)
    auth.clear_session(call.services, response)
    return response


async def home(_call: Call) -> Response:
    """The requests."""
    return RedirectResponse("/signing-requests", 303)


async def listing(call: Call) -> Response:
    """Requests, newest first."""
    query = call.query(RequestsQuery)
    grant = call.grant
    async with call.services.database.read() as tx:
        found = await requests.page(
            tx,
            grant.organization_id,
            project_ids=await project_ids(tx, grant),
            state=query.state,
            before=read_cursor(query.cursor),
            limit=_PAGE_SIZE,
        )
        people = await views.names(tx, grant.organization_id, [r.submitted_by for r in found])
    shown = {
        "requests": found,
        "people": people,
        "states": list(State),
        "state": query.state,
        "cursor": next_cursor(found, _PAGE_SIZE, lambda one: one.id),
    }
    return _page(call, "requests.html", shown)


async def detail(call: Call) -> Response:
    """One request: what, from where, decided by whom, with which result."""
    grant = call.grant
    async with call.services.database.read() as tx:
        request = await find_request(tx, grant, call.path("request"))
        out = await views.request_out(tx, request, call.services.settings.url)
        decisions = await requests.decisions(tx, request.id)
        policy = await find_policy(tx, grant, None, request.signing_policy_id)
    shown = {
        "request": out,
        "may_decide": may_decide(grant.user, request, policy, decisions),
        "may_cancel": may_cancel(grant.user, request),
        "stages": _stages(request),
    }
    return _page(call, "request.html", shown)


async def events(call: Call) -> Response:
    """Each change, for the page's script."""
    return await event_stream(call, call.path("request"))


async def approve(call: Call) -> Response:
    """Approve, and back to the page."""
    return await _decide(call, Verdict.APPROVE)


async def deny(call: Call) -> Response:
    """Deny, and back to the page."""
    return await _decide(call, Verdict.DENY)


async def _decide(call: Call, verdict: Verdict) -> Response:
    form = await _checked_form(call)
    services = call.services
    await approve_or_deny(
        services.database,
        services.queue,
        call.grant,
        call.path("request"),
        verdict,
        form.get("comment", "")[:_MAX_COMMENT],
    )
    return _back(call)


async def cancel(call: Call) -> Response:
    """Cancel, and back to the page."""
    await _checked_form(call)
    services = call.services
    await cancel_request(services.database, services.queue, call.grant, call.path("request"))
    return _back(call)


async def signed_artifact(call: Call) -> Response:
    """The signed bytes."""
    artifact = signed_of(await find(call))
    return await artifact_response(call.request, call.services.store, artifact)


async def unsigned_artifact(call: Call) -> Response:
    """The bytes that were submitted."""
    artifact = unsigned_of(await find(call))
    return await artifact_response(call.request, call.services.store, artifact)


async def proof(call: Call) -> Response:
    """The proof of the release."""
    return await proof_response(call.services, await find(call))


async def log(call: Call) -> Response:
    """The log's head, and how to check it without this server."""
    async with call.services.database.read() as tx:
        head = await db_log.head(tx)
    return _page(call, "log.html", {"head": head, "url": call.services.settings.url})


def error_page(request: Request, error: SealwrightError) -> Response:
    """An error as a page; who is not logged in gets the form instead."""
    if isinstance(error, UnauthenticatedError):
        target = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/login?next={quote(target, safe='/')}", 303)
    status = status_of(error)
    shown = {
        "title": "The server failed" if status == 500 else "That did not work",
        "message": "Try again later." if status == 500 else error.message,
        "advice": "" if status == 500 else error.advice,
        "user": None,
    }
    return _rendered("error.html", shown, status)


def _page(call: Call, template: str, shown: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    context: dict[str, Any] = {"user": None, "csrf": ""} | dict(shown)
    if call.authorized:
        token = auth.page_token(call.services, call.request)
        context |= {"user": call.grant.user, "csrf": auth.csrf_token(token)}
    return _rendered(template, context, status)


def _rendered(template: str, context: Mapping[str, Any], status: int) -> HTMLResponse:
    return HTMLResponse(_TEMPLATES.get_template(template).render(context), status)


async def _checked_form(call: Call) -> dict[str, str]:
    form = await bodies.read_page_form(call.request)
    auth.check_csrf(call.services, call.request, form.get("csrf", ""))
    return form


def _back(call: Call) -> Response:
    return RedirectResponse(f"/signing-requests/{call.path('request')}", 303)


def _following(request: Request) -> str:
    return _local(request.query_params.get("next", ""))


def _local(target: str) -> str:
    """Where to go after the log-in: a page of this server, nowhere else."""
    fine = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isascii()
    return target if fine and target.isprintable() else "/"


def _label(state: State) -> str:
    """``QueuedForProcessing`` as people write it."""
    return re.sub(r"(?<!^)[A-Z]", lambda letter: f" {letter[0].lower()}", state.value)


def _stages(request: SigningRequest) -> list[tuple[State, str]]:
    """The way of the request: (stage, ``done``, ``now``, ``ahead`` or ``ended``)."""
    way = [State.SUBMITTED]
    if request.retrieval:
        way.append(State.RETRIEVING_ARTIFACT)
    if request.snapshot.fields["quorum"]:
        way.append(State.WAITING_FOR_APPROVAL)
    way += [State.QUEUED, State.PROCESSING, State.COMPLETED]
    if request.state in way:
        at = way.index(request.state)
        marks = ["done"] * at + ["done" if request.state is State.COMPLETED else "now"]
    else:
        reached = request.failed_stage if request.failed_stage in way else State.SUBMITTED
        at = way.index(reached or State.SUBMITTED)
        way = [*way[: at + 1], request.state]
        marks = ["done"] * (at + 1) + ["ended"]
    marks += ["ahead"] * (len(way) - len(marks))
    return list(zip(way, marks, strict=True))


_ONE = "/signing-requests/{request}"

_TABLE = (
    ("static", "GET", "/static/{file}", static),
    ("login_page", "GET", "/login", login_page),
    ("login", "POST", "/login", login),
    ("logout", "POST", "/logout", logout),
    ("home", "GET", "/", home),
    ("requests", "GET", "/signing-requests", listing),
    ("request", "GET", _ONE, detail),
    ("events", "GET", f"{_ONE}/events", events),
    ("approve", "POST", f"{_ONE}/approve", approve),
    ("deny", "POST", f"{_ONE}/deny", deny),
    ("cancel", "POST", f"{_ONE}/cancel", cancel),
    ("signed_artifact", "GET", f"{_ONE}/signed-artifact", signed_artifact),
    ("unsigned_artifact", "GET", f"{_ONE}/unsigned-artifact", unsigned_artifact),
    ("proof", "GET", f"{_ONE}/proof", proof),
    ("log", "GET", "/log", log),
)

_TEMPLATES.filters["label"] = _label

ENDPOINTS = tuple(
    Endpoint(f"ui.{name}", method, path, handler, "", face=Face.UI)
    for name, method, path, handler in _TABLE
)
