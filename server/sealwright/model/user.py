"""Users, CI users, and their API tokens."""

from __future__ import annotations

import datetime as dt
import enum
import unicodedata
from dataclasses import dataclass

MAX_MEMBERS = 5000  #: of a group


def folded(text: str) -> str:
    """What names are compared and sorted by: in one normal form, without case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


class UserKind(enum.StrEnum):
    """How a user proves who they are."""

    INTERACTIVE = "interactive"  # password, passkey or single sign-on
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
    """A person or a CI system's account.

    Attributes:
        password_hash: an argon2id string or None.
        external_id: how the directory that provisions users calls them (RFC 7643, 3.1), or None.
        groups: ids of the groups that they are in.
        user_name: what the directory calls them, in lower case (``userName``); None: their address.
        deprovisioned_at: when the directory deleted them: it sees them no more.
    """

    id: str
    organization_id: str
    kind: UserKind
    name: str
    email: str | None
    role: Role
    password_hash: str | None
    active: bool
    created_at: dt.datetime
    external_id: str | None = None
    groups: frozenset[str] = frozenset()
    user_name: str | None = None
    deprovisioned_at: dt.datetime | None = None

    @property
    def standing(self) -> frozenset[str]:
        """The ids by which lists of users may name them: their own and their groups'."""
        return self.groups | {self.id}


@dataclass(frozen=True)
class Group:
    """Users who stand together wherever a user may stand. `members` are user ids."""

    id: str
    organization_id: str
    name: str
    created_at: dt.datetime
    external_id: str | None = None
    members: frozenset[str] = frozenset()


class TokenKind(enum.StrEnum):
    """What a token was issued for; part of its text: ``swt_<kind>_...``."""

    API = "api"  # made on purpose, shown once
    SESSION = "session"  # short-lived, from a log-in with a password
    SCIM = "scim"  # a directory's: provisions users and groups, and does nothing else
    REQUEST = "request"  # short-lived, reads the one signing request that it was answered with


class TokenScope(enum.StrEnum):
    """What of its user's rights a token carries."""

    FULL = "full"
    SUBMIT = "submit"  # submit artifacts, follow and fetch what was submitted
    READ = "read"  # change nothing


@dataclass(frozen=True)
class ApiToken:
    """A bearer token. Only the SHA-256 of its text is kept.

    Attributes:
        request_id: the one signing request that a token of kind `REQUEST` reads; else None.
        project_id: the one project that it may be used for; None: any.
        idle_seconds: it expires when it was not used for so long; None: it does not.
        authenticated_at: when its user last proved who they are (sessions).
        address: from where, and `agent` with what program, a session was begun.
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
    last_used_at: dt.datetime | None = None
    scope: TokenScope = TokenScope.FULL
    project_id: str | None = None
    idle_seconds: int | None = None
    authenticated_at: dt.datetime | None = None
    address: str = ""
    agent: str = ""


@dataclass(frozen=True)
class Principal:
    """The authenticated caller of one request: a user, and the token or session that proved it.

    Attributes:
        request_id: the one signing request to which the token is limited; None: no such limit.
        scope: what of the user's rights the token carries.
        project_id: the one project to which the token is limited; None: no such limit.
        authenticated_at: when the user last proved who they are, in a session.
        kind: what the token was issued for.
    """

    user: User
    token_id: str
    address: str = ""
    request_id: str | None = None
    scope: TokenScope = TokenScope.FULL
    project_id: str | None = None
    authenticated_at: dt.datetime | None = None
    kind: TokenKind = TokenKind.API
