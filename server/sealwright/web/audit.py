"""Reading the log as an audit: entries by what they concern, with the details kept beside them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from sealwright.db import Database, Transaction, certificates, projects, users
from sealwright.db import log as db_log
from sealwright.db.log import Entry
from sealwright.db.log_search import Filter
from sealwright.transparency.details import MEMBER, fits
from sealwright.web import views
from sealwright.web.schemas.audit import AuditEntryOut, AuditFilter, DetailsState, ExportFormat

_USER = "user:"
_CHUNK = 500  # entries read at once for an export
_COLUMNS = (
    "id", "sequence", "created_at", "action", "actor", "actor_name", "address", "request_id",
    "project_id", "signing_policy_id", "certificate_id", "user_id", "before", "after", "data",
    "details",
)  # fmt: skip
#: a spreadsheet takes a cell that begins so for a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def filter_of(given: AuditFilter) -> Filter:
    """What the database is asked for. An actor that is an id is a user."""
    actor = given.actor
    if actor and ":" not in actor and "-" in actor:
        actor = f"{_USER}{actor}"
    return Filter(
        action=given.action,
        actor=actor,
        request_id=given.request,
        project_id=given.project,
        signing_policy_id=given.signing_policy,
        certificate_id=given.certificate,
        user_id=given.user,
        since=given.since,
        until=given.until,
    )


async def audit_page(
    tx: Transaction, organization_id: str, wanted: Filter, *, before: int | None, limit: int
) -> list[AuditEntryOut]:
    """Entries, newest first, older than entry id `before`."""
    found = await db_log.page(tx, organization_id, wanted=wanted, before=before, limit=limit)
    return await with_details(tx, organization_id, found)


async def with_details(
    tx: Transaction, organization_id: str, entries: Sequence[Entry]
) -> list[AuditEntryOut]:
    """The entries with what lies beside them, and with their actors' names."""
    kept = await db_log.details_of(tx, [entry.id for entry in entries])
    actors = {_actor(entry): None for entry in entries}
    people = await views.names(
        tx, organization_id, [one.removeprefix(_USER) for one in actors if one.startswith(_USER)]
    )
    return [_out(entry, kept.get(entry.id), people) for entry in entries]


async def subject_names(
    tx: Transaction, organization_id: str, entries: Sequence[AuditEntryOut] | None = None
) -> dict[str, dict[str, str]]:
    """Id -> name of what entries are about, by kind.

    Args:
        entries: of users those that these are about; None: all.
    """
    concerned = None if entries is None else {one.user_id for one in entries if one.user_id}
    return {
        "project": {one.id: one.name for one in await projects.every(tx, organization_id)},
        "signing_policy": {
            one.id: one.name for one in await projects.policies(tx, organization_id)
        },
        "certificate": {one.id: one.name for one in await certificates.every(tx, organization_id)},
        "user": await users.names(tx, organization_id, concerned),
    }


def _out(entry: Entry, details: db_log.Details | None, people: dict[str, str]) -> AuditEntryOut:
    body = json.loads(entry.body)
    data: dict[str, Any] = body["data"]
    committed = data.pop(MEMBER, None)
    actor = str(body["actor"])
    state = _state(committed, details)
    shown = json.loads(details.text) if details and state is DetailsState.INTACT else {}
    return AuditEntryOut(
        id=entry.id,
        sequence=entry.sequence,
        created_at=entry.created_at,
        action=entry.action,
        actor=actor,
        actor_name=people.get(actor.removeprefix(_USER), ""),
        address=shown.get("address", ""),
        request_id=entry.request_id,
        project_id=entry.about.project_id,
        signing_policy_id=entry.about.signing_policy_id,
        certificate_id=entry.about.certificate_id,
        user_id=entry.about.user_id,
        data=data,
        before=shown.get("before", {}),
        after=shown.get("after", {}),
        details=state,
        body=entry.body,
    )


def _state(committed: object, details: db_log.Details | None) -> DetailsState:
    if committed is None:
        return DetailsState.NONE if details is None else DetailsState.ALTERED
    if details is None:
        return DetailsState.ERASED
    return DetailsState.INTACT if fits(details, committed) else DetailsState.ALTERED


def _actor(entry: Entry) -> str:
    return str(json.loads(entry.body)["actor"])


async def export(
    database: Database, organization_id: str, wanted: Filter, form: ExportFormat
) -> AsyncIterator[bytes]:
    """Everything that is wanted, newest first, as a file. Nothing is held but a chunk of it, and no
    transaction stays open while a slow client reads."""
    before: int | None = None
    first = True
    while True:
        async with database.read() as tx:
            chunk = await audit_page(tx, organization_id, wanted, before=before, limit=_CHUNK)
        if form is ExportFormat.CSV:
            yield _csv(chunk, heading=first)
        else:
            yield _json(chunk, first=first)
        if len(chunk) < _CHUNK:
            break
        before, first = chunk[-1].id, False
    if form is ExportFormat.JSON:
        yield b"\n]\n"


def _json(entries: Iterable[AuditEntryOut], *, first: bool) -> bytes:
    lines = [entry.model_dump_json() for entry in entries]
    start = "[\n" if first else ",\n" if lines else ""
    return (start + ",\n".join(lines)).encode()


def _csv(entries: Iterable[AuditEntryOut], *, heading: bool) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    if heading:
        writer.writerow(_COLUMNS)
    for entry in entries:
        fields = entry.model_dump(mode="json")
        writer.writerow([_cell(fields[name]) for name in _COLUMNS])
    return out.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else ""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
