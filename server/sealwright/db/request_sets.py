"""Signing requests by what they have in common: a run, a commit, a wait, a change since.

However many there are: what may be long comes in batches, each in a transaction of its own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Collection, Sequence

import sqlalchemy as sa

from sealwright.db.database import Database, Transaction
from sealwright.db.request_search import RequestFilter, first_id
from sealwright.db.requests import request_of, search, select_requests
from sealwright.db.tables import signing_requests
from sealwright.model.request import SigningRequest, State

_T = signing_requests
_BATCH = 100
_ENDS = tuple(state.value for state in State if state.is_final)


async def of_run(
    tx: Transaction,
    organization_id: str,
    project_id: str,
    run_id: str,
    *,
    before: dt.datetime | None = None,
) -> list[SigningRequest]:
    """Requests of the project whose verified origin is the run, oldest first; only those from
    `before` where given. Runs of several build systems may have the same id: their origins tell."""
    older = [] if before is None else [_T.c.id < first_id(before)]
    rows = await tx.all(
        select_requests()
        .where(
            _T.c.organization_id == organization_id,
            _T.c.project_id == project_id,
            _T.c.run_id == run_id[:200],
            *older,
        )
        .order_by(_T.c.id)
    )
    return [one for one in map(request_of, rows) if one.origin.run_id == run_id]


async def of_commit(
    database: Database, organization_id: str, project_id: str, commit: str
) -> AsyncIterator[list[SigningRequest]]:
    """Requests of the project for the commit, newest first, in batches."""
    wanted = RequestFilter([project_id], text=commit)
    before: str | None = None
    while commit:
        async with database.read() as tx:
            found, before = await search(tx, organization_id, wanted, before=before, limit=_BATCH)
        yield [one for one in found if one.origin.commit == commit]
        if before is None:
            return


async def in_states(
    database: Database, organization_id: str, project_id: str, states: Collection[State]
) -> AsyncIterator[list[SigningRequest]]:
    """Requests of the project in one of the states, oldest first of each, in batches."""
    for state in states:
        after = ""
        while True:
            async with database.read() as tx:
                rows = await tx.all(
                    select_requests()
                    .where(
                        _T.c.organization_id == organization_id,
                        _T.c.project_id == project_id,
                        _T.c.state == state.value,
                        _T.c.id > after,
                    )
                    .order_by(_T.c.id)
                    .limit(_BATCH)
                )
            yield [request_of(row) for row in rows]
            if len(rows) < _BATCH:
                break
            after = rows[-1]["id"]


async def ended_since(
    database: Database, organization_id: str, project_id: str, since: dt.datetime
) -> AsyncIterator[list[SigningRequest]]:
    """Requests of the project that ended at `since` or later, by that time, in batches."""
    after = (since, "")
    while True:
        async with database.read() as tx:
            rows = await tx.all(
                select_requests()
                .where(
                    _T.c.organization_id == organization_id,
                    _T.c.project_id == project_id,
                    sa.tuple_(_T.c.updated_at, _T.c.id)
                    > sa.tuple_(sa.literal(after[0], _T.c.updated_at.type), after[1]),
                )
                .order_by(_T.c.updated_at, _T.c.id)
                .limit(_BATCH)
            )
        yield [request_of(row) for row in rows if row["state"] in _ENDS]
        if len(rows) < _BATCH:
            return
        after = (rows[-1]["updated_at"], rows[-1]["id"])


async def waiting_for_approval(
    tx: Transaction,
    organization_id: str,
    policy_ids: Sequence[str],
    *,
    after: str = "",
    limit: int = _BATCH,
) -> list[SigningRequest]:
    """Requests under these policies that wait for approvers, oldest first, after the id `after`."""
    if not policy_ids:
        return []
    rows = await tx.all(
        select_requests()
        .where(
            _T.c.organization_id == organization_id,
            _T.c.state == State.WAITING_FOR_APPROVAL.value,
            _T.c.signing_policy_id.in_(policy_ids),
            _T.c.id > after,
        )
        .order_by(_T.c.id)
        .limit(limit)
    )
    return [request_of(row) for row in rows]
