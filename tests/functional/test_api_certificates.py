"""Certificates over HTTP, with a signer that takes the orders; and on the command line."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest import mock

import httpx
import pytest
from click.testing import CliRunner
from cryptography import x509
from tests.chaos.shim import Shim
from tests.openssl_ca import OpensslCa, der, openssl
from tests.signer import running_signer
from tests.valkey import Valkey
from tests.web import Web, WebServer, opened, running

from sealwright.cli import cli
from sealwright.config import Settings
from sealwright.model.user import Role


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> OpensslCa:
    return OpensslCa.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def logged_web(
    valkey: Valkey, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """A server of this module's own: a signer makes a log in its database."""
    file = tmp_path_factory.mktemp("web") / "sealwright.sqlite3"
    file.write_bytes(sqlite_template.read_bytes())
    with running(valkey, f"sqlite:///{file}") as server:
        yield server
        assert not server.faults()


@pytest.fixture
async def with_signer(logged_web: WebServer, shim: Shim) -> AsyncIterator[tuple[Web, Settings]]:
    folder = logged_web.folder
    settings = Settings(
        data=folder,
        database_url=logged_web.settings.database,
        signer_socket=folder / "signer.sock",
        token_uri=str(shim.uri),
        token_environment=tuple(shim.environment),
        signer_sessions=1,
    )
    with mock.patch.dict(os.environ, shim.environment):
        async with opened(logged_web) as web, running_signer(settings):
            yield web, settings


async def administrator(web: Web) -> httpx.AsyncClient:
    return await web.client(await web.add_user(role=Role.CERTIFICATE_ADMINISTRATOR))


CERTIFICATES = "/api/v1/certificates"
WAIT = {"wait": 60}


async def test_from_a_request_to_a_policy(with_signer: tuple[Web, Settings], ca: OpensslCa) -> None:
    web, _ = with_signer
    client = await administrator(web)
    asked = {"slug": "release", "source": "request", "subject": "CN=Acme", "key_type": "p-256",
             "release": True}  # fmt: skip
    answer = await client.post(CERTIFICATES, json=asked, params=WAIT)
    assert answer.status_code == 201, answer.text
    pending = answer.json()["certificate"]
    assert (pending["status"], pending["not_after"], pending["pem"]) == ("pending", None, "")
    assert answer.headers["location"].endswith(f"{CERTIFICATES}/{pending['id']}")

    csr = await client.get(f"{CERTIFICATES}/release/request")
    assert csr.headers["content-disposition"] == 'attachment; filename="release.csr"'
    chain = ca.pkcs7(ca.issue(csr.content, days=20), ca.intermediate, ca.root)
    wrong = await client.post(
        f"{CERTIFICATES}/release/chain", content=ca.root, params=WAIT,
        headers={"Content-Type": "application/x-pem-file"},
    )  # fmt: skip
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_input")
    assert "for this key" in wrong.json()["detail"]
    assert wrong.json()["advice"]
    answer = await client.post(
        f"{CERTIFICATES}/release/chain", content=chain, params=WAIT,
        headers={"Content-Type": "application/pkcs7-mime"},
    )  # fmt: skip
    assert answer.status_code == 201, answer.text
    issued = answer.json()["certificate"]
    assert (issued["id"], issued["status"]) == (pending["id"], "active")
    assert (issued["expires_in_days"], issued["warning"]) == (19, 30)
    assert issued["pem"].count("BEGIN CERTIFICATE") == 3

    owner = await web.client(await web.add_user(role=Role.PROJECT_ADMINISTRATOR))
    policies = f"/api/v1/projects/{web.scene.project.slug}/signing-policies"
    rules = {"slug": "p", "name": "P", "certificate": "release"}
    answer = await owner.post(policies, json=rules)
    assert (answer.status_code, answer.json()["code"]) == (403, "policy_violation")
    approved = rules | {"approvers": [web.scene.approvers[0].id], "quorum": 1}
    assert (await owner.post(policies, json=approved)).status_code == 201
    answer = await owner.patch(f"{policies}/p", json={"quorum": 0})
    assert answer.status_code == 403


async def test_import_renew_and_disable(with_signer: tuple[Web, Settings], ca: OpensslCa) -> None:
    web, _ = with_signer
    client = await administrator(web)
    pfx = base64.b64encode(ca.pkcs12("secret", "P-256")).decode()
    body = {"slug": "old", "file": pfx, "password": "wrong"}
    answer = await client.post(f"{CERTIFICATES}/import", json=body, params=WAIT)
    assert answer.status_code == 400
    assert "password" in answer.json()["detail"]
    answer = await client.post(
        f"{CERTIFICATES}/import", json=body | {"password": "secret"}, params=WAIT
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["certificate"]["exposed"] is True

    answer = await client.post(
        f"{CERTIFICATES}/old/renew", json={"method": "self-signed", "new_key": True}, params=WAIT
    )
    assert answer.status_code == 201, answer.text
    renewed = answer.json()["certificate"]
    assert (renewed["slug"], renewed["warning"]) == ("old-2", None)
    old = (await client.get(f"{CERTIFICATES}/old")).json()
    assert (old["status"], old["replaced_by_id"]) == ("replaced", renewed["id"])
    answer = await client.patch(f"{CERTIFICATES}/old-2", json={"state": "disabled", "name": "Away"})
    assert (answer.json()["status"], answer.json()["name"]) == ("disabled", "Away")
    conflict = await client.post(CERTIFICATES, json={"slug": "old", "subject": "CN=x"})
    assert conflict.status_code == 409

    listed = (await client.get("/api/v1/certificate-orders")).json()["items"]
    assert [one["operation"] for one in listed] == ["renew", "import", "import"]
    assert [one["state"] for one in listed] == ["done", "done", "failed"]
    assert "secret" not in json.dumps(listed)
    assert "wrong" not in web.server.log


async def test_an_order_is_answered_at_once_and_followed(
    with_signer: tuple[Web, Settings],
) -> None:
    web, _ = with_signer
    client = await administrator(web)
    answer = await client.post(
        CERTIFICATES, json={"slug": "new", "subject": "CN=New", "key_type": "p-256"}
    )
    assert answer.status_code == 202
    assert answer.json()["certificate"] is None
    place = answer.headers["location"].removeprefix(web.server.url)
    settled = (await client.get(place, params=WAIT)).json()
    assert (settled["state"], settled["certificate"]["slug"]) == ("done", "new")
    other = await web.client(await web.add_user())
    assert (await other.get(place)).status_code == 403
    assert (await other.get(f"{CERTIFICATES}/new")).status_code == 200


async def test_the_command_line_asks_the_signer_itself(
    with_signer: tuple[Web, Settings], ca: OpensslCa, tmp_path: Path
) -> None:
    import asyncio

    web, settings = with_signer
    tenant = web.scene.organization.slug
    environment = {
        "SEALWRIGHT_DATA": str(settings.data),
        "SEALWRIGHT_DATABASE_URL": settings.database_url,
        "SEALWRIGHT_SIGNER_SOCKET": str(settings.socket),
    }

    def run(*arguments: str | Path, check: int = 0) -> str:
        words = [*map(str, arguments), "--organization", tenant]
        done = CliRunner().invoke(cli, words, env=environment)
        assert done.exit_code == check, done.output
        return done.stdout

    async def have(*arguments: str | Path, check: int = 0) -> str:
        return await asyncio.to_thread(lambda: run(*arguments, check=check))

    csr = await have("certificate", "request", "app", "--subject", "CN=App", "--key-type", "p-256")
    assert csr == await have("certificate", "show", "app", "--request")
    await have("certificate", "show", "app", "--pem", check=1)  # its chain is awaited
    leaf = ca.issue(csr.encode())
    chain = tmp_path / "chain.pem"
    chain.write_bytes(leaf)
    await have("certificate", "install", "app", chain, check=1)
    chain.write_bytes(leaf + ca.intermediate)
    await have("certificate", "install", "app", chain)
    shown = json.loads(await have("certificate", "show", "app", "--json"))
    assert shown["status"] == "active"
    written = x509.load_pem_x509_certificates(
        (await have("certificate", "show", "app", "--pem")).encode()
    )
    given = x509.load_pem_x509_certificates(leaf + ca.intermediate)
    assert written[:2] == given

    file, password = tmp_path / "key.pfx", tmp_path / "password"
    file.write_bytes(ca.pkcs12("secret", "P-256"))
    password.write_text("secret\n")
    made = json.loads(
        await have("certificate", "import", "key", file, "--password-file", password, "--json")
    )
    assert made["exposed"] is True
    renewal = await have("certificate", "renew", "app")
    assert b"BEGIN CERTIFICATE" in ca.issue(renewal.encode())
    assert openssl("req", "-noout", "-pubkey", data=renewal.encode()) == openssl(
        "x509", "-noout", "-pubkey", data=leaf
    )
    await have("certificate", "disable", "key")
    listed = await have("certificate", "list")
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [
        ["app", "active"], ["key", "disabled"], ["app-2", "pending"],
    ]  # fmt: skip
    await have("certificate", "enable", "key")
    assert der(leaf)

    for verb, release in (("restrict", True), ("unrestrict", False)):
        await have("certificate", verb, "key")
        assert json.loads(await have("certificate", "show", "key", "--json"))["release"] is release
    words = ("--user-id", "Acme <a@example.com>", "--key-type", "p-256")
    public = await have("certificate", "openpgp", "pgp", *words)
    assert public == await have("certificate", "show", "pgp", "--openpgp")
    revoked = await have("certificate", "revoke", "pgp", "--reason", "superseded")
    assert revoked == await have("certificate", "show", "pgp", "--openpgp") != public
    await have("certificate", "enable", "pgp", check=1)
    await have("certificate", "show", "key", "--openpgp", check=1)
