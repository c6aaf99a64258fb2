"""Errors."""

from __future__ import annotations

from pydantic import Field

from sealwright.web.schemas.fields import Out


class RefusalOut(Out):
    """A rule that does not hold."""

    error: str
    how_to_fix: str


class ProblemOut(Out):
    """An error (RFC 9457). `code` is stable."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    advice: str
    where: str
    request_id: str
    errors: list[RefusalOut] = Field(description="each rule of the origin that does not hold")
