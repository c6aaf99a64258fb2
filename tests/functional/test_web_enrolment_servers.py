"""EST servers on pages, with a server over TLS that answers: as a browser without scripts."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.fakes.est import EstServer
from tests.functional.test_web_certificates import fill, follow
from tests.functional.test_web_pages import logged_in
from tests.openssl_ca import OpensslCa
from tests.valkey import Valkey
from tests.web import Web, opened, running

from sealwright.db import certificates, enrolment
from sealwright.model.certificate import CertificateSource
from sealwright.model.identifiers import new_id

_PATH = "/enrolment-servers"


@pytest.fixture
def est(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EstServer]:
    with EstServer(OpensslCa.make(tmp_path_factory.mktemp("ca"))).run() as server:
        yield server


@pytest.fixture
async def web(valkey: Valkey, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Web]:
    """A server of the test's own: it may ask hosts of the own network."""
    file = tmp_path / "sealwright.sqlite3"
    file.write_bytes(sqlite_template.read_bytes())
    with running(valkey, f"sqlite:///{file}", build_system_hosts=["localhost"]) as server:
        async with opened(server) as made:
            yield made


async def test_added_tried_changed_and_removed(web: Web, est: EstServer) -> None:
    browser = await logged_in(web)
    assert f'href="{_PATH}"' in (await browser.get("/certificates")).text
    fields = {"slug": "ca", "name": "Our <CA>", "url": est.url, "renew_days": "20",
              "roots": est.ca.root.decode(), "user": "robot",
              "password": "open sesame"}  # fmt: skip

    new = f"{_PATH}/new"
    refused = await fill(browser, new, fields | {"roots": "none", "client_key": "my secret"})
    assert refused.status_code >= 400
    assert "cannot be used" in html.unescape(refused.text)
    assert "my secret" not in refused.text
    assert "open sesame" not in refused.text
    page = await follow(browser, await fill(browser, new, fields))
    assert "The EST server is added" in page
    assert (await fill(browser, new, fields)).status_code == 409

    one = f"{_PATH}/ca"
    tried = html.unescape((await fill(browser, one, {}, to=f"{one}/try")).text)
    assert "These came" in tried
    assert tried.count('<code class="whole">') == 2, "the root and the intermediate"

    form = {name: value for name, value in fields.items() if name not in {"slug", "password"}}
    stranger = OpensslCa.make(est.ca.folder / "stranger")
    await follow(browser, await fill(browser, one, form | {"roots": stranger.root.decode()}))
    tried = html.unescape((failed := await fill(browser, one, {}, to=f"{one}/try")).text)
    assert failed.status_code == 503
    assert "These came" not in tried
    page = await follow(browser, await fill(browser, one, form | {"renew_days": "40"}))
    assert "Saved." in page
    async with web.database.read() as tx:
        server = await enrolment.find(tx, web.scene.organization.id, "ca")
        assert server is not None
        assert (server.renew_days, server.enabled) == (40, False), "unchecked"
        assert list(await enrolment.sealed_credentials(tx, server.id)) == ["password"]
    assert (
        ">Our &lt;CA&gt;</option>"
        not in (await browser.get("/certificates/new?way=enrolment")).text
    )
    await follow(browser, await fill(browser, one, form | {"enabled": "true"}))
    assert ">Our &lt;CA&gt;</option>" in (await browser.get("/certificates/new?way=enrolment")).text

    issued = dataclasses.replace(
        web.scene.certificate, id=new_id(), slug="auto", enrolment_id=server.id,
        source=CertificateSource.ENROLMENT,
    )  # fmt: skip
    async with web.database.transaction() as tx:
        await certificates.add(tx, issued)
    shown = (await browser.get("/certificates/auto")).text
    assert '<option value="enrolment" selected>' in shown
    assert (
        '<option value="enrolment"'
        not in (await browser.get(f"/certificates/{web.scene.certificate.slug}")).text
    )
    kept = await fill(browser, one, {}, to=f"{one}/remove")
    assert kept.status_code == 409
    assert "'auto' is issued and renewed" in html.unescape(kept.text)
    answer = await fill(
        browser, "/certificates/auto", {"state": "disabled"}, to="/certificates/auto/edit"
    )
    await follow(browser, answer)
    assert "is removed" in await follow(browser, await fill(browser, one, {}, to=f"{one}/remove"))
    assert (await browser.get(one)).status_code == 404
