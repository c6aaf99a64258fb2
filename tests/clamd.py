"""ClamAV's daemon with a few signatures of its own: a test virus, also in archives."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system import short_folder, tethered

#: The test file of the European Institute for Computer Antivirus Research, in two parts so that
#: scanners of source trees leave this one alone.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
STREAM_MAX = 2 << 20


@dataclass
class ClamDaemon:
    """A running clamd on a Unix socket and a TCP port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.folder}/clamd.sock"

    @property
    def tcp_address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @classmethod
    @contextmanager
    def run(cls) -> Iterator[ClamDaemon]:
        with short_folder() as folder:
            made = cls(folder, _free_port())
            made.configure()
            made.start()
            try:
                yield made
            finally:
                made.stop()

    def configure(self) -> None:
        database = self.folder / "db"
        database.mkdir()
        md5 = hashlib.md5(EICAR, usedforsecurity=False).hexdigest()
        (database / "test.hdb").write_text(f"{md5}:{len(EICAR)}:Eicar-Test\n")
        (database / "test.ndb").write_text(
            f"Marker-Test:0:*:{b'sealwright malware marker'.hex()}\n"
        )
        (self.folder / "clamd.conf").write_text(
            f"LocalSocket {self.folder}/clamd.sock\nTCPSocket {self.port}\nTCPAddr 127.0.0.1\n"
            f"DatabaseDirectory {database}\nForeground yes\nStreamMaxLength {STREAM_MAX}\n"
            "AlertExceedsMax yes\nMaxRecursion 4\n"
        )

    def start(self) -> None:
        self.process = subprocess.Popen(
            tethered("clamd", "-c", str(self.folder / "clamd.conf")), stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, "clamd ended"
            assert time.monotonic() < deadline, "clamd does not start"
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(f"{self.folder}/clamd.sock")
                client.sendall(b"zPING\0")
                return client.recv(16) == b"PONG\0"
            except OSError:
                return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
