"""Real CI runners for tests: act, gitlab-ci-local, Groovy of Jenkins' line; and their checkers.
Foreign signers and verifiers: Apache POI, Jsign, relic.

``scripts/setup-runners`` installs them into ``.cache/runners`` on first use.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shared import REPOSITORY, missing

_FOLDER = REPOSITORY / ".cache" / "runners"


@dataclass(frozen=True)
class Done:
    """A program that has ended. `output` is what it wrote, both streams in order."""

    status: int
    output: str


@dataclass(frozen=True)
class Runners:
    """Where the programs are."""

    folder: Path

    @property
    def node(self) -> Path:
        """Node 24, with npm and npx beside it."""
        return self.folder / "node" / "bin" / "node"

    @property
    def act(self) -> Path:
        return self.folder / "venv" / "bin" / "act"

    @property
    def class_path(self) -> str:
        """Groovy 2.4, its CPS transformer and JenkinsPipelineUnit."""
        return os.pathsep.join(map(str, sorted((self.folder / "jars").glob("*.jar"))))

    @property
    def opc_class_path(self) -> str:
        """Apache POI with what it needs to verify signatures."""
        return os.pathsep.join(map(str, sorted((self.folder / "opc-jars").glob("*.jar"))))

    @property
    def relic(self) -> Path:
        """``relic verify`` and a ``relic sign`` of few words: scripts/runners/relic/main.go."""
        return self.folder / "relic"

    @property
    def jsign_class_path(self) -> str:
        return os.pathsep.join(map(str, sorted((self.folder / "jsign-jars").glob("*.jar"))))

    def binary(self, name: str) -> Path:
        """A program of an npm package; run it with `node`."""
        return self.folder / "node_modules" / ".bin" / name


def run(
    *command: str | Path,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
    check: bool = False,
) -> Done:
    """Run a program to its end.

    Raises:
        AssertionError: `check` is set and it failed.
    """
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=dict(environment) if environment is not None else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        text=True,
        errors="replace",
    )
    if check:
        assert done.returncode == 0, done.stdout
    return Done(done.returncode, done.stdout)


def clean_environment(home: Path, *path: Path, **more: str) -> dict[str, str]:
    """Nothing of the machine's own but where programs are: no proxies, no CI variables."""
    folders = [*map(str, path), os.environ.get("PATH", "/usr/bin:/bin")]
    kept = {name: os.environ[name] for name in ("JAVA_HOME", "TMPDIR") if name in os.environ}
    return kept | {"PATH": os.pathsep.join(folders), "HOME": str(home), "LANG": "C.UTF-8"} | more


@functools.cache
def _set_up() -> str:
    """What went wrong, or nothing."""
    done = run(REPOSITORY / "scripts" / "setup-runners", cwd=REPOSITORY, seconds=600)
    return "" if done.status == 0 else done.output[-2000:]


@pytest.fixture(scope="session")
def runners() -> Runners:
    """The runners, installed."""
    if wrong := _set_up():
        missing(f"scripts/setup-runners failed: {wrong}")
    return Runners(_FOLDER)


def node_on_path() -> Path:
    """Another Node, as a self-hosted runner may have it: 20 or newer."""
    found = shutil.which("node")
    if found is None:
        missing("node is not installed")
    assert found is not None
    return Path(found)


def fenced(page: Path, language: str) -> list[str]:
    """The code blocks of a page of documentation that are in one language, in order."""
    blocks, block = [], None
    for line in page.read_text().splitlines():
        if block is None and line.strip() == f"```{language}":
            block = []
        elif block is not None and line.strip() == "```":
            blocks.append("\n".join(block) + "\n")
            block = None
        elif block is not None:
            block.append(line)
    return blocks
