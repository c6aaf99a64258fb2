"""kill -9 of the signer, at every step and at any time (G1, G2)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from tests.chaos.shim import Shim
from tests.chaos.signer_to_kill import STEPS
from tests.database import add_request, seed
from tests.shared import REPOSITORY
from tests.signer import Keys, digests, intents_of, running_signer, verify

from sealwright.config import Settings
from sealwright.db import Database
from sealwright.errors import UnavailableError
from sealwright.model.request import SigningRequest
from sealwright.signing.artifact import SignatureRequest
from sealwright.signing.signer_client import SignerClient
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.note import SigningKey
from sealwright.transparency.publish import publish
from sealwright.transparency.verify import verify_log

pytestmark = [pytest.mark.chaos, pytest.mark.untraced]


@contextlib.asynccontextmanager
async def mortal_signer(
    settings: Settings, step: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, SignerClient]]:
    """A signer in a process of its own, ready to answer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.signer_to_kill", step),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
    )
    client = SignerClient(settings.socket)
    try:
        assert process.stdin
        process.stdin.write(settings.model_dump_json().encode())
        process.stdin.close()
        deadline = time.monotonic() + 60
        while True:
            try:
                await client.health()
                break
            except UnavailableError:
                assert process.returncode is None
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        yield process, client
    finally:
        await client.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def check(
    database: Database, settings: Settings, shim: Shim, request: SigningRequest, planned: int
) -> None:
    """What holds once the work is done, whatever happened before."""
    intents = await intents_of(database, request)
    by_state = Counter(intent.state for intent in intents)
    assert by_state["made"] == planned
    assert by_state["intended"] == by_state["refused"] == 0
    # every signature of the token has its intent, and every recorded one was made by the token
    signed = Counter(signature.data for signature in shim.signatures())
    possible = Counter(intent.digest for intent in intents)
    made = Counter(intent.digest for intent in intents if intent.state == "made")
    assert signed <= possible
    assert made <= signed
    # and the log, verified offline, knows every intent's end
    store = FolderTiles(settings.data / "copy")
    await publish(database, store)
    key = SigningKey.parse(settings.checkpoint_key.read_text().strip())
    actions: Counter[str] = Counter()
    report = verify_log(
        store,
        store.read("checkpoint") or b"",
        key.verifier.encode(),
        on_leaf=lambda leaf: actions.update([leaf.event.action]),
    )
    assert report.unmatched_intents == ()
    assert actions["signature.intended"] == len(intents)
    assert actions["signature.made"] == planned
    assert actions["signature.abandoned"] == by_state["abandoned"]


async def sign_and_log(
    client: SignerClient, request: SigningRequest, items: list[SignatureRequest]
) -> list[bytes]:
    signatures = await client.sign(request.id, 1, items)
    await client.checkpoint()
    return signatures


CASES = [("sqlite", step) for step in STEPS] + [("postgresql", step) for step in STEPS[1::2]]


@pytest.mark.parametrize(("database_url", "step"), CASES, indirect=["database_url"])
async def test_killed_at_a_step(
    step: str, database: Database, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    settings = signer_settings.model_copy(update={"signer_sessions": 1})
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=50)
    items = digests(50)
    async with mortal_signer(settings, step) as (process, client):
        with pytest.raises(UnavailableError):
            await sign_and_log(client, request, items)
        assert await process.wait() == -signal.SIGKILL
    expected = {"intents-written": 0, "intents-committed": 0, "half-signed": 25}
    assert shim.count() == expected.get(step, 50)
    async with running_signer(settings) as client:
        signatures = await sign_and_log(client, request, items)
        assert await sign_and_log(client, request, items) == signatures
    for item, signature in zip(items, signatures, strict=True):
        verify(keys.ec, item, signature)
    await check(database, settings, shim, request, 50)
    twice = {"half-signed": 25, "signed": 50, "outcomes-written": 50}.get(step, 0)
    assert shim.count() == 50 + twice
    lost = STEPS.index("intents-written") < STEPS.index(step) < STEPS.index("outcomes-committed")
    assert len(await intents_of(database, request)) == (100 if lost else 50)


async def test_killed_at_any_time(
    database: Database, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    """Clients that come back until they have everything, as the worker does."""
    settings = signer_settings.model_copy(update={"signer_sessions": 1})
    seed_value = random.randrange(1 << 32)
    print(f"seed {seed_value}")
    chance = random.Random(seed_value)
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=400)
    batches = [digests(40, str(n)) for n in range(10)]
    released: dict[SignatureRequest, set[bytes]] = {}

    async def work(client: SignerClient, batch: list[SignatureRequest]) -> None:
        for item, signature in zip(batch, await client.sign(request.id, 1, batch), strict=True):
            released.setdefault(item, set()).add(signature)

    for _ in range(3):
        async with mortal_signer(settings) as (process, client):
            at_work = asyncio.gather(
                *(work(client, batch) for batch in batches), return_exceptions=True
            )
            await asyncio.sleep(chance.uniform(0, 0.4))
            process.kill()
            await at_work
    async with running_signer(settings) as client:
        await asyncio.gather(*(work(client, batch) for batch in batches))
        await client.checkpoint()
    assert len(released) == 400
    assert {len(signatures) for signatures in released.values()} == {1}, "at most one is released"
    await check(database, settings, shim, request, 400)
