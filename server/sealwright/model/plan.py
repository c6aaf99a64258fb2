"""Plans as they are stored: what is signed in an artifact, or would be."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass


class PlanState(enum.StrEnum):
    """What is known of what a request signs."""

    NONE = "none"  #: it signs a digest, or no worker has opened the artifact
    UNDER_WAY = "under-way"  #: a worker is to plan it for those who decide
    AHEAD = "ahead"  #: planned for those who decide
    UNKNOWN = "unknown"  #: it could not be planned for them: it is when it is signed
    MADE = "made"  #: what it is signed by


@dataclass(frozen=True)
class PlanStanding:
    """What a page says of a request's plan, without the plan.

    Attributes:
        warnings: what is done as asked, and may not be what is meant; the first of many.
    """

    state: PlanState
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredPlan:
    """A plan with what is shown of it.

    Attributes:
        sha256: of `text`, hexadecimal.
        text: canonical JSON of `signing.plan`.
        effect: equal for plans that do the same; see `signing.stored_plan.effect_of`.
        tree: of all members, as `model.member_tree` packs it; None: not stored.
        warnings: the first of them.
    """

    sha256: str
    text: str
    effect: str
    tree: bytes | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AheadClaim:
    """A worker's claim to plan a waiting request. Another worker's next one has another number."""

    request_id: str
    attempt: int
    until: dt.datetime
