"""Commits whose answer is lost (G5): the caller cannot know whether they happened."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from tests.chaos.shim import Shim
from tests.database import add_request, seed
from tests.signer import Keys, digests, intents_of, running_signer, verify

from sealwright.config import Settings
from sealwright.db import Database, Transaction, log
from sealwright.errors import UnavailableError
from sealwright.model.request import SigningRequest


class LossyDatabase(Database):
    """Loses the answers of the commits in `faults`: number since `armed` -> whether it persists."""

    faults: ClassVar[dict[int, bool]] = {}
    armed = False
    number = 0

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        kind = type(self)
        number = kind.number
        kind.number += kind.armed
        persists = kind.faults.get(number, True)
        async with super().transaction() as tx:
            yield tx
            if not persists:
                raise UnavailableError("the connection broke before the commit")
        if kind.armed and number in kind.faults:
            raise UnavailableError("the connection broke after the commit")


@pytest.fixture
def lossy() -> type[LossyDatabase]:
    class Lossy(LossyDatabase):
        faults: ClassVar[dict[int, bool]] = {}

    return Lossy


async def check(database: Database, request: SigningRequest, shim: Shim, lost: int) -> None:
    states = Counter(intent.state for intent in await intents_of(database, request))
    assert states == Counter({"made": 5, "abandoned": lost})
    async with database.read() as tx:
        actions = Counter(
            entry.action for entry in await log.of_request(tx, request.id, limit=1000)
        )
    assert actions == Counter(
        {"signature.intended": 5 + lost, "signature.made": 5, "signature.abandoned": lost}
    )
    assert shim.count() == 5


@pytest.mark.parametrize("persists", [False, True])
async def test_of_the_intents(
    database: Database, signer_settings: Settings, keys: Keys, shim: Shim,
    lossy: type[LossyDatabase], persists: bool,
) -> None:  # fmt: skip
    """Nothing is signed; if they were committed after all, they are abandoned later."""
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    async with running_signer(signer_settings, lossy) as client:
        lossy.faults = {0: persists}
        lossy.armed = True
        with pytest.raises(UnavailableError):
            await client.sign(request.id, 1, digests(5))
        assert shim.count() == 0
        signatures = await client.sign(request.id, 1, digests(5))
        lossy.armed = False
    verify(keys.ec, digests(5)[4], signatures[4])
    await check(database, request, shim, 5 if persists else 0)


@pytest.mark.parametrize(
    "faults", [{1: False}, {1: True}, {1: False, 2: True}, {1: True, 2: False}]
)
async def test_of_the_outcomes(
    database: Database, signer_settings: Settings, keys: Keys, shim: Shim,
    lossy: type[LossyDatabase], faults: dict[int, bool],
) -> None:  # fmt: skip
    """They are recorded once, however often it takes, and nothing is signed twice."""
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    async with running_signer(signer_settings, lossy) as client:
        lossy.faults = faults
        lossy.armed = True
        signatures = await client.sign(request.id, 1, digests(5))
        lossy.armed = False
        assert await client.sign(request.id, 1, digests(5)) == signatures
    await check(database, request, shim, 0)


async def test_of_the_tree(
    database: Database, signer_settings: Settings, keys: Keys, shim: Shim,
    lossy: type[LossyDatabase],
) -> None:  # fmt: skip
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    async with running_signer(signer_settings, lossy) as client:
        for persists in (False, True):
            await client.sign(request.id, 1, digests(3, str(persists)))
            lossy.number, lossy.faults, lossy.armed = 0, {0: persists}, True
            with pytest.raises(UnavailableError):
                await client.checkpoint()
            lossy.armed = False
            size = (await client.checkpoint()).size
            assert size == (12 if persists else 6)
            assert (await client.checkpoint()).size == size
