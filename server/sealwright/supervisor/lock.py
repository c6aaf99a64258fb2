"""One server a data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sealwright.errors import ConfigurationError, ConflictError

#: how long the parts of a server that was killed may take to end
_ORPHAN_SECONDS = 20.0


@contextlib.contextmanager
def data_lock(folder: Path) -> Iterator[int]:
    """Hold the data folder, made with mode 0700 where it is missing; gives the lock's descriptor.

    Parts inherit the descriptor, and with it the lock (flock(2) belongs to the open file): where
    their supervisor was killed, the next one waits until the last of them has ended.

    Raises:
        ConflictError: another server uses the folder.
        ConfigurationError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"The data folder {folder} cannot be used: {error.strerror}."
        raise ConfigurationError(message, advice="Give another --data.") from None
    try:
        _acquire(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            if _is_alive(holder) or time.monotonic() > deadline:
                message = f"The data folder {folder} is in use by another server (pid {holder})."
                raise ConflictError(message, advice="Stop it, or give another --data.") from None
            time.sleep(0.1)
        else:
            return


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
