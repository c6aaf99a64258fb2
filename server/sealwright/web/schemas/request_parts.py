"""What of a signing request comes in pages: its files and its leaves."""

from __future__ import annotations

from sealwright.web.schemas.fields import Out
from sealwright.web.schemas.signing_requests import FileResultOut, LogEntryOut


class FileResultsOut(Out):
    """One page, in the artifact's order."""

    items: list[FileResultOut]
    next_cursor: str | None


class LogEntriesOut(Out):
    """One page, oldest first."""

    items: list[LogEntryOut]
    next_cursor: str | None
