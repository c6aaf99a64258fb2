"""The whole server for tests: real processes on a folder of their own.

``System.run()`` is ``sealwright up`` with everything embedded unless settings say otherwise;
``QueueServer.run()`` the queue's server alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sealwright.supervisor.parts import queue_command

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
    def run(cls, *, start: bool = True, **settings: Any) -> Iterator[System]:
        """A server with these settings (names of `config.Settings`), stopped at the end."""
        with short_folder() as folder:
            made = cls(folder / "d", _environment(folder / "d", settings))
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

    def pid(self, part: str) -> int:
        """Process id of a part."""
        for pid in children(self.supervisor):
            arguments = command_line(pid)
            if part == "queue" and arguments and arguments[0].endswith("valkey-server"):
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
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this server."""
        done = subprocess.run(
            [sys.executable, "-m", "sealwright", *map(str, arguments)],
            env=self.environment | environment,
            input=input_text,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check is not None:
            assert done.returncode == check, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str | Path, **environment: str) -> Any:
        """Run a command with ``--json``; its document."""
        return json.loads(self.cli(*arguments, "--json", **environment).stdout)


def children(pid: int) -> list[int]:
    """Ids of a process's children, of all its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
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
