"""What a process hears of requests that change: one subscription, however many wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from sealwright.model.request import State

_log = logging.getLogger(__name__)

_PREFIX = "sealwright:changed:"
_PASSING = frozenset(state.value.encode() for state in State if not state.is_final)
_AGAIN_SECONDS = 1.0  # between two attempts to subscribe
_UNHEARD_SECONDS = 0.1  # between two looks of who waits while nothing can be heard
_LOOK_SECONDS = 30.0  # at a connection that is silent


def channel_of(request_id: str) -> str:
    """The channel that a request's changes are announced in."""
    return _PREFIX + request_id


class Waiter:
    """One who waits for changes of a request."""

    def __init__(self, announcements: Announcements, *, end_only: bool) -> None:
        self._announcements = announcements
        self._end_only = end_only
        self._changed = asyncio.Event()

    def hear(self, state: bytes) -> None:
        """A change was announced: the state that was reached, or another word."""
        if not (self._end_only and state in _PASSING):
            self._changed.set()

    async def next(self, seconds: float) -> None:
        """Wait for a change since the last call, for so long at most; for a moment where changes
        cannot be heard of."""
        if not self._announcements.heard:
            await asyncio.sleep(min(seconds, _UNHEARD_SECONDS))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()


class Announcements:
    """The subscription, made when somebody first waits and renewed when it breaks.

    Args:
        subscribe: to the channels that a pattern fits; raises RedisError or OSError while the queue
            is away.
    """

    def __init__(self, subscribe: Callable[[str], AbstractAsyncContextManager[PubSub]]) -> None:
        self._subscribe = subscribe
        self._waiters: dict[bytes, set[Waiter]] = {}  # by channel
        self._listening: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()  # set once the first attempt to subscribe has ended
        self._is_away = False  # what was logged last
        self.heard = False  #: whether changes are heard of

    async def ready(self, seconds: float) -> None:
        """Wait, for so long at most, until changes are heard of or cannot be. Nobody waits for a
        queue that came or went later: who waits reads meanwhile."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        if not self._tried.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._tried.wait()

    @contextlib.contextmanager
    def waiter(self, request_id: str, *, end_only: bool) -> Iterator[Waiter]:
        """Hear of a request's changes from here on.

        Args:
            end_only: not of states that pass.
        """
        waiter = Waiter(self, end_only=end_only)
        channel = channel_of(request_id).encode()
        self._waiters.setdefault(channel, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiters[channel]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[channel]

    async def close(self) -> None:
        """End the subscription."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None

    async def _listen(self) -> None:
        while True:
            try:
                async with self._subscribe(f"{_PREFIX}*") as channel:
                    await self._hear(channel)
            except (RedisError, OSError) as error:
                if not self._is_away:
                    _log.info("changes are not heard of (%s); who waits reads instead", error)
                self._is_away = True
            finally:
                self.heard = False
                self._tried.set()
                self._tell_all()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _hear(self, channel: PubSub) -> None:
        while True:
            message = await channel.get_message(timeout=_LOOK_SECONDS)
            if message is None:
                continue
            if message["type"] == "psubscribe":
                if self._is_away:
                    _log.info("changes are heard of again")
                self._is_away = False
                self.heard = True
                self._tried.set()
                self._tell_all()  # of what was missed meanwhile
            elif message["type"] == "pmessage":
                for waiter in self._waiters.get(message["channel"], ()):
                    waiter.hear(message["data"])

    def _tell_all(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.hear(b"")
