"""What the fake GitHub knows: Apps, installations, repositories, runs, checks."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

LEVELS = {"read": 1, "write": 2}
GRANTED = {
    "actions": "read",
    "checks": "write",
    "contents": "read",
    "deployments": "write",
    "metadata": "read",
}
_APP_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class App:
    id: int = 4001
    client_id: str = "Iv23liSealwright"
    client_secret: str = "client-secret"
    key: rsa.RSAPrivateKey = _APP_KEY

    @property
    def pem(self) -> str:
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.key.private_bytes(*form).decode()


@dataclass
class Installation:
    id: int
    account_id: int
    repository_ids: set[int]
    permissions: dict[str, str] = field(default_factory=lambda: dict(GRANTED))
    suspended: bool = False


@dataclass
class Run:
    id: int
    repository_id: int
    head_sha: str
    head_branch: str | None = "main"
    head_repository_id: int | None = None
    event: str = "push"
    path: str = ".github/workflows/release.yml"
    status: str = "in_progress"
    conclusion: str | None = None
    attempt: int = 1
    waiting_environments: set[str] = field(default_factory=set)


@dataclass
class Job:
    id: int
    run_id: int
    name: str = "build"
    attempt: int = 1
    status: str = "completed"
    conclusion: str | None = "success"
    labels: list[str] = field(default_factory=lambda: ["ubuntu-latest"])
    runner_name: str | None = "GitHub Actions 3"
    runner_group_id: int | None = 0
    runner_group_name: str | None = "GitHub Actions"


@dataclass
class Content:
    """Bytes of an artifact: `chunk` repeated `times`."""

    chunk: bytes
    times: int = 1

    @property
    def size(self) -> int:
        return len(self.chunk) * self.times

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for _ in range(self.times):
            digest.update(self.chunk)
        return digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        return itertools.repeat(self.chunk, self.times)


@dataclass
class Artifact:
    id: int
    run_id: int | None
    content: Content
    name: str = "package"
    digest: str | None = ""
    expired: bool = False


@dataclass
class Repository:
    """`refs` names objects, `tags` are annotated tags, `parents` the history."""

    id: int
    owner: str
    owner_id: int
    name: str
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, tuple[str, str]] = field(default_factory=dict)
    parents: dict[str, list[str]] = field(default_factory=dict)
    rulesets: list[dict[str, Any]] = field(default_factory=list)
    branch_rules: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    former_names: set[str] = field(default_factory=set)

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    def ancestors(self, commit: str) -> set[str]:
        """The commit itself and all before it."""
        found: set[str] = set()
        waiting = [commit]
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting += self.parents.get(current, [])
        return found


@dataclass
class Token:
    value: str
    permissions: dict[str, str]
    repository_ids: set[int]
    expires_at: dt.datetime
    app: bool


@dataclass
class User:
    id: int
    login: str
    installation_ids: set[int] = field(default_factory=set)
    administers: set[int] = field(default_factory=set)


@dataclass
class State:
    app: App = field(default_factory=App)
    installations: dict[int, Installation] = field(default_factory=dict)
    repositories: dict[int, Repository] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    artifacts: dict[int, Artifact] = field(default_factory=dict)
    checks: dict[int, dict[str, Any]] = field(default_factory=dict)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    token_lifetime: dt.timedelta = dt.timedelta(hours=1)

    def issue(
        self, permissions: dict[str, str], repository_ids: set[int], *, app: bool = True
    ) -> Token:
        value = f"{'ghs' if app else 'ghp'}_{secrets.token_hex(18)}"
        expires_at = dt.datetime.now(dt.UTC).replace(microsecond=0) + self.token_lifetime
        token = Token(value, permissions, repository_ids, expires_at, app)
        self.tokens[value] = token
        return token


def commit(letter: str) -> str:
    """A commit id that is easy to tell apart."""
    return letter * 40
