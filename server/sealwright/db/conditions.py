"""Conditions and orders as SQL, the same on both databases."""

from __future__ import annotations

import operator as op
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.errors import InternalError
from sealwright.model.conditions import (
    Always,
    AnyOf,
    Both,
    Condition,
    Either,
    Negation,
    Operator,
    Order,
    Term,
)


@dataclass(frozen=True)
class Several:
    """A field with several values: `value` in the rows of another table that are `of` this one."""

    value: sa.Column[Any]
    of: sa.ColumnElement[bool]


_BY_ORDER = {
    Operator.GT: op.gt,
    Operator.GE: op.ge,
    Operator.LT: op.lt,
    Operator.LE: op.le,
}


@dataclass(frozen=True)
class Fallback:
    """A field that is `first`, and `second` where that is NULL."""

    first: sa.Column[Any]
    second: sa.Column[Any]

    def value(self) -> sa.ColumnElement[Any]:
        """As one expression, which no index knows."""
        return sa.func.coalesce(self.first, self.second)


Columns = Mapping[str, sa.ColumnElement[Any] | Several | Fallback]


def clause(tx: Transaction, wanted: Condition, columns: Columns) -> sa.ColumnElement[bool]:
    """The condition as SQL that is never NULL.

    Args:
        columns: what the condition's fields are.
    """
    match wanted:
        case Both(parts):
            return sa.and_(*(clause(tx, part, columns) for part in parts))
        case Either(parts):
            return sa.or_(*(clause(tx, part, columns) for part in parts))
        case Negation(part):
            return sa.not_(clause(tx, part, columns))
        case Always(answer):
            return sa.true() if answer else sa.false()
        case AnyOf(field, part):
            several = columns[field]
            if not isinstance(several, Several):
                return clause(tx, part, columns)
            inner = clause(tx, part, {**columns, field: several.value})
            return sa.exists().where(several.of, inner)
        case Term(field, operator, value):
            column = columns[field]
            if isinstance(column, Several):
                message = f"{field} has several values."
                raise InternalError(message)
            if isinstance(column, Fallback):
                if operator is not Operator.EQ or value is None:
                    return _compared(tx, column.value(), operator, value)
                second = sa.and_(column.first.is_(None), column.second == value)
                return sa.or_(sa.and_(column.first.is_not(None), column.first == value), second)
            return _compared(tx, column, operator, value)


def _compared(
    tx: Transaction, column: sa.ColumnElement[Any], operator: Operator, value: Any
) -> sa.ColumnElement[bool]:
    if operator is Operator.PR:
        return column.is_not(None)
    if value is None:
        return column.is_(None)
    if operator is Operator.EQ:
        return sa.and_(column.is_not(None), column == value)
    return sa.and_(column.is_not(None), _ordered(tx, column, operator, value))


def _ordered(
    tx: Transaction, column: sa.ColumnElement[Any], operator: Operator, value: Any
) -> sa.ColumnElement[bool]:
    match operator:
        case Operator.CO:
            find = sa.func.strpos if tx.is_postgresql else sa.func.instr
            contains: sa.ColumnElement[bool] = find(column, value) > 0
            return contains
        case Operator.SW:
            return sa.and_(sa.func.substr(column, 1, len(value)) == value)
        case Operator.EW:
            length = sa.func.length(column, type_=sa.Integer())
            tail = sa.func.substr(column, length - len(value) + 1)
            return sa.and_(length >= len(value), tail == value)
    compared: sa.ColumnElement[bool] = _BY_ORDER[operator](_by_code(tx, column), value)
    return compared


def ordered(tx: Transaction, order: Order | None, columns: Columns, key: Any) -> list[Any]:
    """What to sort by: the order's field, and the key where that is the same."""
    if order is None:
        return [key]
    column = columns[order.field]
    if isinstance(column, Several):
        message = f"{order.field} has several values."
        raise InternalError(message)
    by_code = _by_code(tx, column.value() if isinstance(column, Fallback) else column)
    by = by_code.desc().nulls_first() if order.descending else by_code.asc().nulls_last()
    return [by, key]


def _by_code(tx: Transaction, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Texts in the order of their code points, as SQLite has them anyway."""
    if tx.is_postgresql and isinstance(column.type, sa.String):
        return sa.collate(column, "C")
    return column
