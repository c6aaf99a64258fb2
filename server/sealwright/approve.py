"""Approving and denying: the request's row lock makes concurrent decisions come one by one."""

from __future__ import annotations

import datetime as dt
import hashlib

from sealwright.db import Database, Transaction, approvals, passkeys, projects, requests, users
from sealwright.errors import (
    ForbiddenError,
    InternalError,
    PasskeyRequiredError,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import Assertion, RelyingParty, approval_challenge
from sealwright.model.request import Approval, RequestKind, SigningRequest, State, Verdict
from sealwright.model.user import User
from sealwright.policy.approvals import check_approver, outcome
from sealwright.policy.decide import state_after_approval
from sealwright.policy.passkeys import check_counter, verify_assertion
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
    assertion: Assertion | None = None,
    rp: RelyingParty | None = None,
) -> SigningRequest:
    """Record one approver's decision, and with the last one needed move the request on.

    Args:
        assertion: what the approver's passkey signed, where the policy asks for it.
        rp: the server that passkeys are for; needed with `assertion`.

    Raises:
        NotFoundError: missing, or not for the caller.
        ForbiddenError: the caller is no approver, or the submitter.
        ConflictError: the request does not wait for approval, or the caller has decided already.
        ForbiddenError: the assertion is not accepted.
        PolicyViolationError: approval under a policy that is now disabled, or that asks for a
            passkey without one.
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
        earlier = await approvals.of_request(tx, request.id)
        # who they are now, not when the call began: they may have been deactivated in between
        user = await users.get(tx, grant.organization_id, grant.user.id)
        if user is None or not user.active:
            message = f"{grant.user.name} has been deactivated."
            raise ForbiddenError(message)
        check_approver(user, request, policy, earlier, verdict)
        passkey_id = None
        if verdict is Verdict.APPROVE:
            passkey_id = await _check_assertion(tx, request, user, assertion, rp, now)
        else:
            assertion = None
        approval = Approval(
            new_id(), request.id, grant.user.id, grant.user.name, verdict, comment, now, assertion
        )
        await approvals.add(tx, grant.organization_id, approval)
        facts = {"approval": approval.id, "artifact_sha256": request.content_digest}
        if passkey_id:
            facts |= {"passkey": passkey_id, "assertion_sha256": _fingerprint(assertion)}
        await record(
            tx,
            request_entry(
                request,
                _ACTIONS[verdict],
                actor=grant.actor,
                now=now,
                data=facts,
                address=grant.principal.address,
            ),
        )
        to = outcome(request.snapshot.fields["quorum"], [*earlier, approval])
        if to is State.QUEUED:
            to = state_after_approval(request.snapshot)
        if to is not State.WAITING_FOR_APPROVAL:
            reason = comment if to is State.DENIED else ""
            request = await lifecycle.advance(
                tx, request, to, actor=grant.actor, now=now, reason=reason
            )
        else:
            # it waits for fewer approvals now: another version, and told again
            request = await requests.amend(tx, request, now) or request
            await announce(tx, request, now, again=True)
    if request.state in requests.WORKABLE:
        await queue.enqueue(request.id, digest=request.kind is RequestKind.HASH)
    await queue.announce(request.id, request.state)
    return request


async def _check_assertion(
    tx: Transaction,
    request: SigningRequest,
    user: User,
    assertion: Assertion | None,
    rp: RelyingParty | None,
    now: dt.datetime,
) -> str | None:
    """Verify the assertion where there is one, and demand it where the policy does; the id of the
    passkey that made it."""
    if assertion is None or rp is None:
        if request.snapshot.fields.get("passkey_required"):
            message = "The signing policy counts only approvals that a passkey has signed."
            page = f"{rp.origin if rp else ''}/signing-requests/{request.id}"
            raise PasskeyRequiredError(message, advice=f"Approve with your passkey at {page}.")
        return None
    passkey = await passkeys.by_credential(tx, assertion.credential_id)
    if passkey is None or passkey.user_id != user.id:
        message = f"{user.name} has no such passkey."
        raise ForbiddenError(message, advice="Add it to your account first.")
    challenge = approval_challenge(request.id, request.content_digest, request.policy_hash, user.id)
    counter = verify_assertion(assertion, passkey, challenge, rp)
    check_counter(passkey, counter)
    await passkeys.use(tx, passkey.id, counter, now)
    return passkey.id


def _fingerprint(assertion: Assertion | None) -> str:
    """Names the assertion in the log: SHA-256 of its signature."""
    return hashlib.sha256(assertion.signature if assertion else b"").hexdigest()
