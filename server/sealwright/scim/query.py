"""What a list is asked for: by a query string, or by the body of ``/.search`` (RFC 7644, 3.4.2
and 3.4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sealwright.errors import InvalidInputError
from sealwright.model.conditions import Condition, Order
from sealwright.scim.errors import ScimError, ScimType
from sealwright.scim.filters import parse_filter, parse_order
from sealwright.scim.schema import Kind

MOST = 200  #: resources on a page
_MAX_NUMBER = 1_000_000_000
_MAX_NAMES = 100


@dataclass(frozen=True)
class Query:
    """A page of a list.

    Attributes:
        start: counted from 1.
        count: at most `MOST`; 0: only the number of all is wanted.
        attributes: names of what is shown; none: everything but what is `excluded`.
    """

    wanted: Condition | None
    order: Order | None
    start: int
    count: int
    attributes: tuple[str, ...]
    excluded: tuple[str, ...]


def read_query(given: Mapping[str, Any], kind: Kind) -> Query:
    """Read it. Numbers may be text, and lists text with commas, as a query string has them.

    Raises:
        ScimError: invalidFilter, invalidPath or invalidValue.
        InvalidInputError: no number where there should be one.
    """
    return Query(
        parse_filter(_text(given, "filter"), kind),
        parse_order(_text(given, "sortBy"), _text(given, "sortOrder"), kind),
        max(1, _number(given, "startIndex", 1)),
        min(max(0, _number(given, "count", MOST)), MOST),
        names(given.get("attributes")),
        names(given.get("excludedAttributes")),
    )


def names(given: object) -> tuple[str, ...]:
    """Names of attributes, as a list or as text with commas.

    Raises:
        ScimError: invalidValue.
    """
    listed = given.split(",") if isinstance(given, str) else given
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        message = "Attributes are named by texts."
        raise ScimError(ScimType.INVALID_VALUE, message)
    return tuple(one for one in listed[:_MAX_NAMES] if one.strip())


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        message = f"{name} is a text."
        raise ScimError(ScimType.INVALID_VALUE, message)
    return value


def _number(given: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = given.get(name)
    if value is None or value == "":
        return otherwise
    if isinstance(value, str) and len(value) < 11 and value.lstrip("-").isascii():
        try:
            value = int(value)
        except ValueError:
            value = None
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MAX_NUMBER:
        message = f"{name} is no number."
        raise InvalidInputError(message)
    return value
