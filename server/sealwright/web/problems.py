"""Errors on the wire: problem details (RFC 9457). The only place that maps errors to HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse

from sealwright.errors import SealwrightError
from sealwright.logs import CONTEXT_ID
from sealwright.origin.rules import OriginRefusedError

#: code -> status and title; a code that is not here is a fault of the server's
STATUSES: Mapping[str, tuple[int, str]] = {
    "invalid_input": (400, "The request is malformed"),
    "unauthenticated": (401, "Authentication needed"),
    "forbidden": (403, "Not allowed"),
    "policy_violation": (403, "The signing policy refuses"),
    "passkey_required": (403, "The signing policy wants a passkey"),
    "origin_not_verified": (403, "The origin is not verified"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "gone": (410, "No longer there"),
    "precondition_failed": (412, "Changed meanwhile"),
    "too_large": (413, "Too large"),
    "range_not_satisfiable": (416, "Range not satisfiable"),
    "misdirected": (421, "Unknown host"),
    "idempotency_key_reused": (422, "Idempotency key reused"),
    "artifact_configuration_invalid": (422, "The artifact configuration is invalid"),
    "artifact_invalid": (422, "The artifact is invalid"),
    "verification_failed": (422, "Verification failed"),
    "too_many_requests": (429, "Too many requests"),
    "unavailable": (503, "Temporarily unavailable"),
    "timestamp_unavailable": (503, "No time stamp authority answers"),
}
_INTERNAL = (500, "Internal error")
_RETRY_SECONDS = {429: "10", 503: "5"}


def status_of(error: SealwrightError) -> int:
    """The HTTP status for an error."""
    return STATUSES.get(error.code, _INTERNAL)[0]


def problem(error: SealwrightError) -> JSONResponse:
    """The response for an error. A fault of the server's shows nothing of itself."""
    if status_of(error) == 500:
        return problem_response(
            "internal",
            "The server failed.",
            advice="Try again; if it stays, give the operator the request id.",
        )
    errors = None
    if isinstance(error, OriginRefusedError):
        errors = [{"error": one.error, "how_to_fix": one.how_to_fix} for one in error.refusals]
    return problem_response(
        error.code, error.message, advice=error.advice, where=error.where, errors=errors
    )


def problem_response(
    code: str,
    detail: str,
    *,
    advice: str = "",
    where: str = "",
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] | None = None,
) -> JSONResponse:
    """A problem by its code."""
    status, title = STATUSES.get(code, _INTERNAL)
    body = {
        "type": f"urn:sealwright:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "advice": advice,
        "where": where,
        "request_id": CONTEXT_ID.get(),
        "errors": list(errors or ()),
    }
    extra = dict(headers or {})
    if status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    if status in _RETRY_SECONDS:
        extra["Retry-After"] = _RETRY_SECONDS[status]
    return JSONResponse(body, status, extra, media_type="application/problem+json")
