"""Canonical JSON: the subset of RFC 8785 (JCS) that the log needs.

Strings, integers within +-(2**53 - 1), booleans, null, lists and objects; no floating point, so
that no two implementations can differ on how a number is written. All else is RFC 8785: members
sorted by the UTF-16 code units of their names (3.2.3), the shortest escapes (3.2.2.2), no white
space, UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

from sealwright.errors import InvalidInputError

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | bool | None"

MAX_INTEGER = 2**53 - 1  #: RFC 8785, 3.2.2.3: what an IEEE 754 double holds exactly
MAX_DEPTH = 16  #: objects and lists within each other


def canonical(value: JSON) -> bytes:
    """Encode `value`.

    Raises:
        InvalidInputError: a type outside the subset, an integer out of range, a lone surrogate, or
            nesting deeper than `MAX_DEPTH`.
    """
    return _utf8(_ENCODER.encode(_ordered(value, MAX_DEPTH)))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        message = "A string holds half of a surrogate pair, which has no UTF-8 form."
        raise InvalidInputError(message) from None


def parse_canonical(raw: bytes) -> JSON:
    """Decode `raw`, which must be exactly what `canonical` would write.

    The caller bounds the length of `raw`.

    Raises:
        InvalidInputError: not JSON, outside the subset, or not in canonical form.
    """
    try:
        value: JSON = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        message = f"Not JSON of the canonical subset: {error}."
        raise InvalidInputError(message) from None
    if _again(value, raw) != raw:
        message = "JSON that is not in canonical form (RFC 8785)."
        raise InvalidInputError(message)
    return value


def _again(value: JSON, raw: bytes) -> bytes:
    """`canonical` of what was just decoded from `raw`, whose types and integers are of the subset.
    In ASCII names sort by code points; how deep it nests is bounded by how often it opens."""
    if raw.isascii() and raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return _utf8(_SORTING_ENCODER.encode(value))
    return canonical(value)


def _ordered(value: JSON, depth: int) -> JSON:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            message = "An integer is outside the range that JSON holds exactly."
            raise InvalidInputError(message, advice="Write it as a string.")
        return value
    if depth == 0:
        message = f"Objects and lists nest deeper than {MAX_DEPTH}."
        raise InvalidInputError(message)
    if isinstance(value, Mapping):
        return {name: _ordered(value[name], depth - 1) for name in _sorted_names(value)}
    if isinstance(value, (list, tuple)):
        return [_ordered(item, depth - 1) for item in value]
    message = f"A value of type {type(value).__name__} has no canonical form."
    raise InvalidInputError(
        message, advice="Use strings, integers, booleans, null, lists, objects."
    )


def _sorted_names(value: Mapping[str, JSON]) -> list[str]:
    if not all(isinstance(name, str) for name in value):
        message = "An object has a member whose name is not a string."
        raise InvalidInputError(message)
    # Code points and UTF-16 code units sort alike unless surrogate pairs are involved.
    if all(map(str.isascii, value)):
        return sorted(value)
    return sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))


def _integer(literal: str) -> int:
    value = int(literal)
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        message = f"the integer {literal[:32]} is outside the range that JSON holds exactly"
        raise ValueError(message)
    return value


def _refuse_number(literal: str) -> NoReturn:
    message = f"the number {literal[:32]} is not an integer"
    raise ValueError(message)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_SORTING_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
)
_DECODER = json.JSONDecoder(
    parse_int=_integer, parse_float=_refuse_number, parse_constant=_refuse_number
)
