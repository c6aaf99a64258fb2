"""The tenant."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class Organization:
    """Every other row belongs to one organization, and every query is scoped by it."""

    id: str
    slug: str
    name: str
    created_at: dt.datetime
