"""Queries of lists, and of who waits."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field, StringConstraints

from sealwright.model.request import State
from sealwright.web.schemas.fields import MAX_WAIT_SECONDS, In, Line, Reference


class PageQuery(In):
    """Paging of a list."""

    cursor: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="`next_cursor` of the page before"
    )
    limit: int = Field(50, ge=1, le=200)


class RequestsQuery(PageQuery):
    """Which signing requests to list."""

    project: Reference | None = Field(None, description="id or slug")
    signing_policy: Reference | None = Field(None, description="id")
    state: State | None = None
    submitter: Reference | None = Field(None, description="id of a user, or `me`")
    submitted_from: dt.date | None = Field(None, description="of this day (UTC) or later")
    submitted_to: dt.date | None = Field(None, description="of this day (UTC) or earlier")
    text: Line = Field(
        "",
        description="words, each perhaps only begun, of file names, SHA-256, commit, description",
    )


class WaitQuery(In):
    """How long to wait, and for what."""

    wait: int = Field(
        0, ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait until the state is final"
    )
    known: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{0,100}$")] = Field(
        "",
        description="the `version` that the caller has seen: the wait ends with any other one, too",
    )
