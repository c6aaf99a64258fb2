"""SCIM on the wire: reading bodies, and answers and errors in its form (RFC 7644, 3.1 and 3.12)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from sealwright.errors import SealwrightError
from sealwright.membership import TakenError
from sealwright.scim.documents import has_version, projected
from sealwright.scim.errors import ScimError, ScimType
from sealwright.scim.query import names
from sealwright.web import bodies
from sealwright.web.problems import status_of
from sealwright.web.routes import Call

BASE = "/scim/v2"
_TYPE = "application/scim+json"
_MESSAGES = "urn:ietf:params:scim:api:messages:2.0"
_LIST = f"{_MESSAGES}:ListResponse"
_ERROR = f"{_MESSAGES}:Error"


def failure(error: SealwrightError) -> tuple[int, Mapping[str, Any]]:
    """Status and body of an error."""
    status = status_of(error)
    detail = "The server failed." if status == 500 else f"{error.message} {error.advice}".strip()
    body: dict[str, Any] = {"schemas": [_ERROR], "status": str(status), "detail": detail}
    if isinstance(error, TakenError):
        body["scimType"] = "uniqueness"
    elif status == 400:
        body["scimType"] = error.scim_type if isinstance(error, ScimError) else "invalidValue"
    return status, body


def problem(error: SealwrightError) -> Response:
    """An error."""
    status, body = failure(error)
    return answer(body, status)


def not_implemented(detail: str) -> Response:
    """What this server does not do."""
    return answer({"schemas": [_ERROR], "status": "501", "detail": detail}, 501)


def answer(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A document."""
    return JSONResponse(dict(document), status, headers, media_type=_TYPE)


def listed(page: Sequence[Mapping[str, Any]], total: int, start: int = 1) -> Response:
    """A ListResponse (3.4.2): the page that begins with the `start`-th of `total`."""
    return answer(
        {
            "schemas": [_LIST],
            "totalResults": total,
            "startIndex": start,
            "itemsPerPage": len(page),
            "Resources": list(page),
        }
    )


def one(call: Call, document: Mapping[str, Any], status: int = 200) -> Response:
    """A resource, as far as the caller asks for it; or that it is as the caller has it (3.14)."""
    version = document["meta"]["version"]
    known = call.request.headers.get("if-none-match")
    if call.request.method == "GET" and known is not None and has_version(document, known):
        return Response(None, 304, {"ETag": version})
    headers = {"ETag": version}
    if status == 201:
        headers["Location"] = document["meta"]["location"]
    query = call.request.query_params
    attributes, excluded = names(query.get("attributes")), names(query.get("excludedAttributes"))
    return answer(projected(document, attributes, excluded), status, headers)


async def body(call: Call, limit: int = bodies.MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        ScimError: invalidSyntax.
        TooLargeError: more than `limit` bytes.
    """
    text = await bodies.read(call.request, limit)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        message = "The body is no JSON object."
        raise ScimError(ScimType.INVALID_SYNTAX, message)
    return document


def base(call: Call) -> str:
    """The URL of all endpoints, without a slash at its end."""
    return f"{call.services.settings.url}{BASE}"
