"""Lists of users and projects, of which a page shows a part: found by words, a hundred at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode

from sealwright.web.answers import cursor_of, read_number
from sealwright.web.routes import Call

T = TypeVar("T")

SIZE = 100
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


@dataclass(frozen=True)
class Look:
    """What the address asks for: a text, and where among what fits to it the page begins."""

    text: str
    start: int

    def words(self) -> Sequence[str]:
        """Those of the text: what fits has all of them."""
        return self.text.split()

    def part(self, items: Sequence[T], total: int) -> Part[T]:
        """The page, which has `items`, of `total` that fit."""
        end = self.start + SIZE
        return Part(
            items=items,
            total=total,
            searchable=bool(self.text) or total > SIZE,
            text=self.text,
            query=urlencode({"text": self.text}) if self.text else "",
            cursor=cursor_of(str(end)) if end < total else None,
        )


def look_of(call: Call) -> Look:
    """What the address asks for with ``text`` and ``cursor``.

    Raises:
        InvalidInputError: the cursor is none of ours.
    """
    text = call.request.query_params.get("text", "")[:_LONGEST].strip()
    return Look(text, read_number(call.request.query_params.get("cursor")) or 0)


def part_of(call: Call, every: Sequence[T], words: Callable[[T], str]) -> Part[T]:
    """The part of a list that was read whole; `words`: what of one is searched. See `look_of`."""
    look = look_of(call)
    terms = [term.casefold() for term in look.words()]
    found = every
    if terms:
        found = [one for one in every if all(term in words(one).casefold() for term in terms)]
    return look.part(found[look.start : look.start + SIZE], len(found))
