"""SCIM 2.0 (RFC 7643, RFC 7644): a directory provisions users and groups of one organization.

Users are the organization's people, CI users are not shown. Deleting a user deactivates them: what
they decided stays. New users are regular ones; roles are given here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response

from sealwright.db import Transaction, groups, users
from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.membership import (
    actor_of,
    add_group,
    add_user,
    change_group,
    change_user,
    remove_group,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import Group, Role, User, UserKind
from sealwright.policy.permissions import check_may_grant
from sealwright.provision import (
    GROUP,
    USER,
    Filter,
    GroupResource,
    UserResource,
    parse_filter,
    patch_group,
    patch_user,
    read_group,
    read_user,
)
from sealwright.visible import find_group, find_user, missing
from sealwright.web import bodies
from sealwright.web.answers import no_content
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face

T = TypeVar("T")
_TYPE = "application/scim+json"
_LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Schema"
_RESOURCE_TYPE = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
_CONFIG = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
_MOST = 200
_USER_FILTERS = frozenset({"username", "externalid", "id", "emails.value"})
_GROUP_FILTERS = frozenset({"displayname", "externalid", "id"})


def problem(error: SealwrightError) -> Response:
    """An error in SCIM's form (RFC 7644, 3.12)."""
    status = status_of(error)
    body: dict[str, Any] = {"schemas": [_ERROR], "status": str(status)}
    body["detail"] = "The server failed." if status == 500 else f"{error.message} {error.advice}"
    if status == 409:
        body["scimType"] = "uniqueness"
    if status == 400:
        body["scimType"] = "invalidValue"
    return JSONResponse(body, status, media_type=_TYPE)


async def config(call: Call) -> Response:
    """What this server can (RFC 7643, 5)."""
    return _answer(
        {
            "schemas": [_CONFIG],
            "documentationUri": f"{call.services.settings.url}/api/openapi.json",
            "patch": {"supported": True},
            "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
            "filter": {"supported": True, "maxResults": _MOST},
            "changePassword": {"supported": False},
            "sort": {"supported": False},
            "etag": {"supported": False},
            "authenticationSchemes": [
                {
                    "type": "oauthbearertoken",
                    "name": "Bearer token",
                    "description": "A SCIM token of the organization.",
                    "primary": True,
                }
            ],
            "meta": _meta(call, "ServiceProviderConfig", "ServiceProviderConfig"),
        }
    )


async def resource_types(call: Call) -> Response:
    """Users and groups (RFC 7643, 6)."""
    found = [
        {
            "schemas": [_RESOURCE_TYPE],
            "id": name,
            "name": name,
            "endpoint": f"/{name}s",
            "schema": schema,
            "meta": _meta(call, "ResourceType", f"ResourceTypes/{name}"),
        }
        for name, schema in (("User", USER), ("Group", GROUP))
    ]
    return _listed(call, found, lambda one: one)


async def schemas(call: Call) -> Response:
    """The attributes that are kept (RFC 7643, 7)."""
    found = [
        _schema(call, USER, "User", _USER_ATTRIBUTES),
        _schema(call, GROUP, "Group", _GROUP_ATTRIBUTES),
    ]
    return _listed(call, found, lambda one: one)


async def list_users(call: Call) -> Response:
    """People, all or those that the filter names."""
    wanted = parse_filter(call.request.query_params.get("filter", ""), _USER_FILTERS)
    async with call.services.database.read() as tx:
        found = [one for one in await users.every(tx, call.grant.organization_id) if _person(one)]
    chosen = [one for one in found if wanted is None or _user_fits(one, wanted)]
    return _listed(call, chosen, lambda one: _user_out(call, one))


async def get_user(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        return _answer(_user_out(call, await _find_user(tx, call)))


async def create_user(call: Call) -> Response:
    """Make a person, who comes in by single sign-on or an invitation."""
    given = read_user(await _document(call))
    user = User(
        id=new_id(),
        organization_id=call.grant.organization_id,
        kind=UserKind.INTERACTIVE,
        name=given.name,
        email=given.user_name,
        role=Role.REGULAR_USER,
        password_hash=None,
        active=given.active,
        created_at=utc_now(),
        external_id=given.external_id,
    )
    async with call.services.database.transaction() as tx:
        await add_user(tx, user, actor_of(call.grant))
    return _answer(_user_out(call, user), 201)


async def replace_user(call: Call) -> Response:
    """Write a person anew."""
    given = read_user(await _document(call))
    return await _change_user(call, lambda _: given)


async def patch_one_user(call: Call) -> Response:
    """Change some of a person's attributes."""
    document = await _document(call)
    return await _change_user(call, lambda user: patch_user(user, document))


async def delete_user(call: Call) -> Response:
    """Deactivate a person: sessions and tokens count no more."""
    await _change_user(call, lambda user: dataclasses.replace(user, active=False))
    return no_content()


async def list_groups(call: Call) -> Response:
    """Groups, all or those that the filter names."""
    wanted = parse_filter(call.request.query_params.get("filter", ""), _GROUP_FILTERS)
    async with call.services.database.read() as tx:
        found = await groups.every(tx, call.grant.organization_id)
    chosen = [one for one in found if wanted is None or _group_fits(one, wanted)]
    excluded = "members" in call.request.query_params.get("excludedAttributes", "")
    return _listed(call, chosen, lambda one: _group_out(call, one, members=not excluded))


async def get_group(call: Call) -> Response:
    """One of them."""
    excluded = "members" in call.request.query_params.get("excludedAttributes", "")
    async with call.services.database.read() as tx:
        group = await find_group(tx, call.grant, call.path("group"))
    return _answer(_group_out(call, group, members=not excluded))


async def create_group(call: Call) -> Response:
    """Make a group."""
    given = read_group(await _document(call))
    group = Group(
        new_id(),
        call.grant.organization_id,
        given.name,
        utc_now(),
        given.external_id,
        given.members,
    )
    async with call.services.database.transaction() as tx:
        await add_group(tx, group, actor_of(call.grant))
    return _answer(_group_out(call, group), 201)


async def replace_group(call: Call) -> Response:
    """Write a group anew."""
    given = read_group(await _document(call))
    return await _change_group(call, lambda _: given)


async def patch_one_group(call: Call) -> Response:
    """Change some of a group's attributes or members."""
    document = await _document(call)
    return await _change_group(call, lambda group: patch_group(group, document))


async def delete_group(call: Call) -> Response:
    """Delete a group that no project or policy names."""
    async with call.services.database.transaction() as tx:
        group = await find_group(tx, call.grant, call.path("group"))
        await remove_group(tx, group, actor_of(call.grant))
    return no_content()


async def _change_user(call: Call, change: Callable[[UserResource], UserResource]) -> Response:
    async with call.services.database.transaction() as tx:
        user = await _find_user(tx, call)
        check_may_grant(call.grant.user, user.role)
        before = UserResource(user.email or "", user.name, user.external_id, user.active)
        after = change(before)
        changed = dataclasses.replace(
            user,
            email=after.user_name,
            name=after.name,
            external_id=after.external_id,
            active=after.active,
        )
        await change_user(tx, user, changed, actor_of(call.grant))
    return _answer(_user_out(call, changed))


async def _change_group(call: Call, change: Callable[[GroupResource], GroupResource]) -> Response:
    async with call.services.database.transaction() as tx:
        group = await find_group(tx, call.grant, call.path("group"))
        after = change(GroupResource(group.name, group.external_id, group.members))
        changed = dataclasses.replace(
            group, name=after.name, external_id=after.external_id, members=after.members
        )
        await change_group(tx, group, changed, actor_of(call.grant))
    return _answer(_group_out(call, changed))


async def _find_user(tx: Transaction, call: Call) -> User:
    user = await find_user(tx, call.grant, call.path("user"))
    if not _person(user):
        raise missing(user.id, "user")
    return user


def _person(user: User) -> bool:
    return user.kind is UserKind.INTERACTIVE


def _user_fits(user: User, wanted: Filter) -> bool:
    match wanted.attribute:
        case "username" | "emails.value":
            return (user.email or "") == wanted.value.lower()
        case "externalid":
            return user.external_id == wanted.value
    return user.id == wanted.value


def _group_fits(group: Group, wanted: Filter) -> bool:
    match wanted.attribute:
        case "displayname":
            return group.name.lower() == wanted.value.lower()
        case "externalid":
            return group.external_id == wanted.value
    return group.id == wanted.value


def _user_out(call: Call, user: User) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "schemas": [USER],
        "id": user.id,
        "userName": user.email,
        "name": {"formatted": user.name},
        "displayName": user.name,
        "emails": [{"value": user.email, "type": "work", "primary": True}],
        "active": user.active,
        "groups": [{"value": one} for one in sorted(user.groups)],
        "meta": _meta(call, "User", f"Users/{user.id}") | {"created": user.created_at.isoformat()},
    }
    return shown | ({"externalId": user.external_id} if user.external_id else {})


def _group_out(call: Call, group: Group, *, members: bool = True) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "schemas": [GROUP],
        "id": group.id,
        "displayName": group.name,
        "meta": _meta(call, "Group", f"Groups/{group.id}")
        | {"created": group.created_at.isoformat()},
    }
    if members:
        shown["members"] = [{"value": one, "type": "User"} for one in sorted(group.members)]
    return shown | ({"externalId": group.external_id} if group.external_id else {})


def _listed(call: Call, found: Sequence[T], show: Callable[[T], Mapping[str, Any]]) -> Response:
    """A page (RFC 7644, 3.4.2.4): from the `startIndex`-th on, at most `count`."""
    start = max(1, _number(call, "startIndex", 1))
    count = min(max(0, _number(call, "count", _MOST)), _MOST)
    page = found[start - 1 : start - 1 + count]
    return _answer(
        {
            "schemas": [_LIST],
            "totalResults": len(found),
            "startIndex": start,
            "itemsPerPage": len(page),
            "Resources": [dict(show(one)) for one in page],
        }
    )


def _number(call: Call, name: str, otherwise: int) -> int:
    text = call.request.query_params.get(name, "")
    if not text:
        return otherwise
    if len(text) > 9 or not text.lstrip("-").isascii() or not text.lstrip("-").isdigit():
        message = f"{name} is no number."
        raise InvalidInputError(message)
    return int(text)


async def _document(call: Call) -> dict[str, Any]:
    body = await bodies.read(call.request, bodies.MAX_JSON_BYTES)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        message = "The body is no JSON object."
        raise InvalidInputError(message)
    return document


def _answer(document: Mapping[str, Any], status: int = 200) -> Response:
    headers = {}
    location = document.get("meta", {}).get("location")
    if status == 201 and location:
        headers["Location"] = location
    return JSONResponse(dict(document), status, headers, media_type=_TYPE)


def _meta(call: Call, kind: str, path: str) -> dict[str, str]:
    return {"resourceType": kind, "location": f"{call.services.settings.url}/scim/v2/{path}"}


def _schema(
    call: Call, schema: str, name: str, attributes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "schemas": [_SCHEMA],
        "id": schema,
        "name": name,
        "attributes": list(attributes),
        "meta": _meta(call, "Schema", f"Schemas/{schema}"),
    }


def _attribute(name: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "multiValued": False,
        "required": False,
        "caseExact": False,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
    } | more


_USER_ATTRIBUTES = (
    _attribute("userName", required=True, uniqueness="server"),
    _attribute("externalId", caseExact=True),
    _attribute("displayName"),
    _attribute("name", "complex", subAttributes=[_attribute("formatted")]),
    _attribute("emails", "complex", multiValued=True, subAttributes=[_attribute("value")]),
    _attribute("active", "boolean"),
)
_GROUP_ATTRIBUTES = (
    _attribute("displayName", required=True),
    _attribute("externalId", caseExact=True),
    _attribute("members", "complex", multiValued=True, subAttributes=[_attribute("value")]),
)

_BASE = "/scim/v2"
_TABLE = (
    ("config", "GET", "/ServiceProviderConfig", config),
    ("resource_types", "GET", "/ResourceTypes", resource_types),
    ("schemas", "GET", "/Schemas", schemas),
    ("list_users", "GET", "/Users", list_users),
    ("create_user", "POST", "/Users", create_user),
    ("get_user", "GET", "/Users/{user}", get_user),
    ("replace_user", "PUT", "/Users/{user}", replace_user),
    ("patch_user", "PATCH", "/Users/{user}", patch_one_user),
    ("delete_user", "DELETE", "/Users/{user}", delete_user),
    ("list_groups", "GET", "/Groups", list_groups),
    ("create_group", "POST", "/Groups", create_group),
    ("get_group", "GET", "/Groups/{group}", get_group),
    ("replace_group", "PUT", "/Groups/{group}", replace_group),
    ("patch_group", "PATCH", "/Groups/{group}", patch_one_group),
    ("delete_group", "DELETE", "/Groups/{group}", delete_group),
)

ENDPOINTS = tuple(
    Endpoint(f"scim.{name}", method, f"{_BASE}{path}", handler, "", face=Face.SCIM, problem=problem)
    for name, method, path, handler in _TABLE
)
