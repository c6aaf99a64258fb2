"""Building a report from what the database has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sealwright.db import Transaction, approvals, certificates, file_results, requests
from sealwright.db import log as db_log
from sealwright.db.outbox import Message
from sealwright.model.identifiers import new_id
from sealwright.model.origin import Origin
from sealwright.model.passkey import relying_party
from sealwright.model.project import PolicySnapshot
from sealwright.model.report import Report, ReportPhase
from sealwright.model.request import Approval, RequestKind, SigningRequest, State, Verdict
from sealwright.reporting.objections import find_objection
from sealwright.transparency.leaf import ARTIFACT_RELEASED

_MOST_FILES = 500  #: a check shows fewer
_WORDS = {Verdict.APPROVE: "approved", Verdict.DENY: "denied"}


async def request_report(tx: Transaction, message: Message, url: str) -> Report | None:
    """The report that `message` is about; None if the request is gone.

    Args:
        url: the server's address, without a trailing slash.
    """
    found = await requests.get(tx, message.organization_id, message.request_id or "")
    if found is None:
        return None
    # the request may be further by now: later reports tell of that
    state = State(message.payload["state"])
    request = dataclasses.replace(found, state=state)
    phase = ReportPhase(message.phase)
    if not state.is_final:
        held = await find_objection(tx, found, relying_party(url))
        reason, advice = (held.message, held.advice) if held else ("", "")
        request = dataclasses.replace(request, reason=reason, advice=advice, output=None)
    decisions = await approvals.of_request(tx, request.id)
    certificate = await certificates.get(tx, request.organization_id, request.certificate_id)
    done = phase is ReportPhase.SUCCESS
    quorum = int(request.snapshot.fields["quorum"])
    title = _title(request, decisions, quorum)
    note = str(message.payload.get("note", ""))
    return Report(
        request=request,
        phase=phase,
        sequence=message.id,
        url=f"{url}/signing-requests/{request.id}",
        title=f"{title}: {note}" if note else title,
        files=tuple(await file_results.results(tx, request.id, limit=_MOST_FILES)) if done else (),
        file_count=await file_results.count_results(tx, request.id) if done else 0,
        certificate_subject=certificate.subject if certificate else "",
        approvals=tuple(f"{one.user_name} {_WORDS[one.verdict]}" for one in decisions),
        quorum=quorum,
        log_index=await _log_index(tx, request.id) if done else None,
    )


def refusal_report(message: Message) -> Report:
    """The report on a submission that became no request: a request in name only."""
    payload = message.payload
    errors = payload["errors"]
    snapshot = PolicySnapshot("{}")
    request = SigningRequest(
        id=f"refused-{message.id}",
        organization_id=message.organization_id,
        kind=RequestKind.ARTIFACT,
        state=State.FAILED,
        artifact_configuration_id=None,
        artifact_configuration_slug=None,
        artifact_configuration_name=None,
        snapshot=snapshot,
        policy_hash=snapshot.sha256,
        description="",
        parameters={},
        origin=Origin(
            repository_url=payload["repository_url"],
            commit=payload["commit"],
            build_url=payload["run_url"],
            run_id=payload["run_id"],
            run_attempt=payload["run_attempt"],
        ),
        submitted_by=new_id(),
        submitted_at=message.created_at,
        updated_at=message.created_at,
        failed_stage=State.SUBMITTED,
        reason=" ".join(error for error, _ in errors)[:2000],
        advice=" ".join(dict.fromkeys(fix for _, fix in errors))[:2000],
        **payload["policy"],
    )
    return Report(
        request=request,
        phase=ReportPhase.FAILURE,
        sequence=message.id,
        url=payload["run_url"],
        title=f"Not signed: {errors[0][0]}"[:200],
    )


def _title(request: SigningRequest, decisions: Sequence[Approval], quorum: int) -> str:
    given = sum(one.verdict is Verdict.APPROVE for one in decisions)
    titles = {
        State.SUBMITTED: "Submitted",
        State.RETRIEVING_ARTIFACT: "Fetching the artifact",
        State.WAITING_FOR_APPROVAL: f"Waiting for approval ({min(given, quorum)} of {quorum})",
        State.SCANNING_FOR_MALWARE: "Scanning for malware",
        State.QUEUED: "Queued for signing",
        State.WAITING_FOR_ENDORSEMENT: "Waiting for endorsement",
        State.PROCESSING: "Signing",
        State.COMPLETED: "Signed",
        State.FAILED: f"Not signed: {request.reason}",
        State.DENIED: f"Denied: {request.reason}" if request.reason else "Denied",
        State.CANCELED: f"Canceled: {request.reason}" if request.reason else "Canceled",
    }
    title = titles[request.state]
    if request.reason and not request.state.is_final:
        title = f"{title}. {request.reason}"
    return title[:200]


async def _log_index(tx: Transaction, request_id: str) -> int | None:
    released = await db_log.of_action(tx, request_id, ARTIFACT_RELEASED)
    return released[-1].sequence if released else None
