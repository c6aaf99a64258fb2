"""Forms of invitations and passwords."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field, StringConstraints

from sealwright.web.schemas import In, Out

Password = Annotated[str, StringConstraints(max_length=1024)]


class InvitationOut(Out):
    """An invitation that was made."""

    sent: bool = Field(description="whether it went out by mail")
    url: str | None = Field(description="where it did not: the link to hand over, shown this once")
    expires_at: dt.datetime


class PasswordIn(In):
    """A change of one's own password."""

    present: Password
    password: Password
