"""Users and CI users, and who is calling."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright import accounts
from sealwright.db import organizations, users
from sealwright.errors import ConflictError, InternalError, InvalidInputError
from sealwright.intake.passwords import hash_password
from sealwright.membership import actor_of, add_user, change_user
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import User, UserKind
from sealwright.policy.permissions import check_may_grant
from sealwright.visible import find_user
from sealwright.web import auth
from sealwright.web.answers import json_answer, no_content, page_of, read_cursor
from sealwright.web.invitations import deliver
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.accounts import InvitationOut, PasswordIn
from sealwright.web.schemas.people import MeOut, UserIn, UserOut, UserPatch, UsersOut
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.views import user_out


async def me(call: Call) -> Response:
    """The caller."""
    user = call.grant.user
    async with call.services.database.read() as tx:
        organization = await organizations.get(tx, user.organization_id)
    if organization is None:
        message = f"The user {user.id} has no organization."
        raise InternalError(message)
    names = {
        "organization_id": organization.id,
        "organization_slug": organization.slug,
        "organization_name": organization.name,
    }
    return json_answer(MeOut.model_validate(user_out(user).model_dump() | names))


async def listing(call: Call) -> Response:
    """All users."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        after = read_cursor(query.cursor) or ""
        found = await users.every(tx, call.grant.organization_id, query.limit + 1, after=after)
    page, cursor = page_of(found, query.cursor, query.limit, lambda user: user.id)
    return json_answer(UsersOut(items=[user_out(one) for one in page], next_cursor=cursor))


async def get(call: Call) -> Response:
    """One user."""
    async with call.services.database.read() as tx:
        return json_answer(user_out(await find_user(tx, call.grant, call.path("user"))))


async def create(call: Call) -> Response:
    """Make a user."""
    given = await call.json(UserIn)
    grant = call.grant
    check_may_grant(grant.user, given.role)
    auth.check_fresh_for_role(grant.principal, given.role)
    interactive = given.kind is UserKind.INTERACTIVE
    if interactive != (given.email is not None) or (given.password and not interactive):
        message = "An interactive user has an address; a CI user has neither it nor a password."
        raise InvalidInputError(message, advice="CI users authenticate with API tokens alone.")
    user = User(
        id=new_id(),
        organization_id=grant.organization_id,
        kind=given.kind,
        name=given.name,
        email=given.email,
        role=given.role,
        password_hash=await hash_password(given.password) if given.password else None,
        active=True,
        created_at=utc_now(),
    )
    async with call.services.database.transaction() as tx:
        await add_user(tx, user, actor_of(grant))
    return json_answer(
        user_out(user), 201, {"Location": f"{call.services.settings.url}/api/v1/users/{user.id}"}
    )


async def invite(call: Call) -> Response:
    """Send a person a link to set up their account; earlier ones are void."""
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
        check_may_grant(call.grant.user, user.role)
        made = await accounts.invite(tx, user, actor_of(call.grant), call.services.settings.url)
    sent = await deliver(call.services, made)
    return json_answer(
        InvitationOut(sent=sent, url=None if sent else made.url, expires_at=made.expires_at), 201
    )


async def set_password(call: Call) -> Response:
    """Change one's own password. Every session ends, also this one."""
    given = await call.json(PasswordIn)
    user = call.grant.user
    if user.kind is UserKind.CI:
        message = "A CI user has no password."
        raise InvalidInputError(message, advice="Make an API token.")
    await auth.check_password(call.services, call.request, user, given.present)
    await accounts.change_password(
        call.services.database, user, given.present, given.password, actor_of(call.grant)
    )
    return no_content()


async def update(call: Call) -> Response:
    """Change a user: name, role, password, or whether they may do anything at all."""
    patch = await call.json(UserPatch)
    grant = call.grant
    password_hash = await hash_password(patch.password) if patch.password else None
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, grant, call.path("user"))
        check_may_grant(grant.user, user.role)
        check_may_grant(grant.user, patch.role or user.role)
        auth.check_fresh_for_role(grant.principal, patch.role or user.role, user.role)
        if password_hash and user.kind is UserKind.CI:
            message = "A CI user has no password."
            raise InvalidInputError(message, advice="Make an API token.")
        if user.id == grant.user.id and (patch.active is False or patch.role is not None):
            message = "Nobody changes their own role or deactivates themselves."
            raise ConflictError(message, advice="Ask another administrator.")
        changed = dataclasses.replace(
            user,
            name=patch.name or user.name,
            role=patch.role or user.role,
            active=user.active if patch.active is None else patch.active,
            password_hash=password_hash or user.password_hash,
        )
        await change_user(tx, user, changed, actor_of(grant))
    return json_answer(user_out(changed))


ENDPOINTS = (
    Endpoint("me.get", "GET", "/api/v1/me", me, "Who is calling", (Answer(200, "You", MeOut),)),
    Endpoint(
        "users.list",
        "GET",
        "/api/v1/users",
        listing,
        "List users",
        (Answer(200, "One page", UsersOut),),
        query=PageQuery,
    ),
    Endpoint(
        "users.create",
        "POST",
        "/api/v1/users",
        create,
        "Make a user or CI user",
        (Answer(201, "Made", UserOut),),
        {"application/json": UserIn},
    ),
    Endpoint(
        "users.get",
        "GET",
        "/api/v1/users/{user}",
        get,
        "Read a user",
        (Answer(200, "The user", UserOut),),
    ),
    Endpoint(
        "users.invite",
        "POST",
        "/api/v1/users/{user}/invitation",
        invite,
        "Invite a user",
        (Answer(201, "Sent, or the link to hand over", InvitationOut),),
    ),
    Endpoint(
        "me.password",
        "PUT",
        "/api/v1/me/password",
        set_password,
        "Change your password",
        (Answer(204, "Changed; every session has ended"),),
        {"application/json": PasswordIn},
    ),
    Endpoint(
        "users.update",
        "PATCH",
        "/api/v1/users/{user}",
        update,
        "Change a user",
        (Answer(200, "Changed", UserOut),),
        {"application/json": UserPatch},
    ),
)
