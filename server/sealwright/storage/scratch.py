"""Scratch folders of one worker, gone when they are no longer needed, whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
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
    """

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._folder = spool / f"{_PREFIX}{os.getpid()}"
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
            self._folder.mkdir(mode=0o700)
            self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            message = f"The spool {self._spool} cannot be used: {error.strerror}."
            raise UnavailableError(message, advice="Check the folder and its disk.") from None

    def close(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextlib.asynccontextmanager
    async def folder(self, name: str, size: int) -> AsyncIterator[Path]:
        """A new folder for one attempt on an artifact of `size` bytes; removed at the end.

        Raises:
            UnavailableError: the disk has no room for it now.
        """
        self._require_room(size)
        folder = self._folder / name
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            # also where this task is being cancelled
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def _require_room(self, size: int) -> None:
        free = shutil.disk_usage(self._folder).free
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
