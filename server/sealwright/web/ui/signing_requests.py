"""Signing requests: the list, one request, decisions and downloads."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from starlette.responses import Response

from sealwright.approve import approve_or_deny
from sealwright.cancel import cancel as cancel_request
from sealwright.db import Transaction, passkeys, projects, requests, users
from sealwright.model.passkey import relying_party
from sealwright.model.request import SigningRequest, State, Verdict
from sealwright.policy.approvals import may_decide
from sealwright.policy.permissions import Access, Grant, may_cancel
from sealwright.visible import find_policy, find_request, project_ids
from sealwright.web import views
from sealwright.web.answers import cursor_of
from sealwright.web.api.v1.signing_requests import find, find_page, signed_of, unsigned_of
from sealwright.web.downloads import artifact_response
from sealwright.web.passkeys import approval_options
from sealwright.web.proofs import proof_response
from sealwright.web.routes import Call, Endpoint, Face, checked_json
from sealwright.web.schemas import RequestsQuery
from sealwright.web.schemas.passkeys import AssertedCredentialIn
from sealwright.web.ui.forms import Form, FormError, read_form
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.rendering import page, redirect
from sealwright.web.waiting import event_stream

_PAGE_SIZE = 25
_MAX_COMMENT = 4000
_MAX_PEOPLE = 500
_FILTERS = frozenset(RequestsQuery.model_fields) - {"cursor", "limit"}


async def listing(call: Call) -> Response:
    """Requests, newest first, by what the filter says."""
    given = {name: value for name, value in call.request.query_params.items() if value}
    form, fault = Form(given), ""
    try:
        query = form.parse(RequestsQuery)
    except FormError as error:
        form, query = form.refused(error), RequestsQuery.model_validate({})
        fault = "The filter was left out: it does not fit."
    grant = call.grant
    async with call.services.database.read() as tx:
        found, before = await find_page(tx, call, query, _PAGE_SIZE)
        people = await views.names(tx, grant.organization_id, [r.submitted_by for r in found])
        choices = await _choices(tx, grant, query)
    filters = {name: value for name, value in given.items() if name in _FILTERS}
    shown = {
        "requests": found,
        "people": people,
        "states": [(one.value, one) for one in State],
        "form": form,
        "fault": fault,
        "filtered": bool(filters),
        "query": urlencode(filters),
        "cursor": cursor_of(before) if before else None,
        "may_submit": may_open(grant.principal, "ui.submit"),
        **choices,
    }
    return page(call, "requests/list.html", shown)


async def _choices(
    tx: Transaction, grant: Grant, query: RequestsQuery
) -> dict[str, list[tuple[str, str]]]:
    """What the filter offers: (value, label) of projects, policies and people."""
    visible = await project_ids(tx, grant)
    mine = [
        one
        for one in await projects.every(tx, grant.organization_id)
        if visible is None or one.id in visible
    ]
    chosen = [one for one in mine if query.project in (one.slug, one.id)]
    policies = []
    for one in chosen:
        policies = await projects.policies(tx, grant.organization_id, one.id)
    people = [("me", "Me")]
    if grant.access is Access.ORGANIZATION:
        everyone = await users.every(tx, grant.organization_id)
        people += [(one.id, one.name) for one in everyone[:_MAX_PEOPLE]]
    return {
        "projects": [(one.slug, one.name) for one in mine],
        "policies": [(one.id, one.name) for one in policies],
        "submitters": people,
    }


async def detail(call: Call) -> Response:
    """One request: what, from where, decided by whom, with which result."""
    grant = call.grant
    async with call.services.database.read() as tx:
        request = await find_request(tx, grant, call.path("request"))
        out = await views.request_out(tx, request, call.services.settings.url)
        decisions = await requests.decisions(tx, request.id)
        policy = await find_policy(tx, grant, None, request.signing_policy_id)
        keys = await passkeys.of_user(tx, grant.organization_id, grant.user.id)
    options = ""
    if request.snapshot.fields.get("passkey_required"):
        options = json.dumps(approval_options(call.services, request, grant.user, keys))
    shown = {
        "passkey_options": options,
        "request": out,
        "may_decide": may_decide(grant.user, request, policy, decisions),
        "may_cancel": may_cancel(grant.user, request),
        "stages": _stages(request),
    }
    return page(call, "requests/detail.html", shown)


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
    form = await read_form(call)
    services = call.services
    credential = None
    if verdict is Verdict.APPROVE and form.value("credential"):
        credential = checked_json(AssertedCredentialIn, form.value("credential").encode())
    await approve_or_deny(
        services.database,
        services.queue,
        call.grant,
        call.path("request"),
        verdict,
        form.value("comment")[:_MAX_COMMENT],
        credential.assertion() if credential else None,
        relying_party(services.settings.url),
    )
    return _back(call, "Approved." if verdict is Verdict.APPROVE else "Denied.")


async def cancel(call: Call) -> Response:
    """Cancel, and back to the page."""
    await read_form(call)
    services = call.services
    await cancel_request(services.database, services.queue, call.grant, call.path("request"))
    return _back(call, "The request is canceled.")


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


def _back(call: Call, message: str) -> Response:
    return redirect(call, f"/signing-requests/{call.path('request')}", message)


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

ENDPOINTS = (
    Endpoint("ui.requests", "GET", "/signing-requests", listing, "", face=Face.UI),
    Endpoint("ui.request", "GET", _ONE, detail, "", face=Face.UI),
    Endpoint("ui.events", "GET", f"{_ONE}/events", events, "", face=Face.UI),
    Endpoint("ui.approve", "POST", f"{_ONE}/approve", approve, "", face=Face.UI),
    Endpoint("ui.deny", "POST", f"{_ONE}/deny", deny, "", face=Face.UI),
    Endpoint("ui.cancel", "POST", f"{_ONE}/cancel", cancel, "", face=Face.UI),
    Endpoint(
        "ui.signed_artifact", "GET", f"{_ONE}/signed-artifact", signed_artifact, "", face=Face.UI
    ),
    Endpoint(
        "ui.unsigned_artifact",
        "GET",
        f"{_ONE}/unsigned-artifact",
        unsigned_artifact,
        "",
        face=Face.UI,
    ),
    Endpoint("ui.proof", "GET", f"{_ONE}/proof", proof, "", face=Face.UI),
)
