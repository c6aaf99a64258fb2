"""Sending what comes due, each receiver in a lane of its own: who is dead holds up nobody.

There are no rounds. Whenever a message is through, or at the latest after a second, it is asked
what is due at the head of each lane, and as much is begun as there is room for: in a lane for a
few, and in all for more than some dead receivers take up.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sealwright.errors import SealwrightError

_log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Due(Generic[T]):
    """A message to be sent now.

    Attributes:
        key: of the message's row.
        lane: the receiver, or who sent what is to be acted on.
    """

    key: Hashable
    lane: str
    message: T


class Lanes(Generic[T]):
    """Sends messages as they come due.

    Args:
        due: gives the first few of each lane that nobody has claimed, the longest due first.
        send: claims a message and sends it; whether it was taken. It notes what came of it.
        most: messages under way at once; `each`: in one lane.
    """

    def __init__(
        self,
        due: Callable[[], Awaitable[Sequence[Due[T]]]],
        send: Callable[[T], Awaitable[bool]],
        *,
        most: int,
        each: int,
    ) -> None:
        self._due = due
        self._send = send
        self._most = most
        self._each = each
        self._under_way: dict[asyncio.Future[bool], Due[T]] = {}

    async def run(self) -> None:
        """Send for good. What is under way when this is cancelled is cancelled with it, and sent
        again once its claim has run out."""
        try:
            while True:
                try:
                    await self._begin()
                    await self._rest()
                except SealwrightError as error:
                    _log.warning("cannot send now: %s", error)
                    await asyncio.sleep(ROUND_SECONDS)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def drain(self) -> int:
        """Send everything that is due now, and wait for that; how many messages were taken.

        Raises:
            UnavailableError: the database is away.
        """
        taken = 0
        while begun := await self._begin():
            await asyncio.wait(begun)
            taken += self._settle()
        return taken

    async def _begin(self) -> list[asyncio.Future[bool]]:
        """Begin what is due and has room: in lanes with nothing under way first."""
        found = await self._due()
        known = {one.key for one in self._under_way.values()}
        busy = Counter(one.lane for one in self._under_way.values())
        turns = []
        for one in found:
            if one.key not in known and busy[one.lane] < self._each:
                turns.append((busy[one.lane], one))
                busy[one.lane] += 1
        turns.sort(key=lambda turn: turn[0])
        room = self._most - len(self._under_way)
        begun: list[asyncio.Future[bool]] = []
        for _, one in turns[:room]:
            task = asyncio.ensure_future(self._send(one.message))
            self._under_way[task] = one
            begun.append(task)
        return begun

    async def _rest(self) -> None:
        """Wait until a message is through, or for a second."""
        pause = ROUND_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        if self._under_way:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(self._under_way, timeout=pause, return_when=first)
        else:
            await asyncio.sleep(pause)
        self._settle()

    def _settle(self) -> int:
        done = [task for task in self._under_way if task.done()]
        for task in done:
            del self._under_way[task]
        errors = [error for error in (task.exception() for task in done) if error]
        if errors:
            raise errors[0]
        return sum(task.result() for task in done)
