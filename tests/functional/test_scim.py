"""SCIM 2.0: what directories in use send, on both databases."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.functional.test_passkeys import session
from tests.web import Web

from sealwright.errors import InvalidInputError
from sealwright.model.identifiers import new_id
from sealwright.model.user import Role
from sealwright.provision import (
    GroupResource,
    UserResource,
    parse_filter,
    patch_group,
    patch_user,
    read_user,
)

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"


async def directory(web: Web) -> httpx.AsyncClient:
    administrator = await session(web, await web.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    made = await administrator.post("/api/v1/scim-tokens", json={"name": "Directory"})
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    assert token.startswith("swt_scim_")
    return await web.client(Authorization=f"Bearer {token}")


def person(**fields: Any) -> dict[str, Any]:
    name = f"{new_id()[-12:]}@example.com"
    return {
        "schemas": [USER],
        "userName": name,
        "externalId": new_id(),
        "name": {"givenName": "Ann", "familyName": "Doe"},
        "emails": [{"primary": True, "value": name, "type": "work"}],
        "active": True,
    } | fields


async def test_users_come_change_and_go(web: Web) -> None:
    scim = await directory(web)
    sent = person()
    made = await scim.post("/scim/v2/Users", json=sent)
    assert made.status_code == 201, made.text
    assert made.headers["content-type"] == "application/scim+json"
    user = made.json()
    assert made.headers["location"] == user["meta"]["location"]
    assert (user["userName"], user["displayName"]) == (sent["userName"], "Ann Doe")
    assert (await scim.post("/scim/v2/Users", json=sent)).json()["scimType"] == "uniqueness"
    for filter_ in (
        f'userName eq "{sent["userName"].upper()}"',
        f'externalId eq "{sent["externalId"]}"',
    ):
        found = (await scim.get("/scim/v2/Users", params={"filter": filter_})).json()
        assert [one["id"] for one in found["Resources"]] == [user["id"]]
        assert found["totalResults"] == 1
    path = f"/scim/v2/Users/{user['id']}"
    api = await web.client()
    token = await _session(web, user["id"])
    api.headers["Authorization"] = f"Bearer {token}"
    assert (await api.get("/api/v1/me")).status_code == 200
    gone = await scim.patch(
        path, json={"schemas": [PATCH], "Operations": [{"op": "Replace", "path": "active",
                                                        "value": "False"}]}
    )  # fmt: skip
    assert gone.json()["active"] is False
    assert (await api.get("/api/v1/me")).status_code == 401, "out at once"
    back = await scim.put(path, json=sent | {"displayName": "Ann D."})
    assert (back.json()["active"], back.json()["displayName"]) == (True, "Ann D.")
    assert (await scim.delete(path)).status_code == 204
    assert (await scim.get(path)).json()["active"] is False, "what they did stays theirs"


async def _session(web: Web, user_id: str) -> str:
    from sealwright.db import users

    async with web.database.read() as tx:
        user = await users.get(tx, web.scene.organization.id, user_id)
    assert user is not None
    return await web.token(user)


async def test_groups_and_their_members(web: Web) -> None:
    scim = await directory(web)
    ids = [(await scim.post("/scim/v2/Users", json=person())).json()["id"] for _ in range(3)]
    body = {"displayName": "Release managers", "externalId": "77", "members": [{"value": ids[0]}]}
    made = await scim.post("/scim/v2/Groups", json=body)
    assert made.status_code == 201, made.text
    path = f"/scim/v2/Groups/{made.json()['id']}"

    async def patch(*operations: dict[str, Any]) -> list[str]:
        answer = await scim.patch(path, json={"schemas": [PATCH], "Operations": operations})
        assert answer.status_code == 200, answer.text
        return sorted(one["value"] for one in answer.json()["members"])

    added = {"op": "add", "path": "members", "value": [{"value": one} for one in ids[1:]]}
    assert await patch(added) == sorted(ids)
    assert await patch({"op": "remove", "path": f'members[value eq "{ids[0]}"]'}) == sorted(ids[1:])
    removed = {"op": "Remove", "path": "members", "value": [{"value": ids[1]}]}
    assert await patch(removed) == [ids[2]]
    assert await patch({"op": "replace", "value": {"displayName": "Others"}}) == [ids[2]]
    listed = await scim.get(
        "/scim/v2/Groups",
        params={"filter": 'displayName eq "others"', "excludedAttributes": "members"},
    )
    [group] = listed.json()["Resources"]
    assert (group["displayName"], "members" in group) == ("Others", False)
    user = (await scim.get(f"/scim/v2/Users/{ids[2]}")).json()
    assert [one["value"] for one in user["groups"]] == [group["id"]]
    unknown = {"op": "add", "path": "members", "value": [{"value": new_id()}]}
    stranger = await scim.patch(path, json={"Operations": [unknown]})
    assert stranger.status_code == 400
    assert await patch({"op": "remove", "path": "members"}) == []
    assert (await scim.delete(path)).status_code == 204


async def test_pages_and_what_the_server_can(sqlite: Web) -> None:
    scim = await directory(sqlite)
    for _ in range(5):
        await scim.post("/scim/v2/Users", json=person())
    whole = (await scim.get("/scim/v2/Users")).json()
    total = whole["totalResults"]
    seen = []
    for start in range(1, total + 1, 2):
        query: dict[str, str | int] = {"startIndex": start, "count": 2}
        page = (await scim.get("/scim/v2/Users", params=query)).json()
        seen += [one["id"] for one in page["Resources"]]
    assert seen == [one["id"] for one in whole["Resources"]]
    assert all(one["userName"] for one in whole["Resources"]), "CI users are not shown"
    none = (await scim.get("/scim/v2/Users", params={"count": "0"})).json()
    assert (none["totalResults"], none["Resources"]) == (total, [])
    assert (await scim.get("/scim/v2/Users?startIndex=x")).status_code == 400
    assert (await scim.get("/scim/v2/Users?filter=name+co+x")).status_code == 400
    config = (await scim.get("/scim/v2/ServiceProviderConfig")).json()
    assert (config["patch"]["supported"], config["bulk"]["supported"]) == (True, False)
    assert (await scim.get("/scim/v2/ResourceTypes")).json()["totalResults"] == 2
    schemas = (await scim.get("/scim/v2/Schemas")).json()["Resources"]
    assert {one["id"].rpartition(":")[2] for one in schemas} == {"User", "Group"}


async def test_a_directory_does_nothing_else(sqlite: Web) -> None:
    scim = await directory(sqlite)
    for path in ("/api/v1/users", "/api/v1/me", "/api/v1/signing-requests"):
        assert (await scim.get(path)).status_code == 403
    ordinary = await sqlite.client(await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    refused = await ordinary.get("/scim/v2/Users")
    assert refused.status_code == 403
    assert refused.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
    administrator = await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR)
    seized = await scim.patch(
        f"/scim/v2/Users/{administrator.id}",
        json={"Operations": [{"op": "replace", "path": "active", "value": False}]},
    )
    assert seized.status_code == 403, "administrators are not a directory's to change"


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "replace", "path": "emails[type eq \"work\"].value", "value": "B@example.com"},
         {"user_name": "b@example.com"}),
        ({"op": "add", "value": {"active": False, "externalId": "7"}},
         {"active": False, "external_id": "7"}),
        ({"op": "replace", "path": f"{USER}:displayName", "value": "B"}, {"name": "B"}),
        ({"op": "remove", "path": "externalId"}, {"external_id": None}),
        ({"op": "add", "path": "urn:example:department", "value": "x"}, {}),
    ],
)  # fmt: skip
def test_patches_of_directories(operation: dict[str, Any], expected: dict[str, Any]) -> None:
    before = UserResource("a@example.com", "A", "1", active=True)
    after = patch_user(before, {"Operations": [operation]})
    changed = {
        name: getattr(after, name)
        for name in ("user_name", "name", "external_id", "active")
        if getattr(after, name) != getattr(before, name)
    }
    assert changed == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["op", "path", "value", "members", "userName", "active", "Operations",
                         "emails", "name", "displayName", "externalId"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(document=st.dictionaries(st.sampled_from(["Operations", "userName", "emails"]), JSON))
def test_whatever_is_sent_is_read_or_refused(document: dict[str, Any]) -> None:
    user = UserResource("a@example.com", "A", None, active=True)
    group = GroupResource("G", None, frozenset())
    for read in (
        lambda: read_user(document),
        lambda: patch_user(user, document),
        lambda: patch_group(group, document),
    ):
        try:
            read()
        except InvalidInputError:
            continue


@given(text=st.text(max_size=60))
def test_a_filter_is_understood_or_refused(text: str) -> None:
    try:
        found = parse_filter(text, frozenset({"username"}))
    except InvalidInputError:
        return
    assert found is None or found.attribute == "username"
