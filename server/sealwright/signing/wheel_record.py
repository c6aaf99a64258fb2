"""Python wheels: archives with a list of the digests of their files, which signing leaves alone.

PyPA, "Binary distribution format", "The .dist-info directory": ``RECORD`` names every file in a
wheel with its SHA-256 and size. Installers may compare them, and a signed program has others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RECORD = re.compile(r"[^/]+\.dist-info/RECORD")


def record_among(paths: Iterable[str]) -> str:
    """The path of a wheel's record; empty if there is none."""
    return next((path for path in paths if _RECORD.fullmatch(path)), "")


def stale(record: str) -> str:
    """What people are told of a record whose files change."""
    return (
        f"{record} keeps the digests of the unsigned files. Unzip the signed wheel, and have "
        "'wheel pack' make it anew."
    )
