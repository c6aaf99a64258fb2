"""One supervised part: real processes, killed and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sealwright.errors import ConflictError
from sealwright.supervisor.lock import data_lock
from sealwright.supervisor.process import EXIT_CONFIGURATION, Part, PartProcess

PYTHON = sys.executable


class Running:
    """Parts under test, all stopped at the end."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.processes: list[PartProcess] = []

    def start(self, code: str, **fields: object) -> PartProcess:
        part = Part("part", (PYTHON, "-c", code), dict(os.environ), **fields)  # type: ignore[arg-type]
        process = PartProcess(part, lambda name, line: self.lines.append((name, line)))
        self.processes.append(process)
        process.start()
        return process

    async def until(self, line: str, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while [text for _, text in self.lines].count(line) < count:
                await asyncio.sleep(0.01)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running()
    yield made
    for process in made.processes:
        await process.stop()


WAIT = "import time; print('up', flush=True); time.sleep(60)"


async def test_killed_part_is_back_within_a_second(running: Running) -> None:
    process = running.start(WAIT)
    await running.until("up")
    first = process.pid
    assert first is not None
    begun = time.monotonic()
    os.kill(first, signal.SIGKILL)
    await running.until("up", 2)
    assert time.monotonic() - begun < 1
    assert process.pid not in (None, first)
    assert process.restarts == 1


async def test_part_that_keeps_failing_is_started_less_and_less_often(running: Running) -> None:
    process = running.start("print('failed', flush=True); raise SystemExit(1)")
    await running.until("failed", 4)  # pauses of 0.1, 0.2 and 0.4 s lie in between
    begun = time.monotonic()
    await running.until("failed", 5)
    assert time.monotonic() - begun > 0.4
    assert not process.hopeless.is_set()


async def test_part_that_refuses_its_settings_is_hopeless(running: Running) -> None:
    async def never() -> bool:
        return False

    process = running.start(f"raise SystemExit({EXIT_CONFIGURATION})", ready=never)
    assert not await process.wait_ready(10)
    assert process.hopeless.is_set()


async def test_stop_is_orderly_and_final(running: Running) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    process = running.start(code)
    await running.until("up")
    await process.stop()
    assert ("part", "bye") in running.lines
    assert process.pid is None
    await asyncio.sleep(0.3)
    assert process.restarts == 0


async def test_part_that_does_not_stop_is_killed_with_its_children(running: Running) -> None:
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); print('up', flush=True); time.sleep(60)"
    )
    process = running.start(code, stop_seconds=0.3)
    await running.until("up")
    child = int(running.lines[0][1])
    await process.stop()
    for _ in range(100):
        if not _is_running(child):
            break
        await asyncio.sleep(0.02)
    assert not _is_running(child)


async def test_lines_are_cut_and_decoded_whatever_they_are(running: Running) -> None:
    code = (
        "import sys\n"
        "sys.stdout.buffer.write(b'\\xff\\xfe\\n' + b'x' * 200_000 + b'\\nlast')\n"
        "sys.stdout.flush()\nimport time; time.sleep(60)"
    )
    running.start(code)
    async with asyncio.timeout(10):
        while sum(len(line) for _, line in running.lines) < 200_002:
            await asyncio.sleep(0.01)
    assert running.lines[0][1] == "\ufffd\ufffd"
    assert "".join(line for _, line in running.lines[1:]) == "x" * 200_000


def test_parts_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "supervisor.py"
    script.write_text(
        "import asyncio, os, signal, sys\n"
        "from sealwright.supervisor.process import Part, PartProcess\n"
        # as whoever starts a server may have it
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "async def main():\n"
        "    code = 'import time; time.sleep(60)'\n"
        "    part = Part('p', (sys.executable, '-c', code), dict(os.environ))\n"
        "    process = PartProcess(part, print)\n"
        "    process.start()\n"
        "    while process.pid is None: await asyncio.sleep(0.01)\n"
        "    await asyncio.sleep(0.3)\n"
        "    print(process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([PYTHON, str(script)], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        part = int(supervisor.stdout.readline())
        assert _is_running(part)
        supervisor.kill()
    deadline = time.monotonic() + 5
    while _is_running(part) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_running(part)


def test_data_folder_is_one_servers(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with data_lock(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        with pytest.raises(ConflictError, match=str(os.getpid())), data_lock(folder):
            pass
    with data_lock(folder):
        pass


def test_lock_waits_for_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    code = (
        "import subprocess, sys\nfrom pathlib import Path\n"
        "from sealwright.supervisor.lock import data_lock\n"
        "with data_lock(Path(sys.argv[1])) as lock:\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(1)']\n"
        "    subprocess.Popen(command, pass_fds=[lock])\n"
    )
    subprocess.run([PYTHON, "-c", code, str(folder)], check=True)
    begun = time.monotonic()
    with data_lock(folder):
        assert time.monotonic() - begun > 0.3  # the orphan still held it


def _is_running(pid: int) -> bool:
    try:
        with Path(f"/proc/{pid}/stat").open() as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
