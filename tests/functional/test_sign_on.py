"""Single sign-on: the whole flow against an identity provider that checks what a client must prove,
and everything that such a provider, or somebody between, may get wrong."""

from __future__ import annotations

import hashlib
import html
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from starlette.responses import JSONResponse, Response
from tests.fakes.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.fakes.oidc import OTHER_ALGORITHMS, OTHER_KEY, other_jwks
from tests.fakes.server import served
from tests.functional.test_passkeys import session
from tests.functional.test_web_pages import csrf
from tests.valkey import Valkey
from tests.web import Web, WebServer, opened, running

from sealwright.db import groups, users
from sealwright.model.user import Role


@dataclass
class Scene:
    """A server that trusts `provider`, by the name `slug`."""

    web: Web
    provider: IdentityProvider
    administrator: httpx.AsyncClient
    slug: str

    async def configure(self, **fields: Any) -> None:
        path = f"/api/v1/identity-providers/{self.slug}"
        answer = await self.administrator.patch(path, json=fields)
        assert answer.status_code == 200, answer.text

    async def begin(self, browser: httpx.AsyncClient, query: str = "") -> str:
        """Where a log-in leads to."""
        off = await browser.get(f"/login/with/{self.slug}{query}")
        assert off.status_code == 303, off.text
        return off.headers["location"]

    async def come_in(self, browser: httpx.AsyncClient | None = None) -> httpx.Response:
        """Follow the log-in through the provider; the callback's answer."""
        browser = browser or await self.web.client()
        address = await self.begin(browser, "?next=/account")
        async with httpx.AsyncClient() as elsewhere:
            back = await elsewhere.get(address)
        assert back.status_code == 302, self.provider.refused
        return await browser.get(back.headers["location"])

    def is_in(self, answer: httpx.Response) -> bool:
        return answer.status_code == 303 and "sealwright=" in answer.headers.get("set-cookie", "")


@pytest.fixture(scope="module")
def server(
    valkey: Valkey, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """One server for all: each test has an organization, a provider and people of its own."""
    file = tmp_path_factory.mktemp("sign-on") / "sealwright.sqlite3"
    shutil.copyfile(sqlite_template, file)
    with running(valkey, f"sqlite:///{file}", build_system_hosts=["127.0.0.1"]) as server:
        yield server
        assert not server.faults(), server.log[-3000:]


@pytest.fixture
async def scene(server: WebServer, valkey: Valkey) -> AsyncIterator[Scene]:
    with redis.Redis.from_url(valkey.url) as buckets:  # log-ins of the tests before
        name = hashlib.sha256(b"sign-on-from/127.0.0.1").hexdigest()
        buckets.delete(f"sealwright:throttle:{name}")
    provider = IdentityProvider()
    provider.issuer.documents.clear()
    provider.issuer.jwks += other_jwks()
    slug = f"idp-{secrets.token_hex(4)}"
    with served(provider.app()) as port:
        provider.at(f"http://127.0.0.1:{port}")
        provider.redirect_url = f"{server.url}/login/callback"
        provider.logout_url = f"{server.url}/login"
        async with opened(server) as web:
            client = await session(web, await web.add_user(role=Role.GLOBAL_ADMINISTRATOR))
            made = await client.post("/api/v1/identity-providers", json=body_of(provider, slug))
            assert made.status_code == 201, made.text
            assert made.json()["redirect_url"] == provider.redirect_url
            assert made.json()["logout_url"] == provider.logout_url
            assert CLIENT_SECRET not in made.text
            provider.person = {
                "sub": secrets.token_hex(8), "email": f"{secrets.token_hex(6)}@example.com",
                "email_verified": True, "name": "Ann",
            }  # fmt: skip
            yield Scene(web, provider, client, slug)


def body_of(provider: IdentityProvider, slug: str) -> dict[str, Any]:
    return {
        "slug": slug, "name": "Directory", "issuer": provider.issuer.url, "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET, "domains": ["example.com"], "just_in_time": True,
        "group_claim": "groups",
    }  # fmt: skip


async def test_the_whole_flow(scene: Scene) -> None:
    browser = await scene.web.client()
    assert "Log in with Directory" in (await browser.get("/login")).text
    scene.provider.changes = {"groups": ["Release managers", "Developers"]}
    answer = await scene.come_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account"), answer.text
    page = (await browser.get("/account")).text
    assert scene.provider.person["email"] in page
    assert "Release managers" in page
    async with scene.web.database.read() as tx:
        user = await users.by_email(tx, scene.provider.person["email"])
    assert user is not None
    assert (user.role, user.password_hash, user.name) == (Role.REGULAR_USER, None, "Ann")

    scene.provider.changes = {
        "groups": ["Developers"],
        "email": f"{secrets.token_hex(6)}@example.com",
    }
    assert scene.is_in(await scene.come_in())
    async with scene.web.database.read() as tx:
        again = await users.get(tx, user.organization_id, user.id)
        known = {one.name: one for one in await groups.every(tx, user.organization_id)}
    assert again is not None
    assert again.groups == {known["Developers"].id}, "the subject is who they are, groups follow"
    assert known["Release managers"].members == frozenset()

    deactivated = await scene.administrator.patch(
        f"/api/v1/users/{user.id}", json={"active": False}
    )
    assert deactivated.status_code == 200
    assert (await scene.come_in()).status_code == 403


async def test_groups_of_administrators_are_not_the_providers(scene: Scene) -> None:
    made = await scene.administrator.post("/api/v1/groups", json={"name": "Approvers"})
    scene.provider.changes = {"groups": ["Approvers"]}
    assert scene.is_in(await scene.come_in())
    found = await scene.administrator.get(f"/api/v1/groups/{made.json()['id']}")
    assert found.json()["members"] == []


async def test_only_who_is_invited(scene: Scene) -> None:
    await scene.configure(just_in_time=False)
    assert (await scene.come_in()).status_code == 403
    user = await scene.web.add_user(email=scene.provider.person["email"])
    assert scene.is_in(await scene.come_in())
    scene.provider.person["sub"] = "somebody else with a reused address"
    assert (await scene.come_in()).status_code == 403
    await scene.configure(enabled=False)
    browser = await scene.web.client()
    assert (await browser.get(f"/login/with/{scene.slug}")).status_code == 404
    assert user.organization_id == scene.web.scene.organization.id


NOW = int(time.time())
WRONG: dict[str, dict[str, Any]] = {
    "issuer": {"changes": {"iss": "https://evil.example.com"}},
    "audience": {"changes": {"aud": "another"}},
    "audience beside ours": {"changes": {"aud": [CLIENT_ID, "another"]}},
    "authorized party": {"changes": {"azp": "another"}},
    "nonce": {"changes": {"nonce": "replayed"}},
    "no nonce": {"changes": {"nonce": None}},
    "expired": {"changes": {"exp": NOW - 3600}},
    "no expiry": {"changes": {"exp": None}},
    "no subject": {"changes": {"sub": None}},
    "empty subject": {"changes": {"sub": ""}},
    "key": {"key": OTHER_KEY},
    "no signature": {"header": {"alg": "none"}},
    "shared secret": {"header": {"alg": "HS256"}},
    "unknown key": {"header": {"kid": "another"}},
    "address not verified": {"changes": {"email_verified": False}},
    "no address": {"changes": {"email": None}},
    "domain": {"changes": {"email": "ann@evil.example.com"}},
    "domain before the at": {"changes": {"email": "ann@evil.com@example.com"}},
}


async def test_each_fact_of_an_id_token_counts(scene: Scene) -> None:
    wrong = []
    for fact, spoiled in WRONG.items():
        scene.provider.changes = spoiled.get("changes", {})
        scene.provider.header = spoiled.get("header", {})
        scene.provider.key = spoiled.get("key")
        answer = await scene.come_in()
        if scene.is_in(answer) or answer.status_code not in {401, 403}:
            wrong.append((fact, answer.status_code))
    assert not wrong
    assert not scene.provider.refused


async def test_the_key_decides_how_a_token_is_signed(scene: Scene) -> None:
    provider = scene.provider
    for algorithm in ("PS256", *OTHER_ALGORITHMS):
        provider.key = OTHER_ALGORITHMS.get(algorithm, OTHER_KEY)
        provider.header = {"alg": algorithm, "kid": algorithm}
        assert scene.is_in(await scene.come_in()), algorithm
    provider.key = OTHER_KEY  # of RSA, and of the PS256 key alone
    wrong = [{"alg": name, "kid": "PS256"} for name in ("none", "HS256", "RS256", "RS512", "ES256")]
    wrong += [{"alg": name, "kid": "ES256"} for name in ("HS256", "RS256", "ES384")]
    for provider.header in wrong:
        answer = await scene.come_in()
        assert answer.status_code in {401, 403}
        assert not scene.is_in(answer), provider.header


async def test_an_answer_counts_once_and_in_its_own_browser(scene: Scene) -> None:
    victim, attacker = await scene.web.client(), await scene.web.client()
    address = await scene.begin(attacker)
    async with httpx.AsyncClient() as elsewhere:
        back = (await elsewhere.get(address)).headers["location"]
    assert (await victim.get(back)).status_code == 401, "a log-in that another browser began"
    assert scene.is_in(await attacker.get(back))
    assert (await attacker.get(back)).status_code == 401, "it was used up"
    state = httpx.URL(await scene.begin(attacker)).params["state"]
    for query in (f"state={state}", f"state={state}&code=made-up", "code=x", "error=access_denied"):
        assert (await attacker.get(f"/login/callback?{query}")).status_code == 401
    state = httpx.URL(await scene.begin(attacker)).params["state"]
    mixed = f"/login/callback?state={state}&code=x&iss=https://evil.example.com"
    assert (await attacker.get(mixed)).status_code == 401, "another provider's answer"


async def test_a_provider_that_is_away(scene: Scene) -> None:
    scene.provider.issuer.documents["openid-configuration"] = httpx_response(503)
    browser = await scene.web.client()
    assert (await browser.get(f"/login/with/{scene.slug}")).status_code == 503


def httpx_response(status: int) -> Any:
    return Response("away", status)


async def test_where_it_leads_to(scene: Scene) -> None:
    browser = await scene.web.client()
    address = await scene.begin(browser, "?next=https://evil.example.com")
    async with httpx.AsyncClient() as elsewhere:
        back = (await elsewhere.get(address)).headers["location"]
    assert (await browser.get(back)).headers["location"] == "/"


async def test_a_public_client_proves_itself_by_pkce_alone(scene: Scene) -> None:
    scene.provider.public = True
    body = body_of(scene.provider, f"{scene.slug}-public") | {"client_secret": None}
    made = await scene.administrator.post("/api/v1/identity-providers", json=body)
    assert made.status_code == 201, made.text
    scene.slug = body["slug"]
    assert scene.is_in(await scene.come_in())
    assert not scene.provider.refused


async def test_a_log_out_ends_the_session_there_as_well(scene: Scene) -> None:
    browser = await scene.web.client()
    scene.provider.changes = {"sid": "their session"}
    assert scene.is_in(await scene.come_in(browser))
    token = csrf((await browser.get("/account")).text)
    page = await browser.post("/logout", data={"csrf": token})
    assert page.status_code == 200
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page.text)
    assert found
    async with httpx.AsyncClient() as elsewhere:
        back = await elsewhere.get(html.unescape(found[1]))
    assert (back.status_code, back.headers["location"]) == (302, scene.provider.logout_url)
    [hint] = scene.provider.logged_out
    assert hint["sub"] == scene.provider.person["sub"]
    assert (await browser.get("/account")).status_code == 303, "and here"

    document = {"issuer": scene.provider.issuer.url} | {
        name: f"{scene.provider.issuer.url}/{path}"
        for name, path in {"authorization_endpoint": "authorize", "token_endpoint": "token",
                           "jwks_uri": ".well-known/jwks"}.items()
    }  # fmt: skip
    scene.provider.issuer.documents["openid-configuration"] = JSONResponse(document)
    assert scene.is_in(await scene.come_in(browser))
    token = csrf((await browser.get("/account")).text)
    scene.provider.issuer.documents["openid-configuration"] = httpx_response(503)
    answer = await browser.post("/logout", data={"csrf": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login"), "whatever it says"


WRONG_LOG_OUTS: dict[str, dict[str, Any]] = {
    "issuer": {"iss": "https://evil.example.com"},
    "audience": {"aud": "another"},
    "expired": {"exp": NOW - 3600},
    "old": {"iat": NOW - 3600},
    "nonce": {"nonce": "x"},
    "no event": {"events": {}},
    "another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "events of another kind": {"events": "x"},
    "nobody": {"sub": None},
    "no id": {"jti": None},
    "id of another kind": {"jti": 7},
    "kind": {"header": {"typ": "at+jwt"}},
    "no signature": {"header": {"alg": "none"}},
    "shared secret": {"header": {"alg": "HS256"}},
    "unknown key": {"header": {"kid": "another"}},
}


async def test_the_provider_ends_sessions(scene: Scene) -> None:
    """Back-Channel Logout 1.0, 2.6: by its session, or all of a subject; never twice, and by no
    token that is wrong in anything."""
    browsers = [await scene.web.client() for _ in range(3)]
    for number, browser in enumerate(browsers):
        scene.provider.changes = {"sid": f"sid-{number}"}
        assert scene.is_in(await scene.come_in(browser))
    scene.provider.changes = {}
    path = f"/login/back-channel/{scene.slug}"
    outsider = await scene.web.client()

    async def told(token: str) -> int:
        answer = await outsider.post(path, data={"logout_token": token})
        assert answer.headers["cache-control"] == "no-store"
        if answer.status_code == 400:
            assert answer.json()["error"] == "invalid_request"
        return answer.status_code

    async def inside() -> list[bool]:
        return [(await one.get("/account")).status_code == 200 for one in browsers]

    for fact, changes in WRONG_LOG_OUTS.items():
        assert await told(scene.provider.logout_token(**changes)) == 400, fact
    assert await told("x") == await told("") == 400
    assert await inside() == [True] * 3
    one = scene.provider.logout_token(sid="sid-1")
    assert await told(one) == 200
    assert await inside() == [True, False, True]
    assert await told(one) == 400, "it was used"
    assert await told(scene.provider.logout_token(sid="sid-2", sub="somebody else")) == 200
    assert await inside() == [True, False, True], "both have to fit"
    assert await told(scene.provider.logout_token(header={})) == 200
    assert await inside() == [False] * 3
    assert (await outsider.post("/login/back-channel/none", data={})).status_code == 404
