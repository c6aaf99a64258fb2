"""Who a build system's users are here: so that they may approve and deny from over there."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.connectors.github import GitHubConnector
from sealwright.db import build_systems
from sealwright.db.log import NewEntry
from sealwright.errors import ConflictError, ForbiddenError, InvalidInputError
from sealwright.model.build_system import RemoteIdentity, TrustedBuildSystem
from sealwright.model.identifiers import new_id, utc_now
from sealwright.policy.permissions import Access
from sealwright.transparency.details import Change
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_build_system, find_user, missing
from sealwright.web.answers import json_answer, no_content
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.build_systems import (
    RemoteIdentitiesOut,
    RemoteIdentityIn,
    RemoteIdentityOut,
)
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """One's own; an administrator's: all."""
    async with call.services.database.read() as tx:
        found = await build_systems.identities(tx, call.grant.organization_id)
    items = [
        RemoteIdentityOut.model_validate(fields_of(one)) for one in found if _is_seen(call, one)
    ]
    return json_answer(RemoteIdentitiesOut(items=items))


async def create(call: Call) -> Response:
    """Say who a build system's user is: oneself with proof, anybody as a global administrator."""
    return json_answer(_out(await add_identity(call, await call.json(RemoteIdentityIn))), 201)


async def add_identity(call: Call, given: RemoteIdentityIn) -> RemoteIdentity:
    """Note who the build system's user is here.

    Raises:
        NotFoundError: build system or user is missing, or not for the caller.
        ForbiddenError: nothing proves it.
        ConflictError: the remote user is known already.
    """
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, given.build_system)
        user = await find_user(tx, call.grant, given.user or call.grant.user.id)
    if given.code:
        if user.id != call.grant.user.id:
            message = "Only the user themselves can prove who they are over there."
            raise ForbiddenError(message)
        remote_id, login = await _proven(call, system, given)
    elif call.grant.access is Access.ORGANIZATION and given.remote_user_id:
        remote_id, login = given.remote_user_id, given.login
    else:
        message = "Nothing proves that this user of the build system is you."
        raise ForbiddenError(message, advice="Log in there by the App, or ask an administrator.")
    identity = RemoteIdentity(
        new_id(), user.organization_id, system.id, remote_id, login, user.id, utc_now()
    )
    async with call.services.database.transaction() as tx:
        if await build_systems.identity_of(tx, system.id, remote_id):
            message = "This user of the build system is known already."
            raise ConflictError(message, advice="Remove the earlier entry first.")
        await build_systems.add_identity(tx, identity)
        await record(
            tx, _entry(call, "remote_identity.created", identity, call.change(None, _out(identity)))
        )
    return identity


async def delete(call: Call) -> Response:
    """Forget it."""
    await remove_identity(call)
    return no_content()


async def remove_identity(call: Call) -> None:
    """Remove the identity of the path.

    Raises:
        NotFoundError: it is missing, or not for the caller.
    """
    async with call.services.database.transaction() as tx:
        found = await build_systems.identities(tx, call.grant.organization_id)
        wanted = call.path("identity")
        identity = next((one for one in found if one.id == wanted and _is_seen(call, one)), None)
        if identity is None:
            raise missing(wanted, "remote identity")
        await build_systems.delete_identity(tx, identity)
        await record(
            tx, _entry(call, "remote_identity.deleted", identity, call.change(_out(identity), None))
        )


async def _proven(
    call: Call, system: TrustedBuildSystem, given: RemoteIdentityIn
) -> tuple[str, str]:
    systems = call.services.systems
    connector = await systems.connector(system)
    if not isinstance(connector, GitHubConnector):
        message = "This kind of build system has no buttons to decide with."
        raise InvalidInputError(message)
    user = await systems.ask(connector.linking().user, given.code, given.redirect_url)
    return user.id, user.login


def _is_seen(call: Call, identity: RemoteIdentity) -> bool:
    own = identity.user_id == call.grant.user.id
    return own or call.grant.access is Access.ORGANIZATION


def _out(identity: RemoteIdentity) -> RemoteIdentityOut:
    return RemoteIdentityOut.model_validate(fields_of(identity))


def _entry(call: Call, action: str, identity: RemoteIdentity, change: Change) -> NewEntry:
    facts = {
        "build_system": identity.build_system_id,
        "remote_user": identity.remote_user_id,
        "user": identity.user_id,
    }
    return organization_entry(
        identity.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data=facts,
        change=change,
    )


_PATH = "/api/v1/remote-identities"

ENDPOINTS = (
    Endpoint(
        "remote_identities.list",
        "GET",
        _PATH,
        listing,
        "List who build systems' users are here",
        (Answer(200, "All that the caller may see", RemoteIdentitiesOut),),
    ),
    Endpoint(
        "remote_identities.create",
        "POST",
        _PATH,
        create,
        "Say who a build system's user is here",
        (Answer(201, "Made", RemoteIdentityOut),),
        {"application/json": RemoteIdentityIn},
    ),
    Endpoint(
        "remote_identities.delete",
        "DELETE",
        f"{_PATH}/{{identity}}",
        delete,
        "Forget who a build system's user is here",
        (Answer(204, "Forgotten"),),
    ),
)
