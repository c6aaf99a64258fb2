"""What of a signing request may be long: its files and its leaves, page by page."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import file_results
from sealwright.db import log as db_log
from sealwright.visible import find_request
from sealwright.web.answers import cursor_of, json_answer, next_cursor, read_number
from sealwright.web.api.v1.signing_requests import check_results_kept
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.schemas.request_parts import FileResultsOut, LogEntriesOut
from sealwright.web.schemas.signing_requests import FileResultOut, LogEntryOut
from sealwright.web.views import fields_of, result_fields


async def files(call: Call) -> Response:
    """What was done to each file, in the artifact's order."""
    query = call.query(PageQuery)
    start = read_number(query.cursor) or 0
    async with call.services.database.read() as tx:
        request = await find_request(tx, call.grant, call.path("request"))
        check_results_kept(request)
        found = await file_results.results(tx, request.id, start=start, limit=query.limit)
    items = [FileResultOut.model_validate(result_fields(one)) for one in found]
    following = cursor_of(str(start + query.limit)) if len(found) == query.limit else None
    return json_answer(FileResultsOut(items=items, next_cursor=following))


async def log(call: Call) -> Response:
    """Every leaf about the request, oldest first."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        request = await find_request(tx, call.grant, call.path("request"))
        found = await db_log.of_request(
            tx, request.id, after=read_number(query.cursor) or 0, limit=query.limit
        )
    items = [LogEntryOut.model_validate(fields_of(one)) for one in found]
    following = next_cursor(found, query.limit, lambda entry: str(entry.id))
    return json_answer(LogEntriesOut(items=items, next_cursor=following))


_ONE = "/api/v1/signing-requests/{request}"

ENDPOINTS = (
    Endpoint(
        "signing_requests.files",
        "GET",
        f"{_ONE}/files",
        files,
        "List what was done to each file",
        (Answer(200, "One page, in the artifact's order", FileResultsOut),),
        query=PageQuery,
    ),
    Endpoint(
        "signing_requests.log",
        "GET",
        f"{_ONE}/log",
        log,
        "List the log's leaves about a signing request",
        (Answer(200, "One page, oldest first", LogEntriesOut),),
        query=PageQuery,
    ),
)
