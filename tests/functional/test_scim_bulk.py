"""SCIM: bulk operations, sorting, searches by POST, and what is told of the rest."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.functional.test_scim import PATCH, directory, person
from tests.web import Web

from sealwright.model.identifiers import new_id
from sealwright.scim.bulk import MAX_OPERATIONS, MAX_PAYLOAD
from sealwright.scim.documents import GROUP, USER

BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"


def post(path: str, bulk_id: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "path": path, "bulkId": bulk_id, "data": data}


def group(*members: str) -> dict[str, Any]:
    named = [{"value": one} for one in members]
    return {"schemas": [GROUP], "displayName": new_id(), "members": named}


async def send(
    scim: httpx.AsyncClient, *operations: object, **more: object
) -> list[dict[str, Any]]:
    body = {"schemas": [BULK], "Operations": operations} | more
    answer = await scim.post("/scim/v2/Bulk", json=body)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["Operations"]
    return results


async def test_operations_that_name_each_others_resources(web: Web) -> None:
    """RFC 7644, 3.7.2: a group before its member, and what is changed of both."""
    scim = await directory(web)
    made, user, change = await send(
        scim,
        post("/Groups", "g", group("bulkId:u")),
        post("/Users", "u", person()),
        {"method": "patch", "path": "/Users/bulkId:u",
         "data": {"schemas": [PATCH], "Operations": [{"op": "add", "value": {"active": False}}]}},
    )  # fmt: skip
    assert [one["status"] for one in (made, user, change)] == ["201", "201", "200"]
    assert (made["bulkId"], made["method"], user["bulkId"]) == ("g", "POST", "u")
    seen = await scim.get(user["location"])
    assert (seen.json()["active"], seen.headers["etag"]) == (False, change["version"])
    assert change["version"] != user["version"]
    path = made["location"].removeprefix(f"{web.server.url}/scim/v2")
    [gone] = await send(scim, {"method": "DELETE", "path": path})
    assert (gone["status"], gone["location"]) == ("204", made["location"])
    assert (await scim.get(made["location"])).status_code == 404
    stale = {"method": "PUT", "path": f"/Users/{seen.json()['id']}", "data": person()}
    [late] = await send(scim, stale | {"version": user["version"]})
    assert (late["status"], late["response"]["status"]) == ("412", "412")


async def test_what_fails_alone(sqlite: Web) -> None:
    scim = await directory(sqlite)
    first = person()
    results = await send(
        scim,
        post("/Users", "a", first),
        post("/Users", "b", first),  # taken
        post("/Groups", "c", group("bulkId:b")),  # of one that failed
        post("/Groups", "d", group("bulkId:e")),  # of each other
        post("/Groups", "e", group("bulkId:d")),
        post("/Groups", "f", group("bulkId:nobody")),
        post("/Users", "a", person()),  # the bulkId of another one
        post("/Users/x", "g", person()),
        {"method": "POST", "path": "/Users", "data": person()},
        {"method": "GET", "path": "/Users"},
        {"method": "DELETE", "path": "/Me/x"},
        {"method": "PUT", "path": f"/Users/{new_id()}", "data": person()},
        {"method": "PATCH", "path": f"/Users/{new_id()}"},
        "nothing",
        post("/Groups", "h", group("bulkId:a")),
    )
    statuses = [one["status"] for one in results]
    assert statuses == ["201", *["409"] * 5, *["400"] * 5, "404", "400", "400", "201"]
    types = [one.get("response", {}).get("scimType") for one in results]
    assert types[1:6] == ["uniqueness", None, None, None, None]
    assert set(types[6:11]) == {"invalidSyntax"}
    deep: Any = "x"
    for _ in range(30):
        deep = {"name": deep}
    [refused] = await send(scim, post("/Users", "deep", deep))
    assert refused["status"] == "400"


async def test_bounds_of_a_bulk(sqlite: Web) -> None:
    scim = await directory(sqlite)
    bad = {"method": "DELETE", "path": f"/Users/{new_id()}"}
    fine = post("/Groups", "g", group())
    assert [one["status"] for one in await send(scim, bad, fine, bad, failOnErrors=2)] == [
        "404", "201", "404",
    ]  # fmt: skip
    assert [one["status"] for one in await send(scim, bad, fine, failOnErrors=1)] == ["404"]
    many = await scim.post("/scim/v2/Bulk", json={"Operations": [bad] * (MAX_OPERATIONS + 1)})
    assert (many.status_code, many.json()["status"]) == (413, "413")
    large = json.dumps({"Operations": [], "x": "x" * MAX_PAYLOAD})
    assert (await scim.post("/scim/v2/Bulk", content=large)).status_code == 413
    for body in ({}, {"Operations": {}}, {"Operations": [], "failOnErrors": "x"}):
        refused = await scim.post("/scim/v2/Bulk", json=body)
        assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidSyntax")


async def test_sorting_and_searching_by_post(web: Web) -> None:
    scim = await directory(web)
    mark = new_id()[-8:]
    for number, name in enumerate(("b", "C", "\u00c4", "a")):
        sent = person(userName=f"{number}{mark}@example.com", displayName=f"{name} {mark}")
        del sent["emails"]
        if number == 3:
            del sent["externalId"]
        assert (await scim.post("/scim/v2/Users", json=sent)).status_code == 201

    async def found(path: str = "/Users", **query: object) -> list[str]:
        body = {"filter": f'displayName ew "{mark.upper()}"'} | query
        answer = await scim.post(f"/scim/v2{path}/.search", json=body)
        assert answer.status_code == 200, answer.text
        return [one["displayName"].split(" ")[0] for one in answer.json()["Resources"]]

    assert await found() == ["b", "C", "\u00c4", "a"]
    assert await found(sortBy="displayName") == ["a", "b", "C", "\u00c4"]
    assert await found(sortBy="name.formatted", sortOrder="descending", count=2) == ["\u00c4", "C"]
    assert await found(sortBy="emails", startIndex=3) == ["\u00c4", "a"]
    assert (await found(sortBy="externalId"))[-1] == "a", "what has none comes last"
    assert (await found(sortBy="externalId", sortOrder="descending"))[0] == "a"
    assert await found(sortBy="meta.resourceType") == ["b", "C", "\u00c4", "a"]
    named = {"displayName": f"group {mark}"}
    assert (await scim.post("/scim/v2/Groups", json=named)).status_code == 201
    assert await found("", startIndex=4) == ["a", "group"]
    assert await found("", count=1) == ["b"]
    assert await found("", filter=f'userName sw "0{mark}"') == ["b"], "groups have none"
    shown = await scim.post(
        "/scim/v2/Groups/.search",
        json={"filter": f'displayName eq "GROUP {mark}"', "excludedAttributes": ["members"]},
    )
    [one] = shown.json()["Resources"]
    assert "members" not in one
    assert "version" not in one["meta"]
    for query in ("sortBy=nick", "sortBy=groups", "sortBy=groups.value", "sortBy=emails[type pr]",
                  "sortBy=userName&sortOrder=up"):  # fmt: skip
        assert (await scim.get(f"/scim/v2/Users?{query}")).status_code == 400, query
    for body in ({"filter": 7}, {"count": "x"}, {"attributes": {}}, []):
        assert (await scim.post("/scim/v2/.search", json=body)).status_code == 400, body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_what_is_not_there_is_told(sqlite: Web, method: str) -> None:
    scim = await directory(sqlite)
    nobody = await scim.request(method, "/scim/v2/Me")
    assert (nobody.status_code, nobody.json()["status"]) == (501, "501")
    nothing = await scim.request(method, "/scim/v2/Devices")
    assert (nothing.status_code, nothing.json()["schemas"]) == (
        404, ["urn:ietf:params:scim:api:messages:2.0:Error"],
    )  # fmt: skip


async def test_what_is_required_stays(sqlite: Web) -> None:
    scim = await directory(sqlite)
    path = f"/scim/v2/Users/{(await scim.post('/scim/v2/Users', json=person())).json()['id']}"

    async def patched(**operation: object) -> httpx.Response:
        return await scim.patch(path, json={"schemas": [PATCH], "Operations": [operation]})

    for name in ("userName", "displayName", "name", "name.formatted", "emails", "active",
                 f"{USER}:emails[type eq \"work\"]"):  # fmt: skip
        refused = await patched(op="remove", path=name)
        assert (refused.status_code, refused.json()["scimType"]) == (400, "mutability"), name
    for name in ("name.givenName", 'emails[type eq "home"]', "title", "externalId"):
        assert (await patched(op="remove", path=name)).status_code == 200, name
    named = await patched(op="replace", path="name", value={"givenName": "B", "familyName": "C"})
    assert named.json()["displayName"] == "B C"
