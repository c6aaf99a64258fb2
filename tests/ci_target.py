"""The server that a CI client is tested against, however it is run.

`target` is a fixture over the ways to run one: now the strict fake. Another way is another
parameter and another branch of `ci_target`; tests that script faults ask for `fake` by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from tests.fakes.sealwright_ci import FakeServer, signed


class Target(Protocol):
    """What a client's test needs of a server."""

    @property
    def url(self) -> str: ...

    @property
    def organization_id(self) -> str: ...

    @property
    def token(self) -> str:
        """API token of a CI user."""
        ...

    @property
    def secrets(self) -> list[str]:
        """What must not be in any log, tokens that were given out included."""
        ...

    def put_artifact(self, build_system: str, artifact_id: str, content: bytes) -> None:
        """Have an artifact in the CI system."""
        ...

    def identity(self, audience: str, **claims: str) -> str:
        """An identity token as the CI system gives it to a job."""
        ...

    def is_signed(self, before: bytes, after: bytes) -> bool:
        """Whether one file is the other, signed."""
        ...

    def request_count(self) -> int:
        """How many signing requests there are."""
        ...


@dataclass
class FakeTarget:
    """The fake as a target."""

    server: FakeServer

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def organization_id(self) -> str:
        return self.server.organization_id

    @property
    def token(self) -> str:
        return self.server.token

    @property
    def secrets(self) -> list[str]:
        return self.server.secrets

    def put_artifact(self, build_system: str, artifact_id: str, content: bytes) -> None:
        self.server.artifacts[build_system, artifact_id] = content

    def identity(self, audience: str, **claims: str) -> str:
        return self.server.issuer.token(audience, **claims)

    def is_signed(self, before: bytes, after: bytes) -> bool:
        return signed(before) == after

    def request_count(self) -> int:
        return len(self.server.requests)


@contextlib.contextmanager
def ci_target(kind: str) -> Iterator[Target]:
    """A running server of a kind."""
    assert kind == "fake", kind
    with FakeServer.run() as server:
        yield FakeTarget(server)


@pytest.fixture(params=["fake"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A server, in each way that there is to run one."""
    with ci_target(request.param) as made:
        yield made


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """The fake itself, for what only it can do."""
    with FakeServer.run() as server:
        yield server
