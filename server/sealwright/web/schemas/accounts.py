"""Forms of invitations and passwords."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field, StringConstraints

from sealwright.web.schemas.fields import Email, In, Name, Out

Password = Annotated[str, StringConstraints(max_length=1024)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class InvitationOut(Out):
    """An invitation that was made."""

    sent: bool = Field(description="whether it went out by mail")
    url: str | None = Field(description="where it did not: the link to hand over, shown this once")
    expires_at: dt.datetime


class PasswordIn(In):
    """A change of one's own password."""

    present: Password
    password: Password


class AcceptanceIn(In):
    """The answer to an invitation."""

    code: Code = Field(description="of the link")
    name: Name
    password: Password


class AddressIn(In):
    """Whose password is forgotten."""

    email: Email


class NewPasswordIn(In):
    """The answer to a link for a new password."""

    code: Code = Field(description="of the link")
    password: Password
