"""Refusals with a type of SCIM's own (RFC 7644, 3.12)."""

from __future__ import annotations

import enum

from sealwright.errors import InvalidInputError


class ScimType(enum.StrEnum):
    """What is wrong with a request (RFC 7644, table 9)."""

    INVALID_FILTER = "invalidFilter"
    INVALID_PATH = "invalidPath"
    INVALID_SYNTAX = "invalidSyntax"
    INVALID_VALUE = "invalidValue"
    MUTABILITY = "mutability"
    NO_TARGET = "noTarget"


class ScimError(InvalidInputError):
    """A request that SCIM refuses with a type of its own."""

    def __init__(self, scim_type: ScimType, message: str, *, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.scim_type = scim_type
