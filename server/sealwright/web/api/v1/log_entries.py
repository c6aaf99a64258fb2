"""The organization's own leaves of the log: searched, exported, proved."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from sealwright.db import Transaction
from sealwright.db import log as db_log
from sealwright.transparency.publish import proof_for
from sealwright.visible import missing
from sealwright.web.answers import json_answer, next_cursor, read_number
from sealwright.web.audit import audit_page, export, filter_of, with_details
from sealwright.web.downloads import attachment
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.audit import (
    AuditEntriesOut,
    AuditEntryOut,
    AuditProofOut,
    AuditQuery,
    ExportFormat,
    ExportQuery,
)

MEDIA_TYPES = {ExportFormat.CSV: "text/csv; charset=utf-8", ExportFormat.JSON: "application/json"}


async def listing(call: Call) -> Response:
    """Leaves, newest first."""
    query = call.query(AuditQuery)
    organization = call.grant.organization_id
    async with call.services.database.read() as tx:
        found = await audit_page(
            tx,
            organization,
            filter_of(query),
            before=read_number(query.cursor),
            limit=query.limit,
        )
    following = next_cursor(found, query.limit, lambda entry: str(entry.id))
    return json_answer(AuditEntriesOut(items=found, next_cursor=following))


async def get(call: Call) -> Response:
    """One leaf."""
    async with call.services.database.read() as tx:
        return json_answer(await find_entry(tx, call))


async def prove(call: Call) -> Response:
    """Show that the signed tree holds a leaf as it stands."""
    async with call.services.database.read() as tx:
        entry = await find_entry(tx, call)
    return json_answer(await proof_of(call, entry))


async def export_all(call: Call) -> Response:
    """Everything that is wanted as a file."""
    query = call.query(ExportQuery)
    chunks = export(
        call.services.database, call.grant.organization_id, filter_of(query), query.format
    )
    headers = {"Content-Disposition": attachment(f"audit.{query.format.value}")}
    return StreamingResponse(chunks, 200, headers, MEDIA_TYPES[query.format])


async def proof_of(call: Call, entry: AuditEntryOut) -> AuditProofOut:
    """The proof that the tree holds the entry; it was checked as it was made.

    Raises:
        UnavailableError: it is not in the tree yet.
        VerificationError: the database does not hold what the tree was made of.
    """
    bundle = await proof_for(
        call.services.database, entry.id, organization_id=call.grant.organization_id
    )
    size = int(bundle.checkpoint.split("\n")[1])
    return AuditProofOut(
        id=entry.id,
        sequence=bundle.index,
        tree_size=size,
        details=entry.details,
        proof=bundle.encode(),
    )


async def find_entry(tx: Transaction, call: Call) -> AuditEntryOut:
    """The entry that the path names.

    Raises:
        NotFoundError: missing, or another organization's.
    """
    name = call.path("entry")
    found = await db_log.get(tx, int(name)) if _is_number(name) else None
    if found is None or found.organization_id != call.grant.organization_id:
        raise missing(name, "log entry")
    [entry] = await with_details(tx, call.grant.organization_id, [found])
    return entry


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


_PATH = "/api/v1/log-entries"

ENDPOINTS = (
    Endpoint(
        "log_entries.list",
        "GET",
        _PATH,
        listing,
        "Search the organization's log entries",
        (Answer(200, "One page, newest first", AuditEntriesOut),),
        query=AuditQuery,
    ),
    Endpoint(
        "log_entries.export",
        "GET",
        f"{_PATH}/export",
        export_all,
        "Export the organization's log entries",
        (Answer(200, "CSV or a JSON array, newest first", None, "text/csv"),),
        query=ExportQuery,
    ),
    Endpoint(
        "log_entries.get",
        "GET",
        f"{_PATH}/{{entry}}",
        get,
        "Read a log entry",
        (Answer(200, "The entry", AuditEntryOut),),
    ),
    Endpoint(
        "log_entries.prove",
        "GET",
        f"{_PATH}/{{entry}}/proof",
        prove,
        "Prove that the log holds an entry",
        (Answer(200, "The proof, checked", AuditProofOut),),
    ),
)
