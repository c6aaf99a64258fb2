"""Lists of users and projects, of which a page shows a part: found by words, a hundred at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode

from sealwright.web.answers import cursor_of, read_number
from sealwright.web.routes import Call

T = TypeVar("T")

_SIZE = 100
_LONGEST = 200


@dataclass(frozen=True)
class Part(Generic[T]):
    """What a page shows.

    Attributes:
        total: how many there are that fit; `searchable`: whether they are more than a page, or
            were searched.
        query: the other parameters of the next page, whose `cursor` it is; None: there is none.
    """

    items: Sequence[T]
    total: int
    searchable: bool
    text: str
    query: str
    cursor: str | None


def part_of(call: Call, every: Sequence[T], words: Callable[[T], str]) -> Part[T]:
    """The part that the address asks for with ``text`` and ``cursor``.

    Raises:
        InvalidInputError: the cursor is none of ours.
    """
    text = call.request.query_params.get("text", "")[:_LONGEST].strip()
    start = read_number(call.request.query_params.get("cursor")) or 0
    terms = text.casefold().split()
    found = every
    if terms:
        found = [one for one in every if all(term in words(one).casefold() for term in terms)]
    end = start + _SIZE
    return Part(
        items=found[start:end],
        total=len(found),
        searchable=bool(text) or len(every) > _SIZE,
        text=text,
        query=urlencode({"text": text}) if text else "",
        cursor=cursor_of(str(end)) if end < len(found) else None,
    )
