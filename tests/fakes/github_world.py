"""One repository with a run, and a connector that is linked to it."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.fakes.github import FakeGitHub, fake_github
from tests.fakes.github_state import (
    Artifact,
    Content,
    Installation,
    Job,
    Repository,
    Run,
    State,
    User,
    commit,
)

from sealwright.connectors.github import GitHubConnector
from sealwright.connectors.outgoing import OutgoingPolicy, Timeouts
from sealwright.model.build_system import BuildSystemKind, RepositoryLink, TrustedBuildSystem
from sealwright.model.origin import Locator

_TLS = ssl.create_default_context()
LOCAL = OutgoingPolicy(internal_hosts=("127.0.0.1",), allow_http=True)
AUDIENCE = "https://sealwright.example"
SECRET = "It's a Secret to Everybody"
WHEN = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
LINK = RepositoryLink("l1", "o1", "p1", "b1", "1001", "77", "octo-org/app", "3001", WHEN)
LOCATOR = Locator(run_id="5001", artifact_id="7001")


@dataclass
class World:
    fake: FakeGitHub

    def fill(self) -> None:
        """As it was at first; another test may begin."""
        self.fake.reset()
        repository = Repository(1001, "octo-org", 77, "app")
        repository.parents = {commit("a"): [], commit("b"): [commit("a")], commit("c"): []}
        repository.parents[commit("c")] = [commit("b")]
        repository.parents[commit("d")] = [commit("a")]
        repository.refs = {"refs/heads/main": commit("c")}
        other = Repository(1002, "octo-org", 77, "other")
        fork = Repository(1003, "mallory", 99, "app")
        state = State()
        state.repositories = {item.id: item for item in (repository, other, fork)}
        state.installations = {3001: Installation(3001, 77, {1001, 1002})}
        state.runs = {5001: Run(5001, 1001, commit("c"), head_repository_id=1001)}
        state.jobs = [Job(9001, 5001)]
        state.artifacts = {7001: Artifact(7001, 5001, Content(b"PK content"))}
        state.users = {"ghu_octocat": User(583231, "octocat", {3001}, {1001})}
        self.fake.state = state

    @property
    def state(self) -> State:
        return self.fake.state

    @property
    def repository(self) -> Repository:
        return self.state.repositories[1001]

    @property
    def run(self) -> Run:
        return self.state.runs[5001]

    @property
    def artifact(self) -> Artifact:
        return self.state.artifacts[7001]

    def connector(
        self,
        *,
        settings: dict[str, str] | None = None,
        credentials: dict[str, str] | None = None,
        policy: OutgoingPolicy = LOCAL,
        **more: Any,
    ) -> GitHubConnector:
        app = self.state.app
        default = {
            "private_key": app.pem,
            "webhook_secret": SECRET,
            "client_secret": "client-secret",
        }
        build_system = TrustedBuildSystem(
            id="b1",
            organization_id="o1",
            slug="github",
            name="GitHub",
            kind=BuildSystemKind.GITHUB,
            base_url=self.fake.url,
            web_url=self.fake.web_url,
            enabled=True,
            created_at=WHEN,
            settings={"client_id": app.client_id, "oidc_audience": AUDIENCE} | (settings or {}),
            credentials=default if credentials is None else credentials,
        )
        timeouts = Timeouts(connect=2, idle=2, total=5)
        return GitHubConnector(
            build_system, outgoing=policy, **{"timeouts": timeouts, "tls": _TLS, **more}
        )

    def tokens_asked(self) -> int:
        return sum(item.path.endswith("/access_tokens") for item in self.fake.received)


@contextlib.contextmanager
def running_world(prefix: str = "") -> Iterator[World]:
    with fake_github(State(), prefix) as fake:
        yield World(fake)
