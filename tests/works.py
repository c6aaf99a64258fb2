"""A worker's bench with everything real, for tests that call the worker's stages themselves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sealwright.config import Settings
from sealwright.db import log as db_log
from sealwright.db import projects, requests
from sealwright.errors import UnavailableError
from sealwright.fulfil import fulfil
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.request import SigningRequest, State, StoredArtifact
from sealwright.signing.timestamp_client import TimestampClient
from sealwright.signing.timestamp_http import TimestampHttp
from sealwright.storage import ArtifactStore
from sealwright.workbench import Workbench
from sealwright.worker.bench import open_bench
from tests.artifacts import CONFIGURATION, build_artifact
from tests.chaos.shim import Shim
from tests.database import Scene, add_request, configuration, seed
from tests.fakes.tsa import ScriptedTsa
from tests.signer import Keys
from tests.system import QueueServer


@dataclass
class Works:
    """A workbench, and what its tests do with it."""

    bench: Workbench
    scene: Scene
    shim: Shim
    tsa: ScriptedTsa
    folder: Path
    artifact: Path = field(init=False)

    def __post_init__(self) -> None:
        self.artifact = build_artifact(self.folder / "product.zip")

    async def request(self, **fields: Any) -> SigningRequest:
        """A queued request for the artifact, which is in the store."""
        identifier = new_id()
        content = self.artifact.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        key = f"requests/{self.scene.organization.id}/{identifier}/input"
        await self.bench.store.put(key, self.artifact, sha256=sha256, size=len(content))
        return await add_request(
            self.bench.database,
            self.scene,
            **{
                "id": identifier,
                "state": State.QUEUED,
                "attempt": 0,
                "lease_until": None,
                "plan_hash": "",
                "signatures": 0,
                "input": StoredArtifact(key, "product.zip", len(content), sha256),
            }
            | fields,
        )

    async def read(self, request: SigningRequest) -> SigningRequest:
        async with self.bench.database.read() as tx:
            found = await requests.get_any(tx, request.id)
        assert found is not None
        return found

    async def fulfil(self, request: SigningRequest) -> SigningRequest:
        """One attempt; the request after it."""
        await fulfil(self.bench, request.id)
        return await self.read(request)

    async def due_now(self, request: SigningRequest) -> None:
        """Let the pause before the next attempt be over."""
        now = await self.read(request)
        async with self.bench.database.transaction() as tx:
            await requests.amend(tx, now, utc_now(), lease_until=None)

    async def output(self, request: SigningRequest) -> Path:
        assert request.output is not None
        target = self.folder / f"signed-{request.attempt}.zip"
        await self.bench.store.fetch(request.output.key, target)
        return target

    async def actions(self, request: SigningRequest) -> list[str]:
        async with self.bench.database.read() as tx:
            return [entry.action for entry in await db_log.of_request(tx, request.id, limit=1000)]

    async def leaves(self, request: SigningRequest, action: str) -> list[dict[str, Any]]:
        """What the log says of each time that this was done."""
        async with self.bench.database.read() as tx:
            found = await db_log.of_action(tx, request.id, action)
        return [json.loads(entry.body)["data"] for entry in found]

    async def left_over(self) -> list[Path]:
        """What lies in the scratch folder, beside the children that wait for work."""
        while endings := self.bench.children._endings:
            await asyncio.gather(*endings)
        files = [
            Path(folder) / name
            for folder, _, names in os.walk(self.bench.scratch.folder)
            for name in names
        ]
        return [path for path in files if path.stat().st_size]


@contextlib.asynccontextmanager
async def at_work(
    settings: Settings, keys: Keys, shim: Shim, queue: QueueServer, **policy: Any
) -> AsyncIterator[Works]:
    settings = settings.model_copy(update={"redis_url": queue.url, "lease_seconds": 5.0})
    with ScriptedTsa() as tsa:
        async with open_bench(settings) as opened, TimestampHttp() as http:
            client = TimestampClient([tsa.authority()], http, budget=1.0)
            bench = dataclasses.replace(opened, timestamps=client)
            scene = await seed(bench.database, keys.ec, **{"timestamp_required": True} | policy)
            files = configuration(scene.project, CONFIGURATION, slug="zip", is_default=False)
            async with bench.database.transaction() as tx:
                await projects.add_configuration(tx, files)
            scene = dataclasses.replace(scene, configuration=files)
            yield Works(bench, scene, shim, tsa, settings.data)


class Failing:
    """A store of which one method is away for a number of calls."""

    def __init__(self, store: ArtifactStore, method: str, times: int) -> None:
        self._store = store
        self._method = method
        self.left = times

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._method:
            return real

        async def away(*arguments: Any, **named: Any) -> Any:
            if self.left > 0:
                self.left -= 1
                message = "The store is away."
                raise UnavailableError(message)
            return await real(*arguments, **named)

        return away
