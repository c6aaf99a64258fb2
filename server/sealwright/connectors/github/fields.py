"""Reading GitHub's JSON without trusting its shape.

Fields come and go between github.com, the Enterprise Server's versions and old webhook examples:
what is missing, or is not what it should be, reads as empty. The rules over facts refuse what is
empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def at(data: object, *path: str) -> object:
    """The value at `path` through nested objects; None where there is none."""
    for name in path:
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def text(data: object, *path: str) -> str:
    """The string or whole number at `path` as text; empty where there is none."""
    value = at(data, *path)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def number(data: object, *path: str) -> int:
    """The whole number at `path`; 0 where there is none."""
    value = at(data, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def texts(data: object, *path: str) -> tuple[str, ...]:
    """The strings of the list at `path`."""
    value = at(data, *path)
    return tuple(item for item in _listed(value) if isinstance(item, str))


def objects(data: object, *path: str) -> list[Mapping[str, Any]]:
    """The objects of the list at `path`."""
    value = at(data, *path)
    return [item for item in _listed(value) if isinstance(item, Mapping)]


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
