"""What every page has around it: navigation by role, messages shown once, errors."""

from __future__ import annotations

import re

from tests.functional.test_web_pages import csrf, logged_in
from tests.web import PASSWORD, Web

from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import new_id
from sealwright.model.user import Role
from sealwright.policy.permissions import PERMISSIONS, Access
from sealwright.web.app import ENDPOINTS
from sealwright.web.routes import Face
from sealwright.web.ui.navigation import SECTIONS


async def test_navigation_shows_what_the_role_may_open(sqlite: Web) -> None:
    hashed = await hash_password(PASSWORD)
    for role in (Role.GLOBAL_ADMINISTRATOR, Role.REGULAR_USER):
        browser = await logged_in(sqlite, await sqlite.add_user(password_hash=hashed, role=role))
        page = (await browser.get("/signing-requests")).text
        shown = set(re.findall(r'<a href="([^"]+)"(?: aria-current="page")?><svg', page))
        rows = {one.path: PERMISSIONS.get(one.route) for one in SECTIONS}
        may = {path for path, row in rows.items() if row and row[role] is not Access.NONE}
        assert shown - {"/account"} == may
        assert '<a href="/signing-requests" aria-current="page">' in page


async def test_a_message_is_shown_once_and_only_if_it_is_ours(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    path = f"/signing-requests/{(await sqlite.submit())['id']}"
    token = csrf((await browser.get(path)).text)
    await browser.post(f"{path}/cancel", data={"csrf": token})
    cookie = browser.cookies["sealwright-flash"]
    assert "The request is canceled." in (await browser.get(path)).text
    assert "sealwright-flash" not in browser.cookies
    assert "The request is canceled." not in (await browser.get(path)).text
    browser.cookies.set("sealwright-flash", cookie[:-1] + ("0" if cookie[-1] != "0" else "1"))
    assert "The request is canceled." not in (await browser.get(path)).text


async def test_an_error_keeps_the_navigation(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    answer = await browser.get("/signing-requests/x")
    assert answer.status_code == 404
    assert 'aria-label="Main"' in answer.text


async def test_a_path_that_is_not_there_is_a_page_to_a_browser(sqlite: Web) -> None:
    client = await sqlite.client()
    page = await client.get("/nothing", headers={"Accept": "text/html,*/*"})
    assert (page.status_code, "There is nothing at this path." in page.text) == (404, True)
    assert "<h1>" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    other = await client.get("/nothing")
    assert other.json()["code"] == "not_found"


async def test_a_form_that_was_refused_is_reloaded_as_its_page(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    page = f"/signing-requests/{(await sqlite.submit())['id']}"
    refused = await browser.post(
        f"{page}/approve", data={"csrf": csrf((await browser.get(page)).text)}
    )
    assert refused.status_code == 403
    html = {"Accept": "text/html,*/*"}
    again = await browser.get(f"{page}/approve", headers=html)
    assert (again.status_code, again.headers["location"]) == (303, page)
    assert (await browser.get(f"{page}/approve")).json()["code"] == "method_not_allowed"
    api = await browser.get("/api/v1/users/x/passkeys/options", headers=html)
    assert api.status_code == 405, "the API has no pages"
    assert (await browser.put(page, headers=html)).status_code == 405
    pages = {one.path for one in ENDPOINTS if one.face is Face.UI and one.method == "GET"}
    for one in ENDPOINTS:
        if one.face is Face.UI and one.method == "POST" and one.path not in pages:
            path = re.sub(r"\{\w+(?::\w+)?\}", lambda _: new_id(), one.path)
            there = await browser.get(path, headers=html)
            assert there.status_code == 303, path
            above = there.headers["location"]
            assert path.startswith(above), path
            assert (await browser.get(above, headers=html)).status_code != 405, path


async def test_static_files_are_named_by_their_content(sqlite: Web) -> None:
    browser = await sqlite.client()
    page = (await browser.get("/login")).text
    found = re.search(r'href="(/static/style\.css\?v=[0-9a-f]{12})"', page)
    assert found
    answer = await browser.get(found[1])
    assert answer.headers["content-type"] == "text/css; charset=utf-8"


async def test_the_first_steps_lead_to_a_first_request(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    page = (await browser.get("/")).text
    assert "First steps" in page
    assert f'<a href="/projects/{sqlite.scene.project.slug}">Submit a first artifact</a>' in page
    assert '<a href="/certificates/new">' not in page, "there is one"
    regular = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    other = (await (await logged_in(sqlite, regular)).get("/")).text
    assert "First steps" not in other
    assert "You take part in no project yet" in other
    made = await sqlite.submit()
    await sqlite.fail(made["id"], "Secret reason")
    page = (await browser.get("/")).text
    assert "First steps" not in page
    assert "Secret reason" in page
    other = (await (await logged_in(sqlite, regular)).get("/")).text
    assert "Secret reason" not in other, "nothing of projects that one takes no part in"


async def test_a_log_in_leads_back_to_the_page_or_the_form(sqlite: Web) -> None:
    client = await sqlite.client()
    got = await client.get("/signing-requests?text=a%26b")
    assert got.headers["location"] == "/login?next=/signing-requests%3Ftext%3Da%2526b"
    for referer, expected in (
        (f"{sqlite.server.url}/certificates/new?way=import", "/certificates/new%3Fway%3Dimport"),
        ("https://evil.example/certificates/new", "/"),
        ("https://[", "/"),
        ("", "/"),
    ):
        posted = await client.post("/certificates/new", headers={"Referer": referer})
        assert posted.headers["location"] == f"/login?next={expected}"
    wrong = await client.post("/login", data={"email": "ann@example.com", "password": "wrong"})
    assert 'value="ann@example.com"' in wrong.text
