"""Proposed artifact configurations, and trials of one on a sample."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import proposals, trials
from sealwright.model.proposal import Proposal, ProposalState, Trial, TrialState
from sealwright.model.request import StoredArtifact


def _trial(row: sa.RowMapping) -> Trial:
    fields: dict[str, Any] = dict(row)
    return Trial(
        **fields | {"state": TrialState(row["state"]), "sample": StoredArtifact(**row["sample"])}
    )


def _proposal(row: sa.RowMapping) -> Proposal:
    return Proposal(**dict(row) | {"state": ProposalState(row["state"])})


async def add_trial(tx: Transaction, trial: Trial) -> None:
    """Insert a trial; a worker takes it up."""
    await tx.change(trials.insert().values(**dataclasses.asdict(trial)))


async def get_trial(
    tx: Transaction, organization_id: str, project_id: str, trial_id: str
) -> Trial | None:
    """The trial with this id in this project."""
    row = await tx.one(
        sa.select(trials).where(
            trials.c.id == trial_id,
            trials.c.organization_id == organization_id,
            trials.c.project_id == project_id,
        )
    )
    return _trial(row) if row else None


async def unfinished_trials(tx: Transaction, organization_id: str) -> int:
    """How many trials of the organization wait or are being worked on."""
    row = await tx.one(
        sa.select(sa.func.count().label("n")).where(
            trials.c.organization_id == organization_id,
            trials.c.state.in_([TrialState.WAITING, TrialState.WORKING]),
        )
    )
    return int(row["n"]) if row else 0


def _due(stale: dt.datetime) -> sa.ColumnElement[bool]:
    """Waits, or is with a worker that has been gone since `stale`."""
    return sa.or_(
        trials.c.state == TrialState.WAITING.value,
        sa.and_(trials.c.state == TrialState.WORKING.value, trials.c.started_at < stale),
    )


async def is_due(tx: Transaction, stale: dt.datetime) -> bool:
    """Whether there is a trial to be done; see `take_trial`."""
    return await tx.one(sa.select(trials.c.id).where(_due(stale)).limit(1)) is not None


async def take_trial(tx: Transaction, now: dt.datetime, stale: dt.datetime) -> Trial | None:
    """Take the oldest trial that waits, or whose worker has been gone since `stale`."""
    row = await tx.one(sa.select(trials).where(_due(stale)).order_by(trials.c.id).limit(1))
    if row is None:
        return None
    taken = await tx.change(
        trials.update()
        .where(trials.c.id == row["id"], trials.c.state == row["state"], _due(stale))
        .values(state=TrialState.WORKING.value, started_at=now)
    )
    return dataclasses.replace(_trial(row), state=TrialState.WORKING) if taken == 1 else None


async def end_trial(tx: Transaction, trial: Trial) -> None:
    """Write what came of it."""
    await tx.change(
        trials.update()
        .where(trials.c.id == trial.id)
        .values(
            state=trial.state.value, xml=trial.xml, plan=trial.plan, tree=trial.tree,
            fault=trial.fault, advice=trial.advice, where=trial.where,
        )
    )  # fmt: skip


async def add(tx: Transaction, proposal: Proposal) -> None:
    """Insert a proposal."""
    await tx.change(proposals.insert().values(**dataclasses.asdict(proposal)))


async def get(
    tx: Transaction, organization_id: str, project_id: str, proposal_id: str
) -> Proposal | None:
    """The proposal with this id in this project."""
    row = await tx.one(
        sa.select(proposals).where(
            proposals.c.id == proposal_id,
            proposals.c.organization_id == organization_id,
            proposals.c.project_id == project_id,
        )
    )
    return _proposal(row) if row else None


async def of_projects(
    tx: Transaction,
    organization_id: str,
    project_ids: Sequence[str] | None,
    *,
    state: ProposalState | None = None,
    proposed_by: str | None = None,
    limit: int = 100,
) -> list[Proposal]:
    """Proposals of these projects (None: of all), newest first."""
    statement = sa.select(proposals).where(proposals.c.organization_id == organization_id)
    if project_ids is not None:
        statement = statement.where(proposals.c.project_id.in_(project_ids))
    if state is not None:
        statement = statement.where(proposals.c.state == state.value)
    if proposed_by is not None:
        statement = statement.where(proposals.c.proposed_by == proposed_by)
    rows = await tx.all(statement.order_by(proposals.c.id.desc()).limit(limit))
    return [_proposal(row) for row in rows]


async def decide(tx: Transaction, proposal: Proposal) -> bool:
    """Write the decision on an open proposal; False where somebody else was first."""
    return (
        await tx.change(
            proposals.update()
            .where(proposals.c.id == proposal.id, proposals.c.state == ProposalState.OPEN.value)
            .values(
                state=proposal.state.value,
                word=proposal.word,
                decided_by=proposal.decided_by,
                decided_at=proposal.decided_at,
                configuration_id=proposal.configuration_id,
            )
        )
        == 1
    )
