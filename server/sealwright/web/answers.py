"""JSON answers and pages of lists."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel
from starlette.responses import Response

from sealwright.errors import InvalidInputError

T = TypeVar("T")


def json_answer(
    model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The model as JSON."""
    return Response(model.model_dump_json(), status, headers, "application/json")


def no_content() -> Response:
    """204."""
    return Response(status_code=204)


def next_cursor(items: Sequence[T], limit: int, key: Callable[[T], str]) -> str | None:
    """The cursor after a page of at most `limit` items, None where it was the last."""
    if len(items) < limit:
        return None
    return cursor_of(key(items[-1]))


def cursor_of(key: str) -> str:
    """The cursor that stands for the key of a page's last item."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> str | None:
    """The key that a cursor stands for.

    Raises:
        InvalidInputError: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        key = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return key.decode("ascii")
    except (binascii.Error, ValueError):
        message = "The cursor is none of this server's."
        raise InvalidInputError(message, advice="Begin without a cursor.") from None


def read_number(cursor: str | None) -> int | None:
    """The number that a cursor stands for.

    Raises:
        InvalidInputError: it is none of this list's.
    """
    key = read_cursor(cursor)
    if key is None:
        return None
    if not (key.isascii() and key.isdecimal() and len(key) < 19):
        message = "The cursor is none of this list's."
        raise InvalidInputError(message, advice="Begin without a cursor.")
    return int(key)


def page_of(
    items: Sequence[T], cursor: str | None, limit: int, key: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The page of a complete list, ordered by `key`, that follows the cursor; the next cursor."""
    after = read_cursor(cursor) or ""
    rest = sorted((item for item in items if key(item) > after), key=key)
    page = rest[:limit]
    return page, next_cursor(page, limit, key) if len(rest) > limit else None
