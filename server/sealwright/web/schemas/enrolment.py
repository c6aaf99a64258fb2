"""Forms of EST servers."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field, StringConstraints

from sealwright.model.enrolment import RENEW_DAYS
from sealwright.web.schemas.fields import In, Line, Name, Out, Slug, Url

Pem = Annotated[str, StringConstraints(max_length=64_000)]
Secret = Annotated[str, StringConstraints(max_length=64_000)]
RenewDays = Annotated[int, Field(ge=1, le=365)]


class EnrolmentServerIn(In):
    """An EST server (RFC 7030). Credentials are sealed and never shown again."""

    slug: Slug
    name: Name
    url: Url = Field(description="such as `https://ca.example.com/.well-known/est`, with its label")
    roots: Pem = Field(description="PEM of the authorities that its TLS certificate leads to")
    user: Line = Field("", description="for HTTP Basic, with the credential `password`")
    credentials: dict[str, Secret] = Field(
        default_factory=dict, description="`password`; `client_certificate` and `client_key` in PEM"
    )
    renew_days: RenewDays = Field(RENEW_DAYS, description="before the end of a certificate")


class EnrolmentServerPatch(In):
    """What is to change; credentials that are not named stay, empty ones are taken away."""

    name: Name | None = None
    url: Url | None = None
    roots: Pem | None = None
    user: Line | None = None
    credentials: dict[str, Secret] | None = None
    renew_days: RenewDays | None = None
    enabled: bool | None = None


class EnrolmentServerOut(Out):
    """An EST server. `credentials` are names only."""

    id: str
    slug: str
    name: str
    url: str
    roots: str
    user: str
    credentials: list[str]
    renew_days: int
    enabled: bool
    created_at: dt.datetime


class EnrolmentServersOut(Out):
    """All of them."""

    items: list[EnrolmentServerOut]
