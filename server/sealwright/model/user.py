"""Users, CI users, and their API tokens."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass


class UserKind(enum.StrEnum):
    """How a user proves who they are."""

    INTERACTIVE = "interactive"  # password, later passkey or single sign-on
    CI = "ci"  # API token only


class Role(enum.StrEnum):
    """What a user may do in their organization (see `domain`: roles)."""

    GLOBAL_ADMINISTRATOR = "global-administrator"
    CERTIFICATE_ADMINISTRATOR = "certificate-administrator"
    USER_ADMINISTRATOR = "user-administrator"
    PROJECT_ADMINISTRATOR = "project-administrator"
    GLOBAL_READER = "global-reader"
    REGULAR_USER = "regular-user"


@dataclass(frozen=True)
class User:
    """A person or a CI system's account. `password_hash` is an argon2id string or None."""

    id: str
    organization_id: str
    kind: UserKind
    name: str
    email: str | None
    role: Role
    password_hash: str | None
    active: bool
    created_at: dt.datetime


class TokenKind(enum.StrEnum):
    """What a token was issued for; part of its text: ``swt_<kind>_...``."""

    API = "api"  # made on purpose, shown once
    SESSION = "session"  # short-lived, from a log-in with a password
    REQUEST = "request"  # short-lived, reads the one signing request that it was answered with


@dataclass(frozen=True)
class ApiToken:
    """A bearer token. Only the SHA-256 of its text is kept.

    Attributes:
        request_id: the one signing request that a token of kind `REQUEST` reads; else None.
    """

    id: str
    organization_id: str
    user_id: str
    kind: TokenKind
    name: str
    sha256: str
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    created_at: dt.datetime
    request_id: str | None = None


@dataclass(frozen=True)
class Principal:
    """The authenticated caller of one request: a user, and the token or session that proved it.

    Attributes:
        request_id: the one signing request to which the token is limited; None: no such limit.
    """

    user: User
    token_id: str
    address: str = ""
    request_id: str | None = None
