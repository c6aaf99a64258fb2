"""Parts of the whole server killed in the middle of a request (G1, G2, G4).

The token signs through the counting shim, slowly, so that "in the middle" is certain and nothing
that it signs goes uncounted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.artifacts import CONFIGURATION, build_artifact
from tests.chaos.shim import Shim, build_shim
from tests.softhsm import make_token
from tests.system import Api, Setup, System, set_up

from sealwright.db import Database, intents
from sealwright.db.intents import Intent
from sealwright.signing.engine import verify_file

pytestmark = [pytest.mark.chaos, pytest.mark.untraced]

PROGRAMS = 12
SIGNATURES = PROGRAMS + 1
SLOW = 0.15  #: seconds for each signature
#: a dead worker's lease, a round of the reconciler, and a machine that is busy otherwise
RESUME_SECONDS = 60


@dataclass
class Chaos:
    system: System
    setup: Setup
    shim: Shim
    artifact: Path
    counted: int  #: signatures before the request
    signatures: int = SIGNATURES  #: that the artifact needs

    @property
    def api(self) -> Api:
        return Api(self.system.url, self.setup.token)

    def submit(self) -> str:
        """Submit the artifact; the request's id."""
        made = self.system.json(
            "submit", self.artifact, "--project", "product", "--policy", "stamped",
            **self.setup.environment,
        )  # fmt: skip
        return str(made["id"])

    def until_signed(self, count: int) -> None:
        """Wait until the token has made so many signatures of the request."""
        deadline = time.monotonic() + 30
        while self.shim.count() - self.counted < count:
            assert time.monotonic() < deadline, "\n".join(self.system.lines)
            time.sleep(0.01)

    def finished(self, request_id: str) -> Any:
        """Wait until the request is Completed, and fetch and verify what came out."""
        deadline = time.monotonic() + RESUME_SECONDS
        request = self.api.get(f"signing-requests/{request_id}")
        while not request["is_final"]:
            assert time.monotonic() < deadline, "\n".join(self.system.lines)
            time.sleep(0.1)
            request = self.api.get(f"signing-requests/{request_id}")
        assert request["state"] == "Completed", request["reason"]
        signed = self.artifact.with_suffix(".signed")
        self.system.cli(
            "request", "download", request_id, "--output", signed, **self.setup.environment
        )
        facts = verify_file(signed)
        assert len(facts) == self.signatures
        assert all(fact.timestamp for _, fact in facts)
        return request

    def check_intents(self, request_id: str) -> list[Intent]:
        """Every signature that the token made has an intent, and each file one that was used."""

        async def read() -> list[Intent]:
            database = Database(f"sqlite:///{self.system.data / 'sealwright.sqlite3'}")
            try:
                async with database.read() as tx:
                    return await intents.of_request(tx, request_id)
            finally:
                await database.close()

        found = asyncio.run(read())
        made = Counter(one.digest for one in found if one.state == "made")
        assert len(made) == self.signatures
        assert set(made.values()) == {1}
        signed = Counter(one.data for one in self.shim.signatures()[self.counted :])
        intended = Counter(one.digest for one in found)
        assert signed <= intended  # none without its own intent
        assert set(signed) == set(intended)
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Setup, Shim]]:
    folder = tmp_path_factory.mktemp("chaos")
    shim = Shim(build_shim(folder), make_token(folder / "token", "chaos"), folder)
    names = ",".join(shim.environment)
    with System.run(
        environment=shim.environment,
        token_uri=shim.uri,
        token_environment=names,
        signer_sessions=1,
    ) as system:
        yield system, set_up(system, CONFIGURATION), shim


@pytest.fixture
def chaos(server: tuple[System, Setup, Shim], tmp_path: Path) -> Iterator[Chaos]:
    system, setup, shim = server
    artifact = build_artifact(tmp_path / "product.zip", PROGRAMS)
    shim.delay("C_Sign", SLOW, times=1000)
    yield Chaos(system, setup, shim, artifact, shim.count())
    shim.clear()


def test_worker_killed(chaos: Chaos) -> None:
    request_id = chaos.submit()
    chaos.until_signed(4)
    chaos.system.wait_replaced("worker", chaos.system.kill("worker"))
    request = chaos.finished(request_id)
    assert request["attempt"] == 2
    # what the signer had begun went on, and was used by the second attempt
    assert len(chaos.check_intents(request_id)) == SIGNATURES
    assert chaos.shim.count() - chaos.counted == SIGNATURES


@pytest.mark.parametrize(
    ("after", "part"),
    [
        (242, "worker"),
        *(
            pytest.param(after, part, marks=pytest.mark.large)
            for after in (1, 60, 200, 242)
            for part in ("worker", "signer")
            if (after, part) != (242, "worker")
        ),
    ],
)
def test_killed_among_242_files(
    server: tuple[System, Setup, Shim], tmp_path: Path, part: str, after: int
) -> None:
    """As many as in the wheel that docs/performance.md measures; at the end they are packed."""
    system, setup, shim = server
    artifact = build_artifact(tmp_path / "product.zip", 241)
    shim.clear()
    shim.delay("C_Sign", 0.01, times=10_000)
    chaos = Chaos(system, setup, shim, artifact, shim.count(), 242)
    request_id = chaos.submit()
    chaos.until_signed(after)
    system.wait_replaced(part, system.kill(part))
    chaos.finished(request_id)
    found = chaos.check_intents(request_id)
    assert {one.state for one in found} <= {"made", "abandoned"}
    if part == "worker":
        assert shim.count() - chaos.counted == 242
    shim.clear()


def test_signer_killed(chaos: Chaos) -> None:
    request_id = chaos.submit()
    chaos.until_signed(4)
    chaos.system.wait_replaced("signer", chaos.system.kill("signer"))
    chaos.finished(request_id)
    found = chaos.check_intents(request_id)
    # whatever the token made and nobody recorded stands in the log as an extra
    assert {one.state for one in found} <= {"made", "abandoned"}


def test_queue_killed(chaos: Chaos) -> None:
    first, second = chaos.submit(), chaos.submit()
    chaos.until_signed(4)
    chaos.system.wait_replaced("queue", chaos.system.kill("queue"))
    # the one under way never noticed; the other may have been lost with the queue
    assert chaos.finished(first)["attempt"] == 1
    chaos.finished(second)
    chaos.counted = chaos.shim.count()
    third = chaos.submit()
    chaos.finished(third)
    chaos.check_intents(third)


def test_queue_flushed_under_load(chaos: Chaos) -> None:
    chaos.shim.clear()
    requests = [chaos.submit() for _ in range(10)]
    client = redis.Redis(unix_socket_path=str(chaos.system.data / "run" / "redis.sock"))
    for _ in range(3):
        client.flushall()
        time.sleep(0.05)
    for request_id in requests:
        chaos.finished(request_id)
    assert chaos.shim.count() - chaos.counted == 10 * SIGNATURES


def test_web_killed_while_a_client_waits(chaos: Chaos) -> None:
    request_id = chaos.submit()
    chaos.until_signed(2)
    chaos.system.wait_replaced("web", chaos.system.kill("web"))
    # the listening socket has outlived the process: the client is not even refused
    done = chaos.system.json("request", "show", request_id, "--wait", **chaos.setup.environment)
    assert done["state"] == "Completed"
    assert done["attempt"] == 1


def test_everything_killed_at_once(chaos: Chaos) -> None:
    request_id = chaos.submit()
    chaos.until_signed(4)
    supervisor = chaos.system.process
    assert supervisor is not None
    supervisor.kill()
    supervisor.wait()
    chaos.system.start()  # waits until what the dead one left has ended
    chaos.finished(request_id)
    chaos.check_intents(request_id)


def test_stopped_in_the_middle_of_a_request(chaos: Chaos) -> None:
    request_id = chaos.submit()
    chaos.until_signed(4)
    assert chaos.system.stop() == 0
    chaos.system.start()
    request = chaos.finished(request_id)
    # the worker was given the time to finish it
    assert request["attempt"] == 1
    assert chaos.shim.count() - chaos.counted == SIGNATURES
