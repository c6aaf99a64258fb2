"""What is reported back to where the developers are."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sealwright.model.request import FileResult, SigningRequest


class ReportPhase(enum.StrEnum):
    """How a signing request stands, in the words that every CI system can show."""

    QUEUED = "queued"
    IN_PROGRESS = "in-progress"
    ACTION_REQUIRED = "action-required"  # waits for approval or endorsement
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Report:
    """One state of one request for its commit. Rendering is the connector's.

    Attributes:
        files: the first of them; `file_count`: how many there are.
        sequence: grows with each report of a request: later ones win, earlier ones are dropped.
        url: of the request's page.
        log_index: sequence number of the leaf that records the signed artifact, or None.
    """

    request: SigningRequest
    phase: ReportPhase
    sequence: int
    url: str
    title: str
    files: tuple[FileResult, ...] = ()
    certificate_subject: str = ""
    approvals: tuple[str, ...] = ()
    quorum: int = 0
    log_index: int | None = None
    file_count: int = 0


@dataclass(frozen=True)
class Reported:
    """Where a report landed: `reference` (check run id, status id) is needed to update it."""

    reference: str
    url: str = ""
