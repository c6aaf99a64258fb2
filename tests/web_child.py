"""The web process of the tests: serves on a socket that it inherited, and on SIGUSR1 writes the
names of all imported modules to a file. It imports nothing of the tests itself."""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

from sealwright.config import Settings
from sealwright.web.app import server


def main() -> None:
    """Arguments: descriptor of the socket, file for the names, settings as JSON."""
    descriptor, file, settings = sys.argv[1:]
    listener = socket.socket(fileno=int(descriptor))

    def write_modules(_signal: int, _frame: FrameType | None) -> None:
        Path(file).write_text("\n".join(sorted(sys.modules)) + "\n\n")

    signal.signal(signal.SIGUSR1, write_modules)
    server(Settings.model_validate(json.loads(settings))).run(sockets=[listener])


if __name__ == "__main__":
    main()
