"""Plans: those that requests are signed by, and those made ahead for who decides.

A plan ahead is work with a claim, `due_at`: whoever takes it up counts an attempt and writes only
as long as nobody has counted another, and the request still waits for approval.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import plans, plans_ahead, signing_requests
from sealwright.model.plan import AheadClaim, PlanStanding, PlanState, StoredPlan
from sealwright.model.request import State

_A = plans_ahead
_STANDING = Prepared(
    sa.select(
        plans.c.sha256.label("made"),
        plans.c.warnings,
        _A.c.sha256.label("ahead"),
        _A.c.warnings.label("warnings_ahead"),
        _A.c.due_at,
    )
    .select_from(
        signing_requests.outerjoin(plans, plans.c.request_id == signing_requests.c.id).outerjoin(
            _A, _A.c.request_id == signing_requests.c.id
        )
    )
    .where(signing_requests.c.id == sa.bindparam("request"))
)


async def put(tx: Transaction, request_id: str, plan: StoredPlan, now: dt.datetime) -> None:
    """Store the plan that the request is signed by: a later attempt finds its own already there.
    It takes the place of the one that was made ahead."""
    await tx.change(
        plans.insert().values(
            request_id=request_id,
            sha256=plan.sha256,
            plan=plan.text,
            tree=plan.tree,
            warnings=list(plan.warnings) or None,
            created_at=now,
        )
    )
    await tx.change(_A.delete().where(_A.c.request_id == request_id))


async def get(tx: Transaction, request_id: str) -> str | None:
    """The text of the plan that the request is signed by."""
    row = await tx.one(sa.select(plans.c.plan).where(plans.c.request_id == request_id))
    return row["plan"] if row else None


async def shown(tx: Transaction, request_id: str) -> tuple[str, str, bool] | None:
    """What is signed, or would be: SHA-256 and text of the plan, and whether it was made ahead."""
    for table in (plans, _A):
        row = await tx.one(
            sa.select(table.c.sha256, table.c.plan).where(
                table.c.request_id == request_id, table.c.sha256 != ""
            )
        )
        if row is not None:
            return row["sha256"], row["plan"], table is _A
    return None


async def tree(tx: Transaction, request_id: str) -> bytes | None:
    """The stored tree of all members, also of a plan made ahead; None for requests from before
    trees were stored."""
    for table in (plans, _A):
        row = await tx.one(sa.select(table.c.tree).where(table.c.request_id == request_id))
        if row is not None:
            packed: bytes | None = row["tree"]
            return packed
    return None


async def standing(tx: Transaction, request_id: str) -> PlanStanding:
    """What is known of what the request signs."""
    row = await tx.one(_STANDING, request=request_id)
    if row is None:
        return PlanStanding(PlanState.NONE)
    if row["made"]:
        return PlanStanding(PlanState.MADE, tuple(row["warnings"] or ()))
    if row["ahead"]:
        return PlanStanding(PlanState.AHEAD, tuple(row["warnings_ahead"] or ()))
    if row["ahead"] is None:
        return PlanStanding(PlanState.NONE)
    return PlanStanding(PlanState.UNDER_WAY if row["due_at"] else PlanState.UNKNOWN)


async def ask_ahead(tx: Transaction, request_id: str, now: dt.datetime) -> None:
    """Have the request planned for who decides on it. A worker takes it up."""
    await tx.change(
        _A.insert().values(
            request_id=request_id, attempts=0, due_at=now, sha256="", effect="", plan="",
            created_at=now,
        )
    )  # fmt: skip


async def due_ahead(tx: Transaction, before: dt.datetime, *, limit: int = 500) -> list[str]:
    """Ids of requests whose plan ahead was due before: lost in the queue, left by a worker that is
    gone, or to be tried again. The longest due come first."""
    rows = await tx.all(
        sa.select(_A.c.request_id).where(_A.c.due_at < before).order_by(_A.c.due_at).limit(limit)
    )
    return [row["request_id"] for row in rows]


async def claim_ahead(
    tx: Transaction, request_id: str, now: dt.datetime, until: dt.datetime
) -> AheadClaim | None:
    """Take up the plan of a waiting request until then; None where it is not due, or another
    worker was first. Of a request that waits no more it is not due again."""
    row = await tx.one(
        sa.select(_A.c.attempts, signing_requests.c.state)
        .join_from(_A, signing_requests, _A.c.request_id == signing_requests.c.id)
        .where(_A.c.request_id == request_id, _A.c.due_at <= now)
    )
    if row is None:
        return None
    if row["state"] != State.WAITING_FOR_APPROVAL.value:
        await tx.change(_held(request_id, row["attempts"]).values(due_at=None))
        return None
    taken = await tx.change(
        _held(request_id, row["attempts"])
        .where(_A.c.due_at <= now)
        .values(attempts=row["attempts"] + 1, due_at=until)
    )
    return AheadClaim(request_id, row["attempts"] + 1, until) if taken == 1 else None


async def renew_ahead(tx: Transaction, claim: AheadClaim, until: dt.datetime) -> bool:
    """Extend the claim; False where it was lost, or the request waits no more."""
    waits = sa.exists().where(
        signing_requests.c.id == claim.request_id,
        signing_requests.c.state == State.WAITING_FOR_APPROVAL.value,
    )
    renewed = _held(claim.request_id, claim.attempt).where(waits).values(due_at=until)
    return await tx.change(renewed) == 1


async def end_ahead(
    tx: Transaction,
    claim: AheadClaim,
    plan: StoredPlan | None,
    *,
    again: dt.datetime | None = None,
    uncounted: bool = False,
) -> bool:
    """Write what came of it; False where the claim was lost.

    Args:
        plan: None: none was made.
        again: when it is due again; None: never.
        uncounted: the attempt was broken off through no fault of the request.
    """
    values: dict[str, Any] = {"due_at": again}
    if uncounted:
        values["attempts"] = claim.attempt - 1
    if plan is not None:
        values |= {
            "sha256": plan.sha256,
            "effect": plan.effect,
            "plan": plan.text,
            "tree": plan.tree,
            "warnings": list(plan.warnings) or None,
        }
    return await tx.change(_held(claim.request_id, claim.attempt).values(values)) == 1


async def effect_ahead(tx: Transaction, request_id: str) -> str:
    """`StoredPlan.effect` of what was shown to who decided; empty: nothing was."""
    row = await tx.one(sa.select(_A.c.effect).where(_A.c.request_id == request_id))
    return row["effect"] if row else ""


def _held(request_id: str, attempt: int) -> sa.Update:
    return _A.update().where(
        _A.c.request_id == request_id, _A.c.attempts == attempt, _A.c.due_at.is_not(None)
    )
