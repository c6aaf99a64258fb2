"""Claims are renewed while the work lasts, and only then."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from sealwright.errors import UnavailableError
from sealwright.queueing.claims import renewing

EVERY = dt.timedelta(milliseconds=5)


async def test_renewed_until_the_end_also_past_an_outage() -> None:
    enough = asyncio.Event()
    count = 0

    async def renew() -> None:
        nonlocal count
        count += 1
        if count == 1:
            message = "The database is away."
            raise UnavailableError(message)
        if count == 3:
            enough.set()

    async with renewing(renew, EVERY):
        await asyncio.wait_for(enough.wait(), 10)
    after = count
    await asyncio.sleep(0.05)
    assert count == after


async def test_an_error_of_the_work_comes_out() -> None:
    async def renew() -> None:
        """Nothing to renew."""

    with pytest.raises(ZeroDivisionError):
        async with renewing(renew, EVERY):
            raise ZeroDivisionError
