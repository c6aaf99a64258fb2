"""Which of several processes works on which member of an artifact."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

_OVERHEAD = 256 << 10  # bytes that can be hashed and compressed while one small file is signed


@dataclass(frozen=True)
class Shard:
    """One part of the work.

    Attributes:
        number: from 0.
        count: of all parts.
    """

    number: int = 0
    count: int = 1

    def orders(self, members: Iterable[tuple[int, int]]) -> frozenset[int]:
        """Which of these members are this shard's: each is one's, and each gets about as much.

        Args:
            members: (order, bytes) of each.
        """
        heap = [(0, number) for number in range(self.count)]
        mine = set()
        for order, size in sorted(members, key=lambda member: (-member[1], member[0])):
            load, number = heapq.heappop(heap)
            # a file costs something even if it is empty
            heapq.heappush(heap, (load + size + _OVERHEAD, number))
            if number == self.number:
                mine.add(order)
        return frozenset(mine)


WHOLE = Shard()  #: all of it
