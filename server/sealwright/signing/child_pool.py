"""Format children that wait, warm, for something to do."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import deque
from pathlib import Path

from sealwright.errors import ConfigurationError, InternalError, UnavailableError
from sealwright.signing.child_process import SandboxSettings
from sealwright.signing.nursery import Nursery
from sealwright.signing.sandbox import FormatChild

_REFILL_SECONDS = 0.2


class ChildPool:
    """Keeps children warm, each with a folder of its own.

    Args:
        folder: where their folders are made.
        size: how many wait; usually one per processor core.

    Use::

        async with ChildPool(folder, size=os.cpu_count()) as pool, pool.child() as child: ...
    """

    def __init__(
        self, folder: Path, size: int = 1, settings: SandboxSettings | None = None
    ) -> None:
        self.size = size
        self.settings = settings or SandboxSettings()
        self._folder = folder
        self._nursery = Nursery()
        self._waiting: deque[asyncio.Task[FormatChild]] = deque()
        self._refilling: asyncio.TimerHandle | None = None
        self._deletions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ChildPool:
        self._refill()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._refilling is not None:
            self._refilling.cancel()
        while self._waiting:
            starting = self._waiting.popleft()
            try:
                child = await starting
            except (ConfigurationError, InternalError, UnavailableError):
                continue
            await self.discard(child)
        await asyncio.gather(*self._deletions)
        self._nursery.close()

    async def take(self) -> FormatChild:
        """A child that nobody has used; start another in its place. Give it back to `discard`."""
        spares = len(self._waiting)
        while True:
            if not self._waiting:
                self._waiting.append(asyncio.create_task(self._start()))
            starting = self._waiting.popleft()
            self._refill_later()
            try:
                child = await asyncio.shield(starting)
            except asyncio.CancelledError:
                self._waiting.appendleft(starting)  # perhaps it was there already: for the next
                raise
            except UnavailableError:
                if spares == 0:
                    raise
                spares -= 1  # it died with its forker, before anybody wanted it
                continue
            if child.is_alive:
                return child
            await self.discard(child)  # it was killed while it waited

    async def discard(self, child: FormatChild) -> None:
        """End a child and delete its folder. It has nothing to finish: it is killed, which takes
        a fraction of the time. Nobody waits for the deletion but the pool, at its end: to free a
        large file takes a while. Both go on if who waits is cancelled: it may be ending its work
        for another reason already, as when a request is canceled."""
        killing = asyncio.create_task(child.kill())
        deletion = asyncio.create_task(_delete(child.folder, killing))
        self._deletions.add(deletion)
        deletion.add_done_callback(self._deletions.discard)
        await asyncio.shield(killing)

    def child(self) -> _Borrowed:
        """A child for an ``async with`` block."""
        return _Borrowed(self)

    def _refill_later(self) -> None:
        """Not at once: starting a child takes processor time that who has taken one needs now."""
        if self._refilling is None:
            loop = asyncio.get_running_loop()
            self._refilling = loop.call_later(_REFILL_SECONDS, self._refill)

    def _refill(self) -> None:
        self._refilling = None
        while len(self._waiting) < max(1, self.size):
            self._waiting.append(asyncio.create_task(self._start()))

    async def _start(self) -> FormatChild:
        name = await asyncio.to_thread(tempfile.mkdtemp, prefix="child-", dir=self._folder)
        try:
            return await FormatChild.start(Path(name), self.settings, self._nursery)
        except BaseException:
            shutil.rmtree(name, ignore_errors=True)
            raise


async def _delete(folder: Path, killing: asyncio.Task[None]) -> None:
    """Delete a child's folder as soon as nothing writes to it."""
    await asyncio.wait({killing})
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class _Borrowed:
    def __init__(self, pool: ChildPool) -> None:
        self._pool = pool
        self._child: FormatChild | None = None

    async def __aenter__(self) -> FormatChild:
        self._child = await self._pool.take()
        return self._child

    async def __aexit__(self, *_: object) -> None:
        if self._child is not None:
            await self._pool.discard(self._child)
