"""The main job on this machine: submit a real artifact as CI does, have others judge the result.

Started by ``make demo``; takes ARTIFACT, CONFIGURATION, OUT, KEEP and DATA from the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sealwright.supervisor import tether

from artifact import build  # isort: skip  (the demo's own folder)
from foreign import SignedArtifact

ORGANIZATION, PROJECT = "demo", "demo"
TEST_POLICY, RELEASE_POLICY = "test-signing", "release-signing"
ADMINISTRATOR = "administrator@demo.invalid"
READY_SECONDS = 90

# a pipe has no width of its own: there every row gets one line
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
Json = dict[str, Any]


class DemoError(Exception):
    """Ends the demo with exit code 1."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    data: Path
    artifact: Path | None
    configuration: Path | None
    out: Path | None
    keep: bool

    @staticmethod
    def from_environment() -> Wanted:
        """Read what ``make`` hands over."""

        def path(name: str) -> Path | None:
            text = os.environ.get(name, "").strip()
            return Path(text).expanduser().absolute() if text else None

        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        wanted = Wanted(
            data=path("DATA") or base / "sealwright-demo",
            artifact=path("ARTIFACT"),
            configuration=path("CONFIGURATION"),
            out=path("OUT"),
            keep=os.environ.get("KEEP", "").strip() not in {"", "0"},
        )
        for name, file in (("ARTIFACT", wanted.artifact), ("CONFIGURATION", wanted.configuration)):
            if file and not file.is_file():
                message = f"{name}: there is no file {file}"
                raise DemoError(message)
        if bool(wanted.artifact) != bool(wanted.configuration):
            message = (
                "ARTIFACT and CONFIGURATION go together: the configuration says what is signed. "
                "See docs/artifact-configuration.md."
            )
            raise DemoError(message)
        return wanted


def sealwright(data: Path, *arguments: str, stdin: str = "", check: bool = True) -> str:
    """Run a command of ours as an operator would; its standard output."""
    command = [sys.executable, "-m", "sealwright", "--data", str(data), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        message = f"sealwright {' '.join(arguments[:2])}: {done.stderr.strip()}"
        raise DemoError(message)
    return done.stdout


@contextlib.contextmanager
def server(data: Path) -> Iterator[str]:
    """The embedded server on a port of its own; its address. Stopped in order at the end."""
    port = _port(data)
    url = f"http://127.0.0.1:{port}"
    log = (data / "server.log").open("ab")
    # ends with the demo, also when that is killed
    command = [sys.executable, tether.__file__, str(os.getpid())]
    command += [sys.executable, "-m", "sealwright", "--data", str(data), "up", "--port", str(port)]
    # a session of its own: an interrupt at the terminal is ours to pass on, once
    process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
    try:
        _await_ready(url, process, data / "server.log")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def _port(data: Path) -> int:
    """The port of the last time if it is free, so that bookmarks stay true; else a free one."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        port = int(json.loads((data / "demo.json").read_text())["url"].rsplit(":", 1)[1])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            message = f"The server did not start (see {log}):\n{lines}"
            raise DemoError(message)
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    message = f"The server was not ready within {READY_SECONDS} s (see {log})."
    raise DemoError(message)


class Api:
    """The server's API in the name of one token."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=60)

    def get(self, path: str) -> Json:
        """GET, or end the demo."""
        return self._checked(self._client.get(path))

    def post(self, path: str, body: Json) -> Json:
        """POST, or end the demo."""
        return self._checked(self._client.post(path, json=body))

    @staticmethod
    def _checked(response: httpx.Response) -> Json:
        answer: Json = response.json()
        if response.is_error:
            parts = (answer.get("where"), answer.get("detail"), answer.get("advice"))
            raise DemoError(" ".join(part for part in parts if part))
        return answer


def set_up(data: Path, url: str) -> Json:
    """Organization, certificates, project and policies; on later runs what the first one made."""
    notes = data / "demo.json"
    if notes.is_file():
        known: Json = json.loads(notes.read_text())
        known["url"] = url
        _write_privately(notes, json.dumps(known, indent=2))
        return known
    password = secrets.token_urlsafe(15)
    made = json.loads(
        sealwright(data, "init", "--organization", ORGANIZATION, "--email", ADMINISTRATOR,
                   "--password-file", "-", "--json", stdin=password + "\n")
    )  # fmt: skip
    sealwright(data, "certificate", "create", "root", "--subject", "CN=Sealwright demo TEST root",
               "--usage", "ca", "--days", "3650")  # fmt: skip
    for slug, key_type in ((TEST_POLICY, "rsa-3072"), (RELEASE_POLICY, "rsa-4096")):
        subject = f"CN=Demo {slug} (TEST ONLY)"
        sealwright(data, "certificate", "create", slug, "--subject", subject,
                   "--key-type", key_type, "--issuer", "root")  # fmt: skip
    login = {"email": ADMINISTRATOR, "password": password}
    session = httpx.post(f"{url}/api/v1/sessions", json=login, timeout=60)
    session.raise_for_status()
    api = Api(url, session.json()["token"])
    robot = api.post("users", {"kind": "ci", "name": "demo-pipeline"})
    token = api.post(f"users/{robot['id']}/tokens", {"name": "demo", "expires_in_days": None})
    api.post("projects", {"slug": PROJECT, "name": "Demo"})
    common = {"submitters": [robot["id"]], "timestamp_required": True}
    api.post(f"projects/{PROJECT}/signing-policies",
             common | {"slug": TEST_POLICY, "name": "Test signing", "kind": "test-signing",
                       "certificate": TEST_POLICY, "hash_signing_allowed": True})  # fmt: skip
    api.post(f"projects/{PROJECT}/signing-policies",
             common | {"slug": RELEASE_POLICY, "name": "Release signing", "kind": "release-signing",
                       "certificate": RELEASE_POLICY, "quorum": 1,
                       "approvers": [made["user_id"]]})  # fmt: skip
    known = {
        "url": url,
        "organization_id": made["organization_id"],
        "project_slug": PROJECT,
        "signing_policy_slug": TEST_POLICY,
        "release_policy_slug": RELEASE_POLICY,
        "artifact_configuration_slug": "",
        "submitter_token": token["token"],
        "administrator": {"email": ADMINISTRATOR, "password": password},
        "ca_file": str(_write_roots(data, api)),
    }
    _write_privately(notes, json.dumps(known, indent=2))
    return known


def _write_roots(data: Path, api: Api) -> Path:
    """PEM of everything that the demo's signatures and time stamps chain to."""
    certificates = {one["slug"]: one["pem"] for one in api.get("certificates")["items"]}
    roots = data / "ca.pem"
    tsa = next(data.rglob("TEST-ONLY-root.pem")).read_text()
    roots.write_text(_first_pem(certificates["root"]) + tsa)
    leaf = x509.load_pem_x509_certificate(certificates[TEST_POLICY].encode())
    key = leaf.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (data / "signer.pub.pem").write_bytes(key)
    return roots


def _first_pem(text: str) -> str:
    end = "-----END CERTIFICATE-----\n"
    return text[: text.index(end) + len(end)]


def _write_privately(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(text + "\n")


def configure(data: Path, known: Json, xml: Path) -> str:
    """Make `xml` known to the project, as its administrator; the configuration's slug."""
    login = known["administrator"]
    session = httpx.post(f"{known['url']}/api/v1/sessions", json=login, timeout=60)
    if session.is_error:
        raise DemoError(session.json()["detail"])
    api = Api(known["url"], session.json()["token"])
    slug = "demo" if xml.parent == data / "artifact" else "yours"
    path = f"projects/{PROJECT}/artifact-configurations"
    text = xml.read_text(encoding="utf-8-sig")
    api.post(path, {"slug": slug, "name": xml.name, "xml": text, "is_default": slug == "demo"})
    return slug


def submit(known: Json, artifact: Path, configuration: str, out: Path) -> Json:
    """Submit over HTTP with the command that a pipeline would use; the completed request."""
    environment = os.environ | {
        "SEALWRIGHT_URL": known["url"],
        "SEALWRIGHT_TOKEN": known["submitter_token"],
    }
    command = [sys.executable, "-m", "sealwright", "submit", str(artifact), "--project", PROJECT,
               "--policy", TEST_POLICY, "--configuration", configuration,
               "--wait", "--output", str(out), "--json"]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise DemoError(done.stderr.strip())
    request: Json = json.loads(done.stdout)
    if request["state"] != "Completed":
        reason = " ".join(part for part in (request["reason"], request["advice"]) if part)
        message = f"The request ended as {request['state']}: {reason}"
        raise DemoError(message)
    return Api(known["url"], known["submitter_token"]).get(f"signing-requests/{request['id']}")


def judge(known: Json, request: Json, signed: Path) -> bool:
    """Print what foreign tools say of every signature; whether all were content."""
    artifact = SignedArtifact(signed, Path(known["ca_file"]))
    subject = _subject(known, request)
    table = Table("file", "format", "done", "certificate", "time stamp (UTC)", "verified by")
    table.columns[0].overflow = "fold"
    content = True
    for one in request["files"]:
        if one["directive"] == "repack" or one["directive"].endswith("-verify"):
            continue  # these made no signature
        side_file = one["outputs"][0] if one["outputs"] else ""
        verdict = artifact.verify(one["path"], one["directive"], side_file)
        content = content and (verdict.missing or not verdict.complaint)
        mark = Text(f"✓ {verdict.tool}", "green")
        if verdict.missing:
            mark = Text(f"not verified: {verdict.complaint}", "yellow")
        elif verdict.complaint:
            mark = Text(f"✗ {verdict.tool}: {verdict.complaint}", "red")
        stamp = (one["timestamp"] or "none")[:19].replace("T", " ")
        name = one["path"].partition("!/")[2] or one["path"]
        # everything from the artifact as text: its names are no markup
        cells = (name, one["format"], one["summary"], subject, stamp)
        table.add_row(*(Text(cell) for cell in cells), mark)
    console.print(table)
    return content


def _subject(known: Json, request: Json) -> str:
    api = Api(known["url"], known["submitter_token"])
    subject = str(api.get(f"certificates/{request['certificate_id']}")["subject"])
    return subject.removeprefix("CN=")


def tell(known: Json, data: Path) -> None:
    """Say where everything is."""
    administrator = known["administrator"]
    console.print(
        f"Web application  {known['url']}  ({administrator['email']}, password in demo.json)"
    )
    console.print(f"Log              {known['url']}/log", soft_wrap=True)
    key = httpx.get(f"{known['url']}/log/key", timeout=60).text.strip()
    console.print("Check it offline with", soft_wrap=True)
    console.print(f"  {sys.executable} -m sealwright log verify {data / 'log'} --key '{key}'",
                  soft_wrap=True, markup=False)  # fmt: skip
    console.print(f"API              {known['url']}/api/openapi.json", soft_wrap=True)
    console.print(f"Everything else  {data / 'demo.json'}", soft_wrap=True)


def main() -> int:
    """Run the demo; its exit status."""
    started = time.monotonic()
    wanted = Wanted.from_environment()
    wanted.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if wanted.artifact and wanted.configuration:
        artifact, configuration = wanted.artifact, wanted.configuration
    else:
        artifact, configuration = build(wanted.data / "artifact")
    out = wanted.out or wanted.data / f"signed-{artifact.name}"
    # before anything is started: whoever writes a configuration tries often
    sealwright(wanted.data, "plan", str(artifact), "--configuration", str(configuration))
    with server(wanted.data) as url:
        known = set_up(wanted.data, url)
        known["artifact_configuration_slug"] = configure(wanted.data, known, configuration)
        _write_privately(wanted.data / "demo.json", json.dumps(known, indent=2))
        console.print(f"The server is up after {time.monotonic() - started:.1f} s.")
        submitted = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            out.unlink()
        request = submit(known, artifact, known["artifact_configuration_slug"], out)
        console.print(
            f"{artifact.name}: {len(request['files'])} steps in "
            f"{time.monotonic() - submitted:.1f} s, from upload to download."
        )
        content = judge(known, request, out)
        console.print(f"Signed artifact  {out}", soft_wrap=True)
        tell(known, wanted.data)
        if wanted.keep:
            console.print("Running until interrupted (Ctrl-C).")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    if not content:
        message = "A foreign tool refused a signature."
        raise DemoError(message)
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # also where the shell started us with interrupts ignored, as it does in the background
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        sys.exit(main())
    except DemoError as error:
        print(f"make demo: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
