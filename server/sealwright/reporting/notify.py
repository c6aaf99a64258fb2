"""Writing messages: rows in the transaction of the change they tell of. Sending comes later."""

from __future__ import annotations

import datetime as dt

from sealwright.db import Transaction, notifications, outgoing_webhooks
from sealwright.model.notification import HOOK_STATES, Channel, Notification, OutgoingWebhook
from sealwright.model.request import SigningRequest


async def notify(tx: Transaction, request: SigningRequest, now: dt.datetime) -> None:
    """Have everybody told who is to hear of the request's present state."""
    if request.state in HOOK_STATES:
        await _tell_webhooks(tx, request, now)


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
