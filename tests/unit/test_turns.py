"""Who has the token's sessions next."""

from __future__ import annotations

import asyncio

import pytest

from sealwright.signer.turns import Ticket, Turns


async def asked(turns: Turns[str], *tickets: Ticket) -> list[asyncio.Task[str]]:
    """All of them wait, in this order."""
    waiting = [asyncio.create_task(turns.take(ticket)) for ticket in tickets]
    await asyncio.sleep(0)
    return waiting


async def served(turns: Turns[str], waiting: list[asyncio.Task[str]]) -> list[int]:
    """Which of those who wait are served, one after another."""
    order = []
    while open_ := [each for each in waiting if not each.done()]:
        turns.give("slot")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        [done] = [each for each in open_ if each.done()]
        order.append(waiting.index(done))
    return order


async def test_what_is_idle_is_had_at_once() -> None:
    turns: Turns[str] = Turns()
    turns.give("a")
    turns.give("b")
    assert await turns.take(Ticket()) == "a"
    assert await turns.take(Ticket()) == "b"


async def test_the_oldest_batch_of_one_owner_comes_first() -> None:
    turns: Turns[str] = Turns()
    old, new, newest = (Ticket("one") for _ in range(3))
    waiting = await asked(turns, new, newest, old, old, new)
    assert await served(turns, waiting) == [2, 3, 0, 4, 1]


async def test_owners_take_turns() -> None:
    turns: Turns[str] = Turns()
    first = Ticket("large")
    waiting = await asked(turns, Ticket("large"), Ticket("large"), Ticket("small"), first)
    # the first in coming of those who are their owner's oldest
    assert await served(turns, waiting) == [2, 3, 0, 1]


async def test_who_has_one_goes_on_unless_another_comes_first() -> None:
    turns: Turns[str] = Turns()
    old, mine, later = (Ticket("one") for _ in range(3))
    assert turns.may_go_on(mine)
    waiting = await asked(turns, mine, later)
    assert turns.may_go_on(mine)
    assert not turns.may_go_on(later)
    waiting += await asked(turns, old)
    assert not turns.may_go_on(mine)
    waiting += await asked(turns, Ticket("another"))
    assert not turns.may_go_on(old)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert turns.may_go_on(later)


async def test_nothing_is_lost_with_who_gives_up() -> None:
    turns: Turns[str] = Turns()
    [first, second] = await asked(turns, Ticket("one"), Ticket("two"))
    turns.give("slot")
    first.cancel()  # at the moment at which it is its turn
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "slot"
    [third] = await asked(turns, Ticket())
    third.cancel()
    turns.give("other")  # before it has noticed
    assert turns.may_go_on(Ticket())
    assert await turns.take(Ticket()) == "other"
    with pytest.raises(asyncio.CancelledError):
        await third
    turns.give("slot")
    assert await turns.take(Ticket()) == "slot"
