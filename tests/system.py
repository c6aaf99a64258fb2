"""The whole server for tests: real processes on a folder of their own.

``System.run()`` is ``sealwright up`` with everything embedded unless settings say otherwise;
``QueueServer.run()`` the queue's server alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result

from sealwright.cli import cli
from sealwright.supervisor.parts import queue_command

_log = logging.getLogger(__name__)
_log.setLevel(logging.INFO)

START_SECONDS = 90.0
PASSWORD = "correct horse battery staple"
_TETHER = Path(__file__).parent.parent / "server" / "sealwright" / "supervisor" / "tether.py"


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path leaves room for socket names."""
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tethered(*command: str) -> list[str]:
    """The command, ended when the test process ends."""
    return [sys.executable, "-IS", str(_TETHER), str(os.getpid()), *command]


@dataclass
class QueueServer:
    """The embedded queue's server, to be killed and started again."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "q.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @classmethod
    @contextlib.contextmanager
    def run(cls) -> Iterator[QueueServer]:
        with short_folder() as folder:
            made = cls(folder)
            made.start()
            try:
                yield made
            finally:
                made.kill()

    def start(self) -> None:
        self.process = subprocess.Popen(tethered(*queue_command(self.socket)))
        deadline = time.monotonic() + 20
        while not _answers(self.socket):
            assert time.monotonic() < deadline, "the queue's server does not start"
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Let it hang: it takes connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


@dataclass
class System:
    """A running server.

    Attributes:
        data: its data folder.
        lines: what it has written, line by line.
        url: of its web process.
    """

    data: Path
    environment: dict[str, str]
    lines: list[str] = field(default_factory=list)
    url: str = ""
    process: subprocess.Popen[str] | None = None

    @classmethod
    @contextlib.contextmanager
    def run(
        cls,
        *,
        start: bool = True,
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Iterator[System]:
        """A server with these settings (names of `config.Settings`), stopped at the end.

        Args:
            environment: further variables of its processes.
        """
        with short_folder() as folder:
            variables = _environment(folder / "d", settings) | dict(environment or {})
            made = cls(folder / "d", variables)
            try:
                if start:
                    made.start()
                yield made
            finally:
                if made.process is not None:
                    made.stop()

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.lines.clear()
        self.process = subprocess.Popen(
            tethered(sys.executable, "-m", "sealwright", "up", "--log-format", "text"),
            env=self.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=[self.process], daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while not self.url_told():
            ended = self.process.poll() is not None
            assert not ended, "the server ended at once:\n" + "\n".join(self.lines)
            assert time.monotonic() < deadline, "not ready:\n" + "\n".join(self.lines)
            time.sleep(0.02)

    def url_told(self) -> bool:
        found = [line for line in self.lines if line.startswith("Sealwright is ready at ")]
        if found:
            self.url = found[0].split()[-1]
        return bool(found)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        """Stop it; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.append(line.rstrip("\n"))
            _log.info("%s", self.lines[-1])  # in the report of the test that fails meanwhile

    def pid(self, part: str) -> int:
        """Process id of a part."""
        for pid in children(self.supervisor):
            arguments = command_line(pid)
            if part == "queue" and arguments and "valkey-server" in arguments[0]:
                return pid
            if arguments[1:4] == ["-m", "sealwright", part]:
                return pid
        message = f"no part {part!r} runs"
        raise LookupError(message)

    @property
    def supervisor(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self, part: str) -> int:
        """Kill a part (SIGKILL); its process id."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_replaced(self, part: str, old: int, seconds: float = 10) -> float:
        """Wait until another process runs as the part; how long that took."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            with contextlib.suppress(LookupError):
                if self.pid(part) != old:
                    return time.monotonic() - begun
            time.sleep(0.01)
        message = f"{part} was not started again within {seconds} s"
        raise AssertionError(message)

    def cli(
        self,
        *arguments: str | Path,
        check: int | None = 0,
        input_text: str | None = None,
        **environment: str,
    ) -> Result:
        """Run a command of the command line against this server, in this process: starting another
        takes longer than most commands."""
        own = {"SEALWRIGHT_URL": self.url} if self.url else {}
        done = CliRunner().invoke(
            cli, [str(one) for one in arguments], input=input_text,
            env=self.environment | own | environment,
        )  # fmt: skip
        if check is not None:
            assert done.exit_code == check, f"{arguments}: {done.output}"
        return done

    def json(
        self,
        *arguments: str | Path,
        check: int | None = 0,
        input_text: str | None = None,
        **environment: str,
    ) -> Any:
        """Run a command with ``--json``; its document."""
        done = self.cli(*arguments, "--json", check=check, input_text=input_text, **environment)
        return json.loads(done.stdout)


def children(pid: int) -> list[int]:
    """Ids of a process's living children."""
    return all_children()[pid]


def all_children() -> Mapping[int, list[int]]:
    """Ids of the living children of every process (proc(5): the fourth field of ``stat``)."""
    found: dict[int, list[int]] = defaultdict(list)
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError), open(f"{entry.path}/stat") as file:  # noqa: PTH123
                state, parent = file.read().rpartition(")")[2].split(None, 2)[:2]
                if state != "Z":
                    found[int(parent)].append(int(entry.name))
    return found


def command_line(pid: int) -> list[str]:
    """Arguments of a process, program first; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


def _environment(data: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("SEALWRIGHT_")}
    values = {"data": data, "port": 0, "lease_seconds": 3} | dict(settings)
    return kept | {f"SEALWRIGHT_{name.upper()}": str(value) for name, value in values.items()}


def run_async(coroutine: Any) -> Any:
    """Run a coroutine from a test that is not one."""
    return asyncio.run(coroutine)


@dataclass(frozen=True)
class Setup:
    """An organization with a project, ready to have things signed.

    Attributes:
        token: the submitter's.
        policies: slug -> id.
    """

    organization_id: str
    administrator_id: str
    administrator_token: str
    token: str
    project: str
    policies: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """For commands in the submitter's name."""
        return {"SEALWRIGHT_TOKEN": self.token}


def set_up(system: System, configuration: str, key_type: str = "p-256") -> Setup:
    """Make an organization, a key on the token, a project and its policies.

    ``test`` needs nothing, ``stamped`` wants time stamps, ``approved`` an approval by the
    administrator; all sign digests too.
    """
    made = system.json(
        "init", "--organization", "acme", "--email", "admin@example.com", "--token",
        "--password-file", "-", input_text=f"{PASSWORD}\n",
    )  # fmt: skip
    system.cli("certificate", "create", "release", "--subject", "CN=Acme TEST",
               "--key-type", key_type)  # fmt: skip
    robot = system.json("user", "create", "--name", "robot")
    token = system.json("token", "create", "--user", "robot")["token"]
    api = Api(system.url, made["token"])
    api.post("projects", {"slug": "product", "name": "Product"})
    api.post(
        "projects/product/artifact-configurations",
        {"slug": "initial", "name": "Initial", "xml": configuration, "is_default": True},
    )
    policies = {}
    for slug, fields in (
        ("test", {"timestamp_required": False}),
        ("stamped", {"timestamp_required": True}),
        ("approved", {"quorum": 1, "approvers": [made["user_id"]], "timestamp_required": False}),
    ):
        policy = {
            "slug": slug,
            "name": slug,
            "certificate": "release",
            "submitters": [robot["id"]],
            "hash_signing_allowed": True,
        }
        posted = api.post("projects/product/signing-policies", policy | fields)
        policies[slug] = posted["id"]
    return Setup(
        made["organization_id"], made["user_id"], made["token"], token, "product", policies
    )


class Api:
    """The server's own API in the name of one token."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=90
        )

    def get(self, path: str, **query: Any) -> Any:
        return self._checked(self._http.get(path, params=query))

    def post(self, path: str, body: Any = None) -> Any:
        return self._checked(self._http.post(path, json=body or {}))

    def patch(self, path: str, body: Any) -> Any:
        return self._checked(self._http.patch(path, json=body))

    @staticmethod
    def _checked(response: httpx.Response) -> Any:
        assert response.is_success, f"{response.status_code}: {response.text}"
        return response.json() if response.content else None
