"""The process as a whole: what it imports, refuses, logs and survives, and its memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.shared import tool
from tests.valkey import Valkey
from tests.web import PASSWORD, Web, WebServer, opened, running

from sealwright.intake.passwords import hash_password
from sealwright.queueing.queue import Queue

REQUESTS = "/api/v1/signing-requests"
GIB = 1 << 30
MIB = 1 << 20


async def test_it_never_imports_what_it_must_not_touch(web: Web) -> None:
    request = await web.submit()
    await web.complete(request["id"])
    client = await web.submitter()
    await client.get(f"{REQUESTS}/{request['id']}/signed-artifact")
    await client.get(f"{REQUESTS}/{request['id']}/proof")
    xml = {"slug": "x", "name": "x", "xml": "<wrong/>"}
    await client.post(
        f"/api/v1/projects/{web.scene.project.slug}/artifact-configurations", json=xml
    )
    modules = web.server.modules()
    assert "sealwright.web.app" in modules
    forbidden = ("pkcs11", "sealwright.keystores", "sealwright.signer", "sealwright.worker", "lxml")
    touched = {one for one in modules if one.startswith(forbidden)}
    engine = {one for one in modules if one.startswith("sealwright.signing.")}
    assert not touched
    assert not engine


@pytest.mark.untraced
async def test_a_gibibyte_passes_without_growing_memory(sqlite: Web, tmp_path: Path) -> None:
    """Uploaded by curl and downloaded again through HTTP; hashed on the way."""
    file = tmp_path / "large.bin"
    chunk = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    with file.open("wb") as target:
        for _ in range(GIB // MIB):
            target.write(chunk)
            digest.update(chunk)
    token = await sqlite.token(sqlite.scene.submitter)
    sqlite.server.reset_peak_memory()
    before = sqlite.server.peak_memory()
    command = [
        tool("curl"), "--silent", "--show-error", "--fail-with-body",
        "-H", f"Authorization: Bearer {token}",
        "-F", f"project={sqlite.scene.project.slug}",
        "-F", f"signing_policy={sqlite.scene.policy.slug}",
        "-F", f"artifact=@{file}", f"{sqlite.server.url}{REQUESTS}",
    ]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True)
    assert done.returncode == 0, done.stderr + done.stdout
    body = json.loads(done.stdout)
    assert body["input"]["size"] == GIB
    assert body["input"]["sha256"] == digest.hexdigest()
    back = hashlib.sha256()
    client = await sqlite.submitter()
    path = f"{REQUESTS}/{body['id']}/unsigned-artifact"
    async with client.stream("GET", path) as download:
        async for part in download.aiter_raw(MIB):
            back.update(part)
    assert back.digest() == digest.digest()
    grown = sqlite.server.peak_memory() - before
    print(f"peak memory grew by {grown / MIB:.1f} MiB")
    assert grown < 64 * MIB
    await sqlite.store.delete((await sqlite.read(body["id"])).input.key)  # type: ignore[union-attr]


async def test_an_upload_that_is_cut_leaves_nothing(sqlite: Web) -> None:
    token = await sqlite.token(sqlite.scene.submitter)
    query = f"project={sqlite.scene.project.slug}&signing_policy={sqlite.scene.policy.slug}"
    for sent in (0, 1, 70_000, 3 * MIB):
        with socket.create_connection(("127.0.0.1", sqlite.server.settings.port)) as connection:
            connection.sendall(
                f"POST {REQUESTS}?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Authorization: Bearer {token}\r\nContent-Length: 100000000\r\n\r\n".encode()
                + b"x" * sent
            )
            await asyncio.sleep(0.1)
    deadline = time.monotonic() + 5
    incoming = Path(sqlite.server.settings.artifacts.removeprefix("file://")) / ".incoming"
    while list(incoming.iterdir()):
        assert time.monotonic() < deadline, list(incoming.iterdir())
        await asyncio.sleep(0.05)
    assert await sqlite.stored_keys() == []
    client = await sqlite.submitter()
    assert (await client.get(REQUESTS)).json()["items"] == []


async def test_a_limit_ends_an_upload(
    own_valkey: Valkey, sqlite_template: Path, tmp_path: Path
) -> None:
    file = shutil.copyfile(sqlite_template, tmp_path / "sealwright.sqlite3")
    with running(own_valkey, f"sqlite:///{file}", max_upload_bytes=100_000) as server:
        async with opened(server) as web:
            client = await web.submitter()
            names = {"project": web.scene.project.id, "signing_policy": web.scene.policy.id}

            async def endless() -> AsyncIterator[bytes]:
                for _ in range(30):
                    yield b"x" * 10_000

            for answer in (
                await client.post(REQUESTS, params=names, content=b"x" * 100_001),
                await client.post(REQUESTS, params=names, content=endless()),
                await client.post(REQUESTS, data=names, files={"artifact": ("a", b"x" * 100_001)}),
            ):
                assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert await web.stored_keys() == []
            fits = await client.post(REQUESTS, params=names, content=b"x" * 100_000)
            assert fits.status_code == 201


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8080", 200),
        ("[::1]:1", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("user@127.0.0.1", 421),
        ("127.0.0.1/evil", 421),
        ("", 421),
    ],
)
async def test_hosts(sqlite: Web, host: str, status: int) -> None:
    client = await sqlite.client()
    answer = await client.get("/healthz", headers={"Host": host})
    assert answer.status_code == status


async def test_two_hosts_are_none(sqlite: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sqlite.server.settings.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")
    assert b" 421 " in await reader.readline()
    writer.close()


async def test_headers(sqlite: Web) -> None:
    client = await sqlite.client()
    for path in ("/healthz", "/login", "/api/v1/me", "/nothing", "/static/style.css"):
        headers = (await client.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "permissions-policy" in headers
        assert "server" not in headers
        assert "strict-transport-security" not in headers
        assert "cache-control" in headers
    given = await client.get("/healthz", headers={"X-Request-Id": "abcdef-123456"})
    assert given.headers["x-request-id"] == "abcdef-123456"
    forged = await client.get("/healthz", headers={"X-Request-Id": 'a"b c\\n'})
    assert forged.headers["x-request-id"] != 'a"b c\\n'


async def test_https_and_graceful_stop(
    own_valkey: Valkey, sqlite_template: Path, tmp_path: Path
) -> None:
    file = shutil.copyfile(sqlite_template, tmp_path / "sealwright.sqlite3")
    changes = {"external_url": "https://sign.example.com"}
    with running(own_valkey, f"sqlite:///{file}", **changes) as server:
        address = f"http://127.0.0.1:{server.settings.port}"
        async with httpx.AsyncClient(base_url=address) as client:
            client.headers["Host"] = "sign.example.com"
            assert "max-age" in (await client.get("/login")).headers["strict-transport-security"]
            async with opened(server) as web:
                user = await web.add_user(password_hash=await hash_password(PASSWORD))
            form = {"email": user.email, "password": PASSWORD, "next": "/log"}
            answer = await client.post("/login", data=form)
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-sealwright=swt_session_")
            assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
            assert "Domain" not in cookie
        assert server.stop() in {0, -signal.SIGTERM}
        assert "Application shutdown complete." in (server.folder / "log").read_text()


async def test_without_its_queue(own_web: WebServer, own_valkey: Valkey) -> None:
    """The queue is a hint: without it all goes on, a little slower."""
    async with opened(own_web) as web:
        client = await web.submitter()
        ready = await client.get("/readyz")
        whole = {"ready": True, "database": True, "queue": True, "store": True}
        assert (ready.status_code, ready.json()) == (200, whole)
        own_valkey.stop()
        without = await client.get("/readyz")
        assert (without.status_code, without.json()) == (200, whole | {"queue": False})
        started = time.monotonic()
        request = await web.submit()
        assert time.monotonic() - started < 2
        waiting = asyncio.create_task(
            client.get(f"{REQUESTS}/{request['id']}", params={"wait": "20"})
        )
        await asyncio.sleep(0.3)
        await web.complete(request["id"])
        answer = await asyncio.wait_for(waiting, 5)
        assert answer.status_code == 200, answer.text + web.server.log
        assert answer.json()["state"] == "Completed"
        given = {"email": "somebody@example.com", "password": "x"}
        answers = [
            (await client.post("/api/v1/sessions", json=given)).status_code for _ in range(12)
        ]
        assert (answers[:10], answers[-1]) == ([401] * 10, 429)
        own_valkey.start()
        await asyncio.sleep(1.2)
        assert (await client.get("/readyz")).json() == whole


async def test_no_secret_reaches_the_log(sqlite: Web) -> None:
    password, email = "canary-password-1", f"{sqlite.scene.organization.slug}@example.com"
    user = await sqlite.add_user(password_hash=await hash_password(password), email=email)
    token = await sqlite.token(user)
    client = await sqlite.client()
    link = {
        "url": "https://artifacts.example.com/a?signature=canary-signature",
        "file_name": "a.zip",
        "headers": {"Authorization": "canary-header"},
    }
    session = await client.post("/api/v1/sessions", json={"email": email, "password": password})
    for credential in (token, session.json()["token"]):
        headers = {"Authorization": f"Bearer {credential}"}
        body = {"signing_policy": sqlite.scene.policy.id, "retrieval_link": link}
        await client.post(REQUESTS, json=body, headers=headers)
        await client.get(f"/api/v1/me?token={credential}", headers=headers)
        await client.get(f"/nothing?key={credential}", headers={"Cookie": f"sealwright={token}"})
    log = sqlite.server.log
    for secret in (token, session.json()["token"], password, "canary-header", "canary-signature"):
        assert secret not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert any(line.get("status") == 201 for line in lines)


async def _subscriptions(queue: Queue) -> set[str]:
    """Those of all processes that share the test's queue."""
    pool = await queue.pool()
    return {each["id"] for each in await pool.client_list(_type="pubsub")}


async def test_clients_that_go_away_leave_no_trace(sqlite: Web) -> None:
    before = await _subscriptions(sqlite.queue)
    request = await sqlite.submit()
    token = await sqlite.token(sqlite.scene.submitter)
    for path in (f"{REQUESTS}/{request['id']}?wait=60", f"{REQUESTS}/{request['id']}/events"):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", sqlite.server.settings.port)) as one:
                one.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    f"Authorization: Bearer {token}\r\n\r\n".encode()
                )
                await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert not sqlite.server.faults()
    after = await _subscriptions(sqlite.queue)
    assert len(after - before) <= 1, "all of them shared a subscription"
    assert after, "whoever waited has listened"
