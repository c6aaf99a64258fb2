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
from sealwright.db.tables import approvals, artifact_configurations, signing_requests
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


async def waiting_on(
    tx: Transaction,
    organization_id: str,
    state: State,
    *,
    policy_id: str | None = None,
    configuration: tuple[str, str] | None = None,
    approver_id: str | None = None,
    limit: int = 500,
) -> list[SigningRequest]:
    """Requests in `state`, oldest first: those that rest on a policy, a configuration or somebody's
    approval, or all.

    Args:
        configuration: ids of its project, and its slug: all versions.
        approver_id: who has decided on them.
    """
    narrow: sa.ColumnElement[bool] = sa.true()
    if policy_id is not None:
        narrow = _T.c.signing_policy_id == policy_id
    elif configuration is not None:
        table = artifact_configurations
        versions = sa.select(table.c.id).where(
            table.c.organization_id == organization_id,
            table.c.project_id == configuration[0],
            table.c.slug == configuration[1],
        )
        narrow = _T.c.artifact_configuration_id.in_(versions)
    elif approver_id is not None:
        decided = sa.select(approvals.c.request_id).where(approvals.c.user_id == approver_id)
        narrow = _T.c.id.in_(decided)
    rows = await tx.all(
        select_requests()
        .where(
            _T.c.organization_id == organization_id,
            _T.c.state == state.value,
            _T.c.finished_at.is_(None),
            narrow,
        )
        .order_by(_T.c.id)
        .limit(limit)
    )
    return [request_of(row) for row in rows]


async def make_due(tx: Transaction, organization_id: str, state: State, now: dt.datetime) -> None:
    """Have a worker look at everything that is in `state`, where none works on it, at once."""
    await tx.change(
        _T.update()
        .where(
            _T.c.organization_id == organization_id,
            _T.c.state == state.value,
            _T.c.finished_at.is_(None),
        )
        .values(lease_until=now)
    )
