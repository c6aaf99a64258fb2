"""Passkeys of users. Only the user adds one, in a session in which they have just logged in."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import passkeys
from sealwright.membership import actor_of
from sealwright.model.passkey import Passkey
from sealwright.policy.permissions import check_may_grant
from sealwright.visible import find_request, find_user, missing
from sealwright.web import auth
from sealwright.web import passkeys as ceremonies
from sealwright.web.answers import json_answer, no_content
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.passkeys import (
    PasskeyIn,
    PasskeyOptionsOut,
    PasskeyOut,
    PasskeysOut,
)
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """All passkeys of a user."""
    async with call.services.database.read() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
        found = await passkeys.of_user(tx, user.organization_id, user.id)
    return json_answer(PasskeysOut(items=[_out(one) for one in found]))


async def options(call: Call) -> Response:
    """Begin to add one."""
    async with call.services.database.read() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
    auth.check_fresh(call.grant.principal)
    found = await ceremonies.registration_options(call.services, user)
    return json_answer(PasskeyOptionsOut(public_key=found))


async def create(call: Call) -> Response:
    """Add it."""
    given = await call.json(PasskeyIn)
    async with call.services.database.read() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
    auth.check_fresh(call.grant.principal)
    made = await ceremonies.register(call.services, user, given, actor_of(call.grant))
    return json_answer(_out(made), 201)


async def delete(call: Call) -> Response:
    """Let one count no more: neither for logging in, nor for what waits to be signed."""
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
        if user.id != call.grant.user.id:
            check_may_grant(call.grant.user, user.role)
            auth.check_fresh(call.grant.principal)
        wanted = call.path("passkey")
        if not await ceremonies.remove(tx, user, wanted, actor_of(call.grant)):
            raise missing(wanted, "passkey")
    return no_content()


async def approval_options(call: Call) -> Response:
    """What to have signed by a passkey, to approve a signing request with it."""
    async with call.services.database.read() as tx:
        request = await find_request(tx, call.grant, call.path("request"))
        user = call.grant.user
        known = await passkeys.of_user(tx, user.organization_id, user.id)
    found = ceremonies.approval_options(call.services, request, user, known)
    return json_answer(PasskeyOptionsOut(public_key=found))


def _out(passkey: Passkey) -> PasskeyOut:
    return PasskeyOut.model_validate(fields_of(passkey))


_PATH = "/api/v1/users/{user}/passkeys"

ENDPOINTS = (
    Endpoint(
        "passkeys.list",
        "GET",
        _PATH,
        listing,
        "List a user's passkeys",
        (Answer(200, "The passkeys", PasskeysOut),),
    ),
    Endpoint(
        "passkeys.options",
        "POST",
        f"{_PATH}/options",
        options,
        "Begin to add a passkey",
        (Answer(200, "What to give to the authenticator", PasskeyOptionsOut),),
    ),
    Endpoint(
        "passkeys.create",
        "POST",
        _PATH,
        create,
        "Add a passkey",
        (Answer(201, "Added", PasskeyOut),),
        {"application/json": PasskeyIn},
    ),
    Endpoint(
        "passkeys.delete",
        "DELETE",
        f"{_PATH}/{{passkey}}",
        delete,
        "Remove a passkey",
        (Answer(204, "Removed"),),
    ),
    Endpoint(
        "signing_requests.approval_options",
        "GET",
        "/api/v1/signing-requests/{request}/approval-options",
        approval_options,
        "Read what a passkey is to sign to approve",
        (Answer(200, "What to give to the authenticator", PasskeyOptionsOut),),
    ),
)
