"""Claims on rows of work that is not a signing request: short, and renewed while it goes on.

So what a killed worker had begun is taken over after seconds, however long the work may last.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable

from sealwright.errors import SealwrightError

#: another worker takes over this long after the last renewal
CLAIM = dt.timedelta(seconds=15)


@contextlib.asynccontextmanager
async def renewing(
    renew: Callable[[], Awaitable[None]], every: dt.timedelta = CLAIM / 3
) -> AsyncIterator[None]:
    """Renew a claim until the end of the block. While the database is away it runs out: then two
    may work on one row, which both kinds of work allow."""

    async def run() -> None:
        while True:
            await asyncio.sleep(every.total_seconds())
            with contextlib.suppress(SealwrightError):
                await renew()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
