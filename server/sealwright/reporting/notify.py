"""Writing messages: rows in the transaction of the change they tell of. Sending comes later."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sealwright.db import Transaction, notifications, outgoing_webhooks, projects, users
from sealwright.model.notification import HOOK_STATES, Channel, Notification, OutgoingWebhook
from sealwright.model.project import ApproverMail, SubmitterMail
from sealwright.model.request import RequestKind, SigningRequest, State
from sealwright.model.user import User

WAITING = "request.waiting"  #: a request waits for the recipient's approval
ENDED = "request.ended"  #: a request of the recipient's has ended
DIGEST = "digest.waiting"  #: everything that waits for the recipient
LETTER = "letter"  #: the payload is a `Letter`

#: for how long approvers' mails wait for the plan: what cannot be signed is no matter of theirs
PLAN_SECONDS = 60.0
_PROBLEMS = frozenset({State.FAILED, State.DENIED})


@dataclass(frozen=True)
class Letter:
    """What a mail says, in plain words.

    Attributes:
        lead: the first paragraph: what happened and what to do.
        facts: (label, value), shown as a list.
        path: of the page to go to, with what it is called; below the server's address.
        why: why the recipient gets it: a sentence.
    """

    subject: str
    lead: str
    facts: tuple[tuple[str, str], ...] = ()
    path: str = ""
    link: str = ""
    why: str = ""


async def notify(tx: Transaction, request: SigningRequest, now: dt.datetime) -> None:
    """Have everybody told who is to hear of the request's present state."""
    if request.state in HOOK_STATES:
        await _tell_webhooks(tx, request, now)
    if request.state in HOOK_STATES or request.state is State.WAITING_FOR_APPROVAL:
        await _tell_people(tx, request, now)


async def tell(
    tx: Transaction,
    organization_id: str,
    user_ids: Collection[str],
    letter: Letter,
    now: dt.datetime,
    *,
    key: str | None = None,
) -> None:
    """Have people told something by mail: those of them who have an address.

    Args:
        key: no recipient gets two letters with the same.
    """
    for user in await _with_address(tx, organization_id, user_ids):
        own = f"{key}/{user.id}" if key else None
        if own is None or not await notifications.is_known(tx, own):
            await notifications.add(tx, _mail(user, LETTER, asdict(letter), now, key=own))


async def _tell_people(tx: Transaction, request: SigningRequest, now: dt.datetime) -> None:
    policy = await projects.find_policy(
        tx, request.organization_id, request.project_id, request.signing_policy_id
    )
    if policy is None:
        return
    if request.state is State.WAITING_FOR_APPROVAL:
        if policy.approver_mail is not ApproverMail.EACH:
            return
        wanted = set(request.snapshot.fields["approvers"]) - {request.submitted_by}
        event = WAITING
    else:
        if policy.submitter_mail is SubmitterMail.NONE:
            return
        if policy.submitter_mail is SubmitterMail.PROBLEMS and request.state not in _PROBLEMS:
            return
        wanted, event = {request.submitted_by}, ENDED
    due = now
    if event == WAITING and request.kind is RequestKind.ARTIFACT:
        due = now + dt.timedelta(seconds=PLAN_SECONDS)
    for user in await _with_address(tx, request.organization_id, wanted):
        mail = _mail(user, event, {}, now, request_id=request.id)
        await notifications.add(tx, replace(mail, due_at=due))


async def plan_is_known(tx: Transaction, request: SigningRequest, now: dt.datetime) -> None:
    """Approvers need not wait for what would be signed any more."""
    await notifications.hasten(tx, request.id, WAITING, now)


async def _with_address(
    tx: Transaction, organization_id: str, user_ids: Collection[str]
) -> list[User]:
    found = [await users.get(tx, organization_id, one) for one in sorted(user_ids)]
    return [user for user in found if user and user.active and user.email]


def _mail(
    user: User,
    event: str,
    payload: Mapping[str, Any],
    now: dt.datetime,
    *,
    request_id: str | None = None,
    key: str | None = None,
) -> Notification:
    return Notification(
        user.organization_id,
        Channel.MAIL,
        user.id,
        event,
        now,
        now,
        payload,
        request_id=request_id,
        key=key,
    )


async def _tell_webhooks(tx: Transaction, request: SigningRequest, now: dt.datetime) -> None:
    found = await outgoing_webhooks.of_project(tx, request.organization_id, request.project_id)
    for webhook in found:
        if webhook.enabled and request.state in webhook.states:
            await notifications.add(tx, hook_message(webhook, request, now))


def hook_message(
    webhook: OutgoingWebhook, request: SigningRequest, now: dt.datetime
) -> Notification:
    """What the webhook is told of the request's end: the members that the existing service's
    receivers expect, and no others."""
    return Notification(
        organization_id=webhook.organization_id,
        channel=Channel.WEBHOOK,
        target_id=webhook.id,
        event=f"request.{request.state.value.lower()}",
        created_at=now,
        due_at=now,
        payload={
            "OrganizationId": request.organization_id,
            "SigningRequestId": request.id,
            "Status": request.state.value,
        },
        request_id=request.id,
    )
