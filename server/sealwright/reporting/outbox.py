"""Writing reports: a row in the transaction of the change that it tells of. Telling comes later."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping

from sealwright.db import Transaction, build_systems, outbox
from sealwright.db.outbox import Message
from sealwright.model.build_system import BuildSystemKind, RepositoryLink
from sealwright.model.origin import RunFacts
from sealwright.model.report import ReportPhase
from sealwright.model.request import SigningRequest, State
from sealwright.origin.rules import OriginRefusedError
from sealwright.policy.decide import Target

REPORT = "report"
REFUSAL = "refusal"
DEPLOYMENT = "deployment"

PHASES: Mapping[State, ReportPhase] = {
    State.SUBMITTED: ReportPhase.QUEUED,
    State.RETRIEVING_ARTIFACT: ReportPhase.QUEUED,
    State.WAITING_FOR_APPROVAL: ReportPhase.ACTION_REQUIRED,
    State.SCANNING_FOR_MALWARE: ReportPhase.QUEUED,
    State.QUEUED: ReportPhase.QUEUED,
    State.WAITING_FOR_ENDORSEMENT: ReportPhase.ACTION_REQUIRED,
    State.PROCESSING: ReportPhase.IN_PROGRESS,
    State.COMPLETED: ReportPhase.SUCCESS,
    State.FAILED: ReportPhase.FAILURE,
    State.DENIED: ReportPhase.FAILURE,
    State.CANCELED: ReportPhase.CANCELED,
}
_FORGES = frozenset({BuildSystemKind.GITHUB, BuildSystemKind.GITLAB})


async def announce(
    tx: Transaction,
    request: SigningRequest,
    now: dt.datetime,
    *,
    note: str = "",
    again: bool = False,
) -> None:
    """Have the request's present phase reported on its commit, once.

    Nothing is written where the origin is not verified or the repository is linked no more.

    Args:
        note: shown with it, such as why somebody could not approve.
        again: even if this phase was reported already.
    """
    if not request.origin.verified:
        return
    for link in await _links(tx, request):
        subject = f"{request.id}/{link.id}"
        phase = PHASES[request.state]
        last = await outbox.last(tx, subject)
        if not (again or note) and last is not None and last.phase == phase.value:
            continue
        payload = {"state": request.state.value, "note": note[:500]}
        await outbox.add(
            tx,
            Message(
                request.organization_id, REPORT, subject, link.id, request.id, phase.value, now,
                now, payload,
            ),
        )  # fmt: skip


async def _links(tx: Transaction, request: SigningRequest) -> list[RepositoryLink]:
    """Where to report: the link that the origin is of; for Jenkins, the commit's forge besides."""
    found = await build_systems.links(tx, request.organization_id, project_id=request.project_id)
    origin = request.origin
    own = [
        link
        for link in found
        if (link.build_system_id, link.repository_id)
        == (origin.build_system_id, origin.repository_id)
    ]
    if not own:
        return []
    kinds = {
        system.id: system.kind for system in await build_systems.every(tx, request.organization_id)
    }
    if kinds.get(origin.build_system_id) is not BuildSystemKind.JENKINS:
        return own
    return own + [link for link in found if kinds.get(link.build_system_id) in _FORGES]


async def refuse(
    tx: Transaction,
    link: RepositoryLink,
    target: Target,
    facts: RunFacts,
    error: OriginRefusedError,
    now: dt.datetime,
) -> None:
    """Have it shown on the commit that nothing of the run is signed, and why; once for a run."""
    subject = f"refusal/{target.policy.id}/{facts.run_id[:40]}/{facts.run_attempt}"[:100]
    if await outbox.last(tx, subject) is not None:
        return
    payload = {
        "policy": dataclasses.asdict(
            _Refused(
                target.project.id,
                target.project.slug,
                target.project.name,
                target.policy.id,
                target.policy.slug,
                target.policy.name,
                target.certificate.id,
            )
        ),
        "repository_url": facts.repository_url,
        "commit": facts.commit,
        "run_id": facts.run_id,
        "run_attempt": facts.run_attempt,
        "run_url": facts.run_url,
        "errors": [[one.error, one.how_to_fix] for one in error.refusals],
    }
    await outbox.add(
        tx,
        Message(
            link.organization_id,
            REFUSAL,
            subject,
            link.id,
            None,
            ReportPhase.FAILURE.value,
            now,
            now,
            payload,
        ),
    )


@dataclasses.dataclass(frozen=True)
class _Refused:
    """What the refused submission named; fields as in `SigningRequest`."""

    project_id: str
    project_slug: str
    project_name: str
    signing_policy_id: str
    signing_policy_slug: str
    signing_policy_name: str
    certificate_id: str


async def ask_deployment(
    tx: Transaction, link: RepositoryLink, run_id: str, environment: str, now: dt.datetime
) -> None:
    """Have a deployment of the run answered once it is clear whether what it made is signed."""
    subject = f"deployment/{link.id}/{run_id[:40]}"[:100]
    payload = {"run_id": run_id, "environment": environment}
    await outbox.add(
        tx,
        Message(link.organization_id, DEPLOYMENT, subject, link.id, None, "", now, now, payload),
    )
