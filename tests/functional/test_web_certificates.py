"""Certificates on pages, with a signer that takes the orders: as a browser without scripts."""

from __future__ import annotations

import html
import re

import httpx
import pytest
from tests.functional.test_api_certificates import ca, logged_web, with_signer
from tests.functional.test_web_pages import csrf, logged_in
from tests.openssl_ca import OpensslCa
from tests.web import PASSWORD, Web

from sealwright.config import Settings
from sealwright.db import enrolment
from sealwright.intake.passwords import hash_password
from sealwright.model.enrolment import EnrolmentServer
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import Role

__all__ = ["ca", "logged_web", "with_signer"]


async def fill(
    browser: httpx.AsyncClient,
    page: str,
    fields: dict[str, str],
    *,
    to: str | None = None,
    file: tuple[str, bytes] | None = None,
) -> httpx.Response:
    """Send the form of a page as a browser does, with a file field where there is one."""
    shown = await browser.get(page)
    assert shown.status_code == 200, shown.text
    values = {"csrf": csrf(shown.text)} | fields
    if file is None:
        return await browser.post(to or page, data=values)
    files = {file[0]: ("name", file[1])} | {name: (None, value) for name, value in values.items()}
    return await browser.post(to or page, files=files)


async def follow(browser: httpx.AsyncClient, answer: httpx.Response) -> str:
    assert answer.status_code == 303, html.unescape(answer.text)
    return html.unescape((await browser.get(answer.headers["location"])).text)


async def test_from_nothing_to_a_release_certificate(
    with_signer: tuple[Web, Settings], ca: OpensslCa
) -> None:
    web, _ = with_signer
    browser = await logged_in(web)
    assert "New certificate" in (await browser.get("/certificates")).text
    fields = {"way": "request", "slug": "release", "name": "Release", "subject": "CN=Acme",
              "key_type": "p-256", "release": "true"}  # fmt: skip
    answer = await fill(
        browser, "/certificates/new?way=request", fields, to="/certificates/new",
        file=("file", b""),
    )  # fmt: skip
    page = await follow(browser, answer)
    assert "waits for its chain" in page
    assert "upload the chain that comes back" in page
    found = re.search(r"-----BEGIN CERTIFICATE REQUEST-----.*?-----END[^<]*", page, re.DOTALL)
    assert found
    chain = ca.issue(found[0].encode()) + ca.intermediate
    path = "/certificates/release"
    wrong = await fill(
        browser, path, {"text": ca.root.decode()}, to=f"{path}/chain", file=("chain", b"")
    )
    assert wrong.status_code == 400
    assert "No certificate of the upload is for this key" in html.unescape(wrong.text)
    answer = await fill(browser, path, {"text": ""}, to=f"{path}/chain", file=("chain", chain))
    page = await follow(browser, answer)
    assert "The chain is complete" in page
    assert page.count("BEGIN CERTIFICATE-----") == 2
    assert "certificate.issued" in page, "its activity"

    answer = await fill(
        browser, path, {"method": "request", "valid_days": "90"}, to=f"{path}/renew"
    )
    assert "release-2" in await follow(browser, answer)
    answer = await fill(browser, path, {"release": "false"}, to=f"{path}/edit")
    page = await follow(browser, answer)
    assert "Policies without approval may use it" in page
    assert "release certificate: only" not in page
    answer = await fill(browser, path, {"release": "true"}, to=f"{path}/edit")
    assert "Nothing is signed with it without approval" in await follow(browser, answer)
    answer = await fill(browser, path, {"state": "disabled"}, to=f"{path}/edit")
    assert "Nothing is signed with it" in await follow(browser, answer)
    listed = (await browser.get("/certificates")).text
    assert re.search(r"disabled.*release-2|release-2.*disabled", listed, re.DOTALL)


async def test_imports_and_openpgp_keys(with_signer: tuple[Web, Settings], ca: OpensslCa) -> None:
    web, _ = with_signer
    browser = await logged_in(web)
    pfx = ca.pkcs12("secret", "P-256")
    start = "/certificates/new?way=import"
    fields = {"way": "import", "slug": "old", "password": "wrong"}
    wrong = await fill(browser, start, fields, to="/certificates/new", file=("file", pfx))
    assert wrong.status_code == 400
    assert "password" in html.unescape(wrong.text)
    assert 'value="wrong"' not in wrong.text
    fields["password"] = "secret"
    answer = await fill(browser, start, fields, to="/certificates/new", file=("file", pfx))
    assert "was readable outside the token" in await follow(browser, answer)

    fields = {"way": "openpgp", "slug": "pgp", "subject": "Acme <r@example.com>",
              "key_type": "p-256", "valid_days": "30"}  # fmt: skip
    answer = await fill(
        browser, "/certificates/new?way=openpgp", fields, to="/certificates/new",
        file=("file", b""),
    )  # fmt: skip
    page = await follow(browser, answer)
    assert "BEGIN PGP PUBLIC KEY BLOCK" in page
    assert "ends in 29 days" in page
    path = "/certificates/pgp"
    async with web.database.transaction() as tx:
        server = EnrolmentServer(
            new_id(), web.scene.organization.id, "ca", "CA", "https://ca.example.com", "", "", 30,
            True, utc_now(),
        )  # fmt: skip
        await enrolment.add(tx, server, {})
    assert "By the EST server CA" in (await browser.get("/certificates/old")).text
    assert "By the EST server CA" not in (await browser.get(path)).text
    answer = await fill(
        browser, path, {"method": "self-signed", "valid_days": "90", "new_key": "true"},
        to=f"{path}/renew",
    )  # fmt: skip
    assert "pgp-2" in await follow(browser, answer)
    unsure = await fill(browser, path, {"reason": "retired"}, to=f"{path}/revoke")
    assert unsure.status_code == 400
    assert "Confirm that it is for good." in unsure.text
    answer = await fill(browser, path, {"reason": "retired", "sure": "true"}, to=f"{path}/revoke")
    page = await follow(browser, answer)
    assert "The key is revoked." in page
    assert "Restrict to releases" not in page
    assert "Enable" not in page
    again = await fill(browser, path, {"state": "active"}, to=f"{path}/edit")
    assert again.status_code == 409
    empty = await fill(
        browser, "/certificates/new?way=self-signed", {"way": "self-signed"},
        to="/certificates/new", file=("file", b""),
    )  # fmt: skip
    assert empty.status_code == 400
    assert empty.text.count("This is needed.") >= 2


async def test_an_est_server_has_to_be_chosen(with_signer: tuple[Web, Settings]) -> None:
    web, _ = with_signer
    browser = await logged_in(web)
    fields = {"way": "enrolment", "slug": "auto", "subject": "CN=Auto", "key_type": "p-256"}
    answer = await fill(
        browser, "/certificates/new?way=enrolment", fields, to="/certificates/new",
        file=("file", b""),
    )  # fmt: skip
    assert answer.status_code == 404


async def test_who_sees_what(with_signer: tuple[Web, Settings]) -> None:
    web, _ = with_signer
    reader = await web.add_user(password_hash=await hash_password(PASSWORD), role=Role.REGULAR_USER)
    browser = await logged_in(web, reader)
    listed = await browser.get("/certificates")
    assert "New certificate" not in listed.text
    name = web.scene.certificate.slug
    page = await browser.get(f"/certificates/{name}")
    assert page.status_code == 200
    assert "Disable" not in page.text
    assert "Activity" not in page.text
    for path in ("/certificates/new", f"/certificates/orders/{web.scene.certificate.id}"):
        assert (await browser.get(path)).status_code == 403
    administrator = await logged_in(web)
    for path in ("/certificates/new", f"/certificates/{name}/chain"):
        answer = await administrator.post(path, files={"slug": (None, "x")})
        assert answer.status_code == 403, "no form of this session's"
        assert (await administrator.post(path, data={"slug": "x"})).status_code == 400


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "'\"><img src=x>"])
async def test_names_are_text(with_signer: tuple[Web, Settings], name: str) -> None:
    web, _ = with_signer
    browser = await logged_in(web)
    path = f"/certificates/{web.scene.certificate.slug}"
    await fill(browser, path, {"name": name}, to=f"{path}/edit")
    for place in ("/certificates", path):
        page = (await browser.get(place)).text
        assert name not in page
        assert html.escape(name) in page or "&#39;&#34;&gt;" in page
