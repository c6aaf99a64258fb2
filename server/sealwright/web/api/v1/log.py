"""The transparency log in the C2SP forms: checkpoint, tiles, verifier key."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from sealwright.db import log as db_log
from sealwright.db import organizations
from sealwright.errors import ForbiddenError, InvalidInputError, NotFoundError
from sealwright.transparency.publish import read_tile
from sealwright.visible import missing
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.services import Services

_IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
_BYTES = "application/octet-stream"


async def checkpoint(call: Call) -> Response:
    """The signed head of the tree."""
    return PlainTextResponse((await _head(call.services)).checkpoint)


async def key(call: Call) -> Response:
    """The verifier key: keep it from the first day on, from a source you trust."""
    return PlainTextResponse((await _head(call.services)).verifier_key.strip() + "\n")


async def tile(call: Call) -> Response:
    """A tile of hashes. Of what was logged it tells nothing."""
    return await _tile(call.services, f"tile/{call.path('tile')}")


async def entries(call: Call) -> Response:
    """A bundle of leaves. They name every organization's requests, so on a server with several
    they are for its operator, from the exported files."""
    async with call.services.database.read() as tx:
        tenants = await organizations.every(tx)
    if len(tenants) != 1:
        message = "The log's entries tell of more than one organization."
        raise ForbiddenError(message, advice="Ask the operator for the exported log.")
    return await _tile(call.services, f"tile/entries/{call.path('tile')}")


async def _head(services: Services) -> db_log.HeadRow:
    async with services.database.read() as tx:
        head = await db_log.head(tx)
    if head is None:
        message = "The log has no checkpoint yet."
        raise NotFoundError(message, advice="The signer makes the first one when it starts.")
    return head


async def _tile(services: Services, path: str) -> Response:
    try:
        content = await read_tile(services.database, path)
    except InvalidInputError:
        content = None
    if content is None:
        raise missing(path, "tile")
    return Response(content, 200, _IMMUTABLE, _BYTES)


ENDPOINTS = (
    Endpoint(
        "log.checkpoint",
        "GET",
        "/log/checkpoint",
        checkpoint,
        "Read the log's checkpoint",
        (Answer(200, "C2SP tlog-checkpoint", None, "text/plain"),),
    ),
    Endpoint(
        "log.key",
        "GET",
        "/log/key",
        key,
        "Read the log's verifier key",
        (Answer(200, "C2SP signed-note verifier key", None, "text/plain"),),
    ),
    Endpoint(
        "log.entries",
        "GET",
        "/log/tile/entries/{tile:path}",
        entries,
        "Read a bundle of leaves",
        (Answer(200, "C2SP tlog-tiles entry bundle", None, _BYTES),),
    ),
    Endpoint(
        "log.tile",
        "GET",
        "/log/tile/{tile:path}",
        tile,
        "Read a tile of hashes",
        (Answer(200, "C2SP tlog-tiles tile", None, _BYTES),),
    ),
)
