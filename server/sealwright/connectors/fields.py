"""Reading a CI system's JSON without trusting its shape.

Fields come and go with versions and editions: what is missing, or is not what it should be, reads
as empty. The rules over facts refuse what is empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class MalformedError(ValueError):
    """Not a JSON object, or one that could be read in two ways."""


def parse(body: bytes) -> Mapping[str, Any]:
    """Read a JSON object (RFC 8259, UTF-8) strictly: no name twice, no ``NaN``, bounded depth.

    Raises:
        MalformedError
    """
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        message = "not strict JSON"
        raise MalformedError(message) from error
    if not isinstance(document, dict):
        message = "not a JSON object"
        raise MalformedError(message)
    return document


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


def flag(data: object, *path: str) -> bool | None:
    """The truth value at `path`; None where there is none."""
    value = at(data, *path)
    return value if isinstance(value, bool) else None


def texts(data: object, *path: str) -> tuple[str, ...]:
    """The strings of the list at `path`."""
    return tuple(item for item in _listed(at(data, *path)) if isinstance(item, str))


def objects(data: object, *path: str) -> list[Mapping[str, Any]]:
    """The objects of the list at `path`."""
    return [item for item in _listed(at(data, *path)) if isinstance(item, Mapping)]


def printable(said: object, limit: int = 200) -> str:
    """What a remote said, fit for one line of an error message."""
    shown = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return "".join(char for char in shown[:limit] if char.isprintable()).strip().rstrip(".")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        message = "a name occurs twice"
        raise ValueError(message)
    return members


def _no_constant(name: str) -> Any:
    message = f"{name} is not JSON"
    raise ValueError(message)
