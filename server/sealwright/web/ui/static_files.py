"""Files of the pages: style, scripts, pictures. Whatever lies in ``static/`` is served."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.responses import Response

from sealwright.visible import missing
from sealwright.web.routes import Call, Endpoint, Face

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FILES = {
    file.name: (file.read_bytes(), _MEDIA_TYPES[file.suffix])
    for file in sorted((Path(__file__).parent.parent / "static").iterdir())
    if file.suffix in _MEDIA_TYPES
}


def address(name: str) -> str:
    """Where templates find the file. It changes with the content, so that no cache is stale."""
    return f"/static/{name}?v={hashlib.sha256(_FILES[name][0]).hexdigest()[:12]}"


async def static(call: Call) -> Response:
    """A file of the pages: one of the few that there are."""
    found = _FILES.get(call.path("file"))
    if found is None:
        raise missing(call.path("file"), "file")
    content, media_type = found
    return Response(content, 200, {"Cache-Control": "public, max-age=3600"}, media_type)


ENDPOINTS = (Endpoint("ui.static", "GET", "/static/{file}", static, "", face=Face.UI),)
