"""EST servers. Credentials go in and never come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from starlette.responses import Response

from sealwright.connectors.est import CREDENTIALS, EstClient
from sealwright.db import Transaction, certificates, enrolment
from sealwright.db.log import NewEntry
from sealwright.errors import ConfigurationError, ConflictError, InvalidInputError
from sealwright.model.certificate import CertificateState
from sealwright.model.enrolment import EnrolmentServer
from sealwright.model.identifiers import new_id, utc_now
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import is_name, missing
from sealwright.web.answers import json_answer, no_content
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.enrolment import (
    EnrolmentServerIn,
    EnrolmentServerOut,
    EnrolmentServerPatch,
    EnrolmentServersOut,
)
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """All of the organization."""
    async with call.services.database.read() as tx:
        found = await enrolment.every(tx, call.grant.organization_id)
        items = [await _out(tx, one) for one in found]
    return json_answer(EnrolmentServersOut(items=items))


async def get(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, await find(tx, call)))


async def create(call: Call) -> Response:
    """Name one."""
    server = await add(call, await call.json(EnrolmentServerIn))
    async with call.services.database.read() as tx:
        out = await _out(tx, server)
    location = f"{call.services.settings.url}/api/v1/enrolment-servers/{server.slug}"
    return json_answer(out, 201, {"Location": location})


async def update(call: Call) -> Response:
    """Change it, or give it other credentials."""
    server = await change(call, await call.json(EnrolmentServerPatch))
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, server))


async def delete(call: Call) -> Response:
    """Ask one no more, unless a certificate depends on it."""
    await remove(call)
    return no_content()


async def add(call: Call, given: EnrolmentServerIn) -> EnrolmentServer:
    """Insert one with its sealed credentials.

    Raises:
        InvalidInputError: it cannot work.
        ConflictError: its slug is taken.
    """
    server = EnrolmentServer(
        id=new_id(),
        organization_id=call.grant.organization_id,
        slug=given.slug,
        name=given.name,
        url=given.url.rstrip("/"),
        roots=given.roots,
        user=given.user,
        renew_days=given.renew_days,
        enabled=True,
        created_at=utc_now(),
    )
    _check(server, given.credentials)
    sealed = call.services.systems.vault().seal(server.id, given.credentials)
    async with call.services.database.transaction() as tx:
        if await enrolment.find(tx, server.organization_id, server.slug):
            message = f"There is an EST server {server.slug!r} already."
            raise ConflictError(message)
        await enrolment.add(tx, server, sealed)
        await record(tx, _entry(call, "enrolment_server.created", server, sealed))
    return server


async def change(call: Call, patch: EnrolmentServerPatch) -> EnrolmentServer:
    """Change the one of the path.

    Raises:
        NotFoundError
        InvalidInputError: it could not work any more.
    """
    vault = call.services.systems.vault()
    async with call.services.database.transaction() as tx:
        server = await find(tx, call)
        changes = patch.model_dump(exclude_none=True, exclude={"credentials"})
        server = dataclasses.replace(server, **changes)
        given = patch.credentials or {}
        sealed = await enrolment.sealed_credentials(tx, server.id)
        sealed = vault.reseal(server.id, sealed, given)
        _check(server, vault.open(server.id, sealed))
        await enrolment.update(tx, server, sealed)
        await enrolment.hurry(tx, server, utc_now())
        await record(tx, _entry(call, "enrolment_server.updated", server, given))
    return server


async def remove(call: Call) -> EnrolmentServer:
    """Delete the one of the path, with its credentials.

    Raises:
        NotFoundError
        ConflictError: a certificate would not be issued or renewed any more.
    """
    async with call.services.database.transaction() as tx:
        server = await find(tx, call)
        for one in await certificates.every(tx, server.organization_id):
            live = one.state is CertificateState.ACTIVE and one.replaced_by_id is None
            if one.enrolment_id == server.id and live:
                message = f"The certificate {one.slug!r} is issued and renewed by this EST server."
                raise ConflictError(message, advice="Disable the certificate, or the server.")
        await enrolment.remove(tx, server)
        await record(tx, _entry(call, "enrolment_server.deleted", server, {}))
    return server


def _check(server: EnrolmentServer, credentials: Mapping[str, str]) -> None:
    """Refuse what cannot work.

    Raises:
        InvalidInputError
    """
    if not server.url.startswith("https://"):
        message = "An EST server is asked over TLS alone."
        raise InvalidInputError(message, advice="Give an https: address.")
    if not credentials.keys() <= CREDENTIALS:
        message = f"The credentials of an EST server are {', '.join(sorted(CREDENTIALS))}."
        raise InvalidInputError(message)
    if not server.user and "client_certificate" not in credentials:
        message = "Nothing proves to the EST server who asks."
        raise InvalidInputError(message, advice="Give user and password, or a client certificate.")
    try:
        EstClient(server, credentials)
    except ConfigurationError as error:  # roots and certificates of this call that are none
        raise InvalidInputError(error.message, advice=error.advice) from None


async def find(tx: Transaction, call: Call) -> EnrolmentServer:
    """The one of the path, by id or slug.

    Raises:
        NotFoundError
    """
    name = call.path("enrolment_server")
    found = None
    if is_name(name):
        found = await enrolment.find(tx, call.grant.organization_id, name)
    if found is None:
        raise missing(name, "EST server")
    return found


async def _out(tx: Transaction, server: EnrolmentServer) -> EnrolmentServerOut:
    names = sorted(await enrolment.sealed_credentials(tx, server.id))
    return EnrolmentServerOut.model_validate(fields_of(server) | {"credentials": names})


def _entry(
    call: Call, action: str, server: EnrolmentServer, changed: Mapping[str, str]
) -> NewEntry:
    facts = {
        "enrolment_server": server.id,
        "url": server.url,
        "user": server.user,
        "enabled": server.enabled,
        "renew_days": server.renew_days,
        "credentials_set": sorted(changed),
    }
    return organization_entry(
        server.organization_id, action, actor=call.grant.actor, now=utc_now(), data=facts
    )


_PATH = "/api/v1/enrolment-servers"
_ONE = f"{_PATH}/{{enrolment_server}}"
_JSON = "application/json"

ENDPOINTS = (
    Endpoint(
        "enrolment_servers.list",
        "GET",
        _PATH,
        listing,
        "List EST servers",
        (Answer(200, "All", EnrolmentServersOut),),
    ),
    Endpoint(
        "enrolment_servers.create",
        "POST",
        _PATH,
        create,
        "Name an EST server",
        (Answer(201, "Made", EnrolmentServerOut),),
        {_JSON: EnrolmentServerIn},
    ),
    Endpoint(
        "enrolment_servers.get",
        "GET",
        _ONE,
        get,
        "Read an EST server",
        (Answer(200, "The server", EnrolmentServerOut),),
    ),
    Endpoint(
        "enrolment_servers.update",
        "PATCH",
        _ONE,
        update,
        "Change or disable an EST server",
        (Answer(200, "Changed", EnrolmentServerOut),),
        {_JSON: EnrolmentServerPatch},
    ),
    Endpoint(
        "enrolment_servers.delete",
        "DELETE",
        _ONE,
        delete,
        "Delete an EST server that no certificate depends on",
        (Answer(204, "Deleted"),),
    ),
)
