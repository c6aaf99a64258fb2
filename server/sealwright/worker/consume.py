"""Taking jobs from the queue, through its restarts and absences."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from arq.worker import Worker
from redis.exceptions import RedisError

from sealwright.config import Settings
from sealwright.queueing.queue import DIGESTS_NAME, PLANS_NAME, open_pool
from sealwright.worker.jobs import Jobs
from sealwright.worker.settings import arq_worker

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_WAIT_SECONDS = 1  # at a list; then the connection is looked at again


async def consume(settings: Settings, jobs: Jobs, plans: Jobs, stop: asyncio.Event) -> None:
    """Start jobs as the queue gives them, until `stop`. Jobs that run go on when it returns.

    Args:
        plans: those that plan ahead.

    A connection that breaks ends one arq worker; the next one is made as soon as the queue answers.
    """
    await asyncio.gather(
        _while_it_answers(lambda: _consume_once(settings, jobs, stop), stop),
        _while_it_answers(lambda: _take_from(settings, DIGESTS_NAME, jobs, stop), stop),
        _while_it_answers(lambda: _take_from(settings, PLANS_NAME, plans, stop), stop),
    )


async def _while_it_answers(once: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    pause = _FIRST_PAUSE
    while not stop.is_set():
        try:
            await once()
            pause = _FIRST_PAUSE
        except (RedisError, OSError) as error:
            _log.warning("the queue is away (%s); trying again in %.1f s", error, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


async def _take_from(settings: Settings, name: str, jobs: Jobs, stop: asyncio.Event) -> None:
    """Take requests from a list as soon as they are there. One that is taken and not begun, since
    the worker stops or is killed, is found by the reconciler."""
    pool = await open_pool(settings.redis)

    async def take() -> None:
        while True:
            await jobs.room()
            taken = await pool.blpop([name], _WAIT_SECONDS)  # type: ignore[misc]
            if taken is not None:
                jobs.start(taken[1].decode())

    taking = asyncio.create_task(take(), name=f"take-{name}")
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if taking.done():
            taking.result()
    finally:
        for task in (taking, stopping):
            task.cancel()
        await asyncio.gather(taking, stopping, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await pool.aclose(close_connection_pool=True)


async def _consume_once(settings: Settings, jobs: Jobs, stop: asyncio.Event) -> None:
    pool = await open_pool(settings.redis)
    worker = arq_worker(settings, jobs, pool)
    polling = asyncio.create_task(worker.main(), name="poll-queue")
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({polling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if polling.done():
            polling.result()
    finally:
        for task in (polling, stopping):
            task.cancel()
        await asyncio.gather(polling, stopping, return_exceptions=True)
        _retire(worker)


_retiring: set[asyncio.Task[None]] = set()


def _retire(worker: Worker) -> None:
    """Let the worker's jobs end, note it in the queue where that is still there, and disconnect."""

    async def retire() -> None:
        await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await worker.pool.aclose(close_connection_pool=True)

    task = asyncio.create_task(retire())
    _retiring.add(task)
    task.add_done_callback(_retiring.discard)
