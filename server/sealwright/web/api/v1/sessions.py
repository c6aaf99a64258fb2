"""Sessions: a password for a short-lived token."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import users
from sealwright.model.identifiers import utc_now
from sealwright.transparency.record import organization_entry, record
from sealwright.web import auth, passkeys
from sealwright.web.answers import json_answer, no_content
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.passkeys import PasskeyOptionsOut, PasskeySessionIn
from sealwright.web.schemas.people import SessionIn, SessionOut


async def create(call: Call) -> Response:
    """Log in."""
    given = await call.json(SessionIn)
    _, text, token = await auth.log_in(
        call.services, call.request, given.email, given.password, auth.API_SESSION
    )
    return json_answer(
        SessionOut.model_validate({"token": text, "expires_at": token.expires_at}), 201
    )


async def passkey_options(call: Call) -> Response:
    """Begin a log-in with a passkey: whose, it tells itself."""
    found = await passkeys.log_in_options(call.services, call.request)
    return json_answer(PasskeyOptionsOut(public_key=found))


async def create_by_passkey(call: Call) -> Response:
    """Log in with a passkey."""
    given = await call.json(PasskeySessionIn)
    user = await passkeys.authenticated_user(call.services, given.credential.assertion())
    text, token = await auth.begin_session(
        call.services, call.request, user, auth.API_SESSION, "passkey"
    )
    return json_answer(
        SessionOut.model_validate({"token": text, "expires_at": token.expires_at}), 201
    )


async def delete(call: Call) -> Response:
    """Revoke the token of this very call."""
    now = utc_now()
    grant = call.grant
    entry = organization_entry(
        grant.organization_id,
        "token.revoked",
        actor=grant.actor,
        now=now,
        data={"token": grant.principal.token_id},
    )
    async with call.services.database.transaction() as tx:
        await users.revoke_token(tx, grant.organization_id, grant.principal.token_id, now)
        await record(tx, entry)
    return no_content()


ENDPOINTS = (
    Endpoint(
        "sessions.create",
        "POST",
        "/api/v1/sessions",
        create,
        "Log in with a password",
        (Answer(201, "A token for an hour", SessionOut),),
        {"application/json": SessionIn},
    ),
    Endpoint(
        "sessions.passkey_options",
        "POST",
        "/api/v1/sessions/passkey-options",
        passkey_options,
        "Begin a log-in with a passkey",
        (Answer(200, "What to give to the authenticator", PasskeyOptionsOut),),
    ),
    Endpoint(
        "sessions.create_by_passkey",
        "POST",
        "/api/v1/sessions/passkey",
        create_by_passkey,
        "Log in with a passkey",
        (Answer(201, "A token for an hour", SessionOut),),
        {"application/json": PasskeySessionIn},
    ),
    Endpoint(
        "sessions.delete",
        "DELETE",
        "/api/v1/sessions/current",
        delete,
        "Revoke the token of this call",
        (Answer(204, "Revoked"),),
    ),
)
