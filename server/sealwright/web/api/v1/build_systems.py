"""Trusted build systems. Credentials go in and never come out."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, build_systems, webhooks
from sealwright.db.log import NewEntry
from sealwright.errors import ConfigurationError, ConflictError, InvalidInputError
from sealwright.model.build_system import TrustedBuildSystem
from sealwright.model.identifiers import new_id, utc_now
from sealwright.origin.systems import Systems
from sealwright.transparency.details import Change
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_build_system
from sealwright.web.answers import json_answer, page_of
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.build_systems import (
    BuildSystemIn,
    BuildSystemOut,
    BuildSystemPatch,
    BuildSystemsOut,
    DeliveriesOut,
    DeliveryOut,
)
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """All of the organization."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        found = await build_systems.every(tx, call.grant.organization_id)
        page, cursor = page_of(found, query.cursor, query.limit, lambda one: one.slug)
        items = [await system_out(call, tx, one) for one in page]
    return json_answer(BuildSystemsOut(items=items, next_cursor=cursor))


async def get(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
        return json_answer(await system_out(call, tx, system))


async def create(call: Call) -> Response:
    """Trust a build system."""
    system, out = await add_system(call, await call.json(BuildSystemIn))
    location = f"{call.services.settings.url}/api/v1/build-systems/{system.slug}"
    return json_answer(out, 201, {"Location": location})


async def add_system(call: Call, given: BuildSystemIn) -> tuple[TrustedBuildSystem, BuildSystemOut]:
    """Trust the build system that `given` describes.

    Raises:
        ConflictError: there is one of that slug.
        InvalidInputError: it cannot work.
    """
    systems = call.services.systems
    system = TrustedBuildSystem(
        id=new_id(),
        organization_id=call.grant.organization_id,
        slug=given.slug,
        name=given.name,
        kind=given.kind,
        base_url=given.base_url.rstrip("/"),
        web_url=given.web_url.rstrip("/"),
        enabled=True,
        created_at=utc_now(),
        settings=given.settings,
    )
    _check(systems, system, given.credentials)
    sealed = systems.vault().seal(system.id, given.credentials)
    async with call.services.database.transaction() as tx:
        if await build_systems.find(tx, system.organization_id, system.slug):
            message = f"There is a trusted build system {system.slug!r} already."
            raise ConflictError(message)
        await build_systems.add(tx, system, sealed)
        out = await system_out(call, tx, system)
        change = call.change(None, out)
        await record(tx, _entry(call, "build_system.created", system, sorted(sealed), change))
    return system, out


async def update(call: Call) -> Response:
    """Change it, or give it other credentials."""
    return json_answer(await change_system(call, await call.json(BuildSystemPatch)))


async def change_system(call: Call, patch: BuildSystemPatch) -> BuildSystemOut:
    """Change the build system of the path.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: it cannot work so.
    """
    systems = call.services.systems
    async with call.services.database.transaction() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
        before = await system_out(call, tx, system)
        changes = patch.model_dump(exclude_none=True, exclude={"credentials"})
        system = dataclasses.replace(system, **changes)
        sealed = await build_systems.sealed_credentials(tx, system.id)
        sealed = systems.vault().reseal(system.id, sealed, patch.credentials or {})
        _check(systems, system, systems.vault().open(system.id, sealed))
        await build_systems.update(tx, system, sealed)
        changed = sorted(patch.credentials or {})
        out = await system_out(call, tx, system)
        change = call.change(before, out)
        await record(tx, _entry(call, "build_system.updated", system, changed, change))
        return out


def _check(systems: Systems, system: TrustedBuildSystem, credentials: dict[str, str]) -> None:
    """Refuse what cannot work.

    Raises:
        InvalidInputError
    """
    try:
        systems.make(system, credentials)
    except ConfigurationError as error:  # of this call, not of the server's
        raise InvalidInputError(error.message, advice=error.advice) from None


async def deliveries(call: Call) -> Response:
    """The latest webhooks, and what came of them."""
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
        found = await webhooks.of_system(tx, system.id)
    items = [DeliveryOut.model_validate(fields_of(one)) for one in found]
    return json_answer(DeliveriesOut(items=items))


async def system_out(call: Call, tx: Transaction, system: TrustedBuildSystem) -> BuildSystemOut:
    """A build system, of its credentials the names."""
    names = sorted(await build_systems.sealed_credentials(tx, system.id))
    url = f"{call.services.settings.url}/webhooks/{system.id}"
    return BuildSystemOut.model_validate(
        fields_of(system) | {"credentials": names, "webhook_url": url}
    )


def _entry(
    call: Call, action: str, system: TrustedBuildSystem, changed: list[str], change: Change
) -> NewEntry:
    facts = {
        "build_system": system.id,
        "kind": system.kind.value,
        "base_url": system.base_url,
        "enabled": system.enabled,
        "settings": dict(system.settings),
        "credentials_set": changed,
    }
    return organization_entry(
        system.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data=facts,
        change=change,
    )


_PATH = "/api/v1/build-systems"
_ONE = f"{_PATH}/{{build_system}}"
_JSON = "application/json"

ENDPOINTS = (
    Endpoint(
        "build_systems.list",
        "GET",
        _PATH,
        listing,
        "List trusted build systems",
        (Answer(200, "One page", BuildSystemsOut),),
        query=PageQuery,
    ),
    Endpoint(
        "build_systems.create",
        "POST",
        _PATH,
        create,
        "Trust a build system",
        (Answer(201, "Made", BuildSystemOut),),
        {_JSON: BuildSystemIn},
    ),
    Endpoint(
        "build_systems.get",
        "GET",
        _ONE,
        get,
        "Read a trusted build system",
        (Answer(200, "The build system", BuildSystemOut),),
    ),
    Endpoint(
        "build_systems.update",
        "PATCH",
        _ONE,
        update,
        "Change or disable a trusted build system",
        (Answer(200, "Changed", BuildSystemOut),),
        {_JSON: BuildSystemPatch},
    ),
    Endpoint(
        "build_systems.deliveries",
        "GET",
        f"{_ONE}/deliveries",
        deliveries,
        "List the webhooks that a build system sent",
        (Answer(200, "The latest", DeliveriesOut),),
    ),
)
