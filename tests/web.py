"""The real web process: uvicorn in a process of its own, with database, queue and artifact store.

A server lasts for the session; tests do not meet, since each makes an organization of its own. What
a worker would do is done here on the same database (`complete`, `fail`).
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from sealwright.config import Settings
from sealwright.db import Database, file_results, projects, requests, users
from sealwright.intake.tokens import new_token, token_hash
from sealwright.model.certificate import Certificate, KeyType
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.request import FileResult, Progress, SigningRequest, State, StoredArtifact
from sealwright.model.user import ApiToken, TokenKind, User
from sealwright.queueing import lifecycle
from sealwright.queueing.queue import Queue
from sealwright.storage import ArtifactStore, open_store
from sealwright.transparency.record import record, request_entry
from tests import database as rows
from tests import tracing
from tests.database import Scene
from tests.keys import Issued, issue, new_key
from tests.postgres import Postgres
from tests.shared import REPOSITORY
from tests.valkey import Valkey

_START_SECONDS = 120
_PR_SET_PDEATHSIG = 1  # prctl(2)
PASSWORD = "correct horse battery staple"


@dataclass
class WebServer:
    """A running web process."""

    settings: Settings
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def url(self) -> str:
        """Its address."""
        return self.settings.url

    @property
    def log(self) -> str:
        """Everything that it has logged."""
        return (self.folder / "log").read_text()

    def faults(self) -> list[str]:
        """Lines of the log that tell of an exception."""
        return [line for line in self.log.splitlines() if "traceback" in line.lower()]

    def modules(self) -> set[str]:
        """Names of the modules that the process has imported by now."""
        file = self.folder / "modules"
        file.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 5
        while not (file.exists() and file.read_text().endswith("\n\n")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return set(file.read_text().split())

    def peak_memory(self) -> int:
        """Most resident memory that the process has had since the last reset, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def reset_peak_memory(self) -> None:
        """Begin to measure anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.process.terminate()
        return self.process.wait(15)


@contextlib.contextmanager
def running(valkey: Valkey, database_url: str, **changes: Any) -> Iterator[WebServer]:
    """Run a web process on a free port. `external_name`: the host name that users see."""
    with tempfile.TemporaryDirectory(prefix="sealwright-web-") as temporary:
        folder = Path(temporary)
        listener = socket.create_server(("127.0.0.1", 0))
        name = changes.pop("external_name", "")
        if name:
            changes["external_url"] = f"http://{name}:{listener.getsockname()[1]}"
        values: dict[str, Any] = {
            "data": str(folder / "data"),
            "port": listener.getsockname()[1],
            "database_url": database_url,
            "redis_url": valkey.url,
            "retrieval_hosts": ["artifacts.example.com"],
        }
        settings = Settings.model_validate(values | changes)
        path = [str(REPOSITORY / "server"), str(REPOSITORY)]
        with listener, (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.web_child", str(listener.fileno()),
                 folder / "modules", settings.model_dump_json()],
                pass_fds=[listener.fileno()], stdout=log, stderr=log, cwd=REPOSITORY,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
                preexec_fn=_die_with_parent,  # noqa: PLW1509
            )  # fmt: skip
        server = WebServer(settings, process, folder)
        try:
            _wait(server)
            yield server
        finally:
            if process.poll() is None:
                server.stop()


def _wait(server: WebServer) -> None:
    deadline = time.monotonic() + _START_SECONDS
    address = f"http://127.0.0.1:{server.settings.port}/healthz"
    while True:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(address)
            return
        if server.process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the web process did not start: {server.log}")
        time.sleep(0.05)


def _of_the_session(valkey: Valkey, database_url: str) -> Iterator[WebServer]:
    with contextlib.ExitStack() as stack:
        with tracing.on():  # whoever asked first
            server = stack.enter_context(running(valkey, database_url))
        yield server
        assert not server.faults(), server.log[-3000:]


@pytest.fixture(scope="session")
def sqlite_web(
    valkey: Valkey, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """The session's server on SQLite."""
    file = tmp_path_factory.mktemp("web") / "sealwright.sqlite3"
    file.write_bytes(sqlite_template.read_bytes())
    yield from _of_the_session(valkey, f"sqlite:///{file}")


@pytest.fixture
def own_web(own_valkey: Valkey, sqlite_template: Path, tmp_path: Path) -> Iterator[WebServer]:
    """A server of the test's own, on SQLite, with `own_valkey`."""
    file = tmp_path / "sealwright.sqlite3"
    file.write_bytes(sqlite_template.read_bytes())
    with running(own_valkey, f"sqlite:///{file}") as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_web(valkey: Valkey, postgres: Postgres) -> Iterator[WebServer]:
    """The session's server on PostgreSQL."""
    yield from _of_the_session(valkey, postgres.migrated())


@pytest.fixture(params=["sqlite", "postgresql"])
def web_server(request: pytest.FixtureRequest) -> WebServer:
    """The server on SQLite, then the one on PostgreSQL."""
    server: WebServer = request.getfixturevalue(f"{request.param}_web")
    return server


@pytest.fixture
async def web(web_server: WebServer) -> AsyncIterator[Web]:
    """A server on SQLite, then on PostgreSQL, with an organization of the test's own."""
    async with opened(web_server) as web:
        yield web


@pytest.fixture
async def sqlite(sqlite_web: WebServer) -> AsyncIterator[Web]:
    """The server on SQLite with an organization of the test's own: for what no database changes."""
    async with opened(sqlite_web) as web:
        yield web


@contextlib.asynccontextmanager
async def opened(server: WebServer, **of_policy: Any) -> AsyncIterator[Web]:
    """Open the server's database, queue and store for a test, and seed an organization."""
    async with contextlib.AsyncExitStack() as stack:
        database = Database(server.settings.database, pool_size=4)
        stack.push_async_callback(database.close)
        queue = Queue(server.settings.redis)
        stack.push_async_callback(queue.close)
        store = open_store(server.settings.artifacts)
        scene = await rows.seed(database, signing_certificate("p256"), **of_policy)
        yield Web(server, database, queue, store, scene, stack)


@dataclass
class Web:
    """A server and what a test does with it. `scene` is the test's own organization."""

    server: WebServer
    database: Database
    queue: Queue
    store: ArtifactStore
    scene: Scene
    stack: contextlib.AsyncExitStack

    async def client(self, user: User | None = None, **headers: str) -> httpx.AsyncClient:
        """An HTTP client with a token of the user's; without a user, with none."""
        if user:
            headers["Authorization"] = f"Bearer {await self.token(user)}"
        client = httpx.AsyncClient(base_url=self.server.url, headers=headers, timeout=70)
        return await self.stack.enter_async_context(client)

    async def submitter(self) -> httpx.AsyncClient:
        """A client of the scene's submitter."""
        return await self.client(self.scene.submitter)

    async def token(self, user: User, **fields: Any) -> str:
        """A fresh API token of the user's."""
        kind = fields.pop("kind", TokenKind.API)
        text = new_token(kind)
        token = ApiToken(
            new_id(), user.organization_id, user.id, kind, "test", token_hash(text),
            None, None, utc_now(), **fields,
        )  # fmt: skip
        async with self.database.transaction() as tx:
            await users.add_token(tx, token)
        return text

    async def add_user(self, **fields: Any) -> User:
        """One more user of the test's organization."""
        user = rows.user(fields.pop("organization_id", self.scene.organization.id), **fields)
        async with self.database.transaction() as tx:
            await users.add(tx, user)
        return user

    async def change_project(self, **fields: Any) -> None:
        """Change the scene's project."""
        project = dataclasses.replace(self.scene.project, **fields)
        async with self.database.transaction() as tx:
            await projects.update(tx, project)
        self.scene = dataclasses.replace(self.scene, project=project)

    async def change_policy(self, **fields: Any) -> None:
        """Change the scene's policy."""
        policy = dataclasses.replace(self.scene.policy, **fields)
        async with self.database.transaction() as tx:
            await projects.update_policy(tx, policy)
        self.scene = dataclasses.replace(self.scene, policy=policy)

    async def submit(self, content: bytes = b"artifact", **fields: Any) -> dict[str, Any]:
        """Submit as the scene's submitter; the answered request."""
        client = await self.submitter()
        names = {"project": self.scene.project.slug, "signing_policy": self.scene.policy.slug}
        answer = await client.post(
            "/api/v1/signing-requests", data=names | fields, files={"artifact": ("a.exe", content)}
        )
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def read(self, request_id: str) -> SigningRequest:
        """The request as the database has it."""
        async with self.database.read() as tx:
            found = await requests.get_any(tx, request_id)
        assert found is not None
        return found

    async def complete(
        self, request_id: str, content: bytes = b"signed", results: int = 1
    ) -> SigningRequest:
        """Do what a worker does with a queued request."""
        request = await self._begin(request_id)
        key = f"requests/{request.organization_id}/{request.id}/output"
        writer = await self.store.put_stream(key, limit=len(content))
        await writer.write(content)
        stored = await writer.commit()
        name = request.input.file_name if request.input else "artifact"
        output = StoredArtifact(key, name, stored.size, stored.sha256)
        async with self.database.transaction() as tx:
            await file_results.put_results(tx, request.id, [_result(n) for n in range(results)])
            facts = {"outputs": [{"name": name, "sha256": stored.sha256}]}
            entry = request_entry(
                request, "artifact.released", actor="worker", now=utc_now(), data=facts
            )
            await record(tx, entry)
            request = await lifecycle.advance(
                tx, request, State.COMPLETED, actor="worker", now=utc_now(), output=output
            )
        await self.queue.announce(request.id)
        return request

    async def report_progress(self, request_id: str, progress: Progress) -> None:
        """Begin a queued request as a worker does, and tell how far it is."""
        request = await self._begin(request_id)
        async with self.database.transaction() as tx:
            assert await requests.renew(tx, request, utc_now(), progress)

    async def complete_hash(self, request_id: str, signature: bytes) -> None:
        """Do what a worker does with a queued hash signing request."""
        request = await self._begin(request_id)
        assert request.hash
        signed = dataclasses.replace(request.hash, signature=signature)
        async with self.database.transaction() as tx:
            await lifecycle.advance(
                tx, request, State.COMPLETED, actor="worker", now=utc_now(), hash=signed
            )
        await self.queue.announce(request.id)

    async def fail(self, request_id: str, reason: str = "It did not work.") -> None:
        """Fail a queued request."""
        request = await self._begin(request_id)
        async with self.database.transaction() as tx:
            await lifecycle.advance(
                tx, request, State.FAILED, actor="worker", now=utc_now(), reason=reason,
                failed_stage=State.PROCESSING,
            )  # fmt: skip
        await self.queue.announce(request.id)

    async def _begin(self, request_id: str) -> SigningRequest:
        async with self.database.transaction() as tx:
            request = await requests.get_any(tx, request_id)
            assert request is not None
            if request.state is State.PROCESSING:
                return request
            return await lifecycle.advance(
                tx, request, State.PROCESSING, actor="worker", now=utc_now()
            )

    async def stored_keys(self) -> list[str]:
        """Every artifact of the test's organization."""
        prefix = f"requests/{self.scene.organization.id}"
        return sorted([key async for key in self.store.list(prefix)])


@cache
def issued(kind: str) -> Issued:
    """A self-signed code-signing certificate with its key: ``p256`` or ``rsa-3072``."""
    return issue(f"Test {kind}", new_key(kind), None)


@cache
def signing_certificate(kind: str) -> Certificate:
    """The certificate as the database has it."""
    certificate = issued(kind).certificate
    der = issued(kind).der
    return rows.certificate(
        "",
        certificate=der,
        sha256=hashlib.sha256(der).hexdigest(),
        key_type={"p256": KeyType.P256, "rsa-3072": KeyType.RSA_3072}[kind],
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _result(number: int) -> FileResult:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return FileResult(
        f"bin/{number}.exe", "pe-file", "authenticode-sign", "Authenticode, SHA-256",
        digest, digest[::-1], 1000, utc_now(),
    )  # fmt: skip


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
