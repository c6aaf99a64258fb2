"""How the server is."""

from __future__ import annotations

from typing import Literal

from sealwright.web.schemas.fields import Out


class HealthOut(Out):
    """Which parts answer."""

    ready: bool
    database: bool
    queue: bool
    store: bool


class LiveOut(Out):
    """That the process runs."""

    live: Literal[True] = True
    version: str
