"""What waits for me, what failed, what was signed today, which certificates end soon."""

from __future__ import annotations

import datetime as dt
from typing import Any

from starlette.responses import Response

from sealwright.db import Transaction, approvals, certificates, projects, proposals, requests
from sealwright.db.log_search import Filter
from sealwright.db.request_search import RequestFilter, find_ids
from sealwright.model.certificate import CertificateStatus
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import relying_party
from sealwright.model.project import Project
from sealwright.model.proposal import Proposal, ProposalState
from sealwright.model.request import SigningRequest, State
from sealwright.policy.approvals import may_decide
from sealwright.policy.permissions import Grant, may_configure
from sealwright.reporting.unusual import ACTION
from sealwright.visible import project_ids
from sealwright.web import views
from sealwright.web.audit import audit_page, subject_names
from sealwright.web.endorsements import waiting_for
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.ui.first_steps import first_steps
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.rendering import page

_SHOWN = 8
_WAITING = 100  #: looked through for those that the caller may decide
_COUNTED = 200
_FAILED_DAYS = 7
_EXPIRY_DAYS = 60


async def home(call: Call) -> Response:
    """The start."""
    grant = call.grant
    now = utc_now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    async with call.services.database.read(frozen=True) as tx:
        visible = await project_ids(tx, grant)
        waiting, more_wait = await _waiting(tx, grant, visible)
        failed = await _find(
            tx, grant, visible, State.FAILED, now - dt.timedelta(days=_FAILED_DAYS), _SHOWN
        )
        signed = await _find(tx, grant, visible, State.COMPLETED, today, _SHOWN)
        of_today = RequestFilter(visible, state=State.COMPLETED, submitted_from=today)
        counted = await find_ids(tx, grant.organization_id, of_today, limit=_COUNTED)
        signed_count = len(counted.ids)
        proposed, answered = await _proposals(tx, grant, visible)
        to_endorse, held = await waiting_for(tx, grant, relying_party(call.services.settings.url))
        held = [one for one in held if visible is None or one.project_id in visible][:_SHOWN]
        found = [*waiting, *held, *failed, *signed]
        people = await views.names(tx, grant.organization_id, [one.submitted_by for one in found])
        unusual, names = [], {}
        if may_open(grant.principal, "ui.audit"):
            since = now - dt.timedelta(days=_FAILED_DAYS)
            unusual = await audit_page(
                tx, grant.organization_id, Filter(action=ACTION, since=since), before=None,
                limit=_SHOWN,
            )  # fmt: skip
            names = await subject_names(tx, grant.organization_id, unusual)
        steps = await first_steps(tx, grant)
        ending = [
            one
            for one in await certificates.every(tx, grant.organization_id)
            if one.status(now) in {CertificateStatus.ACTIVE, CertificateStatus.EXPIRED}
            and one.not_after < now + dt.timedelta(days=_EXPIRY_DAYS)
        ]
    shown: dict[str, Any] = {
        "waiting": waiting,
        "waiting_count": f"{len(waiting) + len(to_endorse)}{'+' if more_wait else ''}",
        "to_endorse": to_endorse,
        "held": held,
        "failed": failed,
        "signed": signed,
        "signed_count": f"{_COUNTED} or more" if signed_count == _COUNTED else str(signed_count),
        "ending": sorted(ending, key=lambda one: one.not_after),
        "steps": steps,
        "unusual": unusual,
        "names": names,
        "outside": visible == [],
        "now": now,
        "today": today.date().isoformat(),
        "people": people,
        "proposed": proposed,
        "answered": answered,
        "may_submit": may_open(grant.principal, "ui.submit_page"),
        "may_open_certificates": may_open(grant.principal, "ui.certificate"),
    }
    return page(call, "dashboard.html", shown)


async def _find(
    tx: Transaction,
    grant: Grant,
    visible: list[str] | None,
    state: State,
    since: dt.datetime | None,
    limit: int,
) -> list[SigningRequest]:
    wanted = RequestFilter(visible, state=state, submitted_from=since)
    found, _ = await requests.search(tx, grant.organization_id, wanted, limit=limit)
    return found


async def _waiting(
    tx: Transaction, grant: Grant, visible: list[str] | None
) -> tuple[list[SigningRequest], bool]:
    """Requests that wait for the caller's own decision, newest first; whether others may."""
    waiting = await _find(tx, grant, visible, State.WAITING_FOR_APPROVAL, None, _WAITING)
    policies = {one.id: one for one in await projects.policies(tx, grant.organization_id)}
    mine = []
    for one in waiting:
        policy = policies[one.signing_policy_id]
        if grant.user.standing & policy.approvers and may_decide(
            grant.user, one, policy, await approvals.of_request(tx, one.id)
        ):
            mine.append(one)
    return mine, len(waiting) == _WAITING


async def _proposals(
    tx: Transaction, grant: Grant, visible: list[str] | None
) -> tuple[list[tuple[Proposal, Project]], list[tuple[Proposal, Project]]]:
    """Open proposals that the caller may answer, and the caller's own with their answers."""
    known = {one.id: one for one in await projects.every(tx, grant.organization_id)}
    opened = await proposals.of_projects(
        tx, grant.organization_id, visible, state=ProposalState.OPEN
    )
    mine = await proposals.of_projects(
        tx, grant.organization_id, visible, proposed_by=grant.user.id, limit=_SHOWN
    )
    to_answer = [one for one in opened if may_configure(grant.user, known[one.project_id])]
    return (
        [(one, known[one.project_id]) for one in to_answer],
        [(one, known[one.project_id]) for one in mine],
    )


ENDPOINTS = (Endpoint("ui.home", "GET", "/", home, "", face=Face.UI),)
