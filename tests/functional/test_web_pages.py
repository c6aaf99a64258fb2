"""The pages, as a browser without scripts sees them."""

from __future__ import annotations

import html
import re

import httpx
import lxml.html
import pytest
from tests.web import PASSWORD, Web

from sealwright.intake.passwords import hash_password
from sealwright.model.user import Role, User


async def logged_in(web: Web, user: User | None = None) -> httpx.AsyncClient:
    """A browser with a session of a user who has `PASSWORD`."""
    if user is None:
        user = await web.add_user(
            password_hash=await hash_password(PASSWORD), role=Role.GLOBAL_ADMINISTRATOR
        )
    browser = await web.client()
    answer = await browser.post("/login", data={"email": user.email, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return browser


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found
    return found[1]


async def approver(web: Web) -> httpx.AsyncClient:
    """A browser of an approver; the policy then asks for one approval."""
    user = await web.add_user(password_hash=await hash_password(PASSWORD))
    await web.change_policy(quorum=1, approvers=web.scene.policy.approvers | {user.id})
    return await logged_in(web, user)


async def test_log_in_and_out(web: Web) -> None:
    user = await web.add_user(password_hash=await hash_password(PASSWORD))
    browser = await web.client()
    page = await browser.get("/signing-requests")
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/signing-requests")
    form = await browser.get(page.headers["location"])
    assert 'name="next" value="/signing-requests"' in form.text
    wrong = await browser.post("/login", data={"email": user.email, "password": "wrong"})
    assert wrong.status_code == 401
    assert "wrong" in wrong.text
    given = {"email": user.email, "password": PASSWORD, "next": "/log"}
    right = await browser.post("/login", data=given)
    assert (right.status_code, right.headers["location"]) == (303, "/log")
    assert "HttpOnly" in right.headers["set-cookie"]
    page = await browser.get("/log")
    assert user.name in page.text
    session = browser.cookies["sealwright"]
    without = await browser.post("/logout")
    assert without.status_code == 403
    out = await browser.post("/logout", data={"csrf": csrf(page.text)})
    assert out.headers["location"] == "/login"
    browser.cookies.set("sealwright", session)
    assert (await browser.get("/log")).status_code == 303


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "/a\r\nX: y"],
)
async def test_a_log_in_leads_nowhere_else(sqlite: Web, target: str) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    browser = await sqlite.client()
    given = {"email": user.email, "password": PASSWORD, "next": target}
    answer = await browser.post("/login", data=given)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_session_is_not_a_bearer_of_the_api(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    assert (await browser.get("/api/v1/me")).status_code == 401


async def test_the_list(sqlite: Web) -> None:
    made = [await sqlite.submit(description=f"Build {n}") for n in range(30)]
    browser = await logged_in(sqlite)
    page = (await browser.get("/signing-requests")).text
    assert page.count('class="state QueuedForProcessing"') == 25
    older = re.search(r'href="(/signing-requests\?cursor=[^"]+)"', page)
    assert older
    rest = (await browser.get(html.unescape(older[1]))).text
    assert rest.count('class="state QueuedForProcessing"') == 5
    assert f"/signing-requests/{made[0]['id']}" in rest
    assert sqlite.scene.submitter.name in page
    await sqlite.fail(made[3]["id"])
    failed = (await browser.get("/signing-requests?state=Failed")).text
    assert failed.count('class="state ') == 1


async def test_one_request_from_approval_to_download(web: Web) -> None:
    browser = await approver(web)
    request = await web.submit(b"unsigned", description="<script>alert(1)</script>")
    path = f"/signing-requests/{request['id']}"
    page = (await browser.get(path)).text
    assert f'data-events="{path}/events"' in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "Nobody says where the artifact comes from." in page
    assert "Approve" in page
    token = csrf(page)
    forged = await browser.post(f"{path}/approve", data={"csrf": "forged"})
    assert forged.status_code == 403
    foreign = await browser.post(
        f"{path}/approve", data={"csrf": token}, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    cross = await browser.post(
        f"{path}/approve", data={"csrf": token}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert cross.status_code == 403
    assert (await web.read(request["id"])).state.value == "WaitingForApproval"
    done = await browser.post(
        f"{path}/approve",
        data={"csrf": token, "comment": "Good"},
        headers={"Origin": web.server.url, "Sec-Fetch-Site": "same-origin"},
    )
    assert (done.status_code, done.headers["location"]) == (303, path)
    await web.complete(request["id"], b"signed", results=3)
    page = (await browser.get(path)).text
    assert "Good" in page
    assert page.count("bin/") == 3
    assert "data-events" not in page
    assert "Approve</button>" not in page
    assert (await browser.get(f"{path}/signed-artifact")).content == b"signed"
    assert (await browser.get(f"{path}/unsigned-artifact")).content == b"unsigned"
    again = await browser.post(f"{path}/deny", data={"csrf": token})
    assert again.status_code == 409
    assert "That did not work" in again.text


async def test_cancel_and_failure(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    first, second = await sqlite.submit(), await sqlite.submit()
    path = f"/signing-requests/{first['id']}"
    page = (await browser.get(path)).text
    answer = await browser.post(f"{path}/cancel", data={"csrf": csrf(page)})
    assert answer.status_code == 303
    assert 'class="state Canceled"' in (await browser.get(path)).text
    await sqlite.fail(second["id"], "No such file <b>")
    page = (await browser.get(f"/signing-requests/{second['id']}")).text
    assert "No such file &lt;b&gt;" in page


async def test_what_is_not_there(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    for path in ("/signing-requests/x", "/static/../app.py", "/static/app.py"):
        answer = await browser.get(path)
        assert answer.status_code == 404


async def test_pages_are_whole_and_reachable_without_a_mouse(sqlite: Web) -> None:
    """Landmarks, one heading, labels for every control, table headers, nothing inline."""
    browser = await approver(sqlite)
    request = await sqlite.submit()
    for path in ("/signing-requests", f"/signing-requests/{request['id']}", "/log", "/login"):
        page = (await browser.get(path)).text
        assert page.count("<h1") == 1
        assert page.count("<main") == 1
        assert '<html lang="en">' in page
        assert 'name="viewport"' in page
        # by parsing: the log-in page may show, as text, what other tests named their providers
        tree = lxml.html.document_fromstring(page)
        assert not tree.xpath("//script[not(@src)] | //*[@style] | //@*[starts-with(name(), 'on')]")
        for control in re.findall(r"<(?:input|select)[^>]*>", page):
            if 'type="hidden"' in control:
                continue
            before = page[: page.index(control)]
            named = re.search(r' id="([^"]+)"', control)
            labelled = named and f'<label for="{named[1]}"' in page
            assert labelled or before.rfind("<label") > before.rfind("</label"), control
        assert page.count("<th ") == page.count('scope="col"')
