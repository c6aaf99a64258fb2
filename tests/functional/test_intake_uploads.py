"""Uploads over real connections to a server in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.upload_server import UploadServer, upload_server

from sealwright.storage import open_store

MIB = 1024 * 1024
BLOCK = bytes(range(256)) * 4096
# By sha256sum, not by this program.
SHA256_OF_BLOCKS = {
    256: "486cc817b95d853d3c357ff283b204c0144bd255e73fe2deb1389493b257e3c0",
    2048: "382045c648d7c2a42a01bb3132186a0397d40e2e4e85a99377dbc79c20e6671e",
}
HEAD = (
    b'--XX\r\nContent-Disposition: form-data; name="ProjectSlug"\r\n\r\np\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="Artifact"; filename="a.exe"\r\n\r\n'
)
TAIL = b"\r\n--XX--\r\n"
FORM_TYPE = "multipart/form-data; boundary=XX"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UploadServer]:
    with upload_server(tmp_path / "store") as running:
        yield running


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name != ".incoming"]


def wait_until_clean(folder: Path) -> None:
    deadline = time.monotonic() + 5
    while leftovers(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert leftovers(folder) == []


def call(server: UploadServer, method: str, path: str, body: Iterator[bytes]) -> dict[str, object]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        headers = {"Content-Type": FORM_TYPE, "Transfer-Encoding": "chunked"}
        connection.request(method, path, body, headers, encode_chunked=True)
        answer = connection.getresponse()
        result: dict[str, object] = json.loads(answer.read())
        assert answer.status == 200, result
        return result


def send_and_cut(
    server: UploadServer, path: str, announced: int, sent: bytes, abrupt: bool
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        request = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM_TYPE}\r\n"
            f"Content-Length: {announced}\r\n\r\n"
        )
        connection.sendall(request.encode() + sent)
        if abrupt:  # a reset instead of an orderly end
            linger = (1).to_bytes(4, "little") + bytes(4)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def test_a_connection_cut_at_every_mebibyte_leaves_nothing(server: UploadServer) -> None:
    form = HEAD + BLOCK * 12 + TAIL
    cuts = [*range(0, len(form), MIB), len(HEAD), len(form) - len(TAIL), len(form) - 3]
    for i, cut in enumerate(cuts):
        send_and_cut(server, "/form", len(form), form[:cut], abrupt=i % 2 == 0)
    wait_until_clean(server.folder)
    result = call(server, "POST", "/form", iter([form]))
    assert result["sha256"] == hashlib.sha256(BLOCK * 12).hexdigest()
    assert len(leftovers(server.folder)) == 3  # uploads/<name>.artifact/<sha256>


def test_a_client_that_cuts_a_chunked_body_leaves_nothing(server: UploadServer) -> None:
    for size in (0, 100, 3 * MIB):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"PUT /raw?name=x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            connection.sendall(b"%x\r\n" % (size + 1) + bytes(size))
    wait_until_clean(server.folder)


@pytest.mark.parametrize(
    ("request_line", "head", "tail", "blocks"),
    [("POST /form", HEAD, TAIL, 2048), ("PUT /raw?name=a.exe", b"", b"", 256)],
    ids=["form", "raw"],
)
@pytest.mark.untraced
def test_large_uploads_take_constant_memory(
    server: UploadServer, request_line: str, head: bytes, tail: bytes, blocks: int
) -> None:
    before = server.peak_memory()
    size = blocks * MIB
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        request = (
            f"{request_line} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM_TYPE}\r\n"
            f"Content-Length: {len(head) + size + len(tail)}\r\n\r\n"
        )
        connection.sendall(request.encode() + head)
        for _ in range(blocks):
            connection.sendall(BLOCK)
        connection.sendall(tail)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        result = json.loads(answer.read())
    assert (result["size"], result["name"]) == (size, "a.exe")
    assert result["sha256"] == SHA256_OF_BLOCKS[blocks]
    assert server.peak_memory() < 120 * MIB
    assert server.peak_memory() - before < 32 * MIB


def test_a_killed_server_leaves_nothing_visible_and_the_next_one_sweeps(
    server: UploadServer,
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            f"PUT /raw?name=x HTTP/1.1\r\nHost: x\r\nContent-Length: {9 * MIB}\r\n\r\n".encode()
        )
        connection.sendall(BLOCK * 5)
        incoming = server.folder / ".incoming"
        deadline = time.monotonic() + 5
        while not list(incoming.glob("*/content")) and time.monotonic() < deadline:
            time.sleep(0.02)
        (upload,) = incoming.iterdir()
        an_hour_ago = time.time() - 3600
        os.utime(upload, (an_hour_ago, an_hour_ago))
        open_store(server.folder.as_uri())
        assert upload.exists()  # its lock is held
        os.kill(server.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while Path(f"/proc/{server.pid}/fd").is_dir() and time.monotonic() < deadline:
            if "State:\tZ" in Path(f"/proc/{server.pid}/status").read_text():
                break
            time.sleep(0.02)
    assert [path for path in leftovers(server.folder) if path.endswith(".artifact")] == []
    os.utime(upload, (an_hour_ago, an_hour_ago))
    open_store(server.folder.as_uri())
    # a thread of the dead process may hold the lock for a moment longer than its main thread
    while leftovers(server.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
        open_store(server.folder.as_uri())
    assert leftovers(server.folder) == []
