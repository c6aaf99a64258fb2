"""Parameters of an artifact configuration: ``${name}`` in attributes.

Values come from whoever submits a request, attributes from whoever owns the configuration. A value
therefore is only ever text: in a path its wildcards are escaped, and it cannot bring in further
references.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from sealwright.errors import InvalidInputError

FILE_NAME = "file.name"
MAX_VALUE_LENGTH = 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Parameter:
    """One declared parameter.

    Attributes:
        default: used when the submission gives no value; None if there is none.
        required: the value must not be empty.
        where: line and column of its declaration.
    """

    name: str
    default: str | None
    required: bool
    where: str


def is_parameter_name(name: str) -> bool:
    """Letters, digits, ``_`` and ``-``, not starting with a digit or ``-``; at most 100."""
    return _NAME.fullmatch(name) is not None


def references(text: str) -> list[str]:
    """Names referred to in `text`, in order."""
    return _REFERENCE.findall(text)


def has_unclosed_reference(text: str) -> bool:
    """Whether a ``${`` lacks its ``}``."""
    return "${" in _REFERENCE.sub("", text)


def substitute(
    text: str, values: Mapping[str, str], escape: Callable[[str], str] = lambda value: value
) -> str:
    """Replace the references that `values` names, in one pass; leave all others as they are."""

    def value_of(match: re.Match[str]) -> str:
        value = values.get(match[1])
        return match[0] if value is None else escape(value)

    return _REFERENCE.sub(value_of, text)


def did_you_mean(name: str, candidates: Sequence[str]) -> str:
    """Advice that names the nearest candidate, or all of them."""
    near = get_close_matches(name, candidates, n=1, cutoff=0.6)
    if near:
        return f'Did you mean "{near[0]}"?'
    known = ", ".join(candidates)
    return f"Known are: {known}." if 0 < len(candidates) <= 40 else ""


def parameter_values(declared: Sequence[Parameter], given: Mapping[str, str]) -> Mapping[str, str]:
    """Complete the submitted values with defaults.

    Raises:
        InvalidInputError: a value for an undeclared parameter, a required one without a value, or a
            value that is too long or has control characters or a reference.
    """
    names = [parameter.name for parameter in declared]
    for name in given:
        if name not in names:
            message = f'The artifact configuration has no parameter "{name}".'
            raise InvalidInputError(message, advice=did_you_mean(name, names))
    values = {p.name: given.get(p.name, p.default or "") for p in declared}
    for parameter in declared:
        _check_value(parameter, values[parameter.name])
    return values


def _check_value(parameter: Parameter, value: str) -> None:
    problem = ""
    if parameter.required and not value:
        problem = "needs a value"
    elif len(value) > MAX_VALUE_LENGTH:
        problem = f"is longer than {MAX_VALUE_LENGTH} characters"
    elif any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in value):
        problem = "has control characters"
    elif "${" in value:
        problem = 'contains "${"; a value cannot refer to another'
    if problem:
        message = f'Parameter "{parameter.name}" {problem}.'
        raise InvalidInputError(
            message, where=parameter.where, advice="Submit another value for it."
        )
