"""The signer's socket: who is answered, what is refused, and what happens when parts are away."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.chaos.shim import DEVICE_MEMORY, DEVICE_REMOVED, Shim
from tests.database import Scene, add_request, seed
from tests.postgres import Postgres
from tests.shared import missing
from tests.signer import Keys, digests, intents_of, running_signer, verify

from sealwright.config import Settings
from sealwright.db import Database, certificates, log
from sealwright.db.log_search import Filter
from sealwright.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    KeyStoreError,
    NotFoundError,
    SealwrightError,
    SignerRefusedError,
    UnavailableError,
)
from sealwright.model.certificate import Certificate, KeyType
from sealwright.model.identifiers import new_id
from sealwright.model.signer_messages import (
    MAX_FRAME,
    Call,
    encode_error,
    encode_frame,
    encode_items,
    parse_error,
)
from sealwright.signer import service
from sealwright.signing.signer_client import SignerClient

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def exchange(path: Path, sent: bytes, *, end: bool = False) -> bytes:
    """What is answered to raw bytes until the other side closes, or for half a second."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    received = b""
    with contextlib.closing(writer), contextlib.suppress(TimeoutError, ConnectionError):
        writer.write(sent)
        if end:
            writer.write_eof()
        async with asyncio.timeout(0.5):
            while chunk := await reader.read(65536):
                received += chunk
    return received


def messages(raw: bytes) -> list[dict[str, object]]:
    found = []
    while raw:
        (length,) = struct.unpack(">I", raw[:4])
        found.append(json.loads(raw[4 : 4 + length]))
        raw = raw[4 + length :]
    return found


@sqlite_only
async def test_the_socket_is_private(signer: SignerClient, signer_settings: Settings) -> None:
    mode = signer_settings.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert await signer.health() == {"database": "ok", "token": "ok", "log": "ok"}
    keys = await signer.list_keys()
    # other tests may have put keys on the token, also from files
    assert all(isinstance(key["exposed"], bool) for key in keys)


@sqlite_only
async def test_another_user_is_not_answered(
    signer: SignerClient, signer_settings: Settings
) -> None:
    with mock.patch.object(os, "geteuid", return_value=12345):
        assert await exchange(signer_settings.socket, Call(1, "health", {}).encode()) == b""
        stranger = SignerClient(signer_settings.socket)
        with pytest.raises(UnavailableError):
            await stranger.checkpoint()
        await stranger.close()


@sqlite_only
async def test_a_real_other_user_is_not_answered(signer_settings: Settings, tmp_path: Path) -> None:
    """Even where somebody has opened the socket to all."""
    if os.geteuid() != 0:
        missing("only root can act as another user; see the test before")
    folder = Path(tempfile.mkdtemp(prefix="sealwright-"))
    try:
        folder.chmod(0o755)
        settings = signer_settings.model_copy(update={"signer_socket": folder / "socket"})
        async with running_signer(settings):
            program = (
                "import socket, sys\n"
                "s = socket.socket(socket.AF_UNIX)\n"
                "s.connect(sys.argv[1]); s.settimeout(5)\n"
                "s.sendall(bytes.fromhex(sys.argv[2])); print(s.recv(100))\n"
            )
            call = Call(1, "health", {}).encode().hex()
            command = ["/usr/bin/python3", "-c", program, str(settings.socket), call]

            def run() -> subprocess.CompletedProcess[str]:
                return subprocess.run(
                    command, user="nobody", group="nogroup", extra_groups=[], cwd="/",
                    capture_output=True, text=True,
                )  # fmt: skip

            denied = await asyncio.to_thread(run)
            assert "PermissionError" in denied.stderr
            settings.socket.chmod(0o666)
            answered = await asyncio.to_thread(run)
            # closed before or after the call was sent
            assert answered.stdout == "b''\n" or re.search(
                "ConnectionResetError|BrokenPipeError", answered.stderr
            )
    finally:
        shutil.rmtree(folder)


@sqlite_only
async def test_the_group_may_sign_and_no_more(
    database: Database, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    settings = signer_settings.model_copy(update={"signer_group": group})
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    async with running_signer(settings) as client:
        assert stat.S_IMODE(settings.socket.stat().st_mode) == 0o660
        with mock.patch.object(os, "geteuid", return_value=12345):
            await client.sign(request.id, 1, digests(1))
            await client.checkpoint()
            await client.health()
            with pytest.raises(ForbiddenError):
                await client.list_keys()
            with pytest.raises(ForbiddenError):
                await client.create_certificate(
                    scene.organization.id, "x", "X", "CN=X", KeyType.P256
                )
    assert shim.count() == 1
    unknown = settings.model_copy(update={"signer_group": "no-such-group"})
    with pytest.raises(ConfigurationError, match="no group"):
        await asyncio.wait_for(_start(unknown), 30)


async def _start(settings: Settings) -> None:
    async with running_signer(settings):
        pass


HOSTILE = {
    "too long": struct.pack(">I", MAX_FRAME + 1) + b"x" * 100,
    "huge": b"\xff" * 100,
    "not JSON": struct.pack(">I", 4) + b"junk",
    "not UTF-8": struct.pack(">I", 4) + b"\xff\xfe\xfd\xfc",
    "a list": struct.pack(">I", 2) + b"[]",
    "deep": struct.pack(">I", 200_000) + b"[" * 200_000,
    "no id": encode_frame({"operation": "health", "arguments": {}}),
    "id a text": encode_frame({"id": "1", "operation": "health", "arguments": {}}),
    "id true": encode_frame({"id": True, "operation": "health", "arguments": {}}),
    "negative id": encode_frame({"id": -1, "operation": "health", "arguments": {}}),
    "no arguments": encode_frame({"id": 1, "operation": "health"}),
    "long operation": encode_frame({"id": 1, "operation": "x" * 5000, "arguments": {}}),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@sqlite_only
async def test_hostile_frames_end_their_connection_only(
    signer: SignerClient, signer_settings: Settings
) -> None:
    for name, raw in HOSTILE.items():
        assert await exchange(signer_settings.socket, raw, end=True) == b"", name
    for cut in (0, 1, 3, 4, 10):
        frame = Call(1, "health", {}).encode()[:cut]
        assert await exchange(signer_settings.socket, frame, end=True) == b""
    assert await signer.health()


@sqlite_only
async def test_malformed_arguments_are_answered(
    signer: SignerClient, signer_settings: Settings, shim: Shim
) -> None:
    good = encode_items(digests(1))  # type: ignore[arg-type]
    request_id = new_id()
    spoiled = [
        ("nothing", {}),
        ("sign", {}),
        ("sign", {"request_id": 5, "attempt": 1, "items": good}),
        ("sign", {"request_id": "x", "attempt": 1, "items": good}),
        ("sign", {"request_id": "\x00", "attempt": 1, "items": good}),
        ("sign", {"request_id": request_id, "attempt": -1, "items": good}),
        ("sign", {"request_id": request_id, "attempt": 1 << 80, "items": good}),
        ("sign", {"request_id": request_id, "attempt": 1, "items": []}),
        ("sign", {"request_id": request_id, "attempt": 1, "items": "abc"}),
        ("sign", {"request_id": request_id, "attempt": 1, "items": good * 1025}),
        ("sign", {"request_id": request_id, "attempt": 1, "items": [None]}),
        ("sign", {"request_id": request_id, "attempt": 1, "items": [{}]}),
        ("sign", {"request_id": request_id, "attempt": 1, "items": [good[0] | {"digest": "!"}]}),
        ("sign", {"request_id": request_id, "attempt": 1, "items": [good[0] | {"digest": None}]}),
        (
            "sign",
            {"request_id": request_id, "attempt": 1, "items": [good[0] | {"mechanism": "md5"}]},
        ),
        (
            "sign",
            {"request_id": request_id, "attempt": 1, "items": [good[0] | {"hash_algorithm": "x"}]},
        ),
        ("create_certificate", {}),
    ]
    frames = b"".join(Call(n, *call).encode() for n, call in enumerate(spoiled))
    answers = messages(await exchange(signer_settings.socket, frames))
    assert sorted(answer["id"] for answer in answers) == list(range(len(spoiled)))  # type: ignore[type-var]
    assert {answer["error"]["code"] for answer in answers} == {"invalid_input"}  # type: ignore[index]
    assert shim.count() == 0


def test_errors_travel() -> None:
    for kind in (SignerRefusedError, KeyStoreError, UnavailableError, ConflictError):
        sent = kind("what", advice="do", where="there")
        received = parse_error(encode_error(sent))
        assert type(received) is kind
        assert str(received) == str(sent)
    assert type(parse_error({"code": "new", "message": "", "advice": "", "where": ""})) is (
        SealwrightError
    )
    with pytest.raises(InvalidInputError):
        parse_error({"code": 5})


@sqlite_only
async def test_too_many_connections(signer: SignerClient, signer_settings: Settings) -> None:
    await signer.health()
    held = [
        await asyncio.open_unix_connection(str(signer_settings.socket))
        for _ in range(service.MAX_CONNECTIONS + 5)
    ]
    await asyncio.sleep(0.1)
    refused = [reader for reader, _ in held if reader.at_eof()]
    assert len(refused) == 6
    assert await signer.health(), "those who are there stay"
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.1)
    late = SignerClient(signer_settings.socket)
    assert await late.health()
    await late.close()


@sqlite_only
async def test_the_client_connects_again(
    database: Database, signer_settings: Settings, keys: Keys
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    client = SignerClient(signer_settings.socket)
    with pytest.raises(UnavailableError):
        await client.health()
    async with running_signer(signer_settings):
        first = await client.sign(request.id, 1, digests(2))
    with pytest.raises(UnavailableError):
        await client.sign(request.id, 1, digests(2))
    async with running_signer(signer_settings):
        assert await client.sign(request.id, 1, digests(2)) == first
    await client.close()


@sqlite_only
async def test_calls_under_way_are_finished_at_the_end(
    database: Database, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    shim.delay("C_Sign", 1.0)
    client = SignerClient(signer_settings.socket)
    async with running_signer(signer_settings):
        call = asyncio.create_task(client.sign(request.id, 1, digests(2)))
        while not await intents_of(database, request):
            await asyncio.sleep(0.01)
    assert len(await call) == 2
    assert {one.state for one in await intents_of(database, request)} == {"made"}
    await client.close()


@sqlite_only
async def test_what_is_signed_is_recorded_though_the_client_has_gone(
    database: Database, signer: SignerClient, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    shim.delay("C_Sign", 0.5)
    hasty = SignerClient(signer_settings.socket)
    call = asyncio.create_task(hasty.sign(request.id, 1, digests(2)))
    while not await intents_of(database, request):
        await asyncio.sleep(0.01)
    call.cancel()
    await hasty.close()
    signatures = await signer.sign(request.id, 1, digests(2))
    verify(keys.ec, digests(2)[0], signatures[0])
    assert shim.count() == 2, "the second call waited for the first one's outcome"


@sqlite_only
async def test_two_signers_at_one_socket(signer: SignerClient, signer_settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="Another signer"):
        await _start(signer_settings)
    assert await signer.health()


@sqlite_only
async def test_the_schema_must_be_current(signer_settings: Settings, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    empty = signer_settings.model_copy(update={"database_url": url})
    with pytest.raises(ConfigurationError, match="schema"):
        await _start(empty)


# --- the token ----------------------------------------------------------------------------------


@pytest.fixture
async def scene(database: Database, keys: Keys) -> Scene:
    return await seed(database, keys.ec)


async def test_a_token_that_loses_answers(
    database: Database, signer: SignerClient, scene: Scene, keys: Keys, shim: Shim
) -> None:
    """The signature whose answer is lost is recorded as lost, and the digest signed anew."""
    request = await add_request(database, scene)
    shim.inject("C_Sign", DEVICE_REMOVED, after=True)
    items = digests(10)
    for item, signature in zip(items, await signer.sign(request.id, 1, items), strict=True):
        verify(keys.ec, item, signature)
    states = sorted(one.state for one in await intents_of(database, request))
    assert states == ["abandoned"] + ["made"] * 10
    assert shim.count() == 11


async def test_a_token_that_refuses(
    database: Database, signer: SignerClient, scene: Scene, shim: Shim
) -> None:
    """What was refused was not signed; the others are recorded, and only it is asked again."""
    request = await add_request(database, scene)
    shim.inject("C_SignInit", DEVICE_MEMORY)
    with pytest.raises(UnavailableError):
        await signer.sign(request.id, 1, digests(10))
    states = sorted(one.state for one in await intents_of(database, request))
    assert states == ["made"] * 9 + ["refused"]
    await signer.sign(request.id, 1, digests(10))
    assert shim.count() == 10


async def test_sessions_that_die(
    database: Database, signer: SignerClient, scene: Scene, shim: Shim
) -> None:
    request = await add_request(database, scene, signatures=60)
    shim.kill("C_Sign", after=True)
    signatures = await signer.sign(request.id, 1, digests(60))
    assert len(set(signatures)) == 60
    assert shim.count() == 61
    states = sorted(one.state for one in await intents_of(database, request))
    assert states == ["abandoned"] + ["made"] * 60


async def test_a_key_that_is_gone(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    uri = "pkcs11:token=sealwright-test;id=%00%01%02;type=private"
    lost = await seed(database, Certificate(**vars(keys.ec) | {"key_uri": uri}))
    request = await add_request(database, lost)
    with pytest.raises(NotFoundError, match="no private key"):
        await signer.sign(request.id, 1, digests(1))
    without = await seed(database, Certificate(**vars(keys.ec) | {"key_uri": "pkcs11:token=x"}))
    other = await add_request(database, without)
    with pytest.raises(KeyStoreError, match="no id"):
        await signer.sign(other.id, 1, digests(1))
    assert await intents_of(database, other) == []
    assert shim.count() == 0


# --- the database -------------------------------------------------------------------------------


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_the_database_goes_and_comes_back(
    postgres: Postgres,
    database: Database,
    signer: SignerClient,
    signer_settings: Settings,
    scene: Scene,
    shim: Shim,
) -> None:
    """Its connections are killed while the token signs: the outcome is recorded all the same."""
    request = await add_request(database, scene, signatures=100)
    await signer.sign(request.id, 1, digests(5))
    shim.delay("C_Sign", 0.5)
    call = asyncio.create_task(signer.sign(request.id, 1, digests(20, "during")))
    while len(await intents_of(database, request)) < 25:
        await asyncio.sleep(0.01)
    await postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        database=signer_settings.database,
    )
    assert len(await call) == 20
    assert shim.count() == 25
    assert {one.state for one in await intents_of(database, request)} == {"made"}


@sqlite_only
async def test_the_database_cannot_be_written(
    database: Database, signer: SignerClient, scene: Scene, shim: Shim
) -> None:
    request = await add_request(database, scene)
    async with database.transaction() as tx:
        await tx.change(
            sa.text(
                "CREATE TRIGGER stop BEFORE INSERT ON log_entries "
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        )
    with pytest.raises(SealwrightError):
        await signer.sign(request.id, 1, digests(3))
    assert shim.count() == 0
    assert await intents_of(database, request) == []


# --- certificates -------------------------------------------------------------------------------


async def test_certificates_are_made_on_the_token(
    database: Database, signer: SignerClient, scene: Scene, shim: Shim
) -> None:
    tenant = scene.organization.id
    root = await signer.create_certificate(
        tenant, "root", "Root", "CN=Root", KeyType.P384, valid_days=3650, usage="ca"
    )
    leaf = await signer.create_certificate(
        tenant, "leaf", "Leaf", "CN=Leaf,O=Example", KeyType.P256, issuer=root
    )
    clock = await signer.create_certificate(
        tenant, "tsa", "TSA", "CN=TSA", KeyType.P256, issuer=root, usage="timestamping"
    )
    async with database.read() as tx:
        found = {one.id: one for one in await certificates.every(tx, tenant)}
        entries = await log.page(tx, tenant)
        of_leaf = await log.page(tx, tenant, wanted=Filter(certificate_id=leaf))
    actions = [entry.action for entry in reversed(entries)]
    assert actions == ["certificate.intended", "certificate.created"] * 3
    assert [entry.action for entry in reversed(of_leaf)] == actions[:2], "its own audit page"
    assert found[leaf].chain == (found[root].certificate,)
    assert found[leaf].subject == "CN=Leaf,O=Example"
    issued = x509.load_der_x509_certificate(found[leaf].certificate)
    issued.verify_directly_issued_by(x509.load_der_x509_certificate(found[root].certificate))
    stamps = x509.load_der_x509_certificate(found[clock].certificate).extensions
    usage = stamps.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    assert shim.count() == 3


async def test_a_made_certificate_signs(
    database: Database, signer: SignerClient, scene: Scene
) -> None:
    made = await signer.create_certificate(
        scene.organization.id, "made", "Made", "CN=Made", KeyType.P256
    )
    async with database.read() as tx:
        certificate = await certificates.get(tx, scene.organization.id, made)
    assert certificate
    other = await seed(database, certificate)
    request = await add_request(database, other)
    [item] = digests(1)
    [signature] = await signer.sign(request.id, 1, [item])
    verify(certificate, item, signature)


async def test_certificates_that_are_refused(
    database: Database, signer: SignerClient, scene: Scene, shim: Shim
) -> None:
    tenant = scene.organization.id
    leaf = scene.certificate.id
    other = await seed(database)
    root = await signer.create_certificate(
        tenant, "root", "Root", "CN=Root", KeyType.P256, valid_days=10, usage="ca"
    )
    before = shim.count(), len(await signer.list_keys())

    async def refused(kind: type[SealwrightError], **fields: object) -> None:
        arguments = {
            "organization_id": tenant, "slug": "new", "name": "New", "subject": "CN=New",
            "key_type": KeyType.P256, "issuer": None, "valid_days": 5, "usage": "code-signing",
        } | fields  # fmt: skip
        with pytest.raises(kind):
            await signer.create_certificate(**arguments)  # type: ignore[arg-type]

    await refused(InvalidInputError, slug="Not a slug")
    await refused(InvalidInputError, name="")
    await refused(InvalidInputError, name="x" * 300)
    await refused(InvalidInputError, subject="nonsense")
    await refused(InvalidInputError, subject="")
    await refused(InvalidInputError, usage="everything")
    await refused(InvalidInputError, valid_days=0)
    await refused(InvalidInputError, valid_days=100_000)
    await refused(InvalidInputError, organization_id="\x00")
    await refused(InvalidInputError, issuer="\x00")
    await refused(InvalidInputError, issuer=leaf)
    await refused(InvalidInputError, issuer=root, valid_days=11)
    await refused(InvalidInputError, issuer=root, usage="ca")
    await refused(NotFoundError, organization_id=new_id())
    await refused(NotFoundError, issuer=new_id())
    await refused(NotFoundError, issuer=other.certificate.id)
    await refused(ConflictError, slug="root")
    assert (shim.count(), len(await signer.list_keys())) == before, "no key was made in vain"


# --- the process --------------------------------------------------------------------------------


@sqlite_only
async def test_the_process_ends_when_told(signer_settings: Settings, tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, uvloop\n"
        "from sealwright.config import Settings\n"
        "from sealwright.signer.service import serve\n"
        "with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:\n"
        "    runner.run(serve(Settings.model_validate_json(sys.stdin.read())))\n"
    )
    settings = signer_settings.model_copy(
        update={"token_uri": "", "data": tmp_path / "embedded", "signer_sessions": 1}
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stderr
    process.stdin.write(settings.model_dump_json().encode())
    process.stdin.close()
    client = SignerClient(settings.socket)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert (await client.health())["token"] == "ok"
            break
        except UnavailableError:
            assert process.returncode is None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    # somebody asks often and goes: nothing is wrong with the signer then
    _, writer = await asyncio.open_unix_connection(str(settings.socket))
    writer.write(Call(1, "health", {}).encode() * 20)
    await writer.drain()
    writer.close()
    assert await client.health()
    await client.close()
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert b"Traceback" not in await process.stderr.read()
    assert stat.S_IMODE((tmp_path / "embedded" / "log.key").stat().st_mode) == 0o600
