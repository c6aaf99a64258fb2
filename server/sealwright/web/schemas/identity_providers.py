"""Forms of identity providers."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field, StringConstraints

from sealwright.model.user import Role
from sealwright.web.schemas.fields import In, Line, Name, Out, Slug, Url

Domain = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$", to_lower=True, max_length=253)
]
Domains = Annotated[tuple[Domain, ...], Field(min_length=1, max_length=50)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class IdentityProviderIn(In):
    """A new identity provider."""

    slug: Slug
    name: Name
    issuer: Url = Field(min_length=1, description="exactly as in its tokens")
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    client_secret: Secret | None = Field(None, description="null: a public client, by PKCE alone")
    domains: Domains = Field(description="of the e-mail addresses that it may speak for")
    just_in_time: bool = Field(default=False, description="make users that are not there yet")
    default_role: Role = Role.REGULAR_USER
    group_claim: Line = Field("", max_length=100)
    enabled: bool = True


class IdentityProviderPatch(In):
    """What is to change."""

    name: Name | None = None
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    client_secret: Annotated[str, StringConstraints(max_length=1000)] | None = Field(
        None, description="empty: it is taken away, and the client is a public one"
    )
    domains: Domains | None = None
    just_in_time: bool | None = None
    default_role: Role | None = None
    group_claim: Line | None = Field(None, max_length=100)
    enabled: bool | None = None


class IdentityProviderOut(Out):
    """An identity provider, without its secret."""

    id: str
    slug: str
    name: str
    issuer: str
    client_id: str
    has_client_secret: bool = Field(description="false: a public client, by PKCE alone")
    domains: list[str]
    just_in_time: bool
    default_role: Role
    group_claim: str
    enabled: bool
    redirect_url: str = Field(description="to be registered with the identity provider")
    logout_url: str = Field(description="likewise, as post_logout_redirect_uri")
    back_channel_logout_url: str = Field(description="likewise, as backchannel_logout_uri")
    created_at: dt.datetime


class IdentityProvidersOut(Out):
    """All of the organization."""

    items: list[IdentityProviderOut]
