"""The scratch folder of one worker, gone with it, however it ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from sealwright.errors import UnavailableError

#: signing needs room for the artifact, the members taken out of it, and the result
_ROOM_FACTOR = 3
_PREFIX = "worker-"


class Scratch:
    """This worker's own folder below a spool that several workers may share.

    The folder is locked while its worker lives (flock(2)); `open` removes those whose worker died.

    Args:
        spool: made with mode 0700 where it is missing.

    Attributes:
        folder: exists between `open` and `close`.
    """

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        # the process id is for people: workers in containers share a spool and may share their id
        self.folder = spool / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = -1

    def open(self) -> None:
        """Make the folder, and remove what workers that died left behind.

        Raises:
            UnavailableError: the spool cannot be written.
        """
        try:
            self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self._spool.glob(f"{_PREFIX}*"):
                _remove_if_dead(left)
            self.folder.mkdir(mode=0o700)
            self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            message = f"The spool {self._spool} cannot be used: {error.strerror}."
            raise UnavailableError(message, advice="Check the folder and its disk.") from None

    def close(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def require_room(self, size: int) -> None:
        """Make sure that an artifact of `size` bytes can be worked on.

        Raises:
            UnavailableError: the disk has no room for it now.
        """
        free = shutil.disk_usage(self.folder).free
        if free < size * _ROOM_FACTOR:
            message = f"The spool has {free} bytes free, too few for an artifact of {size} bytes."
            raise UnavailableError(message, advice="Free space on the spool's disk.")


def _remove_if_dead(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
