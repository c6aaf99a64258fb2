"""The server side of the wire for CI systems, for tests of the clients: strict, and it can fail.

Every message in and out is held against ``sealwright_ci.schema.json``, every status besides against
the API's own schema. Identity tokens are real: signed by `Issuer`, checked for signature, audience,
times, claims and reuse. Faults are scripted: an answer lost after its effect, a refusal for now, a
download that is cut, a server that goes away and comes back on the same port.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import hashlib
import io
import itertools
import json
import re
import secrets
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jsonschema import Draft202012Validator, FormatChecker

from sealwright.model.origin import Origin
from sealwright.web.schemas.signing_requests import SigningRequestDetailOut

Json = dict[str, Any]
File = tuple[str, bytes]  #: name and content
_SCHEMA = json.loads(Path(__file__).with_suffix(".schema.json").read_text())
_FINAL = frozenset({"Completed", "Failed", "Denied", "Canceled"})
SIGNATURE = b"\nsigned"
LABELS = ("run verified, caller not verified", "vouched for by its build controller")
NAMES_OF_CLAIMS = {
    "github": ("run_id", "run_attempt", "repository"),
    "gitlab": ("pipeline_id", "", "project_path"),
    "jenkins": ("build_number", "", ""),
}


def check(name: str, document: object) -> None:
    """Hold a document against a definition of the schema.

    Raises:
        jsonschema.ValidationError: it does not fit.
    """
    schema = _SCHEMA | {"$ref": f"#/$defs/{name}"}
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(document)


def signed(artifact: bytes) -> bytes:
    """What this server makes of an artifact: every file, or every member of a ZIP, is longer."""
    if not artifact.startswith(b"PK\x03\x04"):
        return artifact + SIGNATURE
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(artifact)) as source, zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            target.writestr(info, source.read(info) + SIGNATURE, zipfile.ZIP_DEFLATED)
    return out.getvalue()


class Issuer:
    """A CI system's OpenID Connect issuer."""

    def __init__(self, url: str = "https://issuer.example") -> None:
        self.url = url
        self.key = rsa.generate_private_key(65537, 2048)

    def token(self, audience: str, **claims: str) -> str:
        """A token as the CI system would give the run; an hour long."""
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + 3600, "jti": secrets.token_hex(8)}
        return jwt.encode(
            {"iss": self.url, "aud": audience} | times | claims, self.key, algorithm="RS256"
        )

    def verify(self, token: str, audience: str) -> Mapping[str, str]:
        """Its claims.

        Raises:
            jwt.InvalidTokenError: it is not one of this issuer for this audience now.
        """
        required = ["iss", "aud", "exp", "nbf", "iat", "jti"]
        claims = jwt.decode(
            token,
            self.key.public_key(),
            algorithms=["RS256"],
            audience=audience,
            issuer=self.url,
            options={"require": required},
        )
        return cast("Mapping[str, str]", claims)


@dataclass
class Fault:
    """What goes wrong, and how often. `path` is searched for in method and target.

    `kind`: a status code answered instead; ``lose`` (done, but not answered); ``cut`` (the body
    ends after `at` bytes); ``restart`` (away for `at` milliseconds, the call lost).
    """

    path: str
    kind: int | str
    times: int = 1
    at: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """A signing request as it was submitted. `steps`: (seconds from the start, state)."""

    id: str
    submission: Json
    artifact: bytes
    file_name: str
    token: str
    steps: tuple[tuple[float, str], ...]
    started: float
    labels: list[str]
    token_dies_at: float

    @property
    def state(self) -> str:
        """The state now."""
        passed = time.monotonic() - self.started
        return [name for after, name in self.steps if after <= passed][-1]

    @property
    def version(self) -> str:
        """As the server names it."""
        return f"{self.state}-{self.id.rpartition('-')[2]}"


class RefusalError(Exception):
    """An answer that is a problem document."""

    def __init__(self, status: int, code: str, *errors: tuple[str, str], detail: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.body: Json = {
            "type": f"urn:sealwright:problem:{code}",
            "title": code.replace("_", " "),
            "status": status,
            "code": code,
            "detail": detail or "; ".join(error for error, _ in errors),
            "advice": " ".join(advice for _, advice in errors),
            "errors": [{"error": error, "how_to_fix": advice} for error, advice in errors],
        }


DEFAULT_STEPS = (
    (0.0, "Submitted"),
    (0.05, "QueuedForProcessing"),
    (0.1, "Processing"),
    (0.15, "Completed"),
)


@dataclass
class FakeServer:
    """One organization's server. `run()` starts it on a port of its own.

    Attributes:
        artifacts: (build system, artifact id) -> bytes in the CI system.
        steps: states of requests that are submitted from now on.
        log: (method, target, status) of every call, in order.
        headers: of every call, in the same order.
        secrets: everything that must not show up in a log.
    """

    organization_id: str = "5f3c9a52-0000-4000-8000-000000000001"
    token: str = "swt_user_" + secrets.token_hex(16)
    issuer: Issuer = field(default_factory=Issuer)
    artifacts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    steps: tuple[tuple[float, str], ...] = DEFAULT_STEPS
    status: Json = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    refuse: RefusalError | None = None
    requests: dict[tuple[str, ...], Request] = field(default_factory=dict)
    log: list[tuple[str, str, int | str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    used: dict[str, tuple[str, ...]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    given_tokens: list[str] = field(default_factory=list)
    token_seconds: float = 3600.0
    port: int = 0
    _http: _Http | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    @contextlib.contextmanager
    def run(cls, **settings: Any) -> Iterator[FakeServer]:
        """A server until the end; fails there when a client broke the wire."""
        made = cls(**settings)
        made.start()
        try:
            yield made
            assert not made.violations, made.violations
        finally:
            made.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def secrets(self) -> list[str]:
        return [self.token, *self.given_tokens]

    def start(self) -> None:
        self._http = _Http(("127.0.0.1", self.port), self)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=[0.01], daemon=True).start()

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.cut()
            http.server_close()

    def restart(self, seconds: float) -> None:
        """Go away for a while; what was submitted stays."""

        def away() -> None:
            self.stop()
            time.sleep(seconds)
            self.start()

        threading.Thread(target=away, daemon=True).start()

    def fault(self, method: str, target: str) -> Fault | None:
        """The fault that is due for this call, used up."""
        with self._lock:
            for one in self.faults:
                if one.times > 0 and re.search(one.path, f"{method} {target}"):
                    one.times -= 1
                    return one
        return None

    def calls(self, pattern: str) -> list[tuple[str, str, int | str]]:
        """Calls whose method and target match."""
        return [one for one in self.log if re.search(pattern, f"{one[0]} {one[1]}")]

    def submit(
        self,
        build_system: str,
        headers: Mapping[str, str],
        submission: Json,
        file: File | None,
    ) -> tuple[int, Json]:
        """The request for a submission: a new one (201), or the one that it already is (200)."""
        locator = (
            submission.get("artifact_id") or hashlib.sha256(file[1] if file else b"").hexdigest()
        )
        key = (
            build_system,
            submission["run_id"],
            str(submission["run_attempt"]),
            str(locator),
            submission["project"],
            submission["signing_policy"],
        )
        labels = self._authenticate(build_system, headers, submission, key)
        if self.refuse is not None:
            raise self.refuse
        with self._lock:
            existing = self.requests.get(key)
            if existing is None:
                existing = self._create(key, build_system, submission, file, labels)
                return 201, self._submitted(existing)
            existing.token = self._access_token()
            existing.token_dies_at = time.monotonic() + self.token_seconds
            return 200, self._submitted(existing)

    def _create(
        self,
        key: tuple[str, ...],
        build_system: str,
        submission: Json,
        file: File | None,
        labels: list[str],
    ) -> Request:
        if file is None:
            found = self.artifacts.get((build_system, submission["artifact_id"]))
            if found is None:
                missing = f"There is no artifact {submission['artifact_id']} in this run."
                raise RefusalError(403, "origin_not_verified", (missing, "Upload it first."))
            file = (f"{submission['artifact_id'].rpartition('/')[2]}.bin", found)
            if found.startswith(b"PK"):
                file = ("artifact.zip", found)
        self.requests[key] = made = Request(
            id=f"0192f0c1-7a30-7000-8000-{next(self._ids):012d}",
            submission=submission,
            artifact=file[1],
            file_name=file[0],
            token=self._access_token(),
            steps=self.steps,
            started=time.monotonic(),
            labels=labels,
            token_dies_at=time.monotonic() + self.token_seconds,
        )
        return made

    def _access_token(self) -> str:
        token = f"swt_request_{secrets.token_hex(16)}"
        self.given_tokens.append(token)
        return token

    def _authenticate(
        self, build_system: str, headers: Mapping[str, str], submission: Json, key: tuple[str, ...]
    ) -> list[str]:
        scheme, _, credential = headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            raise RefusalError(401, "unauthenticated", ("No credential.", "Send a token."))
        identity = headers.get("X-Sealwright-Identity-Token", "")
        if credential != self.token:
            if credential.startswith("swt_") or identity:
                raise RefusalError(401, "unauthenticated", ("The token is not known.", "Make one."))
            identity = credential
        if identity:
            self._check_identity(build_system, identity, submission, key)
            return []
        if "artifact_id" not in submission:
            why = (
                "The build sends the artifact and does not prove itself.",
                "Send its identity token.",
            )
            raise RefusalError(403, "origin_not_verified", why)
        return [LABELS[build_system == "jenkins"]]

    def _check_identity(
        self, build_system: str, identity: str, submission: Json, key: tuple[str, ...]
    ) -> None:
        self.given_tokens.append(identity)
        try:
            claims = self.issuer.verify(identity, self.url)
        except jwt.InvalidTokenError as error:
            raise RefusalError(
                401, "unauthenticated", (f"Identity token: {error}.", "Check its audience.")
            ) from None
        names = NAMES_OF_CLAIMS[build_system]
        told = (submission["run_id"], str(submission["run_attempt"]), submission.get("repository"))
        for name, value in zip(names, told, strict=True):
            if name and claims.get(name) != value:
                raise RefusalError(
                    403, "origin_not_verified", (f"{name} is {claims.get(name)}, not {value}.", "")
                )
        # GitHub gives a new token for every call; GitLab and Jenkins give one for the whole job
        reused = self.used.setdefault(claims["jti"], key)
        if reused != key or (build_system == "github" and self.used_up(claims["jti"])):
            raise RefusalError(
                401, "unauthenticated", ("The identity token was used before.", "Fetch a new one.")
            )

    def used_up(self, jti: str) -> bool:
        """Whether a token of the kind that counts once was seen before."""
        with self._lock:
            seen = f"{jti}#once" in self.used
            self.used[f"{jti}#once"] = ()
            return seen

    def _submitted(self, request: Request) -> Json:
        one = f"{self.url}/api/v1/signing-requests/{request.id}"
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.token_seconds)
        return {
            "id": request.id,
            "state": request.state,
            "url": one,
            "web_url": f"{self.url}/signing-requests/{request.id}",
            "status_url": one,
            "signed_artifact_url": f"{one}/signed-artifact",
            "access_token": request.token,
            "access_token_expires_at": expires.isoformat(),
            "labels": request.labels,
        }

    def find(self, request_id: str, headers: Mapping[str, str]) -> Request:
        """The request, for its own access token or the user's."""
        request = next((one for one in self.requests.values() if one.id == request_id), None)
        given = headers.get("Authorization", "").removeprefix("Bearer ")
        if request is None:
            raise RefusalError(404, "not_found", (f"There is no signing request {request_id}.", ""))
        if given != self.token and (
            given != request.token or time.monotonic() > request.token_dies_at
        ):
            raise RefusalError(
                401, "unauthenticated", ("The access token has run out.", "Submit again.")
            )
        return request

    def detail(self, request: Request) -> Json:
        """The request as the API shows it, with traps for careless parsers of JSON."""
        now = dt.datetime.now(dt.UTC).isoformat()
        output = signed(request.artifact)
        completed = request.state == "Completed"
        reference = {
            "id": "p",
            "slug": request.submission["project"],
            "name": 'A "state":"Completed" {',
        }
        person = {"id": "u", "name": "CI \\"}
        file = {
            "path": "bin/app.exe",
            "format": "pe",
            "directive": "authenticode-sign",
            "summary": '"is_final":true,"sha256":"0"',
            "sha256_before": hashlib.sha256(request.artifact).hexdigest(),
            "sha256_after": "a" * 64,
            "size_after": 7,
            "timestamp": now,
            "outputs": [],
            "members": [{"path": "state", "change": "added", "what": '"is_final":true', "size": 7}],
        }
        detail: Json = {
            "parameters": {"state": "Completed", "is_final": "true"}
            | request.submission.get("parameters", {}),
            "description": 'ü "state": "Completed", "is_final": true \\" } ] \n',
            "files": [file] if completed else [],
            "file_count": 1 if completed else 0,
            "approvals": [],
            "plan_state": "none",
            "plan_warnings": [],
            "needed_endorsement": None,
            "id": request.id,
            "url": f"{self.url}/signing-requests/{request.id}",
            "kind": "artifact",
            "project": reference,
            "signing_policy": reference | {"slug": request.submission["signing_policy"]},
            "artifact_configuration": None,
            "certificate_id": "c",
            "policy_hash": "0" * 64,
            "origin": dataclasses.asdict(Origin(verified=True, branch='"state":"Completed"')),
            "submitted_by": person,
            "submitted_at": now,
            "updated_at": now,
            "finished_at": None,
            "input": _stored(request.file_name, request.artifact),
            "output": _stored(request.file_name, output) if completed else None,
            "retrieval": None,
            "hash": None,
            "original_request_id": None,
            "quorum": 2 if any(name == "WaitingForApproval" for _, name in request.steps) else 0,
            "failed_stage": None,
            "attempt": 1,
            "log": [],
            "state": request.state,
            "is_final": request.state in _FINAL,
            "version": request.version,
            "scan": None,
            "progress": {"stage": "signing", "files": 12, "done": 5}
            if request.state == "Processing"
            else None,
            "reason": "",
            "advice": "",
        }
        return detail | self.status


def _stored(file_name: str, content: bytes) -> Json:
    return {
        "file_name": file_name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], fake: FakeServer) -> None:
        self.fake = fake
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that a test cuts are no news."""

    def cut(self) -> None:
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http
    fault: Fault | None

    def log_message(self, *_: object) -> None:
        """The log is `FakeServer.log`."""

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_GET(self) -> None:
        self._answer(self._get)

    def _answer(self, call: Callable[[], None]) -> None:
        fake = self.server.fake
        self.fault = fake.fault(self.command, self.path)
        fake.headers.append(dict(self.headers))
        try:
            match self.fault.kind if self.fault else None:
                case int(status):
                    self.rfile.read(int(self.headers.get("Content-Length", "0")))
                    self._send(status, b"busy", dict(self.fault.headers if self.fault else {}))
                case "restart":
                    fake.restart((self.fault.at if self.fault else 0) / 1000)
                    self._lost()
                case _:
                    call()
        except RefusalError as refusal:
            check("Problem", refusal.body)
            self._json(refusal.status, refusal.body, "application/problem+json")

    def _lost(self) -> None:
        self.server.fake.log.append((self.command, self.path, "lost"))
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _post(self) -> None:
        fake = self.server.fake
        found = re.fullmatch(
            r"/api/v1/organizations/([^/]+)/ci/([^/]+)/signing-requests", self.path
        )
        if not found or found[1] != fake.organization_id or found[2] not in NAMES_OF_CLAIMS:
            raise RefusalError(404, "not_found", (f"Nothing is at {self.path}.", "Check the id."))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        submission, file = self._parse(body)
        status, answer = fake.submit(found[2], self.headers, submission, file)
        check("Submitted", answer)
        if self.fault and self.fault.kind == "lose":
            self._lost()
        else:
            self._json(status, answer)

    def _parse(self, body: bytes) -> tuple[Json, File | None]:
        media = self.headers.get("Content-Type", "")
        try:
            if media.startswith("multipart/form-data"):
                submission, file = _form(media, body)
                check("Form", submission)
                return submission, file
            assert media == "application/json", media
            submission = json.loads(body)
            check("Submission", submission)
        except Exception as error:
            self.server.fake.violations.append(f"{media}: {error}")
            raise RefusalError(
                400, "invalid_input", (str(error)[:200], "Keep to the wire.")
            ) from error
        return submission, None

    def _get(self) -> None:
        url = urlsplit(self.path)
        found = re.fullmatch(r"/api/v1/signing-requests/([^/]+)(/signed-artifact)?", url.path)
        if not found:
            raise RefusalError(404, "not_found", (f"There is nothing at {self.path}.", ""))
        request = self.server.fake.find(found[1], self.headers)
        if found[2]:
            self._artifact(request)
            return
        query = parse_qs(url.query)
        deadline = time.monotonic() + float(query.get("wait", ["0"])[0])
        known = query.get("known", [""])[0]
        while (
            request.state not in _FINAL
            and known in {"", request.version}
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        detail = self.server.fake.detail(request)
        check("Status", detail)
        SigningRequestDetailOut.model_validate(detail)
        self._json(200, detail)

    def _artifact(self, request: Request) -> None:
        if request.state != "Completed":
            raise RefusalError(
                409, "conflict", (f"It is {request.state}; nothing is signed.", "Wait.")
            )
        content = signed(request.artifact)
        digest = hashlib.sha256(content)
        headers = {
            "ETag": f'"{digest.hexdigest()}"',
            "Repr-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        if self.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            start = 0
        if start >= len(content) > 0:
            raise RefusalError(
                416, "range_not_satisfiable", (f"The artifact has {len(content)} bytes.", "")
            )
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers)

    def _json(self, status: int, body: Json, media: str = "application/json") -> None:
        # as compact as the server sends it, and not in ASCII alone
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self._send(status, text.encode(), {"Content-Type": media})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.server.fake.log.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.fault and self.fault.kind == "cut":
            self.wfile.write(body[: self.fault.at])
            self.wfile.flush()
            self._lost()
        else:
            self.wfile.write(body)


def _form(media: str, body: bytes) -> tuple[Json, tuple[str, bytes]]:
    head = f"Content-Type: {media}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    parts = {}
    for part in message.iter_parts():
        parts[part.get_param("name", header="content-disposition")] = part
    assert list(parts) == ["request", "artifact"], f"parts {list(parts)}, in this order"
    content = parts["artifact"].get_payload(decode=True)
    assert isinstance(content, bytes)
    request = parts["request"].get_payload(decode=True)
    assert isinstance(request, bytes)
    return json.loads(request), (parts["artifact"].get_filename() or "", content)
