"""The key of a GitHub App that lives on the token instead of in the database."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class AppKey:
    """Which key speaks for a build system's App. The signer alone writes these.

    Attributes:
        issuer: client id (or number) of the App: ``iss`` of every JWT that the key signs.
        key_uri: RFC 7512 URI of the private key on the signer's token.
    """

    build_system_id: str
    organization_id: str
    issuer: str
    key_uri: str
    created_at: dt.datetime
