"""Unusual activity: told to global administrators and written to the log, once a day for each.

None of it stops a request. It is what somebody who holds a stolen token, or has talked an
administrator into something, would look like.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sealwright.db import (
    Transaction,
    activity,
    certificates,
    groups,
    organizations,
    projects,
    users,
)
from sealwright.db import log as db_log
from sealwright.db.activity import ProjectCount
from sealwright.db.log_search import Filter
from sealwright.model.project import SigningPolicy
from sealwright.model.request import SigningRequest
from sealwright.model.user import Role
from sealwright.reporting.notify import Letter, tell
from sealwright.transparency.record import organization_entry, record

ACTION = "activity.unusual"
_AGAIN = dt.timedelta(days=1)
_HOUR = dt.timedelta(hours=1)
_USUAL = dt.timedelta(days=14)
_MANY = 20  # submissions of one project within an hour, below which no rate is unusual
_TIMES = 5  # as many as in the busiest of times
_FAILURES = 5
_MOST_NAMED = 10
_MOST_LOGGED = 500  # a leaf is bounded


class Kind(enum.StrEnum):
    """What is unusual."""

    FIRST_USE = "first-use-of-certificate"
    RATE = "submission-rate"
    FAILURES = "many-failures"
    NEW_APPROVER = "new-approver"


@dataclass(frozen=True)
class Finding:
    """One unusual thing.

    Attributes:
        data: ids and numbers for the log, such as ``project``, ``policy`` and ``certificate``.
        lead: the same for people.
        facts: (label, value) besides.
        path: of the page that shows it.
    """

    kind: Kind
    data: Mapping[str, Any]
    lead: str
    facts: tuple[tuple[str, str], ...] = field(default=())
    path: str = "/audit"


async def flag(
    tx: Transaction,
    organization_id: str,
    finding: Finding,
    now: dt.datetime,
    *,
    again: bool = False,
) -> bool:
    """Log the finding and tell the administrators, unless that was done within a day; whether.

    Args:
        again: also if it was.
    """
    data: dict[str, Any] = {"kind": finding.kind.value} | dict(finding.data)
    subject = {name: data[name] for name in data if isinstance(data[name], str)}
    if not again and await _is_known(tx, organization_id, subject, now):
        return False
    entry = organization_entry(organization_id, ACTION, actor="system", now=now, data=data)
    await record(tx, entry)
    people = await users.with_roles(tx, organization_id, {Role.GLOBAL_ADMINISTRATOR})
    administrators = [one.id for one in people]
    words = finding.kind.value.replace("-", " ")
    letter = Letter(
        f"Unusual activity: {words}",
        finding.lead,
        finding.facts,
        finding.path,
        "Look at it",
        "Global administrators are told of unusual activity.",
    )
    await tell(tx, organization_id, administrators, letter, now)
    return True


async def _is_known(
    tx: Transaction, organization_id: str, subject: Mapping[str, object], now: dt.datetime
) -> bool:
    wanted = Filter(action=ACTION, since=now - _AGAIN)
    for entry in await db_log.page(tx, organization_id, wanted=wanted, limit=200):
        data = json.loads(entry.body)["data"]
        if {name: value for name, value in data.items() if isinstance(value, str)} == subject:
            return True
    return False


async def look_at_submission(tx: Transaction, request: SigningRequest, now: dt.datetime) -> None:
    """Flag a project's first request under a certificate."""
    if await activity.was_used_before(tx, request.project_id, request.certificate_id, request.id):
        return
    certificate = await certificates.get(tx, request.organization_id, request.certificate_id)
    name = certificate.name if certificate else request.certificate_id
    finding = Finding(
        Kind.FIRST_USE,
        {"project": request.project_id, "certificate": request.certificate_id},
        f"The project {request.project_name} uses the certificate {name} for the first time.",
        (("Signing policy", request.signing_policy_name),),
        f"/signing-requests/{request.id}",
    )
    await flag(tx, request.organization_id, finding, now)


async def look_at_approvers(
    tx: Transaction, policy: SigningPolicy, before: Collection[str], now: dt.datetime
) -> None:
    """Flag those who may approve now and could not `before` (ids of users)."""
    present = await groups.people(tx, policy.organization_id, policy.approvers)
    added = sorted(present - set(before))
    if not added:
        return
    people = [await users.get(tx, policy.organization_id, one) for one in added]
    names = ", ".join(one.name for one in people[:_MOST_NAMED] if one)
    more = f" and {len(people) - _MOST_NAMED} more" if len(people) > _MOST_NAMED else ""
    finding = Finding(
        Kind.NEW_APPROVER,
        {"project": policy.project_id, "policy": policy.id, "users": added[:_MOST_LOGGED]},
        f"{names}{more} may now approve requests under the signing policy {policy.name}.",
        path=f"/audit?signing_policy={policy.id}",
    )
    await flag(tx, policy.organization_id, finding, now, again=True)


async def look_at_rates(tx: Transaction, now: dt.datetime) -> None:
    """Flag projects with many submissions or failures within the last hour."""
    for organization in await organizations.every(tx):
        for count in await activity.by_project(tx, organization.id, now - _HOUR, now):
            for finding in await _rates(tx, organization.id, count, now):
                await flag(tx, organization.id, finding, now)


async def _rates(
    tx: Transaction, organization_id: str, count: ProjectCount, now: dt.datetime
) -> list[Finding]:
    found = []
    facts = (("Submitted within an hour", str(count.submitted)), ("Failed", str(count.failed)))
    path = f"/audit?project={count.project_id}"
    data = {
        "project": count.project_id,
        "submitted": count.submitted,
        "failed": count.failed,
    }
    project = await projects.find(tx, organization_id, count.project_id)
    name = project.name if project else count.project_id
    if count.submitted >= _MANY:
        usual = await activity.by_project(
            tx, organization_id, now - _USUAL, now - _HOUR, project_ids=[count.project_id]
        )
        hourly = sum(one.submitted for one in usual) / (_USUAL / _HOUR)
        if count.submitted > _TIMES * max(hourly, 1.0):
            lead = f"The project {name} submits at an unusual rate."
            facts_of_rate = (*facts, ("Usually in an hour", f"{hourly:.1f}"))
            found.append(Finding(Kind.RATE, data, lead, facts_of_rate, path))
    if count.failed >= _FAILURES and 2 * count.failed >= count.submitted:
        lead = f"Many signing requests of the project {name} fail."
        found.append(Finding(Kind.FAILURES, data, lead, facts, path))
    return found
