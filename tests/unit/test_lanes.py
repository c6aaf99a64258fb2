"""Lanes: none waits for another, each is bounded, and all of them are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from sealwright.errors import UnavailableError
from sealwright.reporting import lanes
from sealwright.reporting.lanes import Due, Lanes


class Post:
    """Messages (lane, number) that wait, and what is being sent; `dead` lanes never answer."""

    def __init__(self, *waiting: tuple[str, int], dead: str = "") -> None:
        self.waiting = list(waiting)
        self.dead = dead
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.sent: list[tuple[str, int]] = []
        self.away = 0

    async def due(self) -> list[Due[tuple[str, int]]]:
        if self.away:
            self.away -= 1
            message = "The database is away."
            raise UnavailableError(message, advice="")
        return [Due(hash(one), one[0], one) for one in self.waiting]

    async def send(self, message: tuple[str, int]) -> bool:
        lane = message[0]
        for name in (lane, "all"):
            self.under_way[name] += 1
            self.most[name] = max(self.most[name], self.under_way[name])
        try:
            await asyncio.sleep(3600 if lane in self.dead else 0)
            self.waiting.remove(message)
            self.sent.append(message)
        finally:
            self.under_way.subtract((lane, "all"))
        return True


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def running(post: Post, most: int, each: int, condition: Callable[[], object]) -> None:
    task = asyncio.create_task(Lanes(post.due, post.send, most=most, each=each).run())
    try:
        await until(lambda: condition() or task.done())
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_dead_lanes_take_no_more_than_their_room() -> None:
    post = Post(*(("a", n) for n in range(50)), *(("b", n) for n in range(50)), dead="ab")
    post.waiting += [("c", number) for number in range(9)]
    await running(post, 5, 3, lambda: len(post.sent) == 9)
    assert post.sent == [("c", number) for number in range(9)]
    assert max(post.most["a"], post.most["b"]) <= 3
    assert post.most["all"] <= 5
    assert post.under_way["all"] == 0  # nothing outlives the loop


async def test_a_lane_of_one_keeps_the_order() -> None:
    post = Post(*((lane, number) for number in range(20) for lane in "ab"))
    assert await Lanes(post.due, post.send, most=8, each=1).drain() == 40
    for lane in "ab":
        assert [number for name, number in post.sent if name == lane] == list(range(20))


async def test_a_database_that_is_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "ROUND_SECONDS", 0.01)
    post = Post(("a", 1))
    post.away = 3
    await running(post, 4, 1, lambda: post.sent)
    post = Post(("a", 1))
    post.away = 1
    with pytest.raises(UnavailableError):
        await Lanes(post.due, post.send, most=4, each=1).drain()


async def test_what_nobody_foresaw_ends_the_loop() -> None:
    async def send(_message: tuple[str, int]) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Lanes(Post(("a", 1)).due, send, most=4, each=1).run()
