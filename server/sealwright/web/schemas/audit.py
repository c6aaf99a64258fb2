"""What the audit takes and answers: leaves of the log with the details kept beside them."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from sealwright.web.schemas.fields import In, Out
from sealwright.web.schemas.queries import PageQuery

Id = Annotated[str, Field(max_length=36)]


class AuditFilter(In):
    """Which entries are wanted; what is absent does not matter."""

    action: str | None = Field(
        None, max_length=100, description="a whole action, or its beginning: `user.`"
    )
    actor: str | None = Field(
        None, max_length=60, description="id of a user, or worker, signer, system"
    )
    request: Id | None = None
    project: Id | None = None
    signing_policy: Id | None = None
    certificate: Id | None = None
    user: Id | None = Field(None, description="whom it concerns")
    since: AwareDatetime | None = None
    until: AwareDatetime | None = Field(None, description="to before this time")


class AuditQuery(AuditFilter, PageQuery):
    """A page of the entries wanted."""


class ExportFormat(enum.StrEnum):
    """How entries are written out."""

    CSV = "csv"
    JSON = "json"


class ExportQuery(AuditFilter):
    """Everything that is wanted, in one file."""

    format: ExportFormat = ExportFormat.CSV


class DetailsState(enum.StrEnum):
    """Whether what lies beside the leaf is what the leaf commits to."""

    NONE = "none"  # the leaf has none
    INTACT = "intact"
    ERASED = "erased"  # by the rules of retention
    ALTERED = "altered"  # somebody wrote to the database by hand


class AuditEntryOut(Out):
    """A leaf of the log, with what is kept beside it; `sequence` is null until it is in the tree.

    `before` and `after` hold the members that a change touched.
    """

    id: int
    sequence: int | None
    created_at: dt.datetime
    action: str
    actor: str
    actor_name: str = Field(description="the user's present name; empty for the server's own parts")
    address: str
    request_id: str | None
    project_id: str | None
    signing_policy_id: str | None
    certificate_id: str | None
    user_id: str | None
    data: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]
    details: DetailsState
    body: str = Field(description="the leaf's JSON without its sequence")


class AuditEntriesOut(Out):
    """One page, newest first."""

    items: list[AuditEntryOut]
    next_cursor: str | None


class AuditProofOut(Out):
    """That the signed tree holds an entry as it stands in the database."""

    id: int
    sequence: int
    tree_size: int = Field(description="of the checkpoint that the proof leads to")
    details: DetailsState
    proof: str = Field(description="C2SP tlog-proof with the leaf; check it offline")
