"""A real web process that trusts the fake GitHub, and a worker's parts in the test itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import sqlalchemy as sa

from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy
from sealwright.db import Database, build_systems, outbox, requests, webhooks
from sealwright.db.outbox import Message
from sealwright.db.webhooks import Delivery
from sealwright.deliveries import act_on_due
from sealwright.fulfil import fulfil
from sealwright.model.identifiers import new_id
from sealwright.model.request import SigningRequest
from sealwright.model.user import Role, User, UserKind
from sealwright.origin.systems import Systems, open_systems
from sealwright.reporting.dispatch import Dispatcher
from sealwright.storage.scratch import Scratch
from sealwright.workbench import Workbench
from tests.fakes.github_state import Job
from tests.fakes.github_world import AUDIENCE, SECRET, World
from tests.fakes.oidc import github_claims
from tests.valkey import Valkey
from tests.web import Web, WebServer, opened, running

RUNNING_JOB = 9100


@contextlib.contextmanager
def running_ci(valkey: Valkey, template: Path) -> Iterator[WebServer]:
    """A web process that may call build systems on the loopback interface."""
    with tempfile.TemporaryDirectory(prefix="sealwright-ci-") as folder:
        file = Path(folder) / "sealwright.sqlite3"
        file.write_bytes(template.read_bytes())
        with running(valkey, f"sqlite:///{file}", build_system_hosts=("127.0.0.1",)) as server:
            yield server


@dataclass
class Ci:
    """One organization whose project is linked to ``octo-org/app``."""

    web: Web
    world: World
    systems: Systems
    bench: Workbench
    admin: httpx.AsyncClient
    robot: User
    robot_client: httpx.AsyncClient
    system_id: str
    link_id: str

    @property
    def database(self) -> Database:
        return self.web.database

    @property
    def url(self) -> str:
        """Where builds submit."""
        organization = self.web.scene.organization.id
        return f"/api/v1/organizations/{organization}/ci/github/signing-requests"

    def body(self, **changes: Any) -> dict[str, Any]:
        scene = self.web.scene
        return {
            "project": scene.project.slug,
            "signing_policy": scene.policy.slug,
            "repository": "octo-org/app",
            "run_id": "5001",
            "run_attempt": 1,
            "artifact_id": "7001",
        } | changes

    def token(self, **facts: str) -> str:
        """An identity token of the run's running job."""
        issuer = self.world.fake.issuer
        claims = {"check_run_id": str(RUNNING_JOB), "jti": new_id()} | facts
        return issuer.token(github_claims(issuer.url, AUDIENCE, **claims))

    async def submit(self, **changes: Any) -> dict[str, Any]:
        answer = await self.robot_client.post(self.url, json=self.body(**changes))
        assert answer.status_code in {200, 201}, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def read(self, request_id: str) -> SigningRequest:
        return await self.web.read(request_id)

    async def work(self, request_id: str) -> SigningRequest:
        """What a worker does with it next."""
        await fulfil(self.bench, request_id)
        return await self.read(request_id)

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.database, self.systems, self.web.server.url)

    async def tell(self) -> None:
        """Tell everything that is due."""
        while await self.dispatcher().tell_due():
            pass

    async def act(self) -> None:
        """Act on every webhook that is due."""
        while await act_on_due(self.database, self.web.queue, self.systems):
            pass

    async def deliver(
        self, event: str, payload: dict[str, Any], delivery: str | None = None, secret: str = SECRET
    ) -> httpx.Response:
        """A webhook as GitHub sends it."""
        body = json.dumps({"repository": {"id": 1001}} | payload).encode()
        signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "X-Hub-Signature-256": signature,
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": delivery or new_id(),
            "Content-Type": "application/json",
        }
        client = await self.web.client()
        return await client.post(f"/webhooks/{self.system_id}", content=body, headers=headers)

    async def deliveries(self) -> list[Delivery]:
        async with self.database.read() as tx:
            return await webhooks.of_system(tx, self.system_id, limit=10_000)

    async def messages(self, request_id: str) -> list[Message]:
        async with self.database.read() as tx:
            return await outbox.of_request(tx, request_id)

    async def all_requests(self) -> list[SigningRequest]:
        async with self.database.read() as tx:
            return await requests.page(tx, self.web.scene.organization.id, limit=10_000)

    async def change_link(self, **changes: Any) -> None:
        async with self.database.transaction() as tx:
            link = await build_systems.get_link(tx, self.web.scene.organization.id, self.link_id)
            assert link is not None
            await build_systems.update_link(tx, dataclasses.replace(link, **changes))

    async def links(self) -> list[dict[str, Any]]:
        """The links of the project, as the API shows them."""
        answer = await self.admin.get(
            f"/api/v1/projects/{self.web.scene.project.slug}/repository-links"
        )
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    async def add_trigger(self, **changes: Any) -> str:
        body = {
            "link": self.link_id,
            "signing_policy": self.web.scene.policy.slug,
            "submitter": self.robot.id,
            "refs": ["refs/heads/main"],
            "artifact": "pack*",
        }
        path = f"/api/v1/projects/{self.web.scene.project.slug}/triggers"
        answer = await self.admin.post(path, json=body | changes)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def end_run(self, conclusion: str = "success") -> None:
        self.world.run.status = "completed"
        self.world.run.conclusion = conclusion


@contextlib.asynccontextmanager
async def linked(server: WebServer, world: World, **of_policy: Any) -> AsyncIterator[Ci]:
    """Trust the fake GitHub and link its repository, all through the API."""
    world.fill()
    world.state.jobs.append(Job(RUNNING_JOB, 5001, "sign", status="in_progress", conclusion=None))
    async with opened(server, **of_policy) as web:
        async with web.database.transaction() as tx:  # of the tests before
            await tx.change(sa.text("DELETE FROM outbox"))
            await tx.change(sa.text("DELETE FROM webhook_deliveries"))
        administrator = await web.add_user(role=Role.GLOBAL_ADMINISTRATOR)
        admin = await web.client(administrator)
        robot = await web.add_user(kind=UserKind.CI, email=None, name="Release robot")
        await web.change_policy(
            origin_required=True, submitters=web.scene.policy.submitters | {robot.id}
        )
        system = await admin.post("/api/v1/build-systems", json=build_system(world))
        assert system.status_code == 201, system.text
        link = await admin.post(
            f"/api/v1/projects/{web.scene.project.slug}/repository-links",
            json={
                "build_system": "github",
                "repository": "octo-org/app",
                "proof": {"token": "ghu_octocat", "installation_id": "3001"},
                "submitter": robot.id,
            },
        )
        assert link.status_code == 201, link.text
        systems = open_systems(server.settings, web.database)
        with tempfile.TemporaryDirectory(prefix="sealwright-spool-") as spool:
            yield Ci(
                web, world, systems, bench(server.settings, web, systems, Path(spool)), admin,
                robot, await web.client(robot), system.json()["id"], link.json()["id"],
            )  # fmt: skip
        systems.close()


def build_system(world: World) -> dict[str, Any]:
    app = world.state.app
    return {
        "slug": "github",
        "name": "GitHub",
        "kind": "github",
        "base_url": world.fake.url,
        "web_url": world.fake.web_url,
        "settings": {
            "client_id": app.client_id,
            "oidc_audience": AUDIENCE,
            "oidc_issuer": world.fake.issuer.url,
        },
        "credentials": {
            "private_key": app.pem,
            "webhook_secret": SECRET,
            "client_secret": app.client_secret,
        },
    }


def bench(settings: Settings, web: Web, systems: Systems, spool: Path) -> Workbench:
    """What fetching needs; nothing is signed here."""
    scratch = Scratch(spool)
    scratch.open()
    nothing = cast("Any", None)
    return Workbench(
        settings=settings,
        database=web.database,
        queue=web.queue,
        store=web.store,
        scratch=scratch,
        signer=nothing,
        timestamps=None,
        children=nothing,
        room=asyncio.Semaphore(1),
        outgoing=OutgoingClient(OutgoingPolicy()),
        systems=systems,
    )
