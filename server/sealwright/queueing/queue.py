"""The queue: a hint that a request is due, and a hint that it has changed.

Losing, repeating or flushing them changes nothing: the database is the truth, `reconcile` asks it,
and a waiter reads it again now and then. A hint that a request is due carries its id and nothing
else. Digests have a list of their own, which workers wait at: they are signed in less time than
arq's jobs take to be found and noted. So have plans ahead: however many wait, they take no place
of what is to be signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any, TypeVar

from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import in_progress_key_prefix
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from sealwright.errors import UnavailableError
from sealwright.model.request import State
from sealwright.queueing.announcements import Announcements, channel_of

_log = logging.getLogger(__name__)
T = TypeVar("T")

QUEUE_NAME = "sealwright:queue"
JOB_NAME = "fulfil"
DIGESTS_NAME = "sealwright:digests"  #: a list of the ids of requests to sign a digest
PLANS_NAME = "sealwright:plans"  #: and of those whose artifact is to be planned for approvers
#: for how long a server that did not answer is not asked again
AWAY_SECONDS = 1.0
#: for how long an answer is waited for: a server that hangs must not hold up who submits
ANSWER_SECONDS = 2.0
#: how often a waiter reads the database though nothing was announced
POLL_SECONDS = 1.0


def redis_settings(url: str) -> RedisSettings:
    """arq's settings for ``redis://``, ``rediss://`` or ``unix:///path``."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_retries = 0  # who needs it asks again, and nobody waits meanwhile
    return settings


async def open_pool(url: str) -> ArqRedis:
    """Connect to the queue's server.

    Jobs are written as JSON: arq's default is pickle, which would let whoever can write to the
    queue run code in the worker.
    """
    return await create_pool(
        redis_settings(url),
        default_queue_name=QUEUE_NAME,
        job_serializer=_serialize,
        job_deserializer=json.loads,
    )


def _serialize(job: dict[str, Any]) -> bytes:
    return json.dumps(job).encode()


class Queue:
    """Where the web process announces work and everybody announces changes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: ArqRedis | None = None
        self._opening = asyncio.Lock()
        self._away_until = 0.0
        self._announcements = Announcements(self._subscription)

    async def pool(self) -> ArqRedis:
        """The connection pool, opened on first use.

        Raises:
            RedisError, OSError: the server is away. Then nobody waits for it: it is asked once,
                and those who come soon after are told the same.
        """
        async with self._opening:
            if asyncio.get_running_loop().time() < self._away_until:
                message = "the queue did not answer a moment ago"
                raise ConnectionError(message)
            if self._pool is None:
                try:
                    self._pool = await open_pool(self._url)
                except (RedisError, OSError):
                    self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
                    raise
            return self._pool

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[ArqRedis]:
        """The pool, for what is answered at once.

        Raises:
            RedisError, OSError: the server is away, or did not answer in `ANSWER_SECONDS`.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield await self.pool()
        except TimeoutError:
            self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
            raise

    @contextlib.asynccontextmanager
    async def _subscription(self, pattern: str) -> AsyncIterator[PubSub]:
        async with contextlib.AsyncExitStack() as stack:
            async with self.asking() as pool:
                channel = await stack.enter_async_context(pool.pubsub())
                await channel.psubscribe(pattern)
            yield channel

    @contextlib.asynccontextmanager
    async def _required(self) -> AsyncIterator[ArqRedis]:
        """`asking` for what there is no going on without.

        Raises:
            UnavailableError: the queue is away.
        """
        try:
            async with self.asking() as pool:
                yield pool
        except (RedisError, OSError) as error:
            message = f"The queue does not answer ({type(error).__name__})."
            raise UnavailableError(message, advice="Check that Redis or Valkey runs.") from error

    async def enqueue(self, request_id: str, *, digest: bool = False) -> None:
        """Say that a request is due. Call after the commit; a failure is logged, not raised:
        the reconciler finds the request in the database.

        Args:
            digest: it is one to sign a digest.
        """
        if digest:
            await self._push(DIGESTS_NAME, request_id)
            return
        try:
            async with self.asking() as pool:
                # a job id of its own: arq ignores a repeated id while an old job or result is kept,
                # and a killed worker's job stays locked. `claim` prevents that work is done twice.
                job_id = f"{request_id}:{secrets.token_hex(6)}"
                await pool.enqueue_job(JOB_NAME, request_id, _job_id=job_id)
        except (RedisError, OSError) as error:
            _log.warning("queue is away (%s); the reconciler will find %s", error, request_id)

    async def enqueue_plan(self, request_id: str) -> None:
        """Say that a request, which waits for approval, is to be planned. As `enqueue`."""
        await self._push(PLANS_NAME, request_id)

    async def _push(self, name: str, request_id: str) -> None:
        try:
            async with self.asking() as pool:
                await pool.rpush(name, request_id)  # type: ignore[misc]
        except (RedisError, OSError) as error:
            _log.warning("queue is away (%s); the reconciler will find %s", error, request_id)

    async def announce(self, request_id: str, state: State | None = None) -> None:
        """Say that a request has changed. Call after the commit; failures are only logged.

        Args:
            state: what it is in now: who waits for the end need not look at one that passes.
        """
        try:
            async with self.asking() as pool:
                await pool.publish(channel_of(request_id), state.value if state else b"changed")
        except (RedisError, OSError) as error:
            _log.warning("queue is away (%s); change of %s not announced", error, request_id)

    async def waiting(self, request_ids: Collection[str]) -> set[str]:
        """Those of `request_ids` that the queue holds and that no worker has begun.

        A job that was begun is not counted, whether its worker lives or not: the lease in the
        database tells, and arq keeps a dead worker's job locked for long.

        Raises:
            UnavailableError: the queue is away.
        """
        wanted = frozenset(request_ids)
        async with self._required() as pool:
            jobs = [
                job
                for job in map(bytes.decode, await pool.zrange(QUEUE_NAME, 0, -1))
                if _request_of(job) in wanted
            ]
            async with pool.pipeline(transaction=False) as pipe:
                for job in jobs:
                    pipe.exists(in_progress_key_prefix + job)
                begun = await pipe.execute()
            listed = await pool.lrange(DIGESTS_NAME, 0, -1)  # type: ignore[misc]
        found = {_request_of(job) for job, taken in zip(jobs, begun, strict=True) if not taken}
        return found | wanted.intersection(map(bytes.decode, listed))

    async def plans_waiting(self) -> set[str]:
        """Ids of the requests to be planned that no worker has begun.

        Raises:
            UnavailableError: the queue is away.
        """
        async with self._required() as pool:
            listed = await pool.lrange(PLANS_NAME, 0, -1)  # type: ignore[misc]
        return set(map(bytes.decode, listed))

    async def wait(
        self,
        request_id: str,
        read: Callable[[], Awaitable[T]],
        done: Callable[[T], bool],
        seconds: float,
        *,
        end_only: bool = False,
    ) -> T:
        """Read until `done` or until `seconds` have passed; returns the last reading.

        Reads at once, after every announcement, and every `POLL_SECONDS` in case one was lost.

        Args:
            end_only: announcements of states that pass are none.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        await self._announcements.ready(ANSWER_SECONDS)
        # registered before the reading: no change can fall in between
        with self._announcements.waiter(request_id, end_only=end_only) as waiter:
            while True:
                value = await read()
                left = deadline - asyncio.get_running_loop().time()
                if done(value) or left <= 0:
                    return value
                await waiter.next(min(POLL_SECONDS, left))

    async def healthy(self) -> bool:
        """Whether the queue's server answers."""
        try:
            async with self.asking() as pool:
                return bool(await pool.ping())
        except (RedisError, OSError):
            return False

    async def close(self) -> None:
        """Close the pool."""
        await self._announcements.close()
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None


def _request_of(job_id: str) -> str:
    return job_id.partition(":")[0]
