"""The audit: what happened, by whom, to what; each entry with its proof."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.web.answers import next_cursor, read_number
from sealwright.web.api.v1.log_entries import (
    MEDIA_TYPES,
    find_entry,
    proof_of,
)
from sealwright.web.audit import audit_page, export, filter_of, subject_names
from sealwright.web.downloads import attachment
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.audit import AuditFilter, AuditProofOut, ExportFormat
from sealwright.web.ui.forms import Form, FormError
from sealwright.web.ui.rendering import page

_PAGE_SIZE = 50
#: beginnings of actions, as the filter offers them
_KINDS = (
    ("activity.", "Unusual activity"),
    ("approval.", "Approvals"),
    ("artifact_configuration.", "Artifact configurations"),
    ("build_system.", "Build systems"),
    ("certificate.", "Certificates"),
    ("group.", "Groups"),
    ("organization.", "Organization"),
    ("outgoing_webhook.", "Outgoing webhooks"),
    ("project.", "Projects"),
    ("repository_link.", "Repository links"),
    ("request.", "Signing requests"),
    ("retention.", "Retention"),
    ("session.", "Log-ins"),
    ("signature.", "Signatures"),
    ("signing_policy.", "Signing policies"),
    ("token.", "API tokens"),
    ("trigger.", "Triggers"),
    ("user.", "Users"),
)


async def listing(call: Call) -> Response:
    """Entries, newest first, by what the filter says."""
    form, fault = _given(call), ""
    try:
        wanted = _wanted(form)
    except FormError as error:
        form, wanted = form.refused(error), AuditFilter.model_validate({})
        fault = "The filter was left out: it does not fit."
    organization = call.grant.organization_id
    try:
        before = read_number(call.request.query_params.get("cursor"))
    except InvalidInputError:
        before = None
    async with call.services.database.read() as tx:
        found = await audit_page(
            tx, organization, filter_of(wanted), before=before, limit=_PAGE_SIZE
        )
        names = await subject_names(tx, organization)
    filters = {name: value for name, value in form.values.items() if value and name != "cursor"}
    shown = {
        "entries": found,
        "names": names,
        "kinds": _KINDS,
        "form": form,
        "fault": fault,
        "filtered": bool(filters),
        "query": urlencode(filters),
        "cursor": next_cursor(found, _PAGE_SIZE, lambda entry: str(entry.id)),
        "about": _about(wanted, names),
    }
    return page(call, "audit/list.html", shown)


async def entry(call: Call) -> Response:
    """One entry, and whether the signed tree holds it."""
    proof: AuditProofOut | None = None
    fault = ""
    async with call.services.database.read() as tx:
        found = await find_entry(tx, call)
        names = await subject_names(tx, call.grant.organization_id, [found])
    try:
        proof = await proof_of(call, found)
    except SealwrightError as error:
        fault = error.message
    shown = {"entry": found, "names": names, "proof": proof, "fault": fault}
    return page(call, "audit/entry.html", shown)


async def proof(call: Call) -> Response:
    """The proof of an entry as a file."""
    async with call.services.database.read() as tx:
        found = await find_entry(tx, call)
    made = await proof_of(call, found)
    headers = {"Content-Disposition": attachment(f"entry-{found.id}.tlog-proof")}
    return Response(made.proof, 200, headers, "text/plain")


async def export_all(call: Call) -> Response:
    """What the filter wants as a file."""
    form = _given(call)
    kind = ExportFormat.JSON if form.value("format") == "json" else ExportFormat.CSV
    chunks = export(
        call.services.database, call.grant.organization_id, filter_of(_wanted(form)), kind
    )
    headers = {"Content-Disposition": attachment(f"audit.{kind.value}")}
    return StreamingResponse(chunks, 200, headers, MEDIA_TYPES[kind])


def _given(call: Call) -> Form:
    return Form({name: value for name, value in call.request.query_params.items() if value})


def _wanted(form: Form) -> AuditFilter:
    """The form's filter; its days are whole days in UTC.

    Raises:
        FormError: it does not fit.
    """
    times = {}
    for name, field, more in (("from", "since", 0), ("to", "until", 1)):
        text = form.value(name)
        if not text:
            continue
        try:
            day = dt.date.fromisoformat(text) + dt.timedelta(days=more)
        except (ValueError, OverflowError):
            raise FormError({name: "This is no day."}) from None
        times[field] = dt.datetime.combine(day, dt.time(), dt.UTC)
    return form.parse(AuditFilter, **times)


def _about(wanted: AuditFilter, names: dict[str, dict[str, str]]) -> str:
    """Whose activity is shown: a name, or nothing."""
    for kind, known in names.items():
        chosen = getattr(wanted, kind)
        if chosen:
            return f"{kind.replace('_', ' ')} {known.get(chosen, chosen)}"
    return f"signing request {wanted.request}" if wanted.request else ""


ENDPOINTS = (
    Endpoint("ui.audit", "GET", "/audit", listing, "", face=Face.UI),
    Endpoint("ui.audit_export", "GET", "/audit/export", export_all, "", face=Face.UI),
    Endpoint("ui.audit_entry", "GET", "/audit/{entry}", entry, "", face=Face.UI),
    Endpoint("ui.audit_proof", "GET", "/audit/{entry}/proof", proof, "", face=Face.UI),
)
