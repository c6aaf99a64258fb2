"""What is looked for among rows: conditions over named fields, and an order.

Who reads a search makes these; `db.conditions` makes SQL of them. A condition is either true or
false, never unknown: a field that is empty equals nothing.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = str | bool | dt.datetime | None


class Operator(enum.StrEnum):
    """How a field is compared (RFC 7644, 3.4.2.2, table 3; ``ne`` is a `Negation`)."""

    EQ = "eq"
    CO = "co"
    SW = "sw"
    EW = "ew"
    GT = "gt"
    GE = "ge"
    LT = "lt"
    LE = "le"
    PR = "pr"


@dataclass(frozen=True)
class Term:
    """``field operator value``; `PR` (present) has no value."""

    field: str
    operator: Operator
    value: Value = None


@dataclass(frozen=True)
class AnyOf:
    """One value of a field with several is what `part` asks for, whose terms name that field."""

    field: str
    part: Condition


@dataclass(frozen=True)
class Both:
    """All of several."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Either:
    """One of several."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Negation:
    """Not that."""

    part: Condition


@dataclass(frozen=True)
class Always:
    """The same for every row: `holds`."""

    holds: bool


Condition = Term | AnyOf | Both | Either | Negation | Always


@dataclass(frozen=True)
class Order:
    """By a field; rows without it come last, and first where `descending`."""

    field: str
    descending: bool = False


def holds(wanted: Condition, row: Mapping[str, Any]) -> bool:
    """Whether a row, of fields with one value each, is what the condition asks for."""
    match wanted:
        case Both(parts):
            return all(holds(part, row) for part in parts)
        case Either(parts):
            return any(holds(part, row) for part in parts)
        case Negation(part):
            return not holds(part, row)
        case AnyOf(_, part):
            return holds(part, row)
        case Always(answer):
            return answer
        case Term(field, operator, value):
            return compare(operator, row.get(field), value)


def compare(operator: Operator, present: Value, wanted: Value) -> bool:
    """``present operator wanted``. Texts are compared as they are."""
    if operator is Operator.PR:
        return present is not None
    if wanted is None:
        return present is None
    if present is None:
        return False
    left: Any = present
    right: Any = wanted
    match operator:
        case Operator.EQ:
            return bool(left == right)
        case Operator.CO:
            return right in left
        case Operator.SW:
            return bool(left.startswith(right))
        case Operator.EW:
            return bool(left.endswith(right))
        case Operator.GT:
            return bool(left > right)
        case Operator.GE:
            return bool(left >= right)
        case Operator.LT:
            return bool(left < right)
    return bool(left <= right)


def pinned(wanted: Condition, field: str) -> frozenset[str] | None:
    """The values of `field` that a row can have which is what the condition asks for; None: any."""
    match wanted:
        case Term(name, Operator.EQ, str() as value) if name == field:
            return frozenset({value})
        case AnyOf(_, part):
            return pinned(part, field)
        case Both(parts):
            found = [one for one in (pinned(part, field) for part in parts) if one is not None]
            return frozenset.intersection(*found) if found else None
        case Either(parts):
            each = [pinned(part, field) for part in parts]
            named = [one for one in each if one is not None]
            return frozenset().union(*named) if len(named) == len(each) else None
    return None
