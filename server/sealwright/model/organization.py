"""The tenant."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class Organization:
    """Every other row belongs to one organization, and every query is scoped by it.

    Attributes:
        artifact_days: how long artifacts are kept once their request is finished; 0: for good.
        details_days: how long the audit keeps addresses and values beside the log; 0: for good.
        results_days: how long it is kept what was done to each file, once the request is finished.
    """

    id: str
    slug: str
    name: str
    created_at: dt.datetime
    artifact_days: int = 0
    details_days: int = 0
    results_days: int = 0
