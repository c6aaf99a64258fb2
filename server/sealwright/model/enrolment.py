"""Servers of certification authorities that issue and renew certificates by themselves."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

#: Days before the end of a certificate at which it is renewed, unless the server says otherwise.
RENEW_DAYS = 30


@dataclass(frozen=True)
class EnrolmentServer:
    """One EST server (RFC 7030).

    Attributes:
        url: up to the well-known path: ``https://ca.example.com/.well-known/est`` and, where the
            server has several authorities, its label.
        roots: PEM of the authorities that its TLS certificate leads to.
        user: for HTTP Basic; empty: none.
        renew_days: certificates are renewed so many days before their end.
        enabled: nothing is asked of a disabled one.
    """

    id: str
    organization_id: str
    slug: str
    name: str
    url: str
    roots: str
    user: str
    renew_days: int
    enabled: bool
    created_at: dt.datetime


@dataclass(frozen=True)
class Enrolment:
    """How far a certificate is with its server. `due_at` None: it is done with."""

    certificate_id: str
    attempts: int
    due_at: dt.datetime | None
    error: str
