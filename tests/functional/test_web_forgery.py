"""What others may not slip into a session: forged forms, foreign ids among own ones, a session."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator

import httpx
import pytest
from tests.functional.test_api_permissions import (
    REFUSED,
    Things,
    body_of,
    credentials,
    parameters,
    things_of,
)
from tests.functional.test_web_pages import csrf, logged_in
from tests.web import PASSWORD, Web, WebServer, opened

from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import utc_now
from sealwright.model.user import Role, TokenKind
from sealwright.policy.permissions import PERMISSIONS
from sealwright.web.app import ENDPOINTS
from sealwright.web.auth import csrf_token
from sealwright.web.routes import Endpoint, Face

#: forms for who has no session yet; that of a log-in is refused across sites by other means
WITHOUT_SESSION = re.compile(r"ui\.(login.*|accept_invitation|.*password.*|set_up.*|invitation.*)")


def path_of(endpoint: Endpoint, things: Things) -> str:
    values = dataclasses.asdict(things)
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: values[match[1]], endpoint.path)


@pytest.mark.untraced
async def test_no_form_is_taken_that_another_site_or_session_made(sqlite: Web) -> None:
    administrator = await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR)
    things = await things_of(sqlite, sqlite.scene, administrator)
    token = await sqlite.token(administrator, authenticated_at=utc_now())
    other = await sqlite.token(sqlite.scene.submitter)
    right = csrf_token(token)
    forms = [
        one
        for one in ENDPOINTS
        if one.face is Face.UI and one.method != "GET" and PERMISSIONS[one.name] is not None
    ]
    assert len(forms) > 60
    async with httpx.AsyncClient(base_url=sqlite.server.url, timeout=30) as client:
        for endpoint in forms:
            path, taken = path_of(endpoint, things), []
            for given, headers in (
                ({}, {}),
                ({"csrf": ""}, {}),
                ({"csrf": csrf_token(other)}, {}),
                ({"csrf": right}, {"Origin": "https://evil.example"}),
                ({"csrf": right}, {"Sec-Fetch-Site": "cross-site"}),
            ):
                for sent in (
                    {"data": given | {"name": "x"}},
                    {"files": {key: (None, value) for key, value in given.items()} | {
                        "name": (None, "x")}},
                ):  # fmt: skip
                    cookie = {"Cookie": f"sealwright={token}"}
                    answer = await client.post(path, headers=cookie | headers, **sent)
                    taken.append(answer.status_code)
            # a form of the other kind is malformed
            assert set(taken) <= {400, 403}, (endpoint.name, taken)
            assert 403 in taken, (endpoint.name, taken)


def foreign_each(
    endpoint: Endpoint, own: Things, foreign: Things
) -> Iterator[tuple[str, Things, Things]]:
    """Ways to name one foreign thing among own ones: which, the path's things, the body's."""
    named = set(re.findall(r"\{(\w+)", endpoint.path)) & parameters(endpoint)
    if len(named) > 1:
        for name in sorted(named):
            mixed = dataclasses.replace(own, **{name: getattr(foreign, name)})
            yield name, mixed, own
    if endpoint.face is not Face.UI and endpoint.method != "GET":
        body = json.dumps(body_of(endpoint, own), default=str)
        for field in dataclasses.fields(Things):
            if f'"{getattr(own, field.name)}"' in body:
                mixed = dataclasses.replace(own, **{field.name: getattr(foreign, field.name)})
                yield f"body's {field.name}", own, mixed


@pytest.mark.untraced
async def test_a_foreign_id_among_own_ones_is_missing(sqlite_web: WebServer) -> None:
    """The matrix has everything foreign at once: here one id is, the others are one's own."""
    async with opened(sqlite_web) as web, opened(sqlite_web) as abroad:
        administrator = await web.add_user(role=Role.GLOBAL_ADMINISTRATOR)
        lists = frozenset({administrator.id, web.scene.submitter.id})
        await web.change_policy(submitters=lists, hash_signing_allowed=True)
        own = await things_of(web, web.scene, administrator)
        foreign = await things_of(abroad, abroad.scene, abroad.scene.submitter)
        token = await web.token(administrator, authenticated_at=utc_now())
        scim = await web.token(administrator, kind=TokenKind.SCIM)
        tried = 0
        async with httpx.AsyncClient(base_url=web.server.url, timeout=30) as client:
            for endpoint in ENDPOINTS:
                if PERMISSIONS[endpoint.name] is None:
                    continue
                for name, path, body in foreign_each(endpoint, own, foreign):
                    sent = credentials(endpoint, scim if endpoint.face is Face.SCIM else token)
                    if endpoint.method != "GET":
                        sent |= (
                            {"data": {"csrf": csrf_token(token)}}
                            if endpoint.face is Face.UI
                            else body_of(endpoint, body)
                        )
                    answer = await client.request(endpoint.method, path_of(endpoint, path), **sent)
                    tried += 1
                    refusals = REFUSED | {400, 422} if name.startswith("body's") else REFUSED
                    assert answer.status_code in refusals, (endpoint.name, name, answer.text[:300])
        assert tried > 60


async def test_a_log_in_takes_no_session_that_was_there(sqlite: Web) -> None:
    """Neither one that an attacker planted becomes the victim's, nor one that never was."""
    victim = await sqlite.add_user(name="Victim", password_hash=await hash_password(PASSWORD))
    attacker = await sqlite.add_user(name="Mallory", password_hash=await hash_password(PASSWORD))
    planted = (await logged_in(sqlite, attacker)).cookies["sealwright"]
    for before in (planted, "swt_session_invented"):
        browser = await sqlite.client()
        browser.cookies.set("sealwright", before, domain="127.0.0.1")
        given = {"email": victim.email, "password": PASSWORD}
        answer = await browser.post("/login", data=given)
        assert answer.status_code == 303
        [after] = [one for one in answer.cookies.jar if one.name == "sealwright"]
        assert after.value not in {None, before}
        thief = await sqlite.client()
        thief.cookies.set("sealwright", before)
        assert "Victim" not in (await thief.get("/account")).text
        own = await sqlite.client()
        own.cookies.set("sealwright", str(after.value))
        page = (await own.get("/account")).text
        assert "Victim" in page
        assert csrf(page) != csrf_token(before), "nor does the form's token stay"
