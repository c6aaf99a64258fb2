"""Reading bodies under bounds: JSON, small forms, and headers that name how."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from starlette.requests import Request

from sealwright.errors import InvalidInputError, TooLargeError
from sealwright.intake.upload import IDLE_SECONDS, paced

MAX_JSON_BYTES = 1 << 20
MAX_FORM_BYTES = 64 << 10
_MAX_KEY = 255


def stream(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. A client that goes away raises ClientDisconnect."""
    return aiter(request.stream())


def media_type(request: Request) -> str:
    """The body's media type in lower case, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_length(request: Request, limit: int) -> None:
    """Refuse a body that announces more than `limit` bytes, before a byte of it is read.

    Raises:
        TooLargeError: it does.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        message = f"The request announces {announced} bytes; {limit} are allowed."
        raise TooLargeError(message, advice="Send less, or have the limit raised.")


async def read(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes.

    Raises:
        TooLargeError: it has more.
        InvalidInputError: it stalls.
    """
    check_length(request, limit)
    body = bytearray()
    async for chunk in paced(stream(request), IDLE_SECONDS):
        body += chunk
        if len(body) > limit:
            message = f"The body has more than the {limit} bytes allowed."
            raise TooLargeError(message)
    return bytes(body)


async def read_json(request: Request) -> bytes:
    """The body, which says that it is JSON; an empty one is an empty object.

    Raises:
        InvalidInputError: another media type.
        TooLargeError: more than a megabyte.
    """
    body = await read(request, MAX_JSON_BYTES)
    if not body:
        return b"{}"
    if media_type(request) != "application/json":
        message = "The body is not said to be JSON."
        raise InvalidInputError(message, advice="Send Content-Type: application/json.")
    return body


async def read_page_form(request: Request) -> dict[str, str]:
    """The fields of a page's form (``application/x-www-form-urlencoded``).

    Raises:
        InvalidInputError: malformed, or a field twice.
        TooLargeError: more than 64 KiB.
    """
    body = await read(request, MAX_FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        message = "The form is malformed."
        raise InvalidInputError(message) from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or any("\x00" in value for value in fields.values()):
        message = "The form is malformed: a field is given twice or holds a NUL."
        raise InvalidInputError(message)
    return fields


def idempotency_key(request: Request) -> str | None:
    """The ``Idempotency-Key`` header.

    Raises:
        InvalidInputError: empty, too long, or not printable ASCII.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
        message = f"An Idempotency-Key has 1 to {_MAX_KEY} printable ASCII characters."
        raise InvalidInputError(message, advice="Use a UUID.")
    return key
