"""Groups: users who stand together in the lists of projects and policies."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import groups
from sealwright.membership import (
    actor_of,
    add_group,
    change_group,
    check_may_change_members,
    remove_group,
    renamed,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import Group
from sealwright.visible import find_group
from sealwright.web.answers import json_answer, no_content, page_of
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.groups import GroupIn, GroupOut, GroupPatch, GroupsOut
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """All groups."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        found = await groups.every(tx, call.grant.organization_id, with_members=False)
        page, cursor = page_of(found, query.cursor, query.limit, lambda group: group.id)
        whole = await groups.some(tx, call.grant.organization_id, [one.id for one in page])
    return json_answer(GroupsOut(items=[_out(one) for one in whole], next_cursor=cursor))


async def get(call: Call) -> Response:
    """One group."""
    async with call.services.database.read() as tx:
        return json_answer(_out(await find_group(tx, call.grant, call.path("group"))))


async def create(call: Call) -> Response:
    """Make a group."""
    given = await call.json(GroupIn)
    group = Group(
        new_id(), call.grant.organization_id, given.name, utc_now(), members=given.members
    )
    check_may_change_members(call.grant.user, frozenset(), group.members)
    async with call.services.database.transaction() as tx:
        await add_group(tx, group, actor_of(call.grant))
    location = f"{call.services.settings.url}/api/v1/groups/{group.id}"
    return json_answer(_out(group), 201, {"Location": location})


async def update(call: Call) -> Response:
    """Change a group's name, or who is in it."""
    patch = await call.json(GroupPatch)
    async with call.services.database.transaction() as tx:
        before = await find_group(tx, call.grant, call.path("group"))
        after = renamed(before, patch.name, patch.members)
        check_may_change_members(call.grant.user, before.members, after.members)
        await change_group(tx, before, after, actor_of(call.grant))
    return json_answer(_out(after))


async def delete(call: Call) -> Response:
    """Delete a group that nothing names."""
    async with call.services.database.transaction() as tx:
        group = await find_group(tx, call.grant, call.path("group"))
        await remove_group(tx, group, actor_of(call.grant))
    return no_content()


def _out(group: Group) -> GroupOut:
    return GroupOut.model_validate(fields_of(group) | {"members": sorted(group.members)})


_PATH = "/api/v1/groups"
_ONE = f"{_PATH}/{{group}}"

ENDPOINTS = (
    Endpoint(
        "groups.list",
        "GET",
        _PATH,
        listing,
        "List groups",
        (Answer(200, "One page", GroupsOut),),
        query=PageQuery,
    ),
    Endpoint(
        "groups.create",
        "POST",
        _PATH,
        create,
        "Make a group",
        (Answer(201, "Made", GroupOut),),
        {"application/json": GroupIn},
    ),
    Endpoint("groups.get", "GET", _ONE, get, "Read a group", (Answer(200, "The group", GroupOut),)),
    Endpoint(
        "groups.update",
        "PATCH",
        _ONE,
        update,
        "Change a group",
        (Answer(200, "Changed", GroupOut),),
        {"application/json": GroupPatch},
    ),
    Endpoint("groups.delete", "DELETE", _ONE, delete, "Delete a group", (Answer(204, "Deleted"),)),
)
