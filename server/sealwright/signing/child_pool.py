"""Format children that wait, warm, for something to do."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from sealwright.errors import UnavailableError
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
        self._endings: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ChildPool:
        self._refill()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._refilling is not None:
            self._refilling.cancel()
        while self._waiting:
            starting = self._waiting.popleft()
            await asyncio.wait({starting})
            if not starting.cancelled() and starting.exception() is None:
                await self.discard(starting.result())
        while self._endings:
            await asyncio.gather(*self._endings, return_exceptions=True)
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
                if not starting.cancelled():
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
        await asyncio.shield(self._in_background(self._end(child)))

    async def _end(self, child: FormatChild) -> None:
        try:
            await child.kill()
        finally:
            deletion = asyncio.to_thread(shutil.rmtree, child.folder, ignore_errors=True)
            self._in_background(deletion)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

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
