"""What GitHub offers to a running job: the endpoint that gives it OpenID Connect tokens."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class TokenEndpoint(ThreadingHTTPServer):
    """Answers as `ACTIONS_ID_TOKEN_REQUEST_URL` does.

    Args:
        identity: makes a token for an audience.
    """

    daemon_threads = True

    def __init__(self, identity: Callable[[str], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.identity = identity
        self.bearer = secrets.token_hex(16)
        self.audiences: list[str] = []

    @classmethod
    @contextlib.contextmanager
    def run(cls, identity: Callable[[str], str]) -> Iterator[TokenEndpoint]:
        made = cls(identity)
        threading.Thread(target=made.serve_forever, args=[0.01], daemon=True).start()
        try:
            yield made
        finally:
            made.shutdown()
            made.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What the job finds in its environment."""
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{self.server_port}/token?run=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.bearer,
        }


class _Handler(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def log_message(self, *_: object) -> None:
        """Nothing to tell."""

    def do_GET(self) -> None:
        audience = parse_qs(urlsplit(self.path).query).get("audience", [""])[0]
        if self.headers.get("Authorization") != f"Bearer {self.server.bearer}":
            self.send_error(401)
            return
        self.server.audiences.append(audience)
        body = json.dumps({"value": self.server.identity(audience)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
