"""Which of several processes works on which member of an artifact."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_OVERHEAD = 256 << 10  # bytes that can be hashed and compressed while one small file is signed
_PASSING = 0.25  # what passing over a byte of a sequence costs of what working on it costs


@dataclass(frozen=True)
class Shard:
    """One part of the work.

    Attributes:
        number: from 0.
        count: of all parts.
    """

    number: int = 0
    count: int = 1

    def orders(
        self, members: Iterable[tuple[int, int]], *, in_sequence: bool = False
    ) -> frozenset[int]:
        """Which of these members are this shard's: each is one's, and each gets about as much.

        Args:
            members: (order, bytes) of each.
            in_sequence: reading one takes reading those before it, so that each shard gets
                neighbours; the later they are, the fewer.
        """
        return self._neighbours(sorted(members)) if in_sequence else self._longest_first(members)

    def _neighbours(self, members: Sequence[tuple[int, int]]) -> frozenset[int]:
        total = sum(size + _OVERHEAD for _, size in members)
        # Each works as long as the others if its range is shorter by what it passes over.
        kept = 1 - _PASSING
        begin, end = (
            total * (1 - kept**number) / (1 - kept**self.count)
            for number in (self.number, self.number + 1)
        )
        mine = set()
        at = 0
        for order, size in members:
            middle = at + (size + _OVERHEAD) // 2
            if begin <= middle < end:
                mine.add(order)
            at += size + _OVERHEAD
        return frozenset(mine)

    def _longest_first(self, members: Iterable[tuple[int, int]]) -> frozenset[int]:
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
