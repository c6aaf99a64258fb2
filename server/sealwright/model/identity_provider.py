"""Issuers of single sign-on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sealwright.model.user import Role


@dataclass(frozen=True)
class IdentityProvider:
    """An OpenID Connect issuer whose word an organization takes for who somebody is.

    Attributes:
        slug: names it in addresses; unique on the whole server.
        issuer: exactly as in its tokens.
        domains: of the e-mail addresses that it may speak for; never empty.
        just_in_time: make users that are not there yet, with `default_role`; else only users that
            are there may come in.
        group_claim: claim with the names of groups; empty: groups are not its matter.
    """

    id: str
    organization_id: str
    slug: str
    name: str
    issuer: str
    client_id: str
    domains: tuple[str, ...]
    just_in_time: bool
    default_role: Role
    group_claim: str
    enabled: bool
    created_at: dt.datetime


@dataclass(frozen=True)
class SignOnSession:
    """A session that began at an identity provider.

    Attributes:
        token_id: of the session.
        subject, sid: what the provider calls its user and its own session; `sid` may be empty.
    """

    token_id: str
    provider_id: str
    subject: str
    sid: str
    created_at: dt.datetime
