"""How people come to an account and back: set-up, invitations, passwords, on their pages."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests import database as rows
from tests.fakes.mail_server import MailServer, mail_server
from tests.valkey import Valkey
from tests.web import PASSWORD, Web, opened, running

from sealwright import accounts
from sealwright.db import Database, requests, users
from sealwright.errors import ConflictError, NotFoundError
from sealwright.intake.passwords import hash_password
from sealwright.membership import Actor
from sealwright.model.identifiers import utc_now
from sealwright.model.request import State
from sealwright.model.user import Role
from sealwright.queueing.queue import Queue
from sealwright.queueing.reconcile import reconcile

NEW = "another long password"


@pytest.fixture
async def mailing(
    valkey: Valkey, sqlite_template: Path, tmp_path: Path
) -> AsyncIterator[tuple[Web, MailServer]]:
    """A server of its own that sends mail."""
    file = tmp_path / "sealwright.sqlite3"
    shutil.copyfile(sqlite_template, file)
    async with mail_server() as mail:
        changes = {"mail_server": mail.url, "mail_from": "signing@example.com"}
        with running(valkey, f"sqlite:///{file}", **changes) as server:
            async with opened(server) as web:
                yield web, mail


def link_of(mail: MailServer, address: str) -> str:
    letter = mail.to(address)[-1]
    text = letter.get_body(("plain",)).get_content()
    found = re.search(r"http://\S+", text)
    assert found
    return found[0]


async def submit(client: httpx.AsyncClient, link: str, **fields: str) -> httpx.Response:
    """Fill in the form that the link leads to."""
    shown = await client.get(link)
    assert shown.status_code == 200, shown.text
    code = link.partition("code=")[2]
    assert f'value="{code}"' in shown.text
    return await client.post(link.partition("?")[0], data={"code": code} | fields)


async def test_invited_forgotten_and_back(mailing: tuple[Web, MailServer]) -> None:
    web, mail = mailing
    administrator = await web.client(await web.add_user(role=Role.USER_ADMINISTRATOR))
    body = {"kind": "interactive", "name": "Ann", "email": "Ann@Example.com"}
    made = (await administrator.post("/api/v1/users", json=body)).json()
    path = f"/api/v1/users/{made['id']}/invitation"
    first = await administrator.post(path)
    assert first.json()["sent"] is True
    assert first.json()["url"] is None
    old = link_of(mail, "ann@example.com")
    await administrator.post(path)
    link = link_of(mail, "ann@example.com")
    browser = await web.client()
    assert (await browser.get(old)).status_code == 404, "a newer one replaces it"
    words = {"name": "Ann Doe", "password": PASSWORD, "repeated": "not the same"}
    assert "not the same" in (await submit(browser, link, **words)).text.lower()
    short = {"name": "Ann Doe", "password": "short", "repeated": "short"}
    assert (await submit(browser, link, **short)).status_code == 400
    done = await submit(browser, link, **words | {"repeated": PASSWORD})
    assert done.status_code == 303, done.text
    assert (await browser.get("/account")).status_code == 200
    assert "Ann Doe" in (await browser.get("/account")).text
    assert (await browser.get(link)).status_code == 404, "it works once"

    stranger = await web.client()
    texts = set()
    for address in ("ann@example.com", "nobody@example.com"):
        answer = await stranger.post("/forgotten-password", data={"email": address})
        texts.add(answer.text)
    assert len(texts) == 1, "the page tells nobody whether there is an account"
    await _until(lambda: len(mail.to("ann@example.com")) == 3)
    assert not mail.to("nobody@example.com")
    reset = link_of(mail, "ann@example.com")
    done = await submit(stranger, reset, password=NEW, repeated=NEW)
    assert done.status_code == 303
    assert (await browser.get("/account")).status_code == 303, "every other session has ended"
    assert (await stranger.get("/account")).status_code == 200
    assert (await stranger.get(reset)).status_code == 404, "it works once"
    for password, status in ((PASSWORD, 401), (NEW, 201)):
        answer = await stranger.post(
            "/api/v1/sessions", json={"email": "ann@example.com", "password": password}
        )
        assert answer.status_code == status
    await by_api(mail, administrator, stranger)


async def by_api(
    mail: MailServer, administrator: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """The same without a page."""
    address = "bob@example.com"
    body = {"kind": "interactive", "name": "Bob", "email": address}
    made = (await administrator.post("/api/v1/users", json=body)).json()
    await administrator.post(f"/api/v1/users/{made['id']}/invitation")

    async def post(path: str, **given: str) -> int:
        return (await stranger.post(f"/api/v1/{path}", json=given)).status_code

    code = link_of(mail, address).partition("code=")[2]
    answer = {"code": code, "name": "Bob Doe", "password": PASSWORD}
    assert await post("invitations/accept", **answer | {"password": "short"}) == 400
    assert await post("invitations/accept", **answer | {"code": "guessed"}) == 404
    assert await post("invitations/accept", **answer) == 204
    assert await post("invitations/accept", **answer) == 404, "it works once"
    assert await post("sessions", email=address, password=PASSWORD) == 201
    for asked in (address, "nobody@example.com"):
        assert await post("password-resets", email=asked) == 202
    await _until(lambda: len(mail.to(address)) == 2)
    code = link_of(mail, address).partition("code=")[2]
    assert await post("invitations/accept", **answer | {"code": code}) == 404, "another purpose"
    assert await post("password-resets/complete", code=code, password=NEW) == 204
    assert await post("password-resets/complete", code=code, password=NEW) == 404
    assert await post("sessions", email=address, password=PASSWORD) == 401
    assert await post("sessions", email=address, password=NEW) == 201
    limited = [await post("password-resets", email=address) for _ in range(4)]
    assert 429 in limited


async def _until(condition: object) -> None:
    import asyncio

    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it never came")


async def test_without_mail_the_link_is_handed_over(sqlite: Web) -> None:
    administrator = await sqlite.client(await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    user = await sqlite.add_user()
    made = (await administrator.post(f"/api/v1/users/{user.id}/invitation")).json()
    assert made["sent"] is False
    browser = await sqlite.client()
    done = await submit(browser, made["url"], name="By passkey", passkey="true")
    assert (done.status_code, done.headers["location"]) == (303, "/account/passkeys/new")
    assert (await browser.get("/account/passkeys/new")).status_code == 200
    ci = await sqlite.add_user(kind="ci", email=None)
    refused = await administrator.post(f"/api/v1/users/{ci.id}/invitation")
    assert refused.status_code == 400


async def test_one_changes_ones_own_password(sqlite: Web) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    client = await sqlite.client()
    log_in = {"email": user.email, "password": PASSWORD}
    token = (await client.post("/api/v1/sessions", json=log_in)).json()["token"]
    mine = await sqlite.client(Authorization=f"Bearer {token}")
    wrong = await mine.put("/api/v1/me/password", json={"present": "wrong", "password": NEW})
    assert wrong.status_code == 403
    changed = await mine.put("/api/v1/me/password", json={"present": PASSWORD, "password": NEW})
    assert changed.status_code == 204
    assert (await mine.get("/api/v1/me")).status_code == 401, "this session has ended too"


async def test_the_first_organization_is_made_in_the_browser(
    valkey: Valkey, sqlite_template: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sealwright.sqlite3"
    shutil.copyfile(sqlite_template, file)
    with running(valkey, f"sqlite:///{file}") as server:
        database = Database(server.settings.database)
        link = await accounts.setup_link(database, server.url)
        fields = {
            "name": "Acme", "slug": "acme", "user_name": "Ann", "email": "ann@example.com",
            "password": PASSWORD, "repeated": PASSWORD,
        }  # fmt: skip
        async with httpx.AsyncClient(base_url=server.url) as browser:
            first = await browser.get("/login")
            assert (first.status_code, first.headers["location"]) == (303, "/setup")
            assert "setup-link" in (await browser.get("/setup")).text
            guessed = await browser.post("/setup", data=fields | {"code": "guessed"})
            assert guessed.status_code == 404
            assert (await submit(browser, link, **fields | {"slug": "No Slug"})).status_code == 400
            done = await submit(browser, link, **fields)
            assert done.status_code == 303, done.text
            assert "Ann" in (await browser.get("/account")).text
            assert (await browser.get(link)).status_code == 404
            again = await browser.get("/setup")
            assert again.headers["location"] == "/login"
        with pytest.raises(ConflictError):
            await accounts.setup_link(database, server.url)
        async with database.read() as tx:
            found = await users.by_email(tx, "ann@example.com")
        assert found is not None
        assert found.role is Role.GLOBAL_ADMINISTRATOR
        await database.close()


async def test_a_link_is_used_up_by_one_of_many(database_url: str) -> None:
    import asyncio

    database = Database(database_url)
    scene = await rows.seed(database)
    async with database.transaction() as tx:
        made = await accounts.invite(
            tx, scene.submitter, Actor("user:x"), "https://sign.example.com"
        )
    code = made.url.partition("code=")[2]
    answers = await asyncio.gather(
        *(accounts.accept(database, code, f"Name {n}", None) for n in range(20)),
        return_exceptions=True,
    )
    won = [one for one in answers if not isinstance(one, BaseException)]
    assert len(won) == 1
    assert all(isinstance(one, NotFoundError) for one in answers if isinstance(one, BaseException))
    await database.close()


async def test_what_nobody_decides_in_time_fails(database_url: str, valkey: Valkey) -> None:
    database, queue = Database(database_url), Queue(valkey.url)
    scene = await rows.seed(database, quorum=1, approval_hours=2)
    now = utc_now()
    waits = {"state": State.WAITING_FOR_APPROVAL, "attempt": 0, "lease_until": None}
    late = await rows.add_request(database, scene, approval_until=now, **waits)
    early = await rows.add_request(
        database, scene, approval_until=now.replace(year=now.year + 1), **waits
    )
    always = await rows.add_request(database, scene, **waits)
    await reconcile(database, queue, utc_now())
    async with database.read() as tx:
        found = {one.id: await requests.get_any(tx, one.id) for one in (late, early, always)}
    failed = found[late.id]
    assert failed is not None
    assert (failed.state, failed.failed_stage) == (State.FAILED, State.WAITING_FOR_APPROVAL)
    assert "2 hours" in failed.reason
    for one in (early, always):
        other = found[one.id]
        assert other is not None
        assert other.state is State.WAITING_FOR_APPROVAL
    await queue.close()
    await database.close()


async def test_the_policy_sets_until_when_it_waits(sqlite: Web) -> None:
    await sqlite.change_policy(quorum=1, approval_hours=3)
    request = await sqlite.read((await sqlite.submit())["id"])
    assert request.approval_until is not None
    assert (request.approval_until - request.submitted_at).total_seconds() == 3 * 3600
