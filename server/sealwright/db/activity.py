"""Counting signing requests by project, to tell what is unusual.

Ids are UUIDs of version 7 (RFC 9562, 5.7), so that a span of time is a range of the index.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import signing_requests
from sealwright.model.request import State

_T = signing_requests
_EARLIER_USE = Prepared(
    sa.select(_T.c.id)
    .where(
        _T.c.project_id == sa.bindparam("project"),
        _T.c.certificate_id == sa.bindparam("certificate"),
        _T.c.id < sa.bindparam("request"),
    )
    .limit(1)
)


@dataclass(frozen=True)
class ProjectCount:
    """Requests of one project that were submitted within a span of time; how many have failed."""

    project_id: str
    submitted: int
    failed: int


async def by_project(
    tx: Transaction,
    organization_id: str,
    since: dt.datetime,
    until: dt.datetime,
    *,
    project_ids: Collection[str] | None = None,
) -> list[ProjectCount]:
    """Counts of every project that had any; only of `project_ids` where given."""
    conditions = [
        _T.c.organization_id == organization_id,
        _T.c.id >= _id_at(since),
        _T.c.id < _id_at(until),
    ]
    if project_ids is not None:
        conditions.append(_T.c.project_id.in_(sorted(project_ids)))
    failed = sa.func.sum(sa.case((_T.c.state == State.FAILED.value, 1), else_=0))
    rows = await tx.all(
        sa.select(_T.c.project_id, sa.func.count().label("submitted"), failed.label("failed"))
        .where(*conditions)
        .group_by(_T.c.project_id)
        .order_by(_T.c.project_id)
    )
    return [ProjectCount(row["project_id"], row["submitted"], int(row["failed"])) for row in rows]


async def was_used_before(
    tx: Transaction, project_id: str, certificate_id: str, request_id: str
) -> bool:
    """Whether the project had a request under the certificate before this one."""
    named = {"project": project_id, "certificate": certificate_id, "request": request_id}
    return await tx.one(_EARLIER_USE, **named) is not None


def _id_at(time: dt.datetime) -> str:
    """The least id that a request of that time can have."""
    milliseconds = int(time.timestamp() * 1000)
    text = f"{milliseconds:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-000000000000"
