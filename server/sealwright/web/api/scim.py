"""SCIM 2.0 (RFC 7643, RFC 7644): a directory provisions users and groups of one organization.

Users are the organization's people, CI users are not shown. Deleting a user deactivates them: what
they decided stays. New users are regular ones; roles are given here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response

from sealwright.db import Transaction, groups, users
from sealwright.errors import (
    ForbiddenError,
    InvalidInputError,
    PreconditionFailedError,
    SealwrightError,
)
from sealwright.membership import (
    actor_of,
    add_group,
    add_user,
    change_group,
    change_user,
    remove_group,
)
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.scim_filter import (
    Filter,
    Schema,
    ScimError,
    ScimType,
    exact_terms,
    matches,
    parse_filter,
)
from sealwright.model.user import Group, Role, User, UserKind
from sealwright.policy.permissions import check_may_grant
from sealwright.provision import (
    GroupResource,
    UserResource,
    patch_group,
    patch_user,
    read_group,
    read_user,
)
from sealwright.scim_resources import (
    GROUP,
    GROUP_ATTRIBUTES,
    GROUP_FILTERED,
    USER,
    USER_ATTRIBUTES,
    USER_FILTERED,
    group_document,
    has_version,
    projected,
    user_document,
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
_AT_ONCE = 500  #: rows that are matched at once
#: What a filter asks for exactly -> the column by which the database finds it.
_USER_COLUMNS = {
    "id": "id",
    "username": "email",
    "emails.value": "email",
    "externalid": "external_id",
}
_GROUP_COLUMNS = {"id": "id", "externalid": "external_id"}


def problem(error: SealwrightError) -> Response:
    """An error in SCIM's form (RFC 7644, 3.12)."""
    status = status_of(error)
    body: dict[str, Any] = {"schemas": [_ERROR], "status": str(status)}
    body["detail"] = "The server failed." if status == 500 else f"{error.message} {error.advice}"
    if status == 409:
        body["scimType"] = "uniqueness"
    if status == 400:
        body["scimType"] = error.scim_type if isinstance(error, ScimError) else "invalidValue"
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
            "etag": {"supported": True},
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
    return _all_of(call, _resource_types(call))


async def resource_type(call: Call) -> Response:
    """One of them."""
    return _named(_resource_types(call), call.path("resource_type"), "resource type")


async def schemas(call: Call) -> Response:
    """The attributes that are kept (RFC 7643, 7)."""
    return _all_of(call, _schemas(call))


async def schema(call: Call) -> Response:
    """Those of users or of groups."""
    return _named(_schemas(call), call.path("schema"), "schema")


def _named(found: Sequence[Mapping[str, Any]], name: str, kind: str) -> Response:
    for one in found:
        if one["id"] == name:
            return _answer(one)
    raise missing(name, kind)


def _resource_types(call: Call) -> list[dict[str, Any]]:
    return [
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


def _schemas(call: Call) -> list[dict[str, Any]]:
    return [
        _schema(call, USER, "User", USER_ATTRIBUTES),
        _schema(call, GROUP, "Group", GROUP_ATTRIBUTES),
    ]


async def list_users(call: Call) -> Response:
    """People, all or those that the filter names."""
    wanted = _filter(call, USER_FILTERED, USER)
    terms = {_USER_COLUMNS[name]: value for name, value in exact_terms(wanted).items()
             if name in _USER_COLUMNS}  # fmt: skip
    if "email" in terms:
        terms["email"] = terms["email"].lower()
    organization_id = call.grant.organization_id
    async with call.services.database.read() as tx:

        async def read(after: str, skip: int, limit: int) -> list[User]:
            return await users.people(
                tx, organization_id, exact=terms, after=after, skip=skip, limit=limit
            )

        total = None if wanted else await users.count_people(tx, organization_id)
        return await _listed(call, wanted, total, read, user_document)


async def get_user(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        return _one(call, user_document(await _find_user(tx, call), _base(call)))


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
    return _one(call, user_document(user, _base(call)), 201)


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
    wanted = _filter(call, GROUP_FILTERED, GROUP)
    terms = {_GROUP_COLUMNS[name]: value for name, value in exact_terms(wanted).items()
             if name in _GROUP_COLUMNS}  # fmt: skip
    organization_id = call.grant.organization_id
    async with call.services.database.read() as tx:

        async def read(after: str, skip: int, limit: int) -> list[Group]:
            return await groups.page(
                tx, organization_id, exact=terms, after=after, skip=skip, limit=limit
            )

        total = None if wanted else await groups.count(tx, organization_id)
        return await _listed(call, wanted, total, read, group_document)


async def get_group(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        group = await find_group(tx, call.grant, call.path("group"))
    return _one(call, group_document(group, _base(call)))


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
    return _one(call, group_document(group, _base(call)), 201)


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
        group = await _locked_group(tx, call)
        await remove_group(tx, group, actor_of(call.grant))
    return no_content()


async def _change_user(call: Call, change: Callable[[UserResource], UserResource]) -> Response:
    async with call.services.database.transaction() as tx:
        if is_id(call.path("user")):
            await users.lock(tx, call.grant.organization_id, call.path("user"))
        user = await _find_user(tx, call)
        check_may_grant(call.grant.user, user.role)
        _check_version(call, user_document(user, _base(call)))
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
    return _one(call, user_document(changed, _base(call)))


async def _change_group(call: Call, change: Callable[[GroupResource], GroupResource]) -> Response:
    async with call.services.database.transaction() as tx:
        group = await _locked_group(tx, call)
        after = change(GroupResource(group.name, group.external_id, group.members))
        changed = dataclasses.replace(
            group, name=after.name, external_id=after.external_id, members=after.members
        )
        await change_group(tx, group, changed, actor_of(call.grant))
    return _one(call, group_document(changed, _base(call)))


async def _locked_group(tx: Transaction, call: Call) -> Group:
    """The group of the path, in the version that the caller names, which nobody else changes.

    Raises:
        NotFoundError, PreconditionFailedError
    """
    if is_id(call.path("group")):
        await groups.lock(tx, call.grant.organization_id, call.path("group"))
    group = await find_group(tx, call.grant, call.path("group"))
    _check_version(call, group_document(group, _base(call)))
    return group


def _check_version(call: Call, document: Mapping[str, Any]) -> None:
    wanted = call.request.headers.get("if-match")
    if wanted is not None and not has_version(document, wanted):
        message = "It is not in this version any more."
        raise PreconditionFailedError(message, advice="Read it again.")


async def _find_user(tx: Transaction, call: Call) -> User:
    user = await find_user(tx, call.grant, call.path("user"))
    if not _person(user):
        raise missing(user.id, "user")
    return user


def _person(user: User) -> bool:
    return user.kind is UserKind.INTERACTIVE


def _filter(call: Call, schema: Schema, urn: str) -> Filter | None:
    return parse_filter(call.request.query_params.get("filter", ""), schema, urn)


async def _listed(
    call: Call,
    wanted: Filter | None,
    total: int | None,
    read: Callable[[str, int, int], Awaitable[Sequence[T]]],
    document: Callable[[T, str], dict[str, Any]],
) -> Response:
    """A page (RFC 7644, 3.4.2.4): from the `startIndex`-th on, at most `count`.

    Args:
        total: how many there are without a filter, so that the database finds the page; with one
            they are read in pages by id and matched, and no more is kept than is shown.
        read: id after which, number to leave out, most -> what the database has.
    """
    start = max(1, _number(call, "startIndex", 1))
    count = min(max(0, _number(call, "count", _MOST)), _MOST)
    base, page = _base(call), []
    if wanted is None:
        found = await read("", start - 1, count) if count else ()
        page = [document(one, base) for one in found]
    else:
        total, after = 0, ""
        while some := await read(after, 0, _AT_ONCE):
            documents = [document(one, base) for one in some]
            for shown in documents:
                if matches(wanted, shown):
                    total += 1
                    if start <= total < start + count:
                        page.append(shown)
            after = documents[-1]["id"]
            if len(some) < _AT_ONCE:
                break
    return _answer(
        {
            "schemas": [_LIST],
            "totalResults": total,
            "startIndex": start,
            "itemsPerPage": len(page),
            "Resources": [_projected(call, one) for one in page],
        }
    )


def _all_of(call: Call, found: Sequence[Mapping[str, Any]]) -> Response:
    """What the server can, at once. A filter is refused (RFC 7644, 4)."""
    if call.request.query_params.get("filter"):
        message = "What the server can is not filtered."
        raise ForbiddenError(message)
    return _answer(
        {
            "schemas": [_LIST],
            "totalResults": len(found),
            "startIndex": 1,
            "itemsPerPage": len(found),
            "Resources": list(found),
        }
    )


def _one(call: Call, document: Mapping[str, Any], status: int = 200) -> Response:
    """A user or group, or that it is as the caller has it (RFC 7644, 3.14)."""
    version = document["meta"]["version"]
    known = call.request.headers.get("if-none-match")
    if call.request.method == "GET" and known is not None and has_version(document, known):
        return Response(None, 304, {"ETag": version})
    headers = {"ETag": version}
    if status == 201:
        headers["Location"] = document["meta"]["location"]
    return _answer(_projected(call, document), status, headers)


def _projected(call: Call, document: Mapping[str, Any]) -> dict[str, Any]:
    query = call.request.query_params
    attributes = query.get("attributes", "").split(",")
    return projected(document, attributes, query.get("excludedAttributes", "").split(","))


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
        raise ScimError(ScimType.INVALID_SYNTAX, message)
    return document


def _answer(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse(dict(document), status, headers, media_type=_TYPE)


def _base(call: Call) -> str:
    return f"{call.services.settings.url}{_BASE}"


def _meta(call: Call, kind: str, path: str) -> dict[str, str]:
    return {"resourceType": kind, "location": f"{_base(call)}/{path}"}


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


_BASE = "/scim/v2"
_TABLE = (
    ("config", "GET", "/ServiceProviderConfig", config),
    ("resource_types", "GET", "/ResourceTypes", resource_types),
    ("resource_type", "GET", "/ResourceTypes/{resource_type}", resource_type),
    ("schemas", "GET", "/Schemas", schemas),
    ("schema", "GET", "/Schemas/{schema}", schema),
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
