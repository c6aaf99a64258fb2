"""Patterns of refs, definitions and artifact names: ``* ? [abc] [a-z] [!abc] **``, with case.

``*`` and ``?`` stop at ``/``, ``**`` does not. A pattern is matched in one pass over the text with
the set of places where it may stand: no pattern makes that slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

MAX_PATTERN = 300
_TOKEN = re.compile(r"(\*\*)|(\*)|(\?)|(\[!?\]?[^\]]*\])|(.)", re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Tell whether the whole of `text` matches."""
    tokens = _tokens(pattern)
    places = _beyond_stars({0}, tokens)
    for character in text:
        moved: set[int] = set()
        for place in places:
            if place == len(tokens) or not tokens[place].accepts(character):
                continue
            moved.add(place if tokens[place].repeats else place + 1)
        places = _beyond_stars(moved, tokens)
    return len(tokens) in places


def matches_any(patterns: Iterable[str], text: str) -> bool:
    """Tell whether one of the patterns matches."""
    return any(matches(pattern, text) for pattern in patterns)


def is_pattern(text: str) -> bool:
    """Tell whether `text` can be a pattern: not empty, not too long, brackets closed."""
    return 0 < len(text) <= MAX_PATTERN and _OPEN not in {token.kind for token in _tokens(text)}


_OPEN = "open"


class _Token:
    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.repeats = kind in {"**", "*"}
        self._text = text
        self._class = re.compile(_class(text)) if kind == "class" else None

    def accepts(self, character: str) -> bool:
        if self.kind == "**":
            return True
        if self.kind == "character":
            return character == self._text
        if character == "/":
            return False
        return self._class is None or self._class.fullmatch(character) is not None


@lru_cache(maxsize=1024)
def _tokens(pattern: str) -> tuple[_Token, ...]:
    found = []
    for match in _TOKEN.finditer(pattern):
        double, single, question, bracket, character = match.groups()
        if double or single or question:
            found.append(_Token(match[0], match[0]))
        elif bracket:
            found.append(_Token("class", bracket))
        else:
            found.append(_Token(_OPEN if character == "[" else "character", character))
    return tuple(found)


def _class(bracket: str) -> str:
    """The bracket as a regular expression's class, with nothing special in it but ranges."""
    inner = bracket[1:-1]
    negated = inner.startswith("!")
    inner = inner[negated:]
    parts = []
    while inner:
        if len(inner) > 2 and inner[1] == "-" and inner[0] <= inner[2]:
            parts.append(f"{re.escape(inner[0])}-{re.escape(inner[2])}")
            inner = inner[3:]
        else:
            parts.append(re.escape(inner[0]))
            inner = inner[1:]
    if not parts:
        return r"(?!)"
    return f"[{'^' if negated else ''}{''.join(parts)}]"


def _beyond_stars(places: set[int], tokens: tuple[_Token, ...]) -> set[int]:
    """A star may stand for nothing."""
    closed = set(places)
    for place in sorted(places):
        following = place
        while following < len(tokens) and tokens[following].repeats:
            following += 1
            closed.add(following)
    return closed
