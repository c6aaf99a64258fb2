"""SCIM 2.0: what directories in use send, on both databases."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import database as rows
from tests.functional.test_passkeys import session
from tests.web import Web, opened

from sealwright.db import Database, groups, organizations, users
from sealwright.errors import InvalidInputError
from sealwright.model.conditions import pinned
from sealwright.model.identifiers import new_id
from sealwright.model.user import Group, Role, User, UserKind
from sealwright.scim.documents import GROUP, USER, projected, user_document
from sealwright.scim.errors import ScimError
from sealwright.scim.filters import parse_filter, parse_path
from sealwright.scim.patches import (
    GroupResource,
    UserResource,
    patch_group,
    patch_user,
    read_user,
)
from sealwright.scim.schema import GROUPS, USERS

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


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
    assert (await scim.get(path)).status_code == 404
    found = await scim.get("/scim/v2/Users", params={"filter": f'id eq "{user["id"]}"'})
    assert found.json()["totalResults"] == 0
    again = await scim.post("/scim/v2/Users", json=sent)
    assert (again.status_code, again.json()["id"]) == (201, user["id"]), "what they did is theirs"


async def _session(web: Web, user_id: str) -> str:
    from sealwright.db import users

    async with web.database.read() as tx:
        user = await users.get(tx, web.scene.organization.id, user_id)
    assert user is not None
    return await web.token(user)


async def test_names_that_are_no_addresses(web: Web) -> None:
    """As Keycloak and authentik send them: a userName of its own besides the address."""
    scim = await directory(web)
    name, sent = new_id(), person()
    made = await scim.post("/scim/v2/Users", json=sent | {"userName": name})
    assert made.status_code == 201, made.text
    user = made.json()
    assert (user["userName"], user["emails"][0]["value"]) == (name, sent["userName"])
    for text, count in ((f'userName eq "{name.upper()}"', 1), (f'userName sw "{name}"', 1),
                        (f'userName eq "{sent["userName"]}"', 0),
                        (f'emails eq "{sent["userName"]}"', 1)):  # fmt: skip
        found = await scim.get("/scim/v2/Users", params={"filter": text, "sortBy": "userName"})
        assert found.json()["totalResults"] == count, text
    other = person(userName=name)
    other["emails"][0]["value"] = f"{new_id()}@example.com"
    taken = await scim.post("/scim/v2/Users", json=other)
    assert (taken.status_code, taken.json()["scimType"]) == (409, "uniqueness")
    path = f"/scim/v2/Users/{user['id']}"
    operation = {"op": "replace", "path": "userName", "value": f"{name}-2"}
    renamed = (await scim.patch(path, json={"Operations": [operation]})).json()
    assert (renamed["userName"], renamed["emails"]) == (f"{name}-2", user["emails"])
    groups_ = {"displayName": new_id(), "members": [{"value": user["id"]}]}
    group = (await scim.post("/scim/v2/Groups", json=groups_)).json()
    assert (await scim.delete(path)).status_code == 204
    left = await scim.get(f"/scim/v2/Groups/{group['id']}")
    assert left.json()["members"] == []


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
    assert (config["patch"]["supported"], config["bulk"]["supported"]) == (True, True)
    assert (await scim.get("/scim/v2/ResourceTypes")).json()["totalResults"] == 2
    schemas = (await scim.get("/scim/v2/Schemas")).json()["Resources"]
    assert {one["id"].rpartition(":")[2] for one in schemas} == {"User", "Group"}
    attributes = {one["name"] for one in schemas[0]["attributes"]}
    shown = set(whole["Resources"][0])
    assert shown - {"schemas", "id", "externalId", "meta"} == attributes, "each is described"
    assert config["etag"]["supported"]
    assert config["sort"]["supported"]
    for path in (f"Schemas/{USER}", "ResourceTypes/Group"):
        assert (await scim.get(f"/scim/v2/{path}")).status_code == 200
    assert (await scim.get("/scim/v2/Schemas/x")).status_code == 404
    assert (await scim.get("/scim/v2/Schemas?filter=id+pr")).status_code == 403


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
         {"email": "b@example.com"}),
        ({"op": "replace", "path": "userName", "value": "B@example.com"},
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
        for name in ("user_name", "name", "external_id", "active", "email")
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


BORN = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ANN = user_document(
    User(
        "u-1", "o", UserKind.INTERACTIVE, "Ann O'Neil", "ann@example.com", Role.REGULAR_USER, None,
        active=True, created_at=BORN, external_id="A-7", groups=frozenset({"g-1", "g-2"}),
    ),
    "https://s/scim/v2",
)  # fmt: skip
TRUE = """
userName eq "ANN@example.com"
userName Eq "ann@example.com" and active eq true
active eq "True"
not (active eq false)
urn:ietf:params:scim:schemas:core:2.0:User:userName sw "Ann"
displayName co "o'n" and name.formatted ew "NEIL"
externalId eq "A-7"
externalId ne "a-7"
externalId pr
externalId ne null
userName gt "ann" and userName ge "ann@example.com" and userName lt "b" and userName le "b"
emails pr and emails eq "ann@example.com" and emails.value co "@EXAMPLE"
emails[type eq "work" and value co "@example"] and emails.primary eq true
groups[value eq "g-2"] and groups.value eq "g-1"
meta.created gt "2026-03-01T12:00:00+01:00" and meta.created le "2026-03-01T12:00:00Z"
meta.resourceType eq "User"
active eq false and active eq false or id eq "u-1"
active eq false and (active eq false or id eq "u-1") or id eq "u-1"
userName eq "x" or userName eq "y" or (((id eq "u-1")))
displayName eq "Ann O\\u0027Neil"
""".strip().splitlines()
FALSE = """
userName eq "ann"
externalId eq "a-7"
active eq false and active eq false or id eq "u-2"
not (userName pr)
externalId eq null
emails[type eq "home"]
emails[type eq "work" and value co "@other"]
groups ne "g-1"
id eq "u-1" and (active eq false or userName sw "b")
""".strip().splitlines()
UNLIKE = """
not (externalId pr)
groups eq null and active eq false
not (groups eq "g-1")
groups ne "g-1"
externalId ne "A-7"
displayName lt "c" and displayName ge "b"
not (emails[value co "example.com"])
""".strip().splitlines()
REFUSED = """
userName
userName eq
userName eq ann
userName is "x"
userName eq "x" and
userName eq "x" xor active eq true
(userName eq "x"
userName eq "x")
userName eq "x" y
nickName eq "x"
emails.city eq "x"
userName.first eq "x"
userName[value eq "x"]
name eq "x"
active co "t"
active gt true
active eq "maybe"
userName eq 7
userName gt null
meta.created co "2026-03-01T12:00:00Z"
meta.created gt "yesterday"
emails[type eq "work"
emails[]
not active eq true
"x" eq userName
userName eq "x
userName eq "\\u0000"
externalId co "\\ud800"
groups.$ref eq "x"
""".strip().splitlines()


async def test_filters_as_the_specification_has_them(database: Database) -> None:
    """RFC 7644, 3.4.2.2: operators, types, precedence, values of attributes; in the database."""
    ids = {name: new_id() for name in ("o", "u-1", "u-2", "g-1", "g-2")}
    tenant = rows.organization(id=ids["o"], slug=ids["o"])
    person_, other = (
        User(
            ids[name], tenant.id, UserKind.INTERACTIVE, shown, f"{ids[name]}.{mail}",
            Role.REGULAR_USER, None, active=name == "u-1", created_at=BORN, external_id=external,
        )
        for name, shown, mail, external in (
            ("u-1", "Ann O'Neil", "ann@example.com", "A-7"), ("u-2", "Bo", "bo@example.org", None),
        )
    )  # fmt: skip
    async with database.transaction() as tx:
        await organizations.add(tx, tenant)
        for one in (person_, other):
            await users.add(tx, one)
        for name in ("g-1", "g-2"):
            members = frozenset({person_.id})
            await groups.add(tx, Group(ids[name], tenant.id, name, BORN, None, members))

    async def found(text: str) -> list[str]:
        for name in ("u-1", "u-2", "g-1", "g-2"):
            text = text.replace(f'"{name}"', f'"{ids[name]}"')
        wanted = parse_filter(text, USERS)
        async with database.read() as tx:
            page = await users.people(tx, tenant.id, wanted, limit=9)
            assert len(page) == await users.count_people(tx, tenant.id, wanted)
        return [one.id for one in page]

    for text, expected in [(one, True) for one in TRUE] + [(one, False) for one in FALSE]:
        # addresses are unique on the whole server
        named = re.sub(
            r'"(ann(@example.com)?|b)"', rf'"{person_.id}.\1"', text, flags=re.IGNORECASE
        )
        assert (person_.id in await found(named)) is expected, named
    for text in UNLIKE:
        assert await found(text) == [other.id], text
    async with database.read() as tx:
        for text, expected in (
            (f'members[value eq "{person_.id}" or value eq "x"]', {"g-1", "g-2"}),
            ('members.type eq "User"', {"g-1", "g-2"}),
            ('members.type ne "User"', set()),
            ('members.type ne "Group"', {"g-1", "g-2"}),
            (f'members ne "{person_.id}"', set()),
        ):
            page = await groups.search(tx, tenant.id, parse_filter(text, GROUPS), limit=9)
            assert {one.name for one in page} == expected, text
    for text in (*REFUSED, "not (" * 50 + 'id eq "x"' + ")" * 50, "x" * 5000,
                 " or ".join(['id eq "x"'] * 300)):  # fmt: skip
        with pytest.raises(ScimError) as refused:
            parse_filter(text, USERS)
        assert refused.value.scim_type == "invalidFilter", text


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        ({"op": "replace", "path": "emails[type eq work].value", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": "emails[type eq", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": "emails[city eq \"x\"].value", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": "a b", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": "emails[type eq \"home\"].value", "value": "b@example.com"},
         "noTarget"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "replace", "path": "id", "value": "x"}, "mutability"),
        ({"op": "remove", "path": "userName"}, "mutability"),
        ({"op": "add", "path": "groups", "value": []}, "mutability"),
        ({"op": "replace", "path": "active", "value": "perhaps"}, "invalidValue"),
        ({"op": "replace", "path": "displayName", "value": 7}, "invalidValue"),
        ({"op": "replace", "path": "userName", "value": "ann"}, "invalidValue"),
        ({"op": "move", "path": "displayName"}, "invalidSyntax"),
        ({"op": "replace", "value": "x"}, "invalidSyntax"),
    ],
)  # fmt: skip
def test_patches_that_are_refused(operation: dict[str, Any], scim_type: str) -> None:
    user = UserResource("a@example.com", "A", "1", active=True)
    with pytest.raises(ScimError) as refused:
        patch_user(user, {"Operations": [operation]})
    assert refused.value.scim_type == scim_type


def test_members_are_chosen_by_any_filter() -> None:
    group = GroupResource("G", None, frozenset({"a", "b", "c"}))

    def patched(**operation: Any) -> GroupResource:
        return patch_group(group, {"Operations": [operation]})

    for named, expected in {
        'value eq "a" or value eq "b"': {"a", "b"},
        'value eq "a" and value ne "b"': {"a"},
        'value eq "a" or value co "b"': None,
    }.items():
        among = parse_path(f"members[{named}]", GROUPS).among
        assert among is not None
        assert pinned(among, "member") == expected
    assert patched(op="remove", path='members[not (value eq "a")]').members == {"a"}
    assert patched(op="remove", path='members[type eq "user"]').members == frozenset()
    one = {"op": "remove", "path": 'members[value co "a"]'}
    with pytest.raises(InvalidInputError, match="Name them"):
        patch_group(group, {"Operations": [one] * 21})
    path = 'members[value eq "a" or value eq "b"]'
    assert patched(op="remove", path=path).members == {"c"}
    assert patched(op="remove", path='members[value eq "z"]').members == group.members
    assert patched(op="remove", path=f"{GROUP}:members").members == frozenset()
    for path, kind in {
        'members[value eq "z"]': "noTarget",
        'members[value eq "a"]': "mutability",
        "displayName": "mutability",
    }.items():
        verb = "remove" if path == "displayName" else "replace"
        with pytest.raises(ScimError) as refused:
            patched(op=verb, path=path, value=[])
        assert refused.value.scim_type == kind


def test_what_is_asked_for_is_shown() -> None:
    def shown(attributes: str = "", excluded: str = "") -> dict[str, Any]:
        return projected(ANN, attributes.split(","), excluded.split(","))

    assert shown() == ANN
    assert set(shown("userName")) == {"schemas", "id", "userName"}
    assert shown(f"{USER}:emails.VALUE")["emails"] == [{"value": "ann@example.com"}]
    assert set(ANN) - set(shown(excluded="groups,meta,id")) == {"groups", "meta"}
    assert shown(excluded="emails.type")["emails"] == [
        {"value": "ann@example.com", "primary": True}
    ]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from(["userName", "active", "emails", "[", "]", "(", ")", "eq", "co", "pr",
                         "not", "and", "or", '"x"', '"', "true", "7", "null", ".value", "\\"]),
        max_size=14,
    )
)  # fmt: skip
def test_a_filter_is_understood_or_refused(words: list[str]) -> None:
    text = " ".join(words)
    for read in (parse_filter, parse_path):
        try:
            read(text, USERS)
        except ScimError:
            continue


async def test_filters_over_the_directory(web: Web) -> None:
    scim = await directory(web)
    ids = []
    for number in range(4):
        name = f"p{number}-{new_id()[-12:]}@example.com"
        sent = person(userName=name, displayName=f"P\u00c4{number}", active=number % 2 == 0)
        sent["emails"][0]["value"] = name
        ids.append((await scim.post("/scim/v2/Users", json=sent)).json()["id"])

    async def found(text: str, **query: str) -> dict[str, Any]:
        answer = await scim.get("/scim/v2/Users", params={"filter": text} | query)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    both = await found('displayName sw "p\u00e4" and active eq true')
    assert [one["id"] for one in both["Resources"]] == [ids[0], ids[2]]
    second = await found('displayName sw "P\u00c4"', startIndex="2", count="2", attributes="id")
    assert (second["totalResults"], second["itemsPerPage"]) == (4, 2)
    assert [set(one) for one in second["Resources"]] == [{"id", "schemas"}] * 2
    assert [one["id"] for one in second["Resources"]] == ids[1:3]
    one = await found(f'id eq "{ids[3]}" and not (active eq true)')
    assert one["totalResults"] == 1
    for path in ("Users?filter=nick eq 1", 'Groups?filter=userName eq "x"'):
        refused = await scim.get(f"/scim/v2/{path}")
        assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidFilter")
    await scim.post("/scim/v2/Groups", json={"displayName": "G", "members": [{"value": ids[0]}]})
    listed = await scim.get("/scim/v2/Groups", params={"filter": f'members[value eq "{ids[0]}"]'})
    assert [one["displayName"] for one in listed.json()["Resources"]] == ["G"]
    grouped = await found(f'groups eq "{listed.json()["Resources"][0]["id"]}"')
    assert [one["id"] for one in grouped["Resources"]] == [ids[0]]


async def test_versions(web: Web) -> None:
    """ETags of RFC 7644, 3.14: what changed meanwhile is not written over."""
    scim = await directory(web)
    made = await scim.post("/scim/v2/Users", json=person())
    path = f"/scim/v2/Users/{made.json()['id']}"
    seen = made.headers["etag"]
    assert seen == made.json()["meta"]["version"]
    same = await scim.get(path, headers={"If-None-Match": f'"other", {seen}'})
    assert (same.status_code, same.content) == (304, b"")
    body = {"Operations": [{"op": "replace", "path": "displayName", "value": "New"}]}
    changed = await scim.patch(path, json=body, headers={"If-Match": seen})
    assert changed.status_code == 200
    assert changed.headers["etag"] != seen
    for verb in ("PATCH", "PUT", "DELETE"):
        late = await scim.request(verb, path, json=person(), headers={"If-Match": seen})
        assert (late.status_code, late.json()["status"]) == (412, "412"), verb
    assert (await scim.get(path, headers={"If-None-Match": seen})).status_code == 200
    group = await scim.post("/scim/v2/Groups", json={"displayName": new_id()})
    where = f"/scim/v2/Groups/{group.json()['id']}"
    stale = {"If-Match": group.headers["etag"]}
    member = {"op": "add", "path": "members", "value": [{"value": made.json()["id"]}]}
    assert (
        await scim.patch(where, json={"Operations": [member]}, headers=stale)
    ).status_code == 200
    assert (await scim.delete(where, headers=stale)).status_code == 412
    assert (await scim.delete(where, headers={"If-Match": "*"})).status_code == 204


async def test_each_directory_sees_its_own_organization(sqlite: Web) -> None:
    async with opened(sqlite.server) as abroad:
        theirs = await abroad.add_user(external_id="shared")
        scim = await directory(sqlite)
        for text in (f'id eq "{theirs.id}"', f'userName eq "{theirs.email}"',
                     'externalId eq "shared"', f'emails co "{theirs.email}"'):  # fmt: skip
            found = await scim.get("/scim/v2/Users", params={"filter": text})
            assert found.json()["totalResults"] == 0, text
        group = {"displayName": new_id(), "members": [{"value": theirs.id}]}
        assert (await scim.post("/scim/v2/Groups", json=group)).status_code == 400
        for verb in ("GET", "PUT", "PATCH", "DELETE"):
            answer = await scim.request(verb, f"/scim/v2/Users/{theirs.id}", json=person())
            assert answer.status_code in {400, 404}, verb
        assert (await scim.get(f"/scim/v2/Users/{theirs.id}")).status_code == 404
