"""Sessions, users and their tokens."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from sealwright.model.user import Role, TokenKind, TokenScope, UserKind
from sealwright.web.schemas.fields import Email, In, Name, Out, Reference, without_controls


class SessionIn(In):
    """A log-in."""

    email: Annotated[str, StringConstraints(max_length=320), AfterValidator(without_controls)]
    password: Annotated[str, StringConstraints(max_length=1024)]


class SessionOut(Out):
    """A short-lived token."""

    token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (the name of a scheme)
    expires_at: dt.datetime


class UserOut(Out):
    """A user."""

    id: str
    kind: UserKind
    name: str
    email: str | None
    role: Role
    active: bool
    groups: list[str] = Field(description="ids")
    created_at: dt.datetime


class MeOut(UserOut):
    """The caller."""

    organization_id: str
    organization_slug: str
    organization_name: str


class UserIn(In):
    """A new user. Interactive ones have an address and a password, CI users neither."""

    kind: UserKind
    name: Name
    email: Email | None = None
    password: Annotated[str, StringConstraints(max_length=1024)] | None = None
    role: Role = Role.REGULAR_USER


class UserPatch(In):
    """What is to change."""

    name: Name | None = None
    role: Role | None = None
    active: bool | None = None
    password: Annotated[str, StringConstraints(max_length=1024)] | None = None


class UsersOut(Out):
    """One page."""

    items: list[UserOut]
    next_cursor: str | None


class TokenIn(In):
    """A new API token."""

    name: Name
    expires_in_days: int | None = Field(90, ge=1, le=3650, description="null: never")
    scope: TokenScope = Field(
        TokenScope.FULL, description="what of the user's rights the token carries"
    )
    project: Reference | None = Field(
        None, description="id or slug of the one project that the token may be used for"
    )


class TokenOut(Out):
    """A token, without its text."""

    id: str
    kind: TokenKind
    name: str
    scope: TokenScope
    project_id: str | None
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None = Field(description="to within ten minutes")
    address: str = Field(description="from where a session was begun")
    agent: str = Field(description="with what program a session was begun")
    created_at: dt.datetime


class NewTokenOut(TokenOut):
    """A new token: its text is shown this once."""

    token: str


class TokensOut(Out):
    """All tokens of a user."""

    items: list[TokenOut]
