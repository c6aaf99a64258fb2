"""Outgoing webhooks of a project: who is told, and what came of telling."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import notifications, outgoing_webhooks
from sealwright.errors import SealwrightError
from sealwright.model.notification import HOOK_STATES
from sealwright.visible import find_project
from sealwright.web.answers import next_cursor, read_number
from sealwright.web.api.v1 import outgoing_webhooks as api
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.outgoing_webhooks import (
    OutgoingWebhookIn,
    OutgoingWebhookOut,
    OutgoingWebhookPatch,
)
from sealwright.web.ui.forms import Form, check_unchanged, read_form, stamped
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.projects import tabs
from sealwright.web.ui.rendering import page, redirect

_PAGE_SIZE = 25
_STATES = tuple((state.value, state.value) for state in sorted(HOOK_STATES))


async def listing(call: Call) -> Response:
    """All of a project."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await outgoing_webhooks.of_project(tx, project.organization_id, project.id)
    may_change = may_open(call.grant.principal, "ui.outgoing_webhook_create")
    shown = {
        "project": project,
        "tabs": tabs(call, project, "ui.outgoing_webhooks"),
        "webhooks": found,
        "may_change": may_change,
    }
    return page(call, "outgoing_webhooks/list.html", shown)


async def new(call: Call) -> Response:
    """The empty form."""
    return await _new(call, Form({"enabled": "true"}, {"states": [one for one, _ in _STATES]}))


async def create(call: Call) -> Response:
    """Make it, and show its secret this once."""
    form = await read_form(call, lists=("states",))
    try:
        made = await api.add(call, form.parse(OutgoingWebhookIn, enabled=form.checked("enabled")))
    except SealwrightError as error:
        return await _new(call, form.refused(error), status_of(error))
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    return page(call, "outgoing_webhooks/made.html", {"project": project, "webhook": made})


async def detail(call: Call) -> Response:
    """One webhook, its form, and what was sent."""
    return await _detail(call, None)


async def update(call: Call) -> Response:
    """Change it."""
    form = await read_form(call, lists=("states",))
    async with call.services.database.read() as tx:
        present = await api.webhook_out(tx, await api.find_webhook(tx, call))
    try:
        check_unchanged(form, _filled(present))
        enabled = form.checked("enabled")
        taken = {"authentication": ""} if form.checked("unauthenticated") else {}
        await api.change_webhook(call, form.parse(OutgoingWebhookPatch, enabled=enabled, **taken))
    except SealwrightError as error:
        return await _detail(call, form.refused(error), status_of(error))
    return redirect(call, call.request.url.path, "The webhook is changed.")


async def delete(call: Call) -> Response:
    """Remove it."""
    await read_form(call)
    await api.remove(call)
    return redirect(call, f"/projects/{call.path('project')}/webhooks", "The webhook is removed.")


async def redeliver(call: Call) -> Response:
    """Send a message once more."""
    await read_form(call)
    async with call.services.database.transaction() as tx:
        await api.send_again(tx, call)
    back = f"/projects/{call.path('project')}/webhooks/{call.path('webhook')}"
    return redirect(call, back, "The message is on its way once more.")


async def _new(call: Call, form: Form, status: int = 200) -> Response:
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    shown = {"project": project, "form": form, "states": _STATES}
    return page(call, "outgoing_webhooks/new.html", shown, status)


def _filled(webhook: OutgoingWebhookOut) -> Form:
    values = {
        "name": webhook.name,
        "url": webhook.url,
        "enabled": "true" if webhook.enabled else "",
    }
    return stamped(Form(values, {"states": [one.value for one in webhook.states]}))


async def _detail(call: Call, form: Form | None, status: int = 200) -> Response:
    before = read_number(call.request.query_params.get("cursor"))
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        webhook = await api.find_webhook(tx, call)
        out = await api.webhook_out(tx, webhook)
        sent = await notifications.of_target(tx, webhook.id, before=before, limit=_PAGE_SIZE)
    shown = {
        "project": project,
        "webhook": out,
        "form": form or _filled(out),
        "states": _STATES,
        "deliveries": sent,
        "cursor": next_cursor(sent, _PAGE_SIZE, lambda one: str(one.id)),
        "may_change": may_open(call.grant.principal, "ui.outgoing_webhook_create"),
    }
    return page(call, "outgoing_webhooks/detail.html", shown, status)


_ALL = "/projects/{project}/webhooks"
_ONE = f"{_ALL}/{{webhook}}"
_TABLE = (
    ("outgoing_webhooks", "GET", _ALL, listing),
    ("outgoing_webhook_new", "GET", f"{_ALL}/new", new),
    ("outgoing_webhook_create", "POST", f"{_ALL}/new", create),
    ("outgoing_webhook", "GET", _ONE, detail),
    ("outgoing_webhook_update", "POST", _ONE, update),
    ("outgoing_webhook_delete", "POST", f"{_ONE}/delete", delete),
    ("outgoing_webhook_redeliver", "POST", f"{_ONE}/deliveries/{{delivery}}/redeliver", redeliver),
)

ENDPOINTS = tuple(
    Endpoint(f"ui.{name}", method, path, handler, "", face=Face.UI)
    for name, method, path, handler in _TABLE
)
