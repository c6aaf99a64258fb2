"""A small EST server (RFC 7030) over TLS, whose authority is openssl."""

from __future__ import annotations

import base64
import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.openssl_ca import OpensslCa, openssl


@dataclass
class EstServer:
    """What it does, for a test to change.

    Attributes:
        waits: how many requests are answered with 202 first.
        status: instead of issuing.
        days: validity of what it issues.
        asked: (path, authorization header, subject of the TLS client) of every request.
    """

    ca: OpensslCa
    port: int = 0
    waits: int = 0
    status: int = 200
    days: int = 90
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/.well-known/est"

    @contextlib.contextmanager
    def run(self, *, client_ca: bytes = b"") -> Iterator[EstServer]:
        key, leaf = self.ca.folder / "tls.key", self.ca.folder / "tls.pem"
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-noenc", "-keyout", key, "-subj", "/CN=localhost")  # fmt: skip
        names = "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n"
        leaf.write_bytes(self.ca.issue(csr, extensions=names) + self.ca.intermediate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf, key)
        if client_ca:
            context.load_verify_locations(cadata=client_ca.decode())
            context.verify_mode = ssl.CERT_REQUIRED
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def _handler(fake) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805 (self is the handler)
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, fake.ca.pkcs7(fake.ca.intermediate, fake.ca.root))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                peer = self.connection.getpeercert() or {}  # type: ignore[attr-defined]
                subject = str(peer.get("subject", ""))
                authorization = self.headers.get("Authorization", "")
                fake.asked.append((self.path.rpartition("/")[2], authorization, subject))
                assert self.headers["Content-Type"] == "application/pkcs10"
                if fake.status != 200:
                    self._answer(fake.status, b"")
                elif fake.waits:
                    fake.waits -= 1
                    self.send_response(202)
                    self.send_header("Retry-After", "17")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    leaf = fake.ca.issue(base64.b64decode(body), days=fake.days)
                    self._answer(200, fake.ca.pkcs7(leaf))

            def _answer(self, status: int, content: bytes) -> None:
                encoded = base64.encodebytes(content)
                self.send_response(status)
                self.send_header("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
                self.send_header("Content-Transfer-Encoding", "base64")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
