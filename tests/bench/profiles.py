"""Where processor time goes, by process kind: samples by py-spy, which needs no help from them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.bench.server import Measured
from tests.system import children, command_line

_RATE = 100  # samples a second
_ROWS = 25
#: Where a thread only waits. Not every kernel tells py-spy that it does.
_WAITING = (
    "select (selectors.py", "_worker (concurrent/futures",
    "wait (threading.py", "_read_exactly (", "poll (", "accept (",
)  # fmt: skip


@contextlib.contextmanager
def profiled(measured: Measured, folder: Path) -> Iterator[None]:
    """Write ``<kind>.txt`` to `folder` for worker, signer and format children, of what they do
    meanwhile.

    Raises:
        FileNotFoundError: py-spy is not installed.
    """
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    worker = measured.system.pid("worker")
    [forker] = [pid for pid in children(worker) if "sealwright.signing.forker" in command_line(pid)]
    targets = {
        "worker": worker, "signer": measured.system.pid("signer"), "format-child": forker
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    recording = {}
    for kind, pid in targets.items():
        raw = folder / f"{kind}.raw"
        command = [program, "record", "-p", str(pid), "-r", str(_RATE), "-f", "raw", "-o", str(raw)]
        if kind == "format-child":
            command.append("--subprocesses")
        recording[raw] = subprocess.Popen(
            [*command, "--nonblocking"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    time.sleep(1)
    try:
        yield
    finally:
        for process in recording.values():
            process.send_signal(signal.SIGINT)
        for raw, process in recording.items():
            process.wait(60)
            if raw.exists():
                raw.with_suffix(".txt").write_text(summary(raw.read_text()))
                raw.unlink()


def summary(raw: str) -> str:
    """Top functions of folded stacks, by their own time and by all that they call."""
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] for frame in stack.split(";") if "(" in frame]
        if not frames or any(each in frames[-1] for each in _WAITING):
            continue
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            cumulative[frame] += int(count)
    parts = [f"{total} samples at work, {_RATE} a second for each thread.\n"]
    for title, counted in (("Own time", own), ("With what it calls", cumulative)):
        rows = [f"{100 * n / total:5.1f} %  {frame})" for frame, n in counted.most_common(_ROWS)]
        parts.append("\n".join([title, "", *rows, ""]))
    return "\n".join(parts)
