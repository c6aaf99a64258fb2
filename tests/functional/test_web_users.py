"""The pages of users, groups, single sign-on and one's own account."""

from __future__ import annotations

import html
import re
from typing import Any

import httpx
import pytest
from tests.web import PASSWORD, Web

from sealwright.db import groups, users
from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import utc_now
from sealwright.model.user import Role, TokenKind, User, UserKind
from sealwright.web.auth import csrf_token


class Browser:
    """A browser of a user who has just logged in."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self.client = client
        self.token = token

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        return await self.client.post(path, data={"csrf": csrf_token(self.token)} | fields)

    async def get(self, path: str) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return html.unescape(answer.text)


async def browser(web: Web, user: User, **fields: Any) -> Browser:
    token = await web.token(
        user, **{"kind": TokenKind.SESSION, "authenticated_at": utc_now()} | fields
    )
    return Browser(await web.client(Cookie=f"sealwright={token}"), token)


async def test_an_administrator_sets_people_up(web: Web) -> None:
    administrator = await browser(web, await web.add_user(role=Role.USER_ADMINISTRATOR))
    address = f"{utc_now().timestamp():.0f}-{web.scene.organization.slug}@example.com"
    invited = await administrator.post(
        "/users/new", kind="interactive", name="<b>Ann</b>", email=address, role="regular-user"
    )
    assert invited.status_code == 200, invited.text
    link = re.search(r"http://\S+/invitation\?code=[\w-]+", invited.text)
    assert link, "without mail the link is shown"
    assert "<b>Ann" not in invited.text
    made = await administrator.post("/groups/new", name="Release managers")
    assert made.status_code == 303, made.text
    async with web.database.read() as tx:
        user = await users.by_email(tx, address)
        [group] = await groups.every(tx, web.scene.organization.id)
    assert user is not None
    saved = await administrator.post(
        f"/users/{user.id}", name="Ann", role="global-reader", member_of=group.id
    )
    assert saved.status_code == 303, saved.text
    assert "Release managers" in await administrator.get("/users")
    assert "Ann" in await administrator.get(f"/groups/{group.id}")
    await administrator.post(f"/users/{user.id}/active", active="")
    async with web.database.read() as tx:
        found = await users.get(tx, user.organization_id, user.id)
    assert found is not None
    assert (found.name, found.role, found.active) == ("Ann", Role.GLOBAL_READER, False)
    assert found.groups == {group.id}
    twice = await administrator.post(
        "/users/new", kind="interactive", name="Ann", email=address, role="regular-user"
    )
    assert twice.status_code == 409
    assert address in twice.text, "the form is shown again as it was"
    stronger = await administrator.post(
        "/users/new", kind="ci", name="x", role="global-administrator"
    )
    assert stronger.status_code == 403
    own = await administrator.post("/groups/new", name="Mine", members=await _id(administrator))
    assert own.status_code == 403, "nobody adds themselves to a group"


async def _id(of: Browser) -> str:
    found = re.search(r"<dt>ID</dt><dd><code>([0-9a-f-]{36})", await of.get("/account"))
    assert found
    return found[1]


async def test_a_ci_user_and_its_token(sqlite: Web) -> None:
    administrator = await browser(sqlite, await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    made = await administrator.post("/users/new", kind="ci", name="Pipeline", role="regular-user")
    path = made.headers["location"]
    shown = await administrator.post(
        f"{path}/tokens", name="main", scope="submit", expires_in_days="30",
        project=sqlite.scene.project.id,
    )  # fmt: skip
    token = re.search(r"swt_api_\w+", shown.text)
    assert token
    assert token[0] not in await administrator.get(path), "it is shown once"
    client = await sqlite.client(Authorization=f"Bearer {token[0]}")
    assert (await client.get("/api/v1/me")).json()["kind"] == "ci"
    assert (await client.get("/api/v1/projects")).status_code == 403
    revoke = re.search(rf"{path}/tokens/[0-9a-f-]+/revoke", await administrator.get(path))
    assert revoke
    await administrator.post(revoke[0])
    assert (await client.get("/api/v1/me")).status_code == 401


async def test_nobody_gets_a_token_of_more_power_than_their_own(sqlite: Web) -> None:
    robot = await sqlite.add_user(kind=UserKind.CI, email=None, role=Role.GLOBAL_ADMINISTRATOR)
    for role, status in ((Role.USER_ADMINISTRATOR, 403), (Role.GLOBAL_ADMINISTRATOR, 201)):
        client = await sqlite.client(await sqlite.add_user(role=role))
        made = await client.post(f"/api/v1/users/{robot.id}/tokens", json={"name": "x"})
        assert made.status_code == status
    weaker = await browser(sqlite, await sqlite.add_user(role=Role.USER_ADMINISTRATOR))
    fields = {"name": "x", "scope": "full", "expires_in_days": "1"}
    assert (await weaker.post(f"/users/{robot.id}/tokens", **fields)).status_code == 403


async def test_ones_own_account(sqlite: Web) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    mine, elsewhere = await browser(sqlite, user), await browser(sqlite, user)
    shown = await mine.post("/account/tokens", name="x", scope="read", expires_in_days="1")
    assert re.search(r"swt_api_\w+", shown.text)
    wrong = await mine.post("/account/tokens", name="", scope="read", expires_in_days="0")
    assert wrong.status_code == 400
    stale = await browser(sqlite, user, authenticated_at=utc_now().replace(year=2020))
    refused = await stale.post("/account/tokens", name="x", scope="read", expires_in_days="1")
    assert (refused.status_code, "/account/confirm" in refused.text) == (403, True)
    assert (await stale.post("/account/confirm", password="wrong")).status_code == 403
    assert (await stale.post("/account/confirm", password=PASSWORD)).status_code == 303
    done = await stale.post("/account/tokens", name="x", scope="read", expires_in_days="1")
    assert done.status_code == 200
    await mine.post("/account/sessions/end")
    assert (await elsewhere.client.get("/account")).status_code == 303
    assert (await mine.client.get("/account")).status_code == 200
    new = {"password": "another long password", "repeated": "another long password"}
    assert (await mine.post("/account/password", present="wrong", **new)).status_code == 403
    changed = await mine.post("/account/password", present=PASSWORD, **new)
    assert changed.status_code == 303
    assert "sealwright=swt_session_" in changed.headers["set-cookie"], "a new session begins"
    assert (await mine.client.get("/account", headers={"Cookie": f"sealwright={mine.token}"})
            ).status_code == 303  # fmt: skip


async def test_single_sign_on_is_set_up(sqlite: Web) -> None:
    administrator = await browser(sqlite, await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    slug = f"idp-{sqlite.scene.organization.slug}"
    fields = {
        "slug": slug,
        "name": "Acme <login>",
        "issuer": "https://login.example.com",
        "client_id": "sealwright",
        "client_secret": "canary-secret",
        "domains": "example.com, b.org",
        "default_role": "regular-user",
        "enabled": "true",
    }
    none = await administrator.post("/identity-providers/new", **fields | {"domains": ""})
    assert none.status_code == 400
    made = await administrator.post("/identity-providers/new", **fields)
    assert made.status_code == 303, made.text
    page = await administrator.get(f"/identity-providers/{slug}")
    assert "canary-secret" not in page
    assert "example.com b.org" in page
    assert "/login/callback" in page
    assert "Acme <login>" in await administrator.get("/login")
    saved = await administrator.post(
        f"/identity-providers/{slug}", name="Acme", client_id="x", domains="b.org",
        default_role="regular-user",
    )  # fmt: skip
    assert saved.status_code == 303, saved.text
    assert f"/login/with/{slug}" not in await administrator.get("/login"), "it is disabled now"
    token = await administrator.post(
        "/identity-providers/scim-tokens", name="Directory", expires_in_days="10"
    )
    text = re.search(r"swt_scim_\w+", token.text)
    assert text
    scim = await sqlite.client(Authorization=f"Bearer {text[0]}")
    assert (await scim.get("/scim/v2/Users")).status_code == 200
    await administrator.post(f"/identity-providers/{slug}/remove")
    assert (await administrator.client.get(f"/identity-providers/{slug}")).status_code == 404


@pytest.mark.parametrize("path", ["/users", "/groups", "/identity-providers", "/account"])
async def test_who_only_reads_changes_nothing(sqlite: Web, path: str) -> None:
    reader = await browser(sqlite, await sqlite.add_user(role=Role.GLOBAL_READER))
    page = await reader.get(path)
    if path != "/account":
        assert "/new" not in page
    assert (await reader.post("/users/new", kind="ci", name="x")).status_code == 403


async def test_users_are_found_by_words_and_listed_by_name(web: Web) -> None:
    gone = await web.add_user(name="Anna Ärmel", active=False)
    zoe = await web.add_user(name="zoe Ärmel")
    bert = await web.add_user(name="Bert ÄRMEL")
    pipeline = await web.add_user(name="Ärmel of a pipeline", kind=UserKind.CI)
    other = await web.add_user(name="Bert 100%_")
    database, organization = web.database, web.scene.organization.id

    async def found(*words: str, skip: int = 0, limit: int = 9) -> tuple[int, list[str]]:
        async with database.read() as tx:
            total, page = await users.listed(tx, organization, words, skip=skip, limit=limit)
        return total, [one.id for one in page]

    assert await found("ärmel") == (4, [pipeline.id, bert.id, zoe.id, gone.id])
    assert await found("ärmel", skip=1, limit=2) == (4, [bert.id, zoe.id])
    assert await found("BERT", "ärm") == (1, [bert.id])
    assert await found("100%_") == (1, [other.id])
    assert zoe.email
    assert await found(zoe.email.upper()) == (1, [zoe.id])


async def test_very_many_are_shown_in_parts(sqlite: Web) -> None:
    for number in range(120):
        await sqlite.add_user(name=f"Person q{number:03}")
    reader = await browser(sqlite, await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    first = await reader.get("/users")
    following = re.search(r'href="(/users\?cursor=[^"]+)"', first)
    assert following
    rest = await reader.get(following[1])
    for number in range(120):
        assert (f"Person q{number:03}<" in first) != (f"Person q{number:03}<" in rest)
    assert "cursor=" not in rest
    found = await reader.get("/users?text=person+q11")
    assert re.findall(r"Person q\d+", found) == [f"Person q{one}" for one in range(110, 120)]
    assert (await reader.client.get("/users?cursor=x")).status_code == 400
    assert "No project is like that" in await reader.get("/projects?text=nothing")
