"""Outgoing webhooks of a project: who is told how its requests end, and what came of telling."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, notifications, outgoing_webhooks
from sealwright.db.log import NewEntry
from sealwright.errors import ConflictError
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.notification import Notification, OutgoingWebhook
from sealwright.reporting.standard_webhooks import check_secret, new_secret
from sealwright.reporting.webhook_addresses import check_address
from sealwright.transparency.details import Change
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_project, missing
from sealwright.web.answers import json_answer, next_cursor, no_content, read_number
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.outgoing_webhooks import (
    HookDeliveriesOut,
    HookDeliveryOut,
    NewOutgoingWebhookOut,
    OutgoingWebhookIn,
    OutgoingWebhookOut,
    OutgoingWebhookPatch,
    OutgoingWebhooksOut,
)
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.views import fields_of

_MOST = 20  # of one project


async def listing(call: Call) -> Response:
    """All of a project."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await outgoing_webhooks.of_project(tx, project.organization_id, project.id)
        items = [await webhook_out(tx, one) for one in found]
    return json_answer(OutgoingWebhooksOut(items=items))


async def create(call: Call) -> Response:
    """Have an address told."""
    return json_answer(await add(call, await call.json(OutgoingWebhookIn)), 201)


async def add(call: Call, given: OutgoingWebhookIn) -> NewOutgoingWebhookOut:
    """Make the webhook; the one time that its secret is shown.

    Raises:
        InvalidInputError: the address may not be called, or the secret is malformed.
        ConflictError: the project has as many as it may have.
    """
    check_address(call.services.settings, given.url)
    secret = given.secret or new_secret()
    check_secret(secret)
    async with call.services.database.transaction() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        present = await outgoing_webhooks.of_project(tx, project.organization_id, project.id)
        if len(present) >= _MOST:
            message = f"The project has {_MOST} webhooks already."
            raise ConflictError(message, advice="Remove one that is not needed.")
        webhook = OutgoingWebhook(
            id=new_id(),
            organization_id=project.organization_id,
            project_id=project.id,
            name=given.name,
            url=given.url,
            states=given.states,
            enabled=given.enabled,
            created_at=utc_now(),
        )
        credentials = {"secret": secret}
        if given.authentication:
            credentials["authentication"] = given.authentication
        sealed = call.services.systems.vault().seal(webhook.id, credentials)
        await outgoing_webhooks.add(tx, webhook, sealed)
        out = await webhook_out(tx, webhook)
        change = call.change(None, out)
        await record(tx, _entry(call, "outgoing_webhook.created", webhook, change))
    return NewOutgoingWebhookOut(**out.model_dump(), secret=secret)


async def update(call: Call) -> Response:
    """Change a webhook, or give it other secrets."""
    return json_answer(await change_webhook(call, await call.json(OutgoingWebhookPatch)))


async def change_webhook(call: Call, patch: OutgoingWebhookPatch) -> OutgoingWebhookOut:
    """Change what `patch` gives.

    Raises:
        NotFoundError: missing, or not for the caller.
        InvalidInputError: as `add`.
    """
    if patch.url:
        check_address(call.services.settings, patch.url)
    if patch.secret:
        check_secret(patch.secret)
    vault = call.services.systems.vault()
    async with call.services.database.transaction() as tx:
        webhook = await find_webhook(tx, call)
        before = await webhook_out(tx, webhook)
        plain = {"name", "url", "states", "enabled"}
        webhook = dataclasses.replace(
            webhook,
            **{name: value for name in plain if (value := getattr(patch, name)) is not None},
        )
        credentials = patch.model_dump(include={"secret", "authentication"}, exclude_none=True)
        sealed = await outgoing_webhooks.secrets(tx, webhook.id)
        sealed = vault.reseal(webhook.id, sealed, credentials)
        await outgoing_webhooks.update(tx, webhook, sealed)
        out = await webhook_out(tx, webhook)
        change = call.change(before, out)
        await record(tx, _entry(call, "outgoing_webhook.updated", webhook, change))
    return out


async def delete(call: Call) -> Response:
    """Tell the address nothing any more."""
    await remove(call)
    return no_content()


async def remove(call: Call) -> None:
    """Remove the webhook that the path names; its delivery log goes with it.

    Raises:
        NotFoundError: missing, or not for the caller.
    """
    async with call.services.database.transaction() as tx:
        webhook = await find_webhook(tx, call)
        change = call.change(await webhook_out(tx, webhook), None)
        await notifications.remove_of_target(tx, webhook.id)
        await outgoing_webhooks.delete(tx, webhook)
        await record(tx, _entry(call, "outgoing_webhook.deleted", webhook, change))


async def deliveries(call: Call) -> Response:
    """What was sent, and what came of it."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        webhook = await find_webhook(tx, call)
        before = read_number(query.cursor)
        found = await notifications.of_target(tx, webhook.id, before=before, limit=query.limit)
    items = [HookDeliveryOut.model_validate(fields_of(one)) for one in found]
    following = next_cursor(found, query.limit, lambda one: str(one.id))
    return json_answer(HookDeliveriesOut(items=items, next_cursor=following))


async def redeliver(call: Call) -> Response:
    """Send a message once more, as a new one with the same content."""
    async with call.services.database.transaction() as tx:
        await send_again(tx, call)
    return no_content()


async def send_again(tx: Transaction, call: Call) -> None:
    """Have the delivery that the path names sent once more.

    Raises:
        NotFoundError: the webhook or the delivery is missing, or not for the caller.
    """
    webhook = await find_webhook(tx, call)
    name = call.path("delivery")
    number = int(name) if name.isascii() and name.isdecimal() and len(name) < 19 else 0
    found = await notifications.get(tx, webhook.organization_id, number)
    if found is None or found.target_id != webhook.id:
        raise missing(name, "delivery")
    now = utc_now()
    again = Notification(
        found.organization_id,
        found.channel,
        found.target_id,
        found.event,
        now,
        now,
        found.payload,
        found.request_id,
    )
    await notifications.add(tx, again)


async def find_webhook(tx: Transaction, call: Call) -> OutgoingWebhook:
    """The webhook that the path names.

    Raises:
        NotFoundError: missing, foreign, or not for the caller.
    """
    project = await find_project(tx, call.grant, call.path("project"))
    name = call.path("webhook")
    found = None
    if is_id(name):
        found = await outgoing_webhooks.get(tx, project.organization_id, name)
    if found is None or found.project_id != project.id:
        raise missing(name, "outgoing webhook")
    return found


async def webhook_out(tx: Transaction, webhook: OutgoingWebhook) -> OutgoingWebhookOut:
    """The webhook as it is answered."""
    names = await outgoing_webhooks.secrets(tx, webhook.id)
    more = {"states": sorted(webhook.states), "has_authentication": "authentication" in names}
    return OutgoingWebhookOut.model_validate(fields_of(webhook) | more)


def _entry(call: Call, action: str, webhook: OutgoingWebhook, change: Change) -> NewEntry:
    return organization_entry(
        webhook.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data={"project": webhook.project_id, "webhook": webhook.id, "enabled": webhook.enabled},
        change=change,
    )


_PATH = "/api/v1/projects/{project}/outgoing-webhooks"
_ONE = f"{_PATH}/{{webhook}}"
_JSON = "application/json"

ENDPOINTS = (
    Endpoint(
        "outgoing_webhooks.list",
        "GET",
        _PATH,
        listing,
        "List outgoing webhooks",
        (Answer(200, "All of the project", OutgoingWebhooksOut),),
    ),
    Endpoint(
        "outgoing_webhooks.create",
        "POST",
        _PATH,
        create,
        "Make an outgoing webhook",
        (Answer(201, "Made; the secret is shown this once", NewOutgoingWebhookOut),),
        {_JSON: OutgoingWebhookIn},
    ),
    Endpoint(
        "outgoing_webhooks.update",
        "PATCH",
        _ONE,
        update,
        "Change an outgoing webhook",
        (Answer(200, "Changed", OutgoingWebhookOut),),
        {_JSON: OutgoingWebhookPatch},
    ),
    Endpoint(
        "outgoing_webhooks.delete",
        "DELETE",
        _ONE,
        delete,
        "Remove an outgoing webhook",
        (Answer(204, "Removed"),),
    ),
    Endpoint(
        "outgoing_webhooks.deliveries",
        "GET",
        f"{_ONE}/deliveries",
        deliveries,
        "List what was sent to an outgoing webhook",
        (Answer(200, "One page, newest first", HookDeliveriesOut),),
        query=PageQuery,
    ),
    Endpoint(
        "outgoing_webhooks.redeliver",
        "POST",
        f"{_ONE}/deliveries/{{delivery}}/redeliver",
        redeliver,
        "Send a message once more",
        (Answer(204, "It is on its way"),),
    ),
)
