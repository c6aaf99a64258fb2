"""Decisions on signing requests: approvals and denials."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import approvals, users
from sealwright.model.passkey import Assertion
from sealwright.model.request import Approval, Verdict

_OF_REQUEST = Prepared(
    sa.select(approvals, users.c.name.label("user_name"))
    .join_from(approvals, users, approvals.c.user_id == users.c.id)
    .where(approvals.c.request_id == sa.bindparam("request"))
    .order_by(approvals.c.id)
)


async def add(tx: Transaction, organization_id: str, approval: Approval) -> None:
    """Insert a decision. One per user and request: check `of_request` under the request's lock."""
    await tx.change(
        approvals.insert().values(
            id=approval.id,
            organization_id=organization_id,
            request_id=approval.request_id,
            user_id=approval.user_id,
            verdict=approval.verdict.value,
            comment=approval.comment,
            decided_at=approval.decided_at,
            assertion=_assertion_to_json(approval.assertion),
        )
    )


async def of_request(tx: Transaction, request_id: str) -> list[Approval]:
    """Every decision on the request, oldest first."""
    rows = await tx.all(_OF_REQUEST, request=request_id)
    return [
        Approval(
            id=row["id"],
            request_id=row["request_id"],
            user_id=row["user_id"],
            user_name=row["user_name"],
            verdict=Verdict(row["verdict"]),
            comment=row["comment"],
            decided_at=row["decided_at"],
            assertion=_assertion_from_json(row["assertion"]),
        )
        for row in rows
    ]


def _assertion_to_json(assertion: Assertion | None) -> dict[str, str] | None:
    if assertion is None:
        return None
    return {
        field.name: base64.b64encode(getattr(assertion, field.name)).decode()
        for field in dataclasses.fields(assertion)
    }


def _assertion_from_json(value: Mapping[str, str] | None) -> Assertion | None:
    """None also where it is damaged: then nothing has been asserted."""
    if value is None:
        return None
    try:
        return Assertion(**{name: base64.b64decode(text) for name, text in value.items()})
    except (TypeError, ValueError):
        return None
