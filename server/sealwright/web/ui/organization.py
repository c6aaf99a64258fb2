"""The organization: its name and its rules of retention, and what the operator has set."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.errors import SealwrightError
from sealwright.model.organization import Organization
from sealwright.web.api.v1.organization import change_organization, find_organization
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.organization import OrganizationPatch
from sealwright.web.ui.forms import Form, check_unchanged, read_form, stamped
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.rendering import page, redirect


async def show(call: Call) -> Response:
    """The organization, and its form for whom may change it."""
    return await _page(call, None)


async def update(call: Call) -> Response:
    """Change it."""
    form = await read_form(call)
    async with call.services.database.read() as tx:
        organization = await find_organization(tx, call)
    try:
        check_unchanged(form, _filled(organization))
        await change_organization(call, form.parse(OrganizationPatch))
    except SealwrightError as error:
        return await _page(call, form.refused(error), status_of(error))
    return redirect(call, "/organization", "The organization is changed.")


def _filled(organization: Organization) -> Form:
    values = {
        "name": organization.name,
        "artifact_days": str(organization.artifact_days),
        "details_days": str(organization.details_days),
        "results_days": str(organization.results_days),
    }
    return stamped(Form(values))


async def _page(call: Call, form: Form | None, status: int = 200) -> Response:
    settings = call.services.settings
    async with call.services.database.read() as tx:
        organization = await find_organization(tx, call)
    shown = {
        "organization": organization,
        "form": form or _filled(organization),
        "may_change": may_open(call.grant.principal, "ui.organization_update"),
        "url": settings.url,
        "mail": bool(settings.mail_server),
        "authorities": [one.name for one in settings.timestamp_authorities],
    }
    return page(call, "organization/show.html", shown, status)


ENDPOINTS = (
    Endpoint("ui.organization", "GET", "/organization", show, "", face=Face.UI),
    Endpoint("ui.organization_update", "POST", "/organization", update, "", face=Face.UI),
)
