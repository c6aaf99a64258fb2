"""Statements that every request needs, made once and run by the driver itself.

SQLAlchemy takes several times as long to carry a statement to the driver and its rows back as the
driver takes to run it. A prepared statement is still built by SQLAlchemy and compiled for each kind
of database; what is left for each run are its values and rows, converted as its types say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from sealwright.errors import InternalError

_Convert = Callable[[Any], Any] | None


@dataclass(frozen=True)
class _Value:
    """A place in the statement: a parameter by name, or a constant where it has none."""

    name: str | None
    constant: Any
    convert: _Convert

    def of(self, parameters: Mapping[str, Any]) -> Any:
        if self.name is None:
            return self.constant
        value = parameters[self.name]
        return value if self.convert is None else self.convert(value)


@dataclass(frozen=True)
class Form:
    """A statement as one kind of database takes it.

    Attributes:
        columns: names of what it returns, with what makes a value of what the driver gives.
    """

    text: str
    _values: tuple[_Value, ...]
    columns: tuple[tuple[str, _Convert], ...]

    def values(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        """The driver's arguments, in their order.

        Raises:
            KeyError: a parameter is missing.
        """
        return tuple([value.of(parameters) for value in self._values])

    def rows(self, found: Iterable[Sequence[Any]]) -> list[sa.RowMapping]:
        """What the driver returned, by the columns' names alone."""
        rows = [
            {
                name: value if convert is None else convert(value)
                for (name, convert), value in zip(self.columns, row, strict=True)
            }
            for row in found
        ]
        return cast("list[sa.RowMapping]", rows)


class Prepared:
    """A statement whose parameters are `sa.bindparam`s, or an INSERT of the columns that its rows
    name.

    Args:
        statement: not with a list that is expanded when it is run (``IN``).
    """

    def __init__(self, statement: sa.Select[Any] | sa.Insert | sa.Update) -> None:
        self.statement = statement
        self._by_columns = isinstance(statement, sa.Insert)
        self._forms: dict[tuple[str, ...], Form] = {}

    def form(self, dialect: sa.Dialect, parameters: Mapping[str, Any]) -> Form:
        """The form for this database and parameters of these names."""
        key = (dialect.name, *parameters) if self._by_columns else (dialect.name,)
        found = self._forms.get(key)
        if found is None:
            found = self._forms[key] = self._compile(dialect, list(parameters))
        return found

    def _compile(self, dialect: sa.Dialect, names: list[str]) -> Form:
        statement = self.statement
        returned = statement.exported_columns.items()
        if isinstance(statement, sa.Insert) and not len(returned):
            statement = statement.inline()  # nobody asks for keys that the database gave
        keys = names if self._by_columns else None
        compiled = statement.compile(dialect=dialect, column_keys=keys)
        distinct = len(dict(returned)) == len(returned)
        if not distinct or compiled.post_compile_params or compiled.positiontup is None:
            message = f"A statement cannot be prepared: {compiled}"
            raise InternalError(message)
        values = [_value(compiled.binds[name], dialect) for name in compiled.positiontup]
        return Form(
            str(compiled),
            tuple(values),
            tuple(
                (str(name), column.type.dialect_impl(dialect).result_processor(dialect, None))
                for name, column in returned
            ),
        )


def _value(bind: sa.BindParameter[Any], dialect: sa.Dialect) -> _Value:
    convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
    if bind.required:
        return _Value(bind.key, None, convert)
    constant = bind.effective_value
    return _Value(None, constant if convert is None else convert(constant), None)
