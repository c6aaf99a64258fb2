"""One's own account: password, passkeys, API tokens, sessions."""

from __future__ import annotations

import datetime as dt
import json

from starlette.responses import RedirectResponse, Response

from sealwright import accounts
from sealwright.db import groups, passkeys, projects, users
from sealwright.errors import ForbiddenError, InvalidInputError, SealwrightError
from sealwright.membership import actor_of
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import relying_party
from sealwright.model.user import TokenKind, TokenScope
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_project, missing, project_ids
from sealwright.web import auth
from sealwright.web import passkeys as ceremonies
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face, checked_json
from sealwright.web.schemas.passkeys import AssertedCredentialIn, PasskeyIn
from sealwright.web.schemas.people import TokenIn
from sealwright.web.ui import remote_accounts
from sealwright.web.ui.forms import Form, FormError, read_form
from sealwright.web.ui.rendering import page, redirect

SCOPES = (
    (TokenScope.FULL.value, "everything that its user may"),
    (TokenScope.SUBMIT.value, "submit, and fetch what was submitted"),
    (TokenScope.READ.value, "read"),
)


async def account(call: Call) -> Response:
    """Everything of one's own."""
    return await _shown(call)


async def set_password(call: Call) -> Response:
    """Change the password: every session ends, and a new one begins here."""
    form = await read_form(call)
    user = call.grant.user
    try:
        if user.password_hash is None:
            auth.check_fresh(call.grant.principal)  # there is no password to ask for
        if form.value("password") != form.value("repeated"):
            raise FormError({"repeated": "This is not the same."})
        user = await accounts.change_password(
            call.services.database,
            user,
            form.value("present"),
            form.value("password"),
            actor_of(call.grant),
        )
    except SealwrightError as error:
        return await _shown(call, password=form.refused(error), status=status_of(error))
    text, _ = await auth.begin_session(
        call.services, call.request, user, auth.PAGE_SESSION, "password"
    )
    response = RedirectResponse("/account", 303)
    auth.set_session(call.services, response, text)
    return response


async def new_passkey_page(call: Call) -> Response:
    """What the authenticator is to make."""
    auth.check_fresh(call.grant.principal)
    options = await ceremonies.registration_options(call.services, call.grant.user)
    shown = {"options": json.dumps(options), "host": relying_party(call.services.settings.url).id}
    return page(call, "account/passkey.html", shown)


async def add_passkey(call: Call) -> Response:
    """Add what it has made."""
    form = await read_form(call)
    auth.check_fresh(call.grant.principal)
    text = form.value("credential")
    if not text:
        message = "The browser sent no passkey."
        raise InvalidInputError(message, advice="Passkeys need a script, and HTTPS or localhost.")
    body = json.dumps({"name": form.value("name") or "Passkey"})[:-1]
    given = checked_json(PasskeyIn, f'{body}, "credential": {text}}}'.encode())
    await ceremonies.register(call.services, call.grant.user, given, actor_of(call.grant))
    return redirect(call, "/account", "The passkey is added.")


async def remove_passkey(call: Call) -> Response:
    """Let one count no more."""
    await read_form(call)
    async with call.services.database.transaction() as tx:
        wanted = call.path("passkey")
        if not await ceremonies.remove(tx, call.grant.user, wanted, actor_of(call.grant)):
            raise missing(wanted, "passkey")
    return redirect(call, "/account", "The passkey is removed.")


async def add_token(call: Call) -> Response:
    """Make an API token; its text is on the page that answers, and never again."""
    form = await read_form(call)
    grant = call.grant
    try:
        auth.check_fresh(call.grant.principal)
        given = form.parse(TokenIn)
        lifetime = dt.timedelta(days=given.expires_in_days) if given.expires_in_days else None
        async with call.services.database.transaction() as tx:
            project = await find_project(tx, grant, given.project) if given.project else None
            text, token = auth.make_token(
                grant.user,
                TokenKind.API,
                given.name,
                lifetime,
                scope=given.scope,
                project_id=project.id if project else None,
            )
            await users.add_token(tx, token)
            facts = {
                "token": token.id,
                "user": grant.user.id,
                "scope": token.scope.value,
                "project": token.project_id,
            }
            entry = organization_entry(
                grant.organization_id,
                "token.created",
                actor=grant.actor,
                now=token.created_at,
                data=facts,
            )
            await record(tx, entry)
    except SealwrightError as error:
        return await _shown(call, token=form.refused(error), status=status_of(error))
    return await _shown(call, made=text)


async def revoke(call: Call) -> Response:
    """Revoke a token, or end a session."""
    await read_form(call)
    grant, now = call.grant, utc_now()
    wanted = call.path("token")
    async with call.services.database.transaction() as tx:
        owned = await users.tokens(tx, grant.organization_id, grant.user.id)
        if wanted not in {one.id for one in owned}:
            raise missing(wanted, "token")
        if await users.revoke_token(tx, grant.organization_id, wanted, now):
            facts = {"token": wanted, "user": grant.user.id}
            entry = organization_entry(
                grant.organization_id, "token.revoked", actor=grant.actor, now=now, data=facts
            )
            await record(tx, entry)
    return redirect(call, "/account", "It counts no more.")


async def end_sessions(call: Call) -> Response:
    """End every session but this one."""
    await read_form(call)
    grant, now = call.grant, utc_now()
    async with call.services.database.transaction() as tx:
        ended = await users.revoke_sessions(
            tx, grant.organization_id, grant.user.id, now, but=grant.principal.token_id
        )
        facts = {"user": grant.user.id, "ended": ended}
        entry = organization_entry(
            grant.organization_id, "sessions.ended", actor=grant.actor, now=now, data=facts
        )
        await record(tx, entry)
    return redirect(call, "/account", f"{ended} other sessions ended.")


async def confirm_page(call: Call) -> Response:
    """Prove once more who one is."""
    return await _confirm(call, Form())


async def confirm(call: Call) -> Response:
    """By password or passkey; the session counts as fresh then."""
    form = await read_form(call)
    user, services = call.grant.user, call.services
    try:
        if form.value("credential"):
            given = checked_json(AssertedCredentialIn, form.value("credential").encode())
            found = await ceremonies.authenticated_user(services, given.assertion())
            if found.id != user.id:
                message = "The passkey is another user's."
                raise ForbiddenError(message)
        else:
            await auth.check_password(services, call.request, user, form.value("password"))
    except SealwrightError as error:
        return await _confirm(call, form.refused(error), status_of(error))
    async with services.database.transaction() as tx:
        await users.authenticated_again(tx, call.grant.principal.token_id, utc_now())
    return redirect(call, "/account", "Thank you. Go on with what you wanted to do.")


async def _confirm(call: Call, form: Form, status: int = 200) -> Response:
    user = call.grant.user
    async with call.services.database.read() as tx:
        keys = await passkeys.of_user(tx, user.organization_id, user.id)
    shown = {"form": form, "has_passkey": bool(keys), "has_password": user.password_hash}
    return page(call, "account/confirm.html", shown, status)


async def _shown(
    call: Call,
    *,
    password: Form | None = None,
    token: Form | None = None,
    made: str = "",
    status: int = 200,
) -> Response:
    grant, now = call.grant, utc_now()
    async with call.services.database.read() as tx:
        owned = await users.tokens(tx, grant.organization_id, grant.user.id)
        keys = await passkeys.of_user(tx, grant.organization_id, grant.user.id)
        known = await groups.every(tx, grant.organization_id, with_members=False)
        seen = await project_ids(tx, grant)
        listed = [
            one for one in await projects.every(tx, grant.organization_id)
            if seen is None or one.id in seen
        ]  # fmt: skip
    valid = [
        one for one in owned
        if one.revoked_at is None and (one.expires_at is None or one.expires_at > now)
    ]  # fmt: skip
    shown = {
        "tokens": [one for one in valid if one.kind is TokenKind.API],
        "sessions": [one for one in reversed(valid) if one.kind is TokenKind.SESSION],
        "this": grant.principal.token_id,
        "passkeys": keys,
        "groups": [one for one in known if one.id in grant.user.groups],
        "projects": [(one.id, one.name) for one in listed],
        "project_names": {one.id: one.name for one in listed},
        "scopes": SCOPES,
        "made": made,
        "password_form": password or Form(),
        "token_form": token or Form({"expires_in_days": "90", "scope": TokenScope.FULL.value}),
        "has_password": grant.user.password_hash is not None,
    }
    return page(call, "account/account.html", shown, status)


ENDPOINTS = (
    Endpoint("ui.account", "GET", "/account", account, "", face=Face.UI),
    Endpoint("ui.set_password", "POST", "/account/password", set_password, "", face=Face.UI),
    Endpoint(
        "ui.new_passkey_page", "GET", "/account/passkeys/new", new_passkey_page, "", face=Face.UI
    ),
    Endpoint("ui.add_passkey", "POST", "/account/passkeys", add_passkey, "", face=Face.UI),
    Endpoint(
        "ui.remove_passkey",
        "POST",
        "/account/passkeys/{passkey}/remove",
        remove_passkey,
        "",
        face=Face.UI,
    ),
    Endpoint("ui.add_token", "POST", "/account/tokens", add_token, "", face=Face.UI),
    Endpoint("ui.revoke_token", "POST", "/account/tokens/{token}/revoke", revoke, "", face=Face.UI),
    Endpoint("ui.end_sessions", "POST", "/account/sessions/end", end_sessions, "", face=Face.UI),
    Endpoint("ui.confirm_page", "GET", "/account/confirm", confirm_page, "", face=Face.UI),
    Endpoint("ui.confirm", "POST", "/account/confirm", confirm, "", face=Face.UI),
    *remote_accounts.ENDPOINTS,
)
