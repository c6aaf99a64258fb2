"""The PowerShell module, run by a real engine against the whole server.

Most of its tests are PowerShell, so that they run on Windows too: they are listed here by name, run
once, and shown one by one. What needs a look from outside is here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from tests.artifacts import CONFIGURATION, build_artifact
from tests.file_server import certificate_for
from tests.keys import issue, new_key
from tests.shared import REPOSITORY, missing, shared_dir, tool
from tests.system import Api, Setup, System, set_up

#: the server runs what test_end_to_end.py measures
pytestmark = pytest.mark.untraced

MODULE = REPOSITORY / "powershell"
MIB = 1 << 20
WITH_PARAMETER = CONFIGURATION.replace(
    "  <zip-file>\n    <pe-file",
    '  <parameters><parameter name="version" default-value="1.0"/></parameters>\n'
    "  <zip-file>\n    <pe-file",
    1,
)
_TITLE = re.compile(r"^Test '([^']+)'(.*)\{$", re.MULTILINE)
_RESULT = re.compile(r"(ok|not ok|skip) (.+)")


def powershell() -> str:
    """The engine: the user's own where there is one."""
    own = shutil.which("pwsh")
    if own:
        return own
    shared = shared_dir() / "tools" / "pwsh"
    if not shared.is_file():
        missing("no pwsh on PATH, and none in the shared tools")
    return str(shared)


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [powershell(), "-NoProfile", "-NonInteractive", *map(str, arguments)],
        env=os.environ | variables, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def titles() -> list[tuple[str, bool]]:
    """(name, whether it needs a server) of every test in PowerShell."""
    files = sorted((MODULE / "tests").glob("*.Tests.ps1"))
    found = [match for file in files for match in _TITLE.findall(file.read_text())]
    return [(title, "-NeedsServer" in rest) for title, rest in found]


@dataclass
class Server:
    """A running server that is set up, and a folder for what is fetched from it."""

    system: System
    setup: Setup
    folder: Path

    @property
    def artifact(self) -> Path:
        return self.folder / "product.zip"

    def facts(self) -> Path:
        """The file that tells the PowerShell tests of it."""
        broken = self.folder / "broken.zip"
        with zipfile.ZipFile(broken, "w") as made:
            made.writestr("readme.txt", "no inner.zip")
        file = self.folder / "facts.json"
        facts = {
            "url": self.system.url,
            "organization": self.setup.organization_id,
            "token": self.setup.token,
            "administratorToken": self.setup.administrator_token,
            "policies": self.setup.policies,
            "artifact": str(self.artifact),
            "broken": str(broken),
            "out": str(self.folder),
        }
        file.write_text(json.dumps(facts))
        return file

    def submit(
        self, script: str, url: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script after the module was imported; ``@server`` holds what every call needs."""
        head = (
            f"$ErrorActionPreference = 'Stop'; Import-Module '{MODULE / 'Sealwright.psd1'}'; "
            f"$server = @{{ ApiUrl = '{url or self.system.url}'; "
            f"OrganizationId = '{self.setup.organization_id}' }}; "
            "$target = @{ ProjectSlug = 'product'; SigningPolicySlug = 'test' }; "
        )
        file = self.folder / "script.ps1"
        file.write_text(head + script)
        return run("-File", file, SEALWRIGHT_TOKEN=self.setup.token, **variables)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    powershell()
    folder = tmp_path_factory.mktemp("powershell")
    build_artifact(folder / "product.zip")
    with System.run() as system:
        yield Server(system, set_up(system, WITH_PARAMETER), folder)


def results(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Name -> (ok, not ok or skip; the lines after it)."""
    found: dict[str, tuple[str, str]] = {}
    title = ""
    for line in done.stdout.splitlines():
        match = _RESULT.fullmatch(line)
        if match:
            title = match[2]
            found[title] = (match[1], "")
        elif title and line.startswith("#"):
            found[title] = (found[title][0], found[title][1] + line + "\n")
    assert found, done.stdout + done.stderr
    return found


@pytest.fixture(scope="module")
def offline() -> dict[str, tuple[str, str]]:
    """What needs no server, as it runs on every machine."""
    return results(run("-File", MODULE / "tests" / "Run.ps1"))


@pytest.fixture(scope="module")
def live(server: Server) -> dict[str, tuple[str, str]]:
    script = MODULE / "tests" / "Run.ps1"
    return results(run("-File", script, "-Name", "live:*", "-Live", server.facts()))


@pytest.mark.parametrize("title", [title for title, needs in titles() if not needs])
def test_offline(offline: dict[str, tuple[str, str]], title: str) -> None:
    outcome, details = offline.get(title, ("missing", ""))
    assert outcome == "ok", details


@pytest.mark.parametrize("title", [title for title, needs in titles() if needs])
def test_live(
    offline: dict[str, tuple[str, str]], live: dict[str, tuple[str, str]], title: str
) -> None:
    assert offline[title][0] == "skip"
    outcome, details = live.get(title, ("missing", ""))
    assert outcome == "ok", details


def test_titles_are_found() -> None:
    assert len(titles()) > 30
    assert len({title for title, _ in titles()}) == len(titles())


def test_a_failing_test_fails_the_run(tmp_path: Path) -> None:
    powershell()
    tests = shutil.copytree(MODULE, tmp_path / "powershell") / "tests"
    (tests / "A.Tests.ps1").write_text("Test 'wrong' {\n    Assert-Equal 1 2\n}\n")
    done = run("-File", tests / "Run.ps1", "-Name", "wrong")
    assert done.returncode == 1
    assert results(done)["wrong"][0] == "not ok"


def test_osslsigncode_accepts_what_is_fetched(server: Server, tmp_path: Path) -> None:
    signed = tmp_path / "signed.zip"
    done = server.submit(
        f"Submit-SigningRequest @server @target -InputArtifactPath '{server.artifact}' "
        f"-WaitForCompletion -OutputArtifactPath '{signed}'"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"[0-9a-f-]{36}", done.stdout.strip())
    [certificate] = Api(server.system.url, server.setup.administrator_token).get("certificates")[
        "items"
    ]
    roots = tmp_path / "roots.pem"
    roots.write_text(certificate["pem"])
    with zipfile.ZipFile(signed) as made:
        made.extractall(tmp_path)
    for program in ("app.exe", "tool.exe"):
        checked = subprocess.run(
            [tool("osslsigncode"), "verify", "-ignore-cdp", "-ignore-crl", "-CAfile", roots,
             tmp_path / program],
            capture_output=True, text=True,
        )  # fmt: skip
        assert "Succeeded" in checked.stdout, checked.stdout
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_a_failure_ends_the_script(server: Server) -> None:
    done = server.submit(
        "Submit-SigningRequest @server -ProjectSlug product -SigningPolicySlug nothing "
        f"-InputArtifactPath '{server.artifact}'; [Console]::Out.WriteLine('went on')"
    )
    assert done.returncode == 1
    assert "went on" not in done.stdout
    assert server.setup.token not in done.stdout + done.stderr


def test_progress_is_shown(server: Server, tmp_path: Path) -> None:
    done = server.submit(
        f"Submit-SigningRequest @server @target -InputArtifactPath '{server.artifact}' "
        f"-WaitForCompletion -OutputArtifactPath '{tmp_path / 'out.zip'}'",
        PWSH_SHOW_PROGRESS="1",
    )
    if "PROGRESS:" not in done.stderr and shutil.which("pwsh"):
        missing("this pwsh writes progress to a terminal alone")
    lines = [line for line in done.stderr.splitlines() if line.startswith("PROGRESS:")]
    for activity in ("Uploading product.zip", "Signing request ", "Downloading out.zip"):
        own = [line for line in lines if activity in line]
        assert any(" Processing " in line for line in own), done.stderr
        assert " Completed " in own[-1]


def test_memory_is_bounded(server: Server, tmp_path: Path) -> None:
    """300 MB up and down; the engine itself needs most of what it takes."""
    large = tmp_path / "large.zip"
    with zipfile.ZipFile(large, "w") as made, zipfile.ZipFile(server.artifact) as small:
        for name in small.namelist():
            made.writestr(name, small.read(name))
        with made.open("data.bin", "w") as member:
            for number in range(300):
                member.write(number.to_bytes(4) * (MIB // 4))
    signed = tmp_path / "signed.zip"
    done = server.submit(
        f"$null = Submit-SigningRequest @server @target -InputArtifactPath '{large}' "
        f"-WaitForCompletion -OutputArtifactPath '{signed}'; "
        "[Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert signed.stat().st_size > 300 * MIB
    peak = int(done.stdout.split()[-1])
    assert peak < 250 * MIB, f"{peak / MIB:.0f} MiB"


@dataclass
class Forgetful:
    """A proxy that hands whole requests on, and loses the first answers."""

    target: str
    losses: int
    heads: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                self._handle(client)

    def _handle(self, client: socket.socket) -> None:
        head, body = _head(client)
        self.heads.append(head)
        if b"100-continue" in head.lower():
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        while found and len(body) < int(found[1]):
            body += client.recv(65536)
        lines = [
            line
            for line in head.split(b"\r\n")
            if not line.lower().startswith((b"expect", b"conn"))
        ]
        host, port = self.target.rpartition("//")[2].split(":")
        with socket.create_connection((host, int(port))) as upstream:
            lines[1:1] = [b"Connection: close"]
            upstream.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            answer = b"".join(iter(lambda: upstream.recv(65536), b""))
        if self.losses > 0:
            self.losses -= 1
            return
        client.sendall(answer)


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        received = client.recv(65536)
        assert received, "the client closed"
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def test_a_submission_whose_answer_is_lost_makes_one_request(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Forgetful(server.system.url, losses=2)
        thread = threading.Thread(target=proxy.serve, args=[listener], daemon=True)
        thread.start()
        done = server.submit(
            f"Submit-SigningRequest @server @target -InputArtifactPath '{server.artifact}' "
            "-Description lost-answers -WarningAction SilentlyContinue",
            url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        )
        listener.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(proxy.heads) == 3
    api = Api(server.system.url, server.setup.token)
    made = [
        one["id"]
        for one in api.get("signing-requests", limit=100)["items"]
        if one["description"] == "lost-answers"
    ]
    assert made == [done.stdout.strip()]


class Greeter(BaseHTTPRequestHandler):
    """Answers a submission with the subject of the client's certificate as the request's id."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.connection, ssl.SSLSocket)
        certificate = self.connection.getpeercert() or {}
        names = {name: value for part in certificate["subject"] for name, value in part}  # type: ignore[union-attr]
        body = json.dumps({"signingRequestId": names["commonName"]}).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_certificates_of_both_sides(tmp_path: Path) -> None:
    context, _ = certificate_for("localhost", tmp_path)
    client = issue("client-7", new_key("p256"), None)
    (tmp_path / "client.pem").write_bytes(client.pem)
    bundle = pkcs12.serialize_key_and_certificates(
        b"client", client.key, client.certificate, None, BestAvailableEncryption(b"word")  # type: ignore[arg-type]
    )  # fmt: skip
    (tmp_path / "client.pfx").write_bytes(bundle)
    (tmp_path / "setup.exe").write_bytes(b"unsigned")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tmp_path / "client.pem")
    script = tmp_path / "script.ps1"
    with HTTPServer(("127.0.0.1", 0), Greeter) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script.write_text(
            f"Import-Module '{MODULE / 'Sealwright.psd1'}'\n"
            "$certificate = [Security.Cryptography.X509Certificates.X509Certificate2]::new("
            f"'{tmp_path / 'client.pfx'}', 'word')\n"
            f"Submit-SigningRequest -ApiUrl https://localhost:{server.server_port} -ApiToken t "
            f"-OrganizationId o -SigningPolicyId p -InputArtifactPath '{tmp_path / 'setup.exe'}' "
            "-ClientCertificate $certificate -ServiceUnavailableTimeoutInSeconds 5"
        )
        accepted = run("-File", script, SSL_CERT_FILE=str(tmp_path / "localhost.pem"))
        refused = run("-File", script)
        server.shutdown()
    assert accepted.stdout.strip() == "client-7", accepted.stdout + accepted.stderr
    assert refused.returncode == 1
    assert "SecurityError" in refused.stdout + refused.stderr
    assert "trust the root" in " ".join((refused.stdout + refused.stderr).split())
