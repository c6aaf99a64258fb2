"""Forms of proposals and trials."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from sealwright.model.proposal import ProposalState, TrialState
from sealwright.web.schemas.fields import In, Name, Out, Parameters, Reference, Slug, Text
from sealwright.web.schemas.signing_requests import PersonOut

Xml = Annotated[str, StringConstraints(min_length=1, max_length=512_000)]


class TrialForm(In):
    """An artifact configuration to be tried on a sample. The sample comes last."""

    xml: Annotated[str, StringConstraints(max_length=512_000)] = Field(
        default="", description="empty: one is made from the sample"
    )
    parameters: Parameters = Field(
        default_factory=dict, description="in the form as `parameters[name]`"
    )
    sample: bytes = Field(
        description="the file", json_schema_extra={"contentMediaType": "application/octet-stream"}
    )


class TrialOut(Out):
    """What would be signed. Nothing was."""

    id: str
    project_id: str
    state: TrialState
    sample_name: str
    sample_size: int
    sample_sha256: str
    created_at: dt.datetime
    xml: str = Field(description="as sent, or as made from the sample")
    plan: dict[str, Any] | None = Field(description="as of a signing request; null until done")
    fault: str
    advice: str
    where: str


class ProposalIn(In):
    """A new version of an artifact configuration, for somebody else to accept."""

    slug: Slug
    name: Name
    xml: Xml
    comment: Text = ""
    trial: Reference | None = Field(None, description="id of the trial that it was tried in")


class AnswerIn(In):
    """What is said to the proposer."""

    word: Text = ""


class AcceptanceIn(AnswerIn):
    """A proposal becomes a version."""

    is_default: bool = False


class ProposalOut(Out):
    """A proposed artifact configuration."""

    id: str
    project_id: str
    slug: str
    name: str
    xml: str
    comment: str
    trial_id: str | None
    proposed_by: PersonOut
    created_at: dt.datetime
    state: ProposalState
    word: str
    decided_by: PersonOut | None
    decided_at: dt.datetime | None
    configuration_id: str | None = Field(description="the version that it became")


class ProposalsOut(Out):
    """The latest of a project, newest first."""

    items: list[ProposalOut]
