"""SCIM 2.0 (RFC 7643, RFC 7644): a directory provisions users and groups of one organization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from sealwright.scim.bulk import MAX_PAYLOAD, run
from sealwright.scim.directory import Groups, People, Resources
from sealwright.scim.documents import projected
from sealwright.scim.errors import ScimError
from sealwright.scim.query import read_query
from sealwright.web.answers import no_content
from sealwright.web.api import scim_discovery
from sealwright.web.api.scim_answers import (
    BASE,
    answer,
    base,
    body,
    failure,
    listed,
    not_implemented,
    one,
    problem,
)
from sealwright.web.routes import Call, Endpoint, Face

_BULK_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"


def _people(call: Call) -> People:
    return People(call.services.database, call.grant, base(call))


def _groups(call: Call) -> Groups:
    return Groups(call.services.database, call.grant, base(call))


async def list_users(call: Call) -> Response:
    """People, all or those that the filter names."""
    return await _list(_people(call), call.request.query_params)


async def search_users(call: Call) -> Response:
    """The same by POST: what is looked for then stands in no log of addresses."""
    return await _list(_people(call), await body(call))


async def get_user(call: Call) -> Response:
    """One of them."""
    return one(call, await _people(call).get(call.path("user")))


async def create_user(call: Call) -> Response:
    """Make a person, who comes in by single sign-on or an invitation."""
    return one(call, await _people(call).create(await body(call)), 201)


async def replace_user(call: Call) -> Response:
    """Write a person anew."""
    given = await body(call)
    return one(call, await _people(call).replace(call.path("user"), given, _version(call)))


async def patch_user(call: Call) -> Response:
    """Change some of a person's attributes."""
    given = await body(call)
    return one(call, await _people(call).patch(call.path("user"), given, _version(call)))


async def delete_user(call: Call) -> Response:
    """Deactivate a person."""
    await _people(call).delete(call.path("user"), _version(call))
    return no_content()


async def list_groups(call: Call) -> Response:
    """Groups, all or those that the filter names."""
    return await _list(_groups(call), call.request.query_params)


async def search_groups(call: Call) -> Response:
    """The same by POST."""
    return await _list(_groups(call), await body(call))


async def get_group(call: Call) -> Response:
    """One of them."""
    return one(call, await _groups(call).get(call.path("group")))


async def create_group(call: Call) -> Response:
    """Make a group."""
    return one(call, await _groups(call).create(await body(call)), 201)


async def replace_group(call: Call) -> Response:
    """Write a group anew."""
    given = await body(call)
    return one(call, await _groups(call).replace(call.path("group"), given, _version(call)))


async def patch_group(call: Call) -> Response:
    """Change some of a group's attributes or members."""
    given = await body(call)
    return one(call, await _groups(call).patch(call.path("group"), given, _version(call)))


async def delete_group(call: Call) -> Response:
    """Delete a group."""
    await _groups(call).delete(call.path("group"), _version(call))
    return no_content()


async def search(call: Call) -> Response:
    """People and groups together, in that order."""
    given = await body(call)
    total, shown, start, refusals = 0, list[dict[str, Any]](), 1, list[ScimError]()
    for resources in (_people(call), _groups(call)):
        try:
            query = read_query(given, resources.kind)
        except ScimError as error:  # an attribute that only the others have
            refusals.append(error)
            continue
        start = query.start
        rest = replace(query, start=max(1, start - total), count=query.count - len(shown))
        found = await resources.found(rest)
        total += found.total
        shown += (projected(one, query.attributes, query.excluded) for one in found.page)
    if len(refusals) == 2:
        raise refusals[0]
    return listed(shown, total, start)


async def bulk(call: Call) -> Response:
    """Many operations at once. Each is allowed to whom it would be allowed alone: their rows in the
    table of permissions are this one's."""
    given = await body(call, MAX_PAYLOAD)
    endpoints: Mapping[str, Resources] = {"users": _people(call), "groups": _groups(call)}
    results = await run(given, endpoints, failure)
    return answer({"schemas": [_BULK_RESPONSE], "Operations": results})


async def me(_: Call) -> Response:
    """Nobody: a directory's token is no person's (RFC 7644, 3.11)."""
    return not_implemented("A SCIM token belongs to a directory, which is no user.")


async def _list(resources: Resources, given: Mapping[str, Any]) -> Response:
    query = read_query(given, resources.kind)
    found = await resources.found(query)
    page = [projected(shown, query.attributes, query.excluded) for shown in found.page]
    return listed(page, found.total, query.start)


def _version(call: Call) -> str | None:
    return call.request.headers.get("if-match")


_TABLE = (
    ("config", "GET", "/ServiceProviderConfig", scim_discovery.config),
    ("resource_types", "GET", "/ResourceTypes", scim_discovery.resource_types),
    ("resource_type", "GET", "/ResourceTypes/{resource_type}", scim_discovery.resource_type),
    ("schemas", "GET", "/Schemas", scim_discovery.schemas),
    ("schema", "GET", "/Schemas/{schema}", scim_discovery.schema),
    ("list_users", "GET", "/Users", list_users),
    ("search_users", "POST", "/Users/.search", search_users),
    ("create_user", "POST", "/Users", create_user),
    ("get_user", "GET", "/Users/{user}", get_user),
    ("replace_user", "PUT", "/Users/{user}", replace_user),
    ("patch_user", "PATCH", "/Users/{user}", patch_user),
    ("delete_user", "DELETE", "/Users/{user}", delete_user),
    ("list_groups", "GET", "/Groups", list_groups),
    ("search_groups", "POST", "/Groups/.search", search_groups),
    ("create_group", "POST", "/Groups", create_group),
    ("get_group", "GET", "/Groups/{group}", get_group),
    ("replace_group", "PUT", "/Groups/{group}", replace_group),
    ("patch_group", "PATCH", "/Groups/{group}", patch_group),
    ("delete_group", "DELETE", "/Groups/{group}", delete_group),
    ("search", "POST", "/.search", search),
    ("bulk", "POST", "/Bulk", bulk),
    ("get_me", "GET", "/Me", me),
    ("create_me", "POST", "/Me", me),
    ("replace_me", "PUT", "/Me", me),
    ("patch_me", "PATCH", "/Me", me),
    ("delete_me", "DELETE", "/Me", me),
)

ENDPOINTS = tuple(
    Endpoint(f"scim.{name}", method, f"{BASE}{path}", handler, "", face=Face.SCIM, problem=problem)
    for name, method, path, handler in _TABLE
)
