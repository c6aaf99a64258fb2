"""Long lists of values, in parts that one statement can name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_MOST = 500  # SQLite bounds the variables of one statement


def chunked(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in their order, some at a time."""
    for start in range(0, len(values), _MOST):
        yield values[start : start + _MOST]
