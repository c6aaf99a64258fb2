"""Approving and denying: the request's row lock makes concurrent decisions come one by one."""

from __future__ import annotations

from sealwright.db import Database, projects, requests, users
from sealwright.errors import ForbiddenError, InternalError
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.request import Approval, SigningRequest, State, Verdict
from sealwright.policy.approvals import check_approver, outcome
from sealwright.policy.permissions import Grant
from sealwright.queueing import lifecycle
from sealwright.queueing.queue import Queue
from sealwright.reporting.outbox import announce
from sealwright.transparency.record import record, request_entry
from sealwright.visible import find_request

_ACTIONS = {Verdict.APPROVE: "approval.given", Verdict.DENY: "approval.denied"}


async def approve_or_deny(
    database: Database,
    queue: Queue,
    grant: Grant,
    request_id: str,
    verdict: Verdict,
    comment: str = "",
) -> SigningRequest:
    """Record one approver's decision, and with the last one needed move the request on.

    Raises:
        NotFoundError: missing, or not for the caller.
        ForbiddenError: the caller is no approver, or the submitter.
        ConflictError: the request does not wait for approval, or the caller has decided already.
        PolicyViolationError: approval under a policy that is now disabled.
    """
    now = utc_now()
    async with database.transaction() as tx:
        request = await find_request(tx, grant, request_id, lock=True)
        policy = await projects.find_policy(
            tx, grant.organization_id, request.project_id, request.signing_policy_id
        )
        if policy is None:
            message = f"The signing request {request.id} has no signing policy."
            raise InternalError(message)
        earlier = await requests.decisions(tx, request.id)
        # who they are now, not when the call began: they may have been deactivated in between
        user = await users.get(tx, grant.organization_id, grant.user.id)
        if user is None or not user.active:
            message = f"{grant.user.name} has been deactivated."
            raise ForbiddenError(message)
        check_approver(user, request, policy, earlier, verdict)
        approval = Approval(
            new_id(), request.id, grant.user.id, grant.user.name, verdict, comment, now
        )
        await requests.add_approval(tx, grant.organization_id, approval)
        facts = {"approval": approval.id, "artifact_sha256": _digest(request)}
        await record(
            tx, request_entry(request, _ACTIONS[verdict], actor=grant.actor, now=now, data=facts)
        )
        to = outcome(request.snapshot.fields["quorum"], [*earlier, approval])
        if to is not State.WAITING_FOR_APPROVAL:
            reason = comment if to is State.DENIED else ""
            request = await lifecycle.advance(
                tx, request, to, actor=grant.actor, now=now, reason=reason
            )
        else:
            # it waits for fewer approvals now: another version, and told again
            request = await requests.amend(tx, request, now) or request
            await announce(tx, request, now, again=True)
    if request.state is State.QUEUED:
        await queue.enqueue(request.id)
    await queue.announce(request.id)
    return request


def _digest(request: SigningRequest) -> str | None:
    """What the approver saw: the artifact's SHA-256, or the digest to be signed."""
    if request.hash:
        return request.hash.digest.hex()
    return request.input.sha256 if request.input else None
