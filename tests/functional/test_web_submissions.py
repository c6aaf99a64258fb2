"""Submitting from a page: several files, faults beside fields, nothing received that is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re

import httpx
from tests.functional.test_web_pages import csrf, logged_in
from tests.web import PASSWORD, Web

from sealwright.db import certificates
from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import User


async def submitter(web: Web) -> tuple[httpx.AsyncClient, User]:
    user = await web.add_user(password_hash=await hash_password(PASSWORD))
    await web.change_policy(submitters=web.scene.policy.submitters | {user.id})
    return await logged_in(web, user), user


async def test_one_file_and_several(web: Web) -> None:
    browser, user = await submitter(web)
    page = (await browser.get("/submit")).text
    assert web.scene.policy.name in page  # the only project is chosen
    fields = {
        "csrf": csrf(page), "project": web.scene.project.slug, "artifact_configuration": "",
        "signing_policy": web.scene.policy.slug, "description": "By hand",
        "parameters": "version = 1.2\n\nname=a=b",
    }  # fmt: skip
    one = await browser.post("/submit", data=fields, files={"artifact": ("a.exe", b"one")})
    assert one.status_code == 303, one.text
    made = await web.read(one.headers["location"].rpartition("/")[2])
    assert (made.submitted_by, made.description) == (user.id, "By hand")
    assert dict(made.parameters) == {"version": "1.2", "name": "a=b"}
    files = {"artifact": ("b.exe", b"two"), "artifact-2": ("c.exe", b"three"),
             "artifact-3": ("", b"")}  # fmt: skip
    several = await browser.post("/submit", data=fields, files=files)
    assert several.headers["location"] == "/signing-requests?submitter=me"
    listed = (await browser.get(several.headers["location"])).text
    assert "2 files are submitted" in listed
    assert all(name in listed for name in ("a.exe", "b.exe", "c.exe"))


async def test_a_form_that_is_sent_twice_makes_one_request(sqlite: Web) -> None:
    browser, _ = await submitter(sqlite)
    page = (await browser.get("/submit")).text
    found = re.search(r'name="once" value="([0-9a-f]{32})"', page)
    assert found
    fields = {
        "csrf": csrf(page), "project": sqlite.scene.project.slug, "once": found[1],
        "signing_policy": sqlite.scene.policy.slug, "description": "",
    }  # fmt: skip

    async def send(content: bytes = b"one", **changes: str) -> str:
        files = {"artifact": ("a.exe", content)}
        answer = await browser.post("/submit", data=fields | changes, files=files)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    first = await send()
    assert await send() == first
    others = {await send(b"two"), await send(description="Other"), await send(once="f" * 32)}
    assert len(others | {first}) == 4


async def test_a_file_that_the_server_fetches(sqlite: Web) -> None:
    browser, _ = await submitter(sqlite)
    page = (await browser.get("/submit")).text
    given = {
        "csrf": csrf(page), "project": sqlite.scene.project.slug, "once": "a" * 32,
        "signing_policy": sqlite.scene.policy.slug, "parameters": "version=2",
        "url": "https://artifacts.example.com/a.zip", "file_name": "a.zip", "sha256": "0" * 64,
    }  # fmt: skip
    made = await browser.post("/submit/link", data=given)
    assert made.status_code == 303, made.text
    request = await sqlite.read(made.headers["location"].rpartition("/")[2])
    assert request.retrieval is not None
    assert (request.retrieval.url, request.retrieval.sha256) == (given["url"], "0" * 64)
    assert dict(request.parameters) == {"version": "2"}
    again = await browser.post("/submit/link", data=given)
    assert again.headers["location"] == made.headers["location"]
    for wrong in ({"url": "https://elsewhere.example.com/a.zip"}, {"url": "x"}, {"sha256": "1"}):
        answer = await browser.post("/submit/link", data=given | wrong)
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text
    forged = await browser.post("/submit/link", data=given | {"csrf": "forged"})
    assert forged.status_code == 403


async def test_what_is_refused_leaves_nothing(sqlite: Web) -> None:
    browser, _ = await submitter(sqlite)
    fields = {"csrf": csrf((await browser.get("/submit")).text),
              "project": sqlite.scene.project.slug,
              "signing_policy": sqlite.scene.policy.slug}  # fmt: skip
    file = {"artifact": ("a.exe", b"x" * 100_000)}
    for wrong, status, words in (
        ({"csrf": "forged"}, 403, "not one of this session"),
        ({"signing_policy": ""}, 400, "field-signing_policy"),
        ({"parameters": "9 wrong"}, 400, "field-parameters"),
        ({"project": "no-project"}, 404, "There is no project"),
    ):
        answer = await browser.post("/submit", data=fields | wrong, files=file)
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
    none = await browser.post("/submit", data=fields, files={"artifact": ("", b"")})
    assert none.status_code == 400
    assert "No file was chosen." in none.text
    twice = await browser.post("/submit", data=fields, files=[("artifact", ("a", b"x"))] * 2)
    assert twice.status_code == 400
    assert await sqlite.stored_keys() == []


async def test_who_submits_nowhere_is_told(sqlite: Web) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    browser = await logged_in(sqlite, user)
    assert "not a submitter of any signing policy" in (await browser.get("/submit")).text
    reader = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    await sqlite.change_policy(approvers=sqlite.scene.policy.approvers | {reader.id})
    browser = await logged_in(sqlite, reader)
    fields = {"csrf": csrf((await browser.get("/submit")).text),
              "project": sqlite.scene.project.slug,
              "signing_policy": sqlite.scene.policy.slug}  # fmt: skip
    answer = await browser.post("/submit", data=fields, files={"artifact": ("a.exe", b"x")})
    assert answer.status_code == 403
    assert await sqlite.stored_keys() == []


async def test_the_dashboard_shows_what_is_mine(web: Web) -> None:
    user = await web.add_user(password_hash=await hash_password(PASSWORD))
    await web.change_policy(quorum=1, approvers=web.scene.policy.approvers | {user.id})
    waiting = await web.submit(description="waits")
    await web.change_policy(quorum=0)
    done, failed = await web.submit(), await web.submit()
    await web.complete(done["id"])
    await web.fail(failed["id"], "Nothing matched <b>")
    certificate = web.scene.certificate
    pending = dataclasses.replace(certificate, id=new_id(), slug="pending", sha256="", csr=b"x")
    later = dataclasses.replace(
        certificate, id=new_id(), slug="later", replaces_id=certificate.id,
        not_after=utc_now() + dt.timedelta(days=1, hours=2),
    )  # fmt: skip
    async with web.database.transaction() as tx:
        for one in (pending, later):
            await certificates.add(tx, one)
    browser = await logged_in(web, user)
    page = (await browser.get("/")).text
    assert "1 day left" in page
    assert "ended" not in page, "what is not issued has not ended"
    mine, rest = page.split("Failed in the last seven days")
    assert f"/signing-requests/{waiting['id']}" in mine
    assert f"/signing-requests/{failed['id']}" in rest
    assert f"/signing-requests/{done['id']}" in rest
    assert "Nothing matched &lt;b&gt;" in page
    token = csrf(page)
    await browser.post(f"/signing-requests/{waiting['id']}/approve", data={"csrf": token})
    assert "Nothing waits for your decision." in (await browser.get("/")).text
