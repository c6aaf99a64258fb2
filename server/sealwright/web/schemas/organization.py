"""What the API takes and answers about the organization itself."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

from sealwright.web.schemas.fields import In, Name, Out

MOST_DAYS = 36_500


class OrganizationPatch(In):
    """What of the organization changes."""

    name: Name | None = None
    artifact_days: int | None = Field(
        None,
        ge=0,
        le=MOST_DAYS,
        description="days that artifacts are kept once their request is finished; 0: for good",
    )
    details_days: int | None = Field(
        None,
        ge=0,
        le=MOST_DAYS,
        description="days that the audit keeps addresses and values; 0: for good",
    )
    results_days: int | None = Field(
        None,
        ge=0,
        le=MOST_DAYS,
        description="days that plans and per-file results are kept once their request is finished; "
        "0: for good",
    )


class OrganizationOut(Out):
    """The organization. Days are those of the rules of retention; 0: for good."""

    id: str
    slug: str
    name: str
    created_at: dt.datetime
    artifact_days: int
    details_days: int
    results_days: int
