"""Who has the token's sessions next.

A request asks for its signatures batch by batch, and works on with those that it has got. So its
oldest batch comes first: two that were signed at the same time would both be late. Requests take
turns with each other, so that a small one need not wait for a large one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Ticket:
    """A batch of signatures, or something else that is to be asked of the token.

    Attributes:
        owner: whose turn it counts as.
        number: those of one owner are served in the order in which they were made.
    """

    owner: str = ""
    number: int = field(default_factory=lambda: next(_NUMBERS))


class Turns(Generic[T]):
    """Things that one at a time can use, and who waits for them."""

    def __init__(self) -> None:
        self._idle: deque[T] = deque()
        self._waiting: list[tuple[Ticket, asyncio.Future[T]]] = []  # since when

    async def take(self, ticket: Ticket) -> T:
        """Wait for one."""
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        place = (ticket, turn)
        self._waiting.append(place)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given one at the same moment
                self.give(turn.result())
            else:
                self._waiting.remove(place)
            raise

    def give(self, one: T) -> None:
        """Give one back, or in: to who is next."""
        place = self._next()
        if place is None:
            self._idle.append(one)
            return
        self._waiting.remove(place)
        place[1].set_result(one)

    def may_go_on(self, ticket: Ticket) -> bool:
        """Whether nobody else comes before who has one now."""
        return all(
            waiting.owner == ticket.owner and waiting.number >= ticket.number
            for waiting, turn in self._waiting
            if not turn.done()
        )

    def _next(self) -> tuple[Ticket, asyncio.Future[T]] | None:
        waiting = [place for place in self._waiting if not place[1].done()]  # others have given up
        oldest: dict[str, int] = {}
        for ticket, _ in waiting:
            oldest[ticket.owner] = min(ticket.number, oldest.get(ticket.owner, ticket.number))
        return next((each for each in waiting if each[0].number == oldest[each[0].owner]), None)
