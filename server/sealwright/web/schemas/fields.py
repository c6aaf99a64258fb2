"""Types of fields, and what all forms have in common."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from sealwright.model.identifiers import is_slug
from sealwright.origin.patterns import is_pattern

MAX_WAIT_SECONDS = 60
MAX_PARAMETERS = 64
PARAMETER_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def without_controls(text: str) -> str:
    if _CONTROL.search(text):
        message = "holds control characters"
        raise ValueError(message)
    return text


def _slug(text: str) -> str:
    if not is_slug(text):
        message = "is no slug: lower-case letters, digits, '.', '_', '-', at most 100"
        raise ValueError(message)
    return text


def _plain_url(text: str) -> str:
    """Addresses that people and commit checks see: no credentials in them."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        fine = parts.scheme in {"http", "https", "ssh", "git"} and parts.hostname is not None
    except ValueError:
        fine = False
    if not fine or parts.password is not None:
        message = "is no URL, or holds a password"
        raise ValueError(message)
    return text


Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(without_controls)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(without_controls),
]
Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(without_controls)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Slug = Annotated[str, AfterValidator(_slug)]
Url = Annotated[
    str,
    StringConstraints(max_length=2000),
    AfterValidator(without_controls),
    AfterValidator(_plain_url),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$", to_lower=True)]
Email = Annotated[
    str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]{1,250}$", to_lower=True, max_length=320)
]
ParameterName = Annotated[str, StringConstraints(pattern=PARAMETER_NAME)]
Parameters = Annotated[dict[ParameterName, Text], Field(max_length=MAX_PARAMETERS)]
UserIds = Annotated[frozenset[str], Field(max_length=500)]


def _pattern(text: str) -> str:
    if not is_pattern(text):
        message = "is no pattern: 1 to 300 characters, every '[' closed"
        raise ValueError(message)
    return text


Pattern = Annotated[
    str,
    StringConstraints(max_length=300),
    AfterValidator(without_controls),
    AfterValidator(_pattern),
]


class In(BaseModel):
    """What a client sends: nothing that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """What the server answers."""

    model_config = ConfigDict(frozen=True)
