"""The key of a GitHub App on the token: imported by a foreign tool, used at a socket of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as ser
from tests.chaos.shim import Shim
from tests.database import Scene, seed
from tests.fakes.github_world import LINK, LOCATOR, WHEN, World, running_world
from tests.shared import tool
from tests.signer import Keys, running_signer
from tests.softhsm import SoftHsmToken

from sealwright.config import Settings
from sealwright.connectors.app_keys import AppKeySigner
from sealwright.connectors.connector import RemoteError
from sealwright.db import Database, build_systems, certificates
from sealwright.db import log as db_log
from sealwright.errors import ConfigurationError, InvalidInputError, NotFoundError, SealwrightError
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem
from sealwright.model.identifiers import new_id
from sealwright.model.origin import OriginRules
from sealwright.signing.signer_client import SignerClient

KEY_ID, READABLE_ID = "a1b2", "a1b3"
KEY = "pkcs11:id=%a1%b2"
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def github() -> Iterator[World]:
    with running_world() as world:
        world.fill()
        yield world
        assert world.fake.faults == []


@pytest.fixture(scope="module")
def imported(
    softhsm_token: SoftHsmToken, github: World, tmp_path_factory: pytest.TempPathFactory
) -> SoftHsmToken:
    """The token with the App's key, as docs/github.md has it imported."""
    key, folder = github.state.app.key, tmp_path_factory.mktemp("app")
    private, public = folder / "app.der", folder / "app-public.der"
    plain = (ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    private.write_bytes(key.private_bytes(*plain))
    form = (ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(key.public_key().public_bytes(*form))
    for key_id, hidden in ((KEY_ID, ["--sensitive"]), (READABLE_ID, ["--extractable"])):
        for file, kind, more in (
            (private, "privkey", ["--usage-sign", *hidden]),
            (public, "pubkey", []),
        ):
            write_object(
                softhsm_token, "--write-object", str(file), "--type", kind, "--id", key_id,
                "--label", "github-app", *more,
            )  # fmt: skip
    return softhsm_token


def write_object(token: SoftHsmToken, *arguments: str) -> None:
    """Run pkcs11-tool on the token. Two processes that open it at one instant can get a general
    error (another test's signer may be starting): then again."""
    command = [tool("pkcs11-tool"), "--module", str(token.module), "--token-label", token.label]
    command += ["--login", "--pin", token.pin_file.read_text().strip(), *arguments]
    for _ in range(5):
        environment = os.environ | dict(token.environment)  # others may have set their own token
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode == 0:
            return
        time.sleep(0.5)
    pytest.fail(done.stdout + done.stderr)


@pytest.fixture
async def scene(database: Database, keys: Keys) -> Scene:
    return await seed(database, keys.ec)


@pytest.fixture
async def system(database: Database, scene: Scene, github: World) -> TrustedBuildSystem:
    """A GitHub without any credential."""
    settings = {"client_id": github.state.app.client_id}
    made = TrustedBuildSystem(
        new_id(), scene.organization.id, "github", "GitHub", BuildSystemKind.GITHUB,
        github.fake.url, github.fake.web_url, True, WHEN, settings,
    )  # fmt: skip
    async with database.transaction() as tx:
        await build_systems.add(tx, made, {})
    return made


@pytest.fixture
async def client(imported: SoftHsmToken, signer_settings: Settings) -> AsyncIterator[SignerClient]:
    async with running_signer(signer_settings) as opened:
        yield opened


async def bind(client: SignerClient, system: TrustedBuildSystem, key: str = KEY) -> None:
    issuer = system.settings["client_id"]
    await client.bind_app_key(system.organization_id, system.id, issuer, key)


async def test_github_takes_what_the_token_signs(
    client: SignerClient,
    system: TrustedBuildSystem,
    signer_settings: Settings,
    github: World,
    database: Database,
    shim: Shim,
) -> None:
    await bind(client, system)
    speaks = AppKeySigner(signer_settings.app_socket, system.id)
    connector = github.connector(credentials={}, sign_jwt=speaks)
    facts = await asyncio.to_thread(connector.facts, LINK, LOCATOR, OriginRules())
    assert facts.commit == "c" * 40
    assert shim.count() == 1, "one JWT, for one installation token"
    claims = {"iss": github.state.app.client_id, "exp": 99999999999, "admin": True}
    token = await asyncio.to_thread(speaks, claims)
    public = github.state.app.key.public_key()
    signed = jwt.decode(token, public, algorithms=["RS256"], options={"require": ["exp", "iat"]})
    assert set(signed) == {"iat", "exp", "iss"}, "the signer's own claims and no others"
    assert signed["exp"] - signed["iat"] <= 600
    async with database.read() as tx:
        entries = await db_log.page(tx, system.organization_id)
    bound = [json.loads(one.body) for one in entries if one.action == "app_key.bound"]
    assert [one["data"]["issuer"] for one in bound] == [github.state.app.client_id]


@ONE_DATABASE
async def test_what_may_not_speak_for_an_app(
    client: SignerClient, system: TrustedBuildSystem, keys: Keys, shim: Shim
) -> None:
    of_curve = Pkcs11Uri.parse(keys.authority.key_uri).id or b""
    refused: list[tuple[str, type[SealwrightError]]] = [
        ("pkcs11:id=%00%01", NotFoundError),
        ("pkcs11:object=github-app", InvalidInputError),
        (f"{KEY};token=other", ConfigurationError),
        ("file:///app.pem", ConfigurationError),
        ("pkcs11:id=%a1%b3", InvalidInputError),
        ("pkcs11:id=" + "".join(f"%{one:02x}" for one in of_curve), InvalidInputError),
    ]
    for key, error in refused:
        with pytest.raises(error):
            await bind(client, system, key)
    with pytest.raises(InvalidInputError, match="client id"):
        await bind(client, dataclasses.replace(system, settings={"client_id": "a b"}))
    assert shim.count() == 0


@ONE_DATABASE
async def test_a_certificates_key_signs_no_jwt(
    client: SignerClient, system: TrustedBuildSystem, database: Database, scene: Scene, keys: Keys
) -> None:
    rsa = dataclasses.replace(
        keys.rsa, id=new_id(), slug="rsa", organization_id=scene.organization.id
    )
    async with database.transaction() as tx:
        await certificates.add(tx, rsa)
    of_certificate = Pkcs11Uri.parse(keys.rsa.key_uri).id or b""
    with pytest.raises(InvalidInputError, match="certificate has this key"):
        await bind(client, system, "pkcs11:id=" + "".join(f"%{one:02x}" for one in of_certificate))


@ONE_DATABASE
async def test_each_socket_has_its_own_business(
    client: SignerClient, system: TrustedBuildSystem, signer_settings: Settings, github: World
) -> None:
    await bind(client, system)
    other = SignerClient(signer_settings.app_socket)
    for call in (other.health, other.checkpoint, other.list_keys):
        with pytest.raises(InvalidInputError, match="no operation"):
            await call()
    with pytest.raises(InvalidInputError, match="no operation"):
        await other.unbind_app_key(system.id)
    await other.close()
    claims = {"iss": github.state.app.client_id}
    wrong_door = AppKeySigner(signer_settings.socket, system.id)
    with pytest.raises(ConfigurationError, match="no operation"):
        await asyncio.to_thread(wrong_door, claims)
    for socket in (signer_settings.socket, signer_settings.app_socket):
        assert oct(socket.stat().st_mode)[-3:] == "600"


@ONE_DATABASE
async def test_bound_to_another_app_unbound_and_away(
    client: SignerClient,
    system: TrustedBuildSystem,
    signer_settings: Settings,
    github: World,
    tmp_path: Path,
) -> None:
    speaks = AppKeySigner(signer_settings.app_socket, system.id)
    claims = {"iss": github.state.app.client_id}
    with pytest.raises(ConfigurationError, match="No key"):
        await asyncio.to_thread(speaks, claims)
    await bind(client, dataclasses.replace(system, settings={"client_id": "Iv1.other"}))
    with pytest.raises(ConfigurationError, match="another App"):
        await asyncio.to_thread(speaks, claims)
    await bind(client, system)
    assert await asyncio.to_thread(speaks, claims)
    await client.unbind_app_key(system.id)
    with pytest.raises(NotFoundError):
        await client.unbind_app_key(system.id)
    with pytest.raises(ConfigurationError, match="No key"):
        await asyncio.to_thread(speaks, claims)
    away = AppKeySigner(tmp_path / "nobody.sock", system.id)
    with pytest.raises(RemoteError) as caught:
        await asyncio.to_thread(away, claims)
    assert caught.value.retry_after
