"""``manifest.json`` of Visual Studio extensions (VSIX version 3): SHA-256 of each file.

Visual Studio compares the files that it installs with it, so it has to follow when they are signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

PATH = "manifest.json"
MAX_SIZE = 16 << 20


def updated(document: bytes, digest_of: Callable[[str], str | None]) -> bytes | None:
    """The document with the digests that its files have now; None if it needs no change.

    Args:
        digest_of: path -> SHA-256 in hexadecimal, None for a file that is not there.
    """
    manifest = _read(document)
    changed = False
    for file in _files(manifest):
        digest = digest_of(file["fileName"].removeprefix("/"))
        if digest is not None and digest.upper() != file["sha256"].upper():
            file["sha256"] = digest.upper()
            changed = True
    return _encoded(manifest) if changed else None


def skeleton(document: bytes) -> bytes:
    """What the document says besides digests; all of it if it is something else."""
    manifest = _read(document)
    if not _files(manifest):
        return document
    for file in _files(manifest):
        file["sha256"] = ""
    return json.dumps(manifest, sort_keys=True).encode()


def _read(document: bytes) -> Any:
    try:
        return json.loads(document.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _encoded(manifest: Any) -> bytes:
    try:
        return json.dumps(manifest, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair is fine in JSON as an escape alone
        return json.dumps(manifest).encode()


def _files(manifest: Any) -> list[dict[str, str]]:
    """Its files with digests; none if it is another kind of document."""
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, list) or "vsixId" not in manifest:
        return []
    return [
        each
        for each in files
        if isinstance(each, dict)
        and isinstance(each.get("fileName"), str)
        and isinstance(each.get("sha256"), str)
    ]
