"""Members of containers that come with a signature."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Change(enum.StrEnum):
    """What signing did to a member."""

    PLANNED = "planned"  #: it will be added
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True)
class SignedMember:
    """A member that signing added, wrote anew, or removed.

    Attributes:
        path: inside the container, in which there is no control character.
        size: bytes; of a removed one, those it had.
        what: it is, for people: ``signature block``.
    """

    path: str
    size: int
    change: Change
    what: str = ""


def is_plain(text: str) -> bool:
    """Whether there is no control character in it."""
    return not any(map(_is_control, text))


def plain(text: str) -> str:
    """The text with something to see in the place of each control character."""
    return "".join("\ufffd" if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    return character < " " or character == "\x7f"
