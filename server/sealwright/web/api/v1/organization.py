"""The caller's organization and its rules of retention."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, organizations
from sealwright.errors import InternalError
from sealwright.model.identifiers import utc_now
from sealwright.model.organization import Organization
from sealwright.transparency.record import organization_entry, record
from sealwright.web.answers import json_answer
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.organization import OrganizationOut, OrganizationPatch
from sealwright.web.views import fields_of


async def get(call: Call) -> Response:
    """The organization."""
    async with call.services.database.read() as tx:
        return json_answer(organization_out(await find_organization(tx, call)))


async def update(call: Call) -> Response:
    """Change its name or its rules of retention."""
    return json_answer(await change_organization(call, await call.json(OrganizationPatch)))


async def change_organization(call: Call, patch: OrganizationPatch) -> OrganizationOut:
    """Change what `patch` gives. Shorter rules apply within the hour, and nothing comes back."""
    async with call.services.database.transaction() as tx:
        before = await find_organization(tx, call)
        after = dataclasses.replace(before, **patch.model_dump(exclude_none=True))
        await organizations.update(tx, after)
        out = organization_out(after)
        entry = organization_entry(
            after.id,
            "organization.updated",
            actor=call.grant.actor,
            now=utc_now(),
            data={
                "artifact_days": after.artifact_days,
                "details_days": after.details_days,
                "results_days": after.results_days,
            },
            change=call.change(organization_out(before), out),
        )
        await record(tx, entry)
    return out


async def find_organization(tx: Transaction, call: Call) -> Organization:
    """The caller's organization."""
    found = await organizations.get(tx, call.grant.organization_id)
    if found is None:
        message = f"The user {call.grant.user.id} has no organization."
        raise InternalError(message)
    return found


def organization_out(organization: Organization) -> OrganizationOut:
    """The organization as it is answered."""
    return OrganizationOut.model_validate(fields_of(organization))


_PATH = "/api/v1/organization"

ENDPOINTS = (
    Endpoint(
        "organization.get",
        "GET",
        _PATH,
        get,
        "Read the organization",
        (Answer(200, "The organization", OrganizationOut),),
    ),
    Endpoint(
        "organization.update",
        "PATCH",
        _PATH,
        update,
        "Change the organization",
        (Answer(200, "Changed", OrganizationOut),),
        {"application/json": OrganizationPatch},
    ),
)
