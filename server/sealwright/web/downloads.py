"""Artifacts on their way out: ranges, entity tags, always an attachment."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sealwright.model.request import StoredArtifact
from sealwright.storage import ArtifactStore
from sealwright.web.problems import problem_response

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


async def artifact_response(
    request: Request, store: ArtifactStore, artifact: StoredArtifact
) -> Response:
    """The artifact's bytes, or those of one range (RFC 9110, 14).

    Raises:
        NotFoundError: the store no longer has it.
        UnavailableError: the store is away.
    """
    tag = f'"{artifact.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(artifact.file_name),
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "ETag": tag,
        # RFC 9530: of the whole, whichever range is sent
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(artifact.sha256)).decode()}:",
    }
    if _names_tag(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range", "")
    if request.headers.get("if-range", tag) != tag:
        wanted = ""
    found = _range(wanted, artifact.size)
    if found is None:
        return problem_response(
            "range_not_satisfiable",
            f"The artifact has {artifact.size} bytes.",
            headers={"Content-Range": f"bytes */{artifact.size}"},
        )
    start, end = found
    partial = (start, end) != (0, artifact.size)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    headers["Content-Length"] = str(end - start)
    status = 206 if partial else 200
    media_type = "application/octet-stream"
    if request.method == "HEAD":
        return Response(None, status, headers, media_type)
    chunks = await store.open_range(artifact.key, start, end)
    return StreamingResponse(chunks, status, headers, media_type)


def attachment(file_name: str) -> str:
    """``Content-Disposition`` with the name in both of its forms (RFC 6266, appendix D)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", file_name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def _range(header: str, size: int) -> tuple[int, int] | None:
    """(start, end), end exclusive; the whole where the header is not one plain range; None where
    nothing of the range is there."""
    match = _RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else None
    start = int(first)
    if last and int(last) < start:
        return 0, size
    end = min(int(last) + 1, size) if last else size
    return (start, end) if start < size else None


def _names_tag(header: str, tag: str) -> bool:
    named = {one.strip().removeprefix("W/") for one in header.split(",")}
    return tag in named or "*" in named
