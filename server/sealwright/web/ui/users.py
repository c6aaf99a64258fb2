"""Users and groups for administrators: invite, change, deactivate; tokens of CI users."""

from __future__ import annotations

import dataclasses
import datetime as dt

from pydantic import Field
from starlette.responses import Response

from sealwright import accounts
from sealwright.db import groups, passkeys, projects, users
from sealwright.errors import ConflictError, InvalidInputError, SealwrightError
from sealwright.membership import (
    actor_of,
    add_group,
    add_user,
    change_group,
    change_user,
    check_may_change_members,
    remove_group,
    renamed,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import Group, Role, TokenKind, TokenScope, User, UserKind
from sealwright.policy.permissions import check_may_grant
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_group, find_project, find_user, missing
from sealwright.web import auth
from sealwright.web.invitations import deliver
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.fields import Email, In, Name
from sealwright.web.schemas.groups import GroupIn
from sealwright.web.schemas.people import TokenIn
from sealwright.web.ui.account import SCOPES
from sealwright.web.ui.forms import Form, check_unchanged, read_form, stamped
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.parts import SIZE, look_of
from sealwright.web.ui.rendering import page, redirect

ROLES = tuple((role.value, role.value.replace("-", " ").capitalize()) for role in Role)


class NewUserForm(In):
    """A person with an address, or a CI user without."""

    kind: UserKind
    name: Name
    email: Email | None = None
    role: Role = Role.REGULAR_USER


class UserForm(In):
    """What of a user may be changed."""

    name: Name
    role: Role
    member_of: frozenset[str] = Field(default=frozenset(), max_length=500)


async def listing(call: Call) -> Response:
    """All users."""
    look = look_of(call)
    async with call.services.database.read() as tx:
        total, found = await users.listed(
            tx, call.grant.organization_id, look.words(), skip=look.start, limit=SIZE
        )
        known = await groups.every(tx, call.grant.organization_id, with_members=False)
    shown = {
        "part": look.part(found, total),
        "groups": {one.id: one.name for one in known},
        "may_change": may_open(call.grant.principal, "ui.new_user_page"),
        "may_see_sign_on": may_open(call.grant.principal, "ui.identity_providers"),
    }
    return page(call, "users/list.html", shown)


async def new_user_page(call: Call) -> Response:
    """The form for a new one."""
    kind = UserKind.CI if call.request.query_params.get("kind") == "ci" else UserKind.INTERACTIVE
    form = Form({"kind": kind.value, "role": Role.REGULAR_USER.value})
    return page(call, "users/new.html", {"form": form, "roles": ROLES})


async def create(call: Call) -> Response:
    """Invite a person, or make a CI user."""
    form = await read_form(call)
    grant = call.grant
    try:
        given = form.parse(NewUserForm)
        check_may_grant(grant.user, given.role)
        auth.check_fresh_for_role(grant.principal, given.role)
        if (given.kind is UserKind.INTERACTIVE) != (given.email is not None):
            message = "A person has an address, a CI user has none."
            raise InvalidInputError(message)
        user = User(
            new_id(), grant.organization_id, given.kind, given.name, given.email, given.role,
            None, active=True, created_at=utc_now(),
        )  # fmt: skip
        invitation = None
        async with call.services.database.transaction() as tx:
            await add_user(tx, user, actor_of(grant))
            if user.email:
                invitation = await accounts.invite(
                    tx, user, actor_of(grant), call.services.settings.url
                )
    except SealwrightError as error:
        shown = {"form": form.refused(error), "roles": ROLES}
        return page(call, "users/new.html", shown, status_of(error))
    return await _invited(call, user, invitation)


async def invite(call: Call) -> Response:
    """Send another invitation; earlier ones are void."""
    await read_form(call)
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, call.grant, call.path("user"))
        check_may_grant(call.grant.user, user.role)
        invitation = await accounts.invite(
            tx, user, actor_of(call.grant), call.services.settings.url
        )
    return await _invited(call, user, invitation)


async def detail(call: Call) -> Response:
    """One user."""
    return await _shown(call)


def _filled(user: User) -> Form:
    values = {"name": user.name, "role": user.role.value}
    return stamped(Form(values, {"member_of": tuple(user.groups)}))


async def update(call: Call) -> Response:
    """Change name, role and groups."""
    form = await read_form(call, lists=("member_of",))
    grant = call.grant
    try:
        given = form.parse(UserForm)
        async with call.services.database.transaction() as tx:
            user = await find_user(tx, grant, call.path("user"))
            check_unchanged(form, _filled(user))
            check_may_grant(grant.user, user.role)
            check_may_grant(grant.user, given.role)
            auth.check_fresh_for_role(grant.principal, given.role, user.role)
            if user.id == grant.user.id and given.role is not user.role:
                message = "Nobody changes their own role."
                raise ConflictError(message, advice="Ask another administrator.")
            changed = dataclasses.replace(user, name=given.name, role=given.role)
            await change_user(tx, user, changed, actor_of(grant))
            moved = given.member_of ^ user.groups
            for group in await groups.some(tx, grant.organization_id, moved):
                belongs = group.id in given.member_of
                members = group.members | {user.id} if belongs else group.members - {user.id}
                check_may_change_members(grant.user, group.members, members)
                await change_group(tx, group, renamed(group, None, members), actor_of(grant))
    except SealwrightError as error:
        return await _shown(call, form=form.refused(error), status=status_of(error))
    return redirect(call, f"/users/{call.path('user')}", "Saved.")


async def activate(call: Call) -> Response:
    """Let the user in, or out: their sessions and tokens count no more."""
    form = await read_form(call)
    grant = call.grant
    active = form.checked("active")
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, grant, call.path("user"))
        check_may_grant(grant.user, user.role)
        if user.id == grant.user.id:
            message = "Nobody deactivates themselves."
            raise ConflictError(message, advice="Ask another administrator.")
        changed = dataclasses.replace(user, active=active)
        await change_user(tx, user, changed, actor_of(grant))
    done = "The user is active." if active else "The user is deactivated."
    return redirect(call, f"/users/{call.path('user')}", done)


async def add_token(call: Call) -> Response:
    """Make a token of a CI user; its text is on the page that answers, and never again."""
    form = await read_form(call)
    grant = call.grant
    try:
        given = form.parse(TokenIn)
        lifetime = dt.timedelta(days=given.expires_in_days) if given.expires_in_days else None
        async with call.services.database.transaction() as tx:
            user = await find_user(tx, grant, call.path("user"))
            if user.kind is not UserKind.CI:
                message = "Only the user makes a token for themselves."
                raise InvalidInputError(message, advice="Make a CI user, and a token for that.")
            check_may_grant(grant.user, user.role)
            project = await find_project(tx, grant, given.project) if given.project else None
            text, token = auth.make_token(
                user, TokenKind.API, given.name, lifetime, scope=given.scope,
                project_id=project.id if project else None,
            )  # fmt: skip
            await users.add_token(tx, token)
            facts = {
                "token": token.id, "user": user.id, "scope": token.scope.value,
                "project": token.project_id,
            }  # fmt: skip
            entry = organization_entry(
                grant.organization_id, "token.created", actor=grant.actor, now=token.created_at,
                data=facts,
            )  # fmt: skip
            await record(tx, entry)
    except SealwrightError as error:
        return await _shown(call, token=form.refused(error), status=status_of(error))
    return await _shown(call, made=text)


async def revoke_token(call: Call) -> Response:
    """Revoke a token or session of a user."""
    await read_form(call)
    grant, now, wanted = call.grant, utc_now(), call.path("token")
    async with call.services.database.transaction() as tx:
        user = await find_user(tx, grant, call.path("user"))
        owned = await users.tokens(tx, grant.organization_id, user.id)
        if wanted not in {one.id for one in owned}:
            raise missing(wanted, "token")
        if await users.revoke_token(tx, grant.organization_id, wanted, now):
            facts = {"token": wanted, "user": user.id}
            entry = organization_entry(
                grant.organization_id, "token.revoked", actor=grant.actor, now=now, data=facts
            )
            await record(tx, entry)
    return redirect(call, f"/users/{call.path('user')}", "It counts no more.")


async def groups_listing(call: Call) -> Response:
    """All groups."""
    async with call.services.database.read() as tx:
        found = await groups.every(tx, call.grant.organization_id)
    shown = {
        "groups": found,
        "may_change": may_open(call.grant.principal, "ui.new_group_page"),
        "may_see_sign_on": may_open(call.grant.principal, "ui.identity_providers"),
    }
    return page(call, "groups/list.html", shown)


async def new_group_page(call: Call) -> Response:
    """The form for a new one."""
    return await _group_form(call, None, Form())


async def create_group(call: Call) -> Response:
    """Make a group."""
    form = await read_form(call, lists=("members",))
    try:
        given = form.parse(GroupIn)
        group = Group(
            new_id(), call.grant.organization_id, given.name, utc_now(), members=given.members
        )
        check_may_change_members(call.grant.user, frozenset(), group.members)
        async with call.services.database.transaction() as tx:
            await add_group(tx, group, actor_of(call.grant))
    except SealwrightError as error:
        return await _group_form(call, None, form.refused(error), status_of(error))
    return redirect(call, "/groups", f"The group {group.name} is made.")


async def group_page(call: Call) -> Response:
    """One group, and who is in it."""
    async with call.services.database.read() as tx:
        group = await find_group(tx, call.grant, call.path("group"))
    return await _group_form(call, group, _filled_group(group))


def _filled_group(group: Group) -> Form:
    return stamped(Form({"name": group.name}, {"members": tuple(group.members)}))


async def update_group(call: Call) -> Response:
    """Change its name and members."""
    form = await read_form(call, lists=("members",))
    async with call.services.database.read() as tx:
        before = await find_group(tx, call.grant, call.path("group"))
    try:
        given = form.parse(GroupIn)
        async with call.services.database.transaction() as tx:
            before = await find_group(tx, call.grant, call.path("group"))
            check_unchanged(form, _filled_group(before))
            after = renamed(before, given.name, given.members)
            check_may_change_members(call.grant.user, before.members, after.members)
            await change_group(tx, before, after, actor_of(call.grant))
    except SealwrightError as error:
        return await _group_form(call, before, form.refused(error), status_of(error))
    return redirect(call, f"/groups/{before.id}", "Saved.")


async def delete_group(call: Call) -> Response:
    """Delete one that nothing names."""
    await read_form(call)
    async with call.services.database.transaction() as tx:
        group = await find_group(tx, call.grant, call.path("group"))
        await remove_group(tx, group, actor_of(call.grant))
    return redirect(call, "/groups", f"The group {group.name} is deleted.")


async def _group_form(call: Call, group: Group | None, form: Form, status: int = 200) -> Response:
    async with call.services.database.read() as tx:
        people = await users.every(tx, call.grant.organization_id)
    shown = {
        "group": group,
        "form": form,
        "people": sorted(
            ((one.id, f"{one.name} ({one.email or 'CI user'})") for one in people if one.active),
            key=lambda pair: pair[1].lower(),
        ),
        "may_change": may_open(call.grant.principal, "ui.new_group_page"),
    }
    return page(call, "groups/group.html", shown, status)


async def _invited(call: Call, user: User, invitation: accounts.Invitation | None) -> Response:
    if invitation is None:
        return redirect(call, f"/users/{user.id}", "The CI user is made. It needs a token.")
    if await deliver(call.services, invitation):
        return redirect(call, f"/users/{user.id}", f"An invitation is sent to {user.email}.")
    return await _shown(call, user=user, link=invitation.url)


async def _shown(
    call: Call,
    *,
    user: User | None = None,
    form: Form | None = None,
    token: Form | None = None,
    made: str = "",
    link: str = "",
    status: int = 200,
) -> Response:
    grant, now = call.grant, utc_now()
    async with call.services.database.read() as tx:
        found = user or await find_user(tx, grant, call.path("user"))
        owned = await users.tokens(tx, grant.organization_id, found.id)
        keys = await passkeys.of_user(tx, grant.organization_id, found.id)
        known = await groups.every(tx, grant.organization_id, with_members=False)
        listed = await projects.every(tx, grant.organization_id)
    valid = [
        one for one in owned
        if one.revoked_at is None and (one.expires_at is None or one.expires_at > now)
    ]  # fmt: skip
    shown = {
        "of": found,
        "form": form or _filled(found),
        "token_form": token or Form({"expires_in_days": "90", "scope": TokenScope.SUBMIT.value}),
        "tokens": [one for one in valid if one.kind is TokenKind.API],
        "sessions": [one for one in valid if one.kind is TokenKind.SESSION],
        "passkeys": len(keys),
        "groups": [(one.id, one.name) for one in known],
        "projects": [(one.id, one.name) for one in listed],
        "project_names": {one.id: one.name for one in listed},
        "roles": ROLES,
        "scopes": SCOPES,
        "made": made,
        "link": link,
        "may_change": may_open(grant.principal, "ui.update_user"),
    }
    return page(call, "users/user.html", shown, status)


_USER, _GROUP = "/users/{user}", "/groups/{group}"
_TABLE = (
    ("users", "GET", "/users", listing),
    ("new_user_page", "GET", "/users/new", new_user_page),
    ("create_user", "POST", "/users/new", create),
    ("user", "GET", _USER, detail),
    ("update_user", "POST", _USER, update),
    ("activate_user", "POST", f"{_USER}/active", activate),
    ("invite_user", "POST", f"{_USER}/invitation", invite),
    ("add_user_token", "POST", f"{_USER}/tokens", add_token),
    ("revoke_user_token", "POST", f"{_USER}/tokens/{{token}}/revoke", revoke_token),
    ("groups", "GET", "/groups", groups_listing),
    ("new_group_page", "GET", "/groups/new", new_group_page),
    ("create_group", "POST", "/groups/new", create_group),
    ("group", "GET", _GROUP, group_page),
    ("update_group", "POST", _GROUP, update_group),
    ("delete_group", "POST", f"{_GROUP}/delete", delete_group),
)

ENDPOINTS = tuple(
    Endpoint(f"ui.{name}", method, path, handler, "", face=Face.UI)
    for name, method, path, handler in _TABLE
)
