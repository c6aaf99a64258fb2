"""SCIM's filters (RFC 7644, 3.4.2.2) and paths of PATCH (3.5.2), read and matched.

A filter is read against a schema, so that an attribute that is not there, or a comparison that its
type does not have, is refused rather than never true. It is matched against documents as they are
sent.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sealwright.errors import InvalidInputError

MAX_FILTER = 4000  #: characters
_MAX_DEPTH = 20
_MAX_TERMS = 200
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<mark>[()\[\]])
    |(?P<text>"(?:[^"\\]|\\.)*")
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[A-Za-z$][\w$:.\-]*)
    )""",
    re.VERBOSE | re.ASCII,
)
_COMPARISONS = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
_OF_BOOLEANS = frozenset({"eq", "ne"})
_OF_TIMES = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})

Value = str | bool | float | None
Schema = Sequence[Mapping[str, Any]]


class ScimType(enum.StrEnum):
    """What is wrong with a request (RFC 7644, table 9)."""

    INVALID_FILTER = "invalidFilter"
    INVALID_PATH = "invalidPath"
    INVALID_SYNTAX = "invalidSyntax"
    INVALID_VALUE = "invalidValue"
    MUTABILITY = "mutability"
    NO_TARGET = "noTarget"


class ScimError(InvalidInputError):
    """A request that SCIM refuses with a type of its own (RFC 7644, 3.12)."""

    def __init__(self, scim_type: ScimType, message: str, *, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.scim_type = scim_type


@dataclass(frozen=True)
class Attribute:
    """What is compared: an attribute, or a part of a complex one.

    Attributes:
        path: names as the documents have them.
        kind: string, boolean or dateTime.
    """

    path: tuple[str, ...]
    kind: str
    case_exact: bool


@dataclass(frozen=True)
class Comparison:
    """``attribute operator value``; the operator ``pr`` (present) has no value."""

    attribute: Attribute
    operator: str
    value: Value


@dataclass(frozen=True)
class Both:
    """All of several (``and``)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Either:
    """One of several (``or``)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Negation:
    """``not (...)``."""

    part: Filter


@dataclass(frozen=True)
class OfValues:
    """``attribute[...]``: of one value of a multi-valued attribute all of that."""

    name: str
    part: Filter


Filter = Comparison | Both | Either | Negation | OfValues


@dataclass(frozen=True)
class Path:
    """What a PATCH is about.

    Attributes:
        attribute: lower-case, without its schema.
        among: the values of a multi-valued attribute that are meant; None: all.
        part: lower-case name of a sub-attribute; empty: the whole.
    """

    attribute: str
    among: Filter | None
    part: str


def parse_filter(text: str, schema: Schema, urn: str) -> Filter | None:
    """Read a filter; None where there is none.

    Args:
        schema: attributes as ``/Schemas`` shows them.
        urn: of the schema; names may begin with it.

    Raises:
        ScimError: invalidFilter.
    """
    if not text.strip():
        return None
    parser = _Parser(text, schema, urn, ScimType.INVALID_FILTER)
    found = parser.either(0)
    parser.end()
    return found


def parse_path(text: str, schema: Schema, urn: str) -> Path:
    """Read a path (3.5.2, figure 7): ``attribute``, ``attribute.part``, ``attribute[filter]`` or
    ``attribute[filter].part``. Attributes may be unknown, except where values of one are chosen.

    Raises:
        ScimError: invalidPath.
    """
    parser = _Parser(text, schema, urn, ScimType.INVALID_PATH)
    name, _, part = parser.name().partition(".")
    among = None
    if parser.take("["):
        if parser.knows(name):
            among = parser.values_of(name).part
        else:
            parser.skip_values()
        part = ""
        if (following := parser.rest()).startswith("."):
            part = following[1:]
            parser.drop()
    if part and not re.fullmatch(r"[A-Za-z$][\w$-]*", part, re.ASCII):
        parser.refuse()
    parser.end()
    return Path(name.lower(), among, part.lower())


def exact_terms(wanted: Filter | None) -> dict[str, str]:
    """Texts that attributes must equal for the filter to match at all, by lower-case dotted name:
    what a database finds by its indexes before anything is matched."""
    match wanted:
        case Comparison(attribute, "eq", str() as value):
            return {".".join(attribute.path).lower(): value}
        case Both(parts):
            found: dict[str, str] = {}
            for part in parts:
                found |= exact_terms(part)
            return found
    return {}


def matches(wanted: Filter, document: Mapping[str, Any]) -> bool:
    """Whether a document, or one value of an attribute, is what the filter asks for."""
    match wanted:
        case Both(parts):
            return all(matches(part, document) for part in parts)
        case Either(parts):
            return any(matches(part, document) for part in parts)
        case Negation(part):
            return not matches(part, document)
        case OfValues(name, part):
            values = document.get(name) or ()
            return any(isinstance(one, Mapping) and matches(part, one) for one in values)
        case Comparison():
            return _compare(wanted, list(_values(document, wanted.attribute.path)))


def _values(document: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(document, list | tuple):
        for one in document:
            yield from _values(one, path)
    elif not path:
        if document not in (None, ""):
            yield document
    elif isinstance(document, Mapping):
        yield from _values(document.get(path[0]), path[1:])


def _compare(wanted: Comparison, values: list[Any]) -> bool:
    if wanted.operator == "pr" or wanted.value is None:
        return bool(values) is (wanted.operator in {"pr", "ne"})
    if wanted.operator == "ne":
        return not any(_holds("eq", one, wanted) for one in values)
    return any(_holds(wanted.operator, one, wanted) for one in values)


def _holds(operator: str, present: Any, wanted: Comparison) -> bool:
    value: Any = wanted.value
    if wanted.attribute.kind == "dateTime":
        present, value = dt.datetime.fromisoformat(present), dt.datetime.fromisoformat(value)
    elif wanted.attribute.kind == "string" and not wanted.attribute.case_exact:
        present, value = present.lower(), value.lower()
    match operator:
        case "eq":
            return bool(present == value)
        case "co":
            return value in present
        case "sw":
            return bool(present.startswith(value))
        case "ew":
            return bool(present.endswith(value))
        case "gt":
            return bool(present > value)
        case "ge":
            return bool(present >= value)
        case "lt":
            return bool(present < value)
    return bool(present <= value)


class _Parser:
    """By recursive descent; what binds closest is read last."""

    def __init__(self, text: str, schema: Schema, urn: str, error: ScimType) -> None:
        self._error = error
        self._text = text
        self._at = 0
        self._terms = 0
        self._schema = schema
        self._urn = f"{urn.lower()}:"
        if len(text) > MAX_FILTER:
            self.refuse(f"It has more than {MAX_FILTER} characters.")

    def refuse(self, why: str = "") -> NoReturn:
        what = "filter" if self._error is ScimType.INVALID_FILTER else "path"
        message = f"The {what} {self._text[:100]!r} is not understood."
        raise ScimError(self._error, message, advice=why or "See RFC 7644, 3.4.2.2.")

    def either(self, depth: int) -> Filter:
        parts = [self._both(depth)]
        while self._word("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self, depth: int) -> Filter:
        parts = [self._one(depth)]
        while self._word("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self, depth: int) -> Filter:
        if depth >= _MAX_DEPTH:
            self.refuse("It is nested too deeply.")
        if self._negated():
            return Negation(self._grouped(depth))
        if self.take("("):
            return self._closed(depth, ")")
        self._terms += 1
        if self._terms > _MAX_TERMS:
            self.refuse(f"It has more than {_MAX_TERMS} comparisons.")
        name = self.name()
        if self.take("["):
            return self.values_of(name, depth)
        return self._comparison(name)

    def _negated(self) -> bool:
        """``not``, which nothing but a parenthesis may follow; an attribute may be called so."""
        before = self._at
        if self._word("not"):
            if self._peek().strip() == "(":
                return True
            self._at = before
        return False

    def _grouped(self, depth: int) -> Filter:
        self._expect("(")
        return self._closed(depth, ")")

    def _closed(self, depth: int, mark: str) -> Filter:
        found = self.either(depth + 1)
        self._expect(mark)
        return found

    def values_of(self, name: str, depth: int = 0) -> OfValues:
        """What follows ``name[``."""
        attribute = self._described(name, self._schema)
        if not attribute.get("multiValued"):
            self.refuse(f"{name} has one value.")
        outer, self._schema = self._schema, attribute["subAttributes"]
        try:
            return OfValues(attribute["name"], self._closed(depth, "]"))
        finally:
            self._schema = outer

    def skip_values(self) -> None:
        """A filter on an attribute that is not kept: what it says does not matter."""
        end = self._text.rfind("]")
        if end < self._at:
            self.refuse()
        self._at = end + 1

    def _comparison(self, name: str) -> Filter:
        attribute = self._attribute(name)
        operator = self._take_word().lower()
        if operator == "pr":
            return Comparison(attribute, operator, None)
        if operator not in _COMPARISONS:
            self.refuse("Compare by eq, ne, co, sw, ew, pr, gt, ge, lt or le.")
        value = self._value(attribute)
        allowed = {"boolean": _OF_BOOLEANS, "dateTime": _OF_TIMES}.get(attribute.kind, _COMPARISONS)
        if operator not in (_OF_BOOLEANS if value is None else allowed):
            self.refuse(f"{name} is not compared by {operator} to that.")
        return Comparison(attribute, operator, value)

    def _value(self, attribute: Attribute) -> Value:
        match = self._next()
        text = match["text"]
        try:
            value = json.loads(text or match["number"] or (match["word"] or "").lower())
        except ValueError:
            self.refuse("Values are JSON: text in double quotes, true, false, null or numbers.")
        if value is None:
            return None
        if attribute.kind == "boolean" and isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower())  # as Entra ID sends it
        is_flag = isinstance(value, bool)
        if is_flag is not (attribute.kind == "boolean") or not isinstance(value, bool | str):
            self.refuse(f"{'.'.join(attribute.path)} is a {attribute.kind}.")
        if isinstance(value, str) and attribute.kind == "dateTime" and not _is_time(value):
            self.refuse("Write times like 2026-01-31T12:00:00Z.")
        return value

    def _attribute(self, name: str) -> Attribute:
        first, _, second = name.partition(".")
        found = self._described(first, self._schema)
        path = [found["name"]]
        if found["type"] == "complex":
            # a multi-valued attribute stands for its values (RFC 7643, 2.4)
            if not second and not found["multiValued"]:
                self.refuse(f"{first} has parts: compare one of them.")
            found = self._described(second or "value", found["subAttributes"])
            path.append(found["name"])
        elif second:
            self.refuse(f"{first} has no parts.")
        kind = "string" if found["type"] == "reference" else found["type"]
        return Attribute(tuple(path), kind, found["caseExact"])

    def _described(self, name: str, schema: Schema) -> Mapping[str, Any]:
        for one in schema:
            if one["name"].lower() == name.lower():
                return one
        known = ", ".join(one["name"] for one in schema)
        return self.refuse(f"There is no attribute {name[:50]!r}; there are {known}.")

    def knows(self, name: str) -> bool:
        return any(one["name"].lower() == name.lower() for one in self._schema)

    def name(self) -> str:
        """An attribute's name without its schema."""
        name = self._take_word()
        if name.lower().startswith(self._urn):
            return name[len(self._urn) :]
        # of another schema, and so nothing that is kept here
        return name.replace(".", "_") if ":" in name else name

    def take(self, mark: str) -> bool:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match["mark"] != mark:
            return False
        self._at = match.end()
        return True

    def _expect(self, mark: str) -> None:
        if not self.take(mark):
            self.refuse(f"A {mark!r} is missing.")

    def _peek(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        return match[0] if match else ""

    def _next(self) -> re.Match[str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            self.refuse()
        self._at = match.end()
        return match

    def _take_word(self) -> str:
        return self._next()["word"] or self.refuse()

    def _word(self, word: str) -> bool:
        match = _TOKEN.match(self._text, self._at)
        if match is None or (match["word"] or "").lower() != word:
            return False
        self._at = match.end()
        return True

    def rest(self) -> str:
        return self._text[self._at :].rstrip()

    def drop(self) -> None:
        self._at = len(self._text)

    def end(self) -> None:
        if self.rest().strip():
            self.refuse(f"What follows {self._text[: self._at][-50:]!r} does not belong there.")


def _is_time(text: str) -> bool:
    try:
        return dt.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
