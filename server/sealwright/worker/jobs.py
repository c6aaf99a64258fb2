"""The jobs of one worker: bounded in number, and ended in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sealwright.errors import SealwrightError

_log = logging.getLogger(__name__)


class Jobs:
    """Runs jobs, a bounded number at once.

    The bound is here and not with the queue alone: jobs outlive the queue's restart, and the
    successor of the consumer that took them must not take as many again.

    Args:
        work: does the work on the request of that id.
        most: jobs at once.
    """

    def __init__(self, work: Callable[[str], Awaitable[None]], most: int) -> None:
        self._do = work
        self._room = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()

    async def room(self) -> None:
        """Wait until there is room for another job, which somebody else may take meanwhile."""
        await asyncio.sleep(0)  # one that was started just now takes its place first
        async with self._room:
            pass

    async def run(self, request_id: str) -> None:
        """Work on one request; returns when that has ended, however it did."""
        await asyncio.wait({self.start(request_id)})

    def start(self, request_id: str) -> asyncio.Task[None]:
        """Begin to work on one request; the task, which raises nothing, ends with that."""
        task = asyncio.create_task(self._work(request_id), name=f"job-{request_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self, request_id: str) -> None:
        try:
            async with self._room:
                await self._do(request_id)
        except SealwrightError as error:
            _log.warning("%s: %s", request_id, error)
        except Exception:  # noqa: BLE001 - the job wrapper: nothing else would tell of it
            _log.exception("%s: the job broke", request_id)

    async def finish(self, seconds: float) -> None:
        """Let the jobs end for so long; those that have not are cancelled, which gives their
        requests back for another worker."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            _log.info("giving %d requests back", len(late))
            await asyncio.wait(late)
