"""The proof that the log holds a release, made from the tiles in the database."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from starlette.responses import Response

from sealwright.db import Database
from sealwright.db import log as db_log
from sealwright.errors import ConflictError, InternalError
from sealwright.model.request import RequestKind, SigningRequest
from sealwright.transparency.leaf import ARTIFACT_RELEASED, Event, LeafEntry
from sealwright.transparency.proof import prove
from sealwright.web.downloads import attachment
from sealwright.web.services import Services


async def proof_response(services: Services, request: SigningRequest) -> Response:
    """The proof of the request's release as a file.

    Raises:
        ConflictError: nothing was released, or the log has not taken it up yet.
    """
    text = await release_proof(services.database, request)
    name = request.output.file_name if request.output else request.id
    headers = {"Content-Disposition": attachment(f"{name}.tlog-proof")}
    return Response(text, 200, headers, "text/plain")


async def release_proof(database: Database, request: SigningRequest) -> str:
    """The proof's text (C2SP tlog-proof, with the leaf in its ``extra`` line).

    Raises:
        ConflictError: nothing was released, or the log has not taken it up yet.
    """
    async with database.read() as tx:
        entries = await db_log.of_request(tx, request.id)
        head = await db_log.head(tx)
    released = [one for one in entries if one.action == ARTIFACT_RELEASED]
    if not released:
        message = "Nothing was released for this signing request."
        if request.kind is RequestKind.HASH:
            message = "A digest is signed without an artifact: there is no release to prove."
        raise ConflictError(message, advice="Wait until the request is Completed.")
    entry = released[-1]
    if entry.sequence is None or head is None or entry.sequence >= head.size:
        message = "The log has not taken up the release yet."
        raise ConflictError(message, advice="Ask again in a minute.")
    leaf = LeafEntry(entry.sequence, Event.parse(entry.body.encode())).encode()
    tiles = _DatabaseTiles(database, asyncio.get_running_loop())
    bundle = await asyncio.to_thread(
        prove, tiles, leaf, entry.sequence, head.checkpoint, head.verifier_key
    )
    return bundle.encode()


class _DatabaseTiles:
    """A `TileStore` for reading from another thread than the event loop's."""

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._loop = loop

    def read(self, path: str) -> bytes | None:
        return asyncio.run_coroutine_threadsafe(self._read(path), self._loop).result()

    def write(self, path: str, content: bytes) -> NoReturn:
        message = f"{path} ({len(content)} bytes) is written by the sequencer only."
        raise InternalError(message)

    def remove_partials(self, path: str) -> NoReturn:
        message = f"{path} is removed by the sequencer only."
        raise InternalError(message)

    async def _read(self, path: str) -> bytes | None:
        async with self._database.read() as tx:
            return await db_log.tile(tx, path)
