"""The API client against a server that breaks off, is away for a while, and lies."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sealwright import client as module
from sealwright.cli import cli
from sealwright.cli.requests import standing
from sealwright.client import Client, Submission
from sealwright.errors import (
    ConfigurationError,
    ForbiddenError,
    PolicyViolationError,
    UnauthenticatedError,
    UnavailableError,
    VerificationError,
)

CONTENT = bytes(range(256)) * 5000
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass
class Scripted:
    """Answers each call with the next of `script`, the last one for ever."""

    script: list[Answer] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.seen.append({"path": handler.path, "body": body} | dict(handler.headers))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        step(handler, body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    made = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.answer(self)

        def do_POST(self) -> None:
            made.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{http.server_port}"
        yield made
        http.shutdown()


def ok(value: Any, status: int = 200, kind: str = "application/json") -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        content = json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def problem(status: int, code: str) -> Answer:
    body = {"code": code, "detail": "No.", "advice": "Ask.", "where": "line 3"}
    return ok(body, status, "application/problem+json")


def cut(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()


def content(limit: int | None = None, body: bytes = CONTENT) -> Answer:
    """The file, from where the client asks; broken off after `limit` bytes."""

    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        part = body[start:]
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        handler.wfile.write(part[:limit])
        if limit is not None:
            handler.close_connection = True

    return answer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "product.zip"
    made.write_bytes(CONTENT)
    return made


SUBMISSION = Submission("p", "release", parameters={"version": "1"}, origin={"commit": "abc"})
COMPLETED = {
    "id": "r1",
    "output": {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()},
}


def test_upload_is_repeated_under_one_key(server: Scripted, file: Path) -> None:
    server.script = [cut, problem(503, "unavailable"), ok({}, 502), ok({"id": "r1"}, 201)]
    moved: list[int] = []
    with Client(server.url, "swt_api_x", patience=10) as client:
        made = client.submit(file, SUBMISSION, moved.append)
    assert made == {"id": "r1"}
    assert len(server.seen) == 4
    assert len({call["Idempotency-Key"] for call in server.seen}) == 1
    assert all(call["body"] == CONTENT for call in server.seen)
    last = server.seen[-1]
    assert "parameters%5Bversion%5D=1" in last["path"]
    assert "origin%5Bcommit%5D=abc" in last["path"]
    assert hashlib.sha256(CONTENT).hexdigest() in last["path"]
    assert last["Authorization"] == "Bearer swt_api_x"
    assert moved[-1] == len(CONTENT)


def test_each_submission_has_its_own_key(server: Scripted, file: Path) -> None:
    server.script = [ok({"id": "r1"}, 201)]
    with Client(server.url, "t") as client:
        for _ in range(2):
            client.submit(file, SUBMISSION, lambda _: None)
    assert len({call["Idempotency-Key"] for call in server.seen}) == 2


def test_download_goes_on_where_it_broke_off(server: Scripted, tmp_path: Path) -> None:
    server.script = [content(300_000), content(500_000), content()]
    target = tmp_path / "signed.zip"
    with Client(server.url, "t", patience=10) as client:
        client.download(COMPLETED, target, lambda _: None)
    assert target.read_bytes() == CONTENT
    assert [call.get("Range") for call in server.seen] == [
        None,
        "bytes=300000-",
        "bytes=800000-",
    ]
    assert list(tmp_path.iterdir()) == [target]


def test_damaged_download_never_appears(server: Scripted, tmp_path: Path) -> None:
    server.script = [content(body=CONTENT[:-1] + b"!")]
    with Client(server.url, "t") as client, pytest.raises(VerificationError):
        client.download(COMPLETED, tmp_path / "signed.zip", lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "policy_violation", PolicyViolationError),
        (403, "forbidden", ForbiddenError),
        (401, "unauthenticated", UnauthenticatedError),
        (503, "a_code_of_the_future", UnavailableError),
    ],
)
def test_refusals_are_the_errors_that_they_were(
    server: Scripted, status: int, code: str, kind: type[Exception]
) -> None:
    server.script = [problem(status, code)]
    with Client(server.url, "t", patience=0) as client, pytest.raises(kind) as caught:
        client.get("me")
    assert (caught.value.message, caught.value.advice, caught.value.where) == (  # type: ignore[attr-defined]
        "No.",
        "Ask.",
        "line 3",
    )
    assert len(server.seen) == 1


def test_patience_ends() -> None:
    away = pytest.raises(UnavailableError, match="does not answer")
    with Client("http://127.0.0.1:9", "t", patience=0.05) as client, away:
        client.get("me")
    with pytest.raises(ConfigurationError):
        Client("ftp://example.com", "t")


def test_waiting_tells_of_each_state_once(server: Scripted) -> None:
    server.script = [
        ok({"state": "QueuedForProcessing", "is_final": False, "version": "a-1"}),
        ok({"state": "Processing", "is_final": False}),
        ok({"state": "Processing", "is_final": False}),
        ok({"state": "Completed", "is_final": True}),
    ]
    states: list[str] = []
    with Client(server.url, "t") as client:
        done = client.wait("r1", 30, lambda request: states.append(request["state"]))
    assert done["is_final"]
    assert states == ["QueuedForProcessing", "Processing", "Completed"]
    assert all("wait=" in call["path"] for call in server.seen)
    assert ["known=a-1" in call["path"] for call in server.seen] == [False, True, False, False]


def test_an_approval_waits_for_the_passkey(server: Scripted) -> None:
    refusal = {"code": "passkey_required", "detail": "By passkey.", "advice": "Go to the page."}
    waits: dict[str, Any] = {
        "id": "r1", "state": "WaitingForApproval", "is_final": False, "approvals": [],
        "version": "v1",
    }  # fmt: skip
    other = {"user": {"id": "u2", "name": "B"}}
    mine = {"user": {"id": "u1", "name": "A"}}
    once = [ok(refusal, 403), ok({"id": "u1"}), ok(waits)]

    def approve(*rest: Answer, timeout: str = "30") -> tuple[int, str, str]:
        server.script = [*once, *rest]
        options = ["--url", server.url, "--token", "t", "--timeout", timeout]
        done = CliRunner().invoke(cli, ["request", "approve", "r1", *options])
        return done.exit_code, done.stdout, done.stderr

    status, told, asked = approve(
        ok(waits | {"approvals": [other]}), ok(waits | {"approvals": [other, mine]})
    )
    assert (status, told) == (0, "r1  WaitingForApproval\n"), "another approval is needed besides"
    assert "By passkey. Go to the page." in asked
    assert "known=v1" in server.seen[-1]["path"]
    assert approve(timeout="0")[0] == 3, "the time was over"
    assert approve(ok(waits | {"state": "Denied", "is_final": True}))[0] == 1, "somebody else did"


def test_following_tells_of_progress_too(server: Scripted) -> None:
    signing = [{"stage": "signing", "files": 242, "done": done} for done in (1, 1, 200)]
    server.script = [
        ok({"state": "Processing", "is_final": False, "progress": None}),
        *(ok({"state": "Processing", "is_final": False, "progress": one}) for one in signing),
        ok({"state": "Completed", "is_final": True, "progress": None}),
    ]
    told: list[str] = []
    with Client(server.url, "t") as client:
        client.wait("r1", 30, lambda request: told.append(standing(request)), follow=True)
    assert told == [
        "Processing",
        "Processing: signing 1 of 242 files",
        "Processing: signing 200 of 242 files",
        "Completed",
    ]
