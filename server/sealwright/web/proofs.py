"""The proof that the log holds a release, as a file to keep beside the signed artifact."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import Database
from sealwright.db import log as db_log
from sealwright.errors import ConflictError
from sealwright.model.request import RequestKind, SigningRequest
from sealwright.transparency.leaf import ARTIFACT_RELEASED
from sealwright.transparency.publish import proof_for
from sealwright.web.downloads import attachment
from sealwright.web.services import Services


async def proof_response(services: Services, request: SigningRequest) -> Response:
    """The proof of the request's release.

    Raises:
        ConflictError: nothing was released.
        UnavailableError: the log has not taken the release up yet.
    """
    entry = await _release(services.database, request)
    proof = await proof_for(services.database, entry.id, organization_id=request.organization_id)
    name = request.output.file_name if request.output else request.id
    headers = {"Content-Disposition": attachment(f"{name}.tlog-proof")}
    return Response(proof.encode(), 200, headers, "text/plain")


async def _release(database: Database, request: SigningRequest) -> db_log.Entry:
    async with database.read() as tx:
        released = await db_log.of_action(tx, request.id, ARTIFACT_RELEASED)
    if released:
        return released[-1]
    message = "Nothing was released for this signing request."
    if request.kind is RequestKind.HASH:
        message = "A digest is signed without an artifact: there is no release to prove."
    raise ConflictError(message, advice="Wait until the request is Completed.")
