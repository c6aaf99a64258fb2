"""Tokens by which a directory provisions users and groups over SCIM.

Each acts as a CI user made for it, so that it outlives the administrator who made it, and its
changes stand in the log by a name of their own.
"""

from __future__ import annotations

import datetime as dt

from starlette.responses import Response

from sealwright.db import users
from sealwright.membership import actor_of, add_user
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.user import ApiToken, Role, TokenKind, User, UserKind
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import missing
from sealwright.web.answers import json_answer, no_content
from sealwright.web.auth import check_fresh, make_token
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.people import NewTokenOut, TokensOut
from sealwright.web.schemas.scim import ScimTokenIn
from sealwright.web.views import fields_of, token_out


async def listing(call: Call) -> Response:
    """All of them."""
    async with call.services.database.read() as tx:
        found = await users.tokens_of_kind(tx, call.grant.organization_id, TokenKind.SCIM)
    return json_answer(TokensOut(items=[token_out(one) for one in found]))


async def create(call: Call) -> Response:
    """Make one, and the CI user that it acts as."""
    text, token = await add(call, await call.json(ScimTokenIn))
    return json_answer(NewTokenOut.model_validate(fields_of(token) | {"token": text}), 201)


async def add(call: Call, given: ScimTokenIn) -> tuple[str, ApiToken]:
    """Insert a token with its user: the token's text, which is shown once, and its record.

    Raises:
        ForbiddenError: the caller's log-in is too long ago.
    """
    check_fresh(call.grant.principal)
    lifetime = dt.timedelta(days=given.expires_in_days) if given.expires_in_days else None
    user = User(
        id=new_id(),
        organization_id=call.grant.organization_id,
        kind=UserKind.CI,
        name=f"SCIM: {given.name}"[:200],
        email=None,
        role=Role.USER_ADMINISTRATOR,
        password_hash=None,
        active=True,
        created_at=utc_now(),
    )
    text, token = make_token(user, TokenKind.SCIM, given.name, lifetime)
    async with call.services.database.transaction() as tx:
        await add_user(tx, user, actor_of(call.grant))
        await users.add_token(tx, token)
        facts = {"token": token.id, "user": user.id, "kind": token.kind.value}
        entry = organization_entry(
            user.organization_id,
            "token.created",
            actor=call.grant.actor,
            now=token.created_at,
            data=facts,
        )
        await record(tx, entry)
    return text, token


async def revoke(call: Call) -> Response:
    """Revoke one for good."""
    await end(call)
    return no_content()


async def end(call: Call) -> None:
    """Revoke the token that the path names.

    Raises:
        NotFoundError: missing, foreign, or no SCIM token.
    """
    wanted, now = call.path("token"), utc_now()
    organization = call.grant.organization_id
    async with call.services.database.transaction() as tx:
        known = await users.tokens_of_kind(tx, organization, TokenKind.SCIM)
        if not is_id(wanted) or wanted not in {one.id for one in known}:
            raise missing(wanted, "SCIM token")
        if await users.revoke_token(tx, organization, wanted, now):
            entry = organization_entry(
                organization, "token.revoked", actor=call.grant.actor, now=now,
                data={"token": wanted},
            )  # fmt: skip
            await record(tx, entry)


_PATH = "/api/v1/scim-tokens"

ENDPOINTS = (
    Endpoint(
        "scim_tokens.list",
        "GET",
        _PATH,
        listing,
        "List SCIM tokens",
        (Answer(200, "The tokens", TokensOut),),
    ),
    Endpoint(
        "scim_tokens.create",
        "POST",
        _PATH,
        create,
        "Make a SCIM token",
        (Answer(201, "The token, shown this once", NewTokenOut),),
        {"application/json": ScimTokenIn},
    ),
    Endpoint(
        "scim_tokens.revoke",
        "DELETE",
        f"{_PATH}/{{token}}",
        revoke,
        "Revoke a SCIM token",
        (Answer(204, "Revoked"),),
    ),
)
