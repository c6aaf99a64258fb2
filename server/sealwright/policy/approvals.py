"""Who may approve, and when the quorum is reached. Pure; `approve.py` holds the lock."""

from __future__ import annotations

from collections.abc import Sequence

from sealwright.errors import (
    ConflictError,
    ForbiddenError,
    PolicyViolationError,
    SealwrightError,
)
from sealwright.model.project import SigningPolicy
from sealwright.model.request import Approval, SigningRequest, State, Verdict
from sealwright.model.user import User


def check_approver(
    user: User,
    request: SigningRequest,
    policy: SigningPolicy,
    earlier: Sequence[Approval],
    verdict: Verdict,
) -> None:
    """Let an approver decide once on a request that waits for it.

    An approver is who the policy named when the request was submitted and names still: neither a
    later addition nor somebody removed since may decide.

    Raises:
        ForbiddenError: no approver, or the submitter.
        ConflictError: the request does not wait, or this approver has decided already.
        PolicyViolationError: approval under a policy that is now disabled.
    """
    named = user.standing & policy.approvers
    if not named or user.id not in request.snapshot.fields["approvers"]:
        message = f"{user.name} is not an approver of this signing request."
        advice = "Approvers are those of its policy when it was submitted, as far as still named."
        raise ForbiddenError(message, advice=advice)
    if user.id == request.submitted_by:
        message = "The submitter may not decide on their own signing request."
        raise ForbiddenError(message, advice="Ask another approver.")
    if any(approval.user_id == user.id for approval in earlier):
        message = f"{user.name} has already decided on this signing request."
        raise ConflictError(message)
    if request.state is not State.WAITING_FOR_APPROVAL:
        message = f"The signing request is {request.state.value} and waits for no approval."
        raise ConflictError(message)
    if verdict is Verdict.APPROVE and not policy.enabled:
        message = f"The signing policy {policy.slug} is disabled."
        raise PolicyViolationError(message, advice="Enable it first, or deny the request.")


def may_decide(
    user: User, request: SigningRequest, policy: SigningPolicy, earlier: Sequence[Approval]
) -> bool:
    """Tell whether `check_approver` would let the user deny: what a page offers."""
    try:
        check_approver(user, request, policy, earlier, Verdict.DENY)
    except SealwrightError:
        return False
    return True


def outcome(quorum: int, decisions: Sequence[Approval]) -> State:
    """Where the decisions lead: one denial ends the request, `quorum` approvals release it."""
    if any(decision.verdict is Verdict.DENY for decision in decisions):
        return State.DENIED
    approvers = {one.user_id for one in decisions if one.verdict is Verdict.APPROVE}
    return State.QUEUED if len(approvers) >= quorum else State.WAITING_FOR_APPROVAL
