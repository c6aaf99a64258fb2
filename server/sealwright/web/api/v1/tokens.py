"""API tokens of users. The text of a token is shown once."""

from __future__ import annotations

import datetime as dt

from starlette.responses import Response

from sealwright.db import users
from sealwright.errors import ForbiddenError
from sealwright.model.identifiers import is_id, utc_now
from sealwright.model.user import TokenKind, User, UserKind
from sealwright.policy.permissions import check_may_grant
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_project, find_user, missing
from sealwright.web.answers import json_answer, no_content
from sealwright.web.auth import make_token
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.people import NewTokenOut, TokenIn, TokensOut
from sealwright.web.views import fields_of, token_out


async def listing(call: Call) -> Response:
    """All tokens of a user."""
    async with call.services.database.read() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
        found = await users.tokens(tx, user.organization_id, user.id)
    return json_answer(TokensOut(items=[token_out(one) for one in found]))


async def create(call: Call) -> Response:
    """Make a token for oneself, or as an administrator for a CI user."""
    given = await call.json(TokenIn)
    lifetime = dt.timedelta(days=given.expires_in_days) if given.expires_in_days else None
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
        _check_may_impersonate(call.grant.user, user)
        project = await find_project(tx, call.grant, given.project) if given.project else None
        text, token = make_token(
            user,
            TokenKind.API,
            given.name,
            lifetime,
            scope=given.scope,
            project_id=project.id if project else None,
        )
        await users.add_token(tx, token)
        entry = organization_entry(
            user.organization_id,
            "token.created",
            actor=call.grant.actor,
            now=token.created_at,
            data={
                "token": token.id,
                "user": user.id,
                "scope": token.scope.value,
                "project": token.project_id,
            },
        )
        await record(tx, entry)
    return json_answer(NewTokenOut.model_validate(fields_of(token) | {"token": text}), 201)


async def revoke(call: Call) -> Response:
    """Revoke a token for good."""
    now = utc_now()
    token_id = call.path("token")
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
        owned = await users.tokens(tx, user.organization_id, user.id)
        if not is_id(token_id) or token_id not in {token.id for token in owned}:
            raise missing(token_id, "token")
        if await users.revoke_token(tx, user.organization_id, token_id, now):
            entry = organization_entry(
                user.organization_id,
                "token.revoked",
                actor=call.grant.actor,
                now=now,
                data={"token": token_id, "user": user.id},
            )
            await record(tx, entry)
    return no_content()


def _check_may_impersonate(caller: User, user: User) -> None:
    """A token acts as its user: nobody makes one that acts as another person, or as a CI user of
    more power than themselves."""
    if user.id != caller.id and user.kind is not UserKind.CI:
        message = "Only the user makes a token for themselves."
        raise ForbiddenError(message, advice="Make a CI user, and a token for that.")
    if user.id != caller.id:
        check_may_grant(caller, user.role)


_PATH = "/api/v1/users/{user}/tokens"

ENDPOINTS = (
    Endpoint(
        "tokens.list",
        "GET",
        _PATH,
        listing,
        "List a user's tokens",
        (Answer(200, "The tokens", TokensOut),),
    ),
    Endpoint(
        "tokens.create",
        "POST",
        _PATH,
        create,
        "Make an API token",
        (Answer(201, "The token, shown this once", NewTokenOut),),
        {"application/json": TokenIn},
    ),
    Endpoint(
        "tokens.revoke",
        "DELETE",
        f"{_PATH}/{{token}}",
        revoke,
        "Revoke a token",
        (Answer(204, "Revoked"),),
    ),
)
