"""Retrieval links through the whole server: a real worker fetches from a real HTTP server."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.artifacts import CONFIGURATION, build_artifact
from tests.file_server import FileServer, file_server
from tests.system import Api, Setup, System, set_up

from sealwright.signing.engine import verify_file

#: the server runs what test_end_to_end.py and test_intake_retrieval.py measure
pytestmark = pytest.mark.untraced

MIB = 1 << 20
SECRET = "canary7f3a"


@dataclass
class Scene:
    """A server that may fetch from 127.0.0.1 but from no other internal host, and what is there."""

    system: System
    setup: Setup
    files: FileServer

    @property
    def api(self) -> Api:
        return Api(self.system.url, self.setup.token)

    def address(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.files.port}{path}"

    def fetched(self, link: dict[str, Any]) -> dict[str, Any]:
        """The request for what a link leads to, once it is final."""
        body = {"project": "product", "signing_policy": "test", "retrieval_link": link}
        made = self.api.post("signing-requests", body)
        found: dict[str, Any] = self.api.get(f"signing-requests/{made['id']}", wait=60)
        assert found["is_final"], found["state"]
        return found


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    """A file server on every address of the loopback interface, in a thread of its own."""
    ready: list[FileServer] = []
    started, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with file_server(address="0.0.0.0") as server:
            ready.append(server)
            started.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(20)
    yield ready[0]
    done.set()
    thread.join(20)


@pytest.fixture(scope="module")
def scene(files: FileServer) -> Iterator[Scene]:
    limits = {"max_upload_bytes": 4 * MIB, "retrieval_seconds": 4, "max_attempts": 1}
    with System.run(retrieval_internal_hosts="127.0.0.1,10.99.0.0/16", **limits) as system:
        yield Scene(system, set_up(system, CONFIGURATION), files)


def test_what_a_link_leads_to_is_signed(scene: Scene, tmp_path: Path) -> None:
    source = build_artifact(tmp_path / "product.zip")
    content = source.read_bytes()
    path = f"/files/product.zip?token={SECRET}"
    scene.files.serve("/moved.zip", b"", "302 Found", f"Location: {path}\r\n")
    scene.files.serve(path, content)
    done = scene.fetched(
        {
            "url": scene.address("/moved.zip"),
            "file_name": "product.zip",
            "sha256": hashlib.sha256(content).hexdigest().upper(),
            "headers": {"Authorization": f"Bearer {SECRET}"},
        }
    )
    assert done["state"] == "Completed", done["reason"]
    assert done["input"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert [one.header("Authorization") for one in scene.files.received[-2:]] == [
        f"Bearer {SECRET}"
    ] * 2
    url = f"{scene.system.url}/api/v1/signing-requests/{done['id']}/signed-artifact"
    headers = {"Authorization": f"Bearer {scene.setup.token}"}
    signed = tmp_path / "signed.zip"
    signed.write_bytes(httpx.get(url, headers=headers, timeout=60).raise_for_status().content)
    assert [name.partition("!/")[2] for name, _ in verify_file(signed)] == [
        "app.exe",
        "tool.exe",
        "inner.zip!/app.exe",
    ]
    with zipfile.ZipFile(signed) as after, zipfile.ZipFile(source) as before:
        assert after.read("readme.txt") == before.read("readme.txt")
    assert not [line for line in scene.system.lines if SECRET in line]
    assert SECRET not in str(scene.api.get(f"signing-requests/{done['id']}"))


async def _trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(200):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ({"path": "/plain", "sha256": "0" * 64}, "SHA-256|hash"),
        ({"path": "/large"}, "larger|too large|more than"),
        ({"path": "/endless"}, "larger|too large|more than"),
        ({"path": "/slow"}, "in time"),
        ({"path": "/to-another-host"}, "redirects to another host"),
        ({"path": "/to-another-port"}, "redirects to another host"),
        ({"path": "/to-metadata"}, "redirects to another host"),
        ({"path": "/missing"}, "answered 404"),
        ({"path": "/plain", "host": "127.0.0.2", "scheme": "https"}, "may not call"),
        ({"path": "/plain", "host": "localhost", "scheme": "https"}, "may not call"),
        ({"path": "/plain", "host": "[::ffff:169.254.169.254]", "scheme": "https"}, "may not call"),
    ],
)
def test_what_is_refused(scene: Scene, link: dict[str, str], why: str) -> None:
    files = scene.files
    other = f"http://localhost:{files.port}/plain"

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            writer.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
            await writer.drain()

    files.serve("/plain", b"content")
    files.serve("/large", bytes(4 * MIB + 1))
    files.answers["/endless"] = endless
    files.answers["/slow"] = _trickle
    files.serve("/missing", b"", "404 Not Found")
    for path, location in (
        ("/to-another-host", other),
        ("/to-another-port", "http://127.0.0.1:1/plain"),
        ("/to-metadata", "http://169.254.169.254/latest/meta-data/"),
    ):
        files.serve(path, b"", "302 Found", f"Location: {location}\r\n")
    url = scene.address(link["path"], link.get("host", "127.0.0.1"))
    url = url.replace("http", link.get("scheme", "http"), 1)
    asked = {"url": url, "file_name": "product.zip"}
    before = len(files.received)
    failed = scene.fetched(asked | ({"sha256": link["sha256"]} if "sha256" in link else {}))
    assert (failed["state"], failed["failed_stage"]) == ("Failed", "RetrievingArtifact")
    assert failed["reason"]
    assert re.search(why, failed["reason"]), failed["reason"]
    assert failed["advice"]
    assert failed["input"] is None
    assert len(files.received) - before <= 1, "nothing else was asked"


@pytest.mark.parametrize(
    "url", ["http://localhost/x", "http://127.0.0.2/x", "http://10.98.0.1/x", "http://8.8.8.8/x"]
)
def test_what_is_refused_at_submission(scene: Scene, url: str) -> None:
    """Without TLS only what the operator named is called."""
    answer = httpx.post(
        f"{scene.system.url}/api/v1/signing-requests",
        json={
            "project": "product",
            "signing_policy": "test",
            "retrieval_link": {"url": url, "file_name": "x.zip"},
        },
        headers={"Authorization": f"Bearer {scene.setup.token}"},
        timeout=30,
    )
    assert answer.status_code == 400
    assert "scheme" in answer.json()["detail"]
