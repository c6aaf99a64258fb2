"""SCIM's filters (RFC 7644, 3.4.2.2), orders (3.4.2.3) and paths of PATCH (3.5.2).

Their grammar is `scim2_models`'. Here they become conditions over the fields that are kept, so that
an attribute that is not there, or a comparison that its type does not have, is refused rather than
never true.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from dataclasses import dataclass
from typing import Any, NoReturn

from scim2_models import Resource, SCIMException
from scim2_models.path import (
    AttributeBinding,
    AttrPath,
    CompareOperator,
    Comparison,
    FilterNode,
    LogicalExpr,
    LogicalOperator,
    Not,
    Path,
    PathNode,
    Present,
    ScimFilter,
    ValuePath,
    coerce_value,
)

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
    Value,
    compare,
)
from sealwright.model.user import folded
from sealwright.scim.errors import ScimError, ScimType
from sealwright.scim.schema import Kept, Kind

MAX_FILTER = 4000  #: characters
_MAX_TERMS = 200


@dataclass(frozen=True)
class Target:
    """What a PATCH is about.

    Attributes:
        attribute: lower-case; without its schema, if that is the kind's.
        among: the values of a multi-valued attribute that are meant; None: all.
        part: lower-case name of a sub-attribute; empty: the whole.
    """

    attribute: str
    among: Condition | None
    part: str


def parse_filter(text: str, kind: Kind) -> Condition | None:
    """Read a filter; None where there is none.

    Raises:
        ScimError: invalidFilter.
    """
    if not text.strip():
        return None
    return _Reader(text, kind, ScimType.INVALID_FILTER).filter()


def parse_path(text: str, kind: Kind) -> Target:
    """Read a path: ``attribute``, ``attribute.part``, ``attribute[filter]`` or
    ``attribute[filter].part``. Attributes may be unknown.

    Raises:
        ScimError: invalidPath.
    """
    reader, lower = _Reader(text, kind, ScimType.INVALID_PATH), text.lower()
    if lower.startswith("urn:") and not lower.startswith(f"{kind.urn.lower()}:"):
        return Target(lower, None, "")  # of another schema, and so nothing that is kept here
    node = reader.path()
    match node:
        case AttrPath(name, part):
            return Target(name.lower(), None, (part or "").lower())
        case ValuePath(path, _, part):
            return Target(path.attr.lower(), reader.among(node), (part or "").lower())
    return reader.refuse()


def parse_order(sort_by: str, sort_order: str, kind: Kind) -> Order | None:
    """Read what to sort by; None where nothing is asked for, or all have the same.

    Raises:
        ScimError: invalidPath: there is no such attribute, or it has several values; invalidValue.
    """
    if not sort_by.strip():
        return None
    if sort_order.lower() not in {"", "ascending", "descending"}:
        message = "sortOrder is ascending or descending."
        raise ScimError(ScimType.INVALID_VALUE, message)
    reader = _Reader(sort_by, kind, ScimType.INVALID_PATH)
    node = reader.path()
    if not isinstance(node, AttrPath):
        reader.refuse()
    kept, _ = reader.kept(node)
    if kept.several:
        reader.refuse("It has several values.")
    return None if kept.fixed is not None else Order(kept.field, sort_order.lower() == "descending")


class _Reader:
    """One text, read against one kind of resources."""

    def __init__(self, text: str, kind: Kind, error: ScimType) -> None:
        self._text = text
        self._kind = kind
        self._error = error
        self._terms = 0
        if len(text) > MAX_FILTER:
            self.refuse(f"It has more than {MAX_FILTER} characters.")

    def refuse(self, why: str = "") -> NoReturn:
        what = "filter" if self._error is ScimType.INVALID_FILTER else "path"
        message = f"The {what} {self._text[:100]!r} is not understood."
        raise ScimError(self._error, message, advice=why or "See RFC 7644, 3.4.2.2.")

    def filter(self) -> Condition:
        """The text as a filter."""
        try:
            node = ScimFilter[self._kind.model](self._text).ast  # type: ignore[name-defined]
        except SCIMException as error:
            self.refuse(error.detail)
        return self._condition(node)

    def path(self) -> PathNode:
        """The text as a path, which is not empty."""
        try:
            node = Path(self._text).ast
        except SCIMException as error:
            self.refuse(error.detail)
        return node if node is not None else self.refuse()

    def among(self, node: ValuePath) -> Condition | None:
        """Which values a path chooses; None: of an attribute that is not kept."""
        if self._binding(node.attr_path) is None:
            return None
        whole = dataclasses.replace(node, sub_attr=None)
        try:
            ScimFilter[self._kind.model](whole)  # type: ignore[name-defined]
        except SCIMException as error:
            self.refuse(error.detail)
        return self._condition(whole)

    def kept(self, path: AttrPath) -> tuple[Kept, AttributeBinding]:
        """Where the attribute's value is, or a refusal."""
        found = self._binding(path)
        kept = None
        if found is not None:
            kept = self._kind.attributes.get((found.field_name, found.sub_field_name))
        if found is None or kept is None:
            self.refuse(f"{str(path)[:100]!r} is not compared here; /Schemas says what there is.")
        return kept, found

    def _binding(self, path: AttrPath) -> AttributeBinding | None:
        """The attribute; of a multi-valued one with parts its ``value`` (RFC 7643, 2.4)."""
        return _binder(self._kind.model).resolve_comparison(path, strict=False)

    def _condition(self, node: FilterNode, within: AttrPath | None = None) -> Condition:
        match node:
            case LogicalExpr(operator, terms):
                parts = tuple(self._condition(one, within) for one in terms)
                return Both(parts) if operator is LogicalOperator.and_ else Either(parts)
            case Not(part):
                return Negation(self._condition(part, within))
            case ValuePath(path, part):
                kept, _ = self.kept(path)
                return AnyOf(kept.field, self._condition(part, path))
            case Present(path):
                return self._term(path, Operator.PR, None, within)
            case Comparison(path, CompareOperator.ne, value):  # none of several values equals it
                return Negation(self._term(path, Operator.EQ, value, within))
            case Comparison(path, operator, value):
                return self._term(path, Operator(operator.value), value, within)
        return self.refuse()

    def _term(
        self, path: AttrPath, operator: Operator, value: object, within: AttrPath | None
    ) -> Condition:
        self._terms += 1
        if self._terms > _MAX_TERMS:
            self.refuse(f"It has more than {_MAX_TERMS} comparisons.")
        if within is not None:
            path = AttrPath(within.attr, path.attr, within.uri)
        kept, attribute = self.kept(path)
        wanted = None if operator is Operator.PR else self._value(attribute, operator, value)
        term: Condition = Term(kept.field, operator, wanted)
        if kept.fixed is not None:
            fixed = attribute.comparable(kept.fixed)
            present = Term(kept.field, Operator.PR)
            term = Both((present, Always(compare(operator, fixed, wanted))))
        if within is not None or not kept.several:
            return term
        if operator is not Operator.PR and wanted is None:
            return Negation(AnyOf(kept.field, Term(kept.field, Operator.PR)))
        return AnyOf(kept.field, term)

    def _value(self, attribute: AttributeBinding, operator: Operator, given: object) -> Value:
        try:
            value = coerce_value(attribute, given, CompareOperator(operator.value))
        except SCIMException as error:
            self.refuse(error.detail)
        if value is None and operator is not Operator.EQ:
            self.refuse("Only eq and ne compare with null.")
        if attribute.target_type is dt.datetime:
            if value is not None and (not isinstance(value, dt.datetime) or value.tzinfo is None):
                self.refuse("Write times like 2026-01-31T12:00:00Z, and compare them whole.")
        elif isinstance(value, str):
            if not value.isprintable():
                self.refuse("Texts are printable.")
            return value if attribute.case_exact else folded(value)
        if value is None or isinstance(value, bool | dt.datetime):
            return value
        return self.refuse("Values are texts, true, false, null or times.")


@functools.cache
def _binder(model: type[Resource[Any]]) -> ScimFilter[Any]:
    """Something to ask what an attribute is."""
    return ScimFilter[model]("id pr")  # type: ignore[valid-type]
