"""The list of signing requests."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import Response

from sealwright.db import Transaction, projects, users
from sealwright.model.project import Project
from sealwright.model.request import State
from sealwright.policy.permissions import Access, Grant
from sealwright.visible import project_ids
from sealwright.web import views
from sealwright.web.answers import cursor_of
from sealwright.web.api.v1.signing_requests import find_page
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.queries import RequestsQuery
from sealwright.web.ui.forms import Form, FormError
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.rendering import page

_PAGE_SIZE = 25
_MAX_COMMENT = 4000
_MAX_PEOPLE = 500
_MAX_PROJECTS = 500
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
        "may_submit": may_open(grant.principal, "ui.submit_page"),
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
        some = await users.every(tx, grant.organization_id, _MAX_PEOPLE)
        people += [(one.id, one.name) for one in some]
    return {
        "projects": _choice(mine, chosen),
        "policies": [(one.id, one.name) for one in policies],
        "submitters": people,
    }


def _choice(mine: list[Project], chosen: list[Project]) -> list[tuple[str, str]]:
    """What may be chosen of very many projects: the first by name, and the one that is."""
    mine.sort(key=lambda one: one.name.casefold())
    some = mine[:_MAX_PROJECTS]
    return [(one.slug, one.name) for one in (*some, *(one for one in chosen if one not in some))]


ENDPOINTS = (Endpoint("ui.requests", "GET", "/signing-requests", listing, "", face=Face.UI),)
