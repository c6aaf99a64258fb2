"""What every page has around it: navigation by role, messages shown once, errors."""

from __future__ import annotations

import re

from tests.functional.test_web_pages import csrf, logged_in
from tests.web import PASSWORD, Web

from sealwright.intake.passwords import hash_password
from sealwright.model.user import Role
from sealwright.policy.permissions import PERMISSIONS, Access
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


async def test_static_files_are_named_by_their_content(sqlite: Web) -> None:
    browser = await sqlite.client()
    page = (await browser.get("/login")).text
    found = re.search(r'href="(/static/style\.css\?v=[0-9a-f]{12})"', page)
    assert found
    answer = await browser.get(found[1])
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
