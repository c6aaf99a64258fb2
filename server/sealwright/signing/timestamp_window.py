"""How many requests may be under way at one time stamp authority: as many as it bears.

Not every authority answers sixty requests at once as fast as one. The window opens by one for each
reply that came as fast as replies do when it is narrow, and closes by half when the authority says
that it is asked too much, or does not answer in time; as TCP does with what is in flight (RFC 5681,
section 3.1). Never wider than the configured concurrency.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator

_FIRST = 8  # requests
#: replies in up to this many times the shortest time, and this many seconds more, came as fast
_SLOWER = 2.0
_JITTER = 0.05
#: by which the shortest time is believed to have changed with each reply that took longer
_FORGETS = 0.01


class TimestampWindow:
    """Places for requests to one authority, given in the order of asking.

    Args:
        most: requests at once, at the utmost.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._size = min(self._most, float(_FIRST))
        self._hurt = False  # whether it had to close before: then it opens slowly
        self._closed_at = 0.0
        self._shortest: float | None = None
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def size(self) -> int:
        """Requests that may be under way now; at least one."""
        return int(self._size)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        await self._enter()
        try:
            yield
        finally:
            self._under_way -= 1
            self._admit()

    def answered(self, began: float) -> None:
        """A reply came to the request that was sent at `began` (`time.monotonic`)."""
        took = time.monotonic() - began
        if self._shortest is None or took < self._shortest:
            self._shortest = took
        else:
            self._shortest += (took - self._shortest) * _FORGETS
        if took > self._shortest * _SLOWER + _JITTER:
            return
        grown = self._size + (1 / self._size if self._hurt else 1)
        self._size = min(grown, self._most)
        self._admit()

    def overrun(self, began: float) -> None:
        """The request that was sent at `began` was too much for the authority. Requests that were
        under way together close the window once."""
        if began < self._closed_at:
            return
        self._closed_at = time.monotonic()
        self._size = max(self._size / 2, 1.0)
        self._hurt = True

    async def _enter(self) -> None:
        if self._under_way < self.size and not self._waiting:
            self._under_way += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the place at the same moment
                self._under_way -= 1
                self._admit()
            else:
                self._waiting.remove(turn)
            raise

    def _admit(self) -> None:
        while self._waiting and self._under_way < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._under_way += 1
