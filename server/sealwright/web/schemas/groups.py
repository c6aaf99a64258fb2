"""Forms of groups."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field

from sealwright.web.schemas.fields import In, Name, Out

Members = Annotated[frozenset[str], Field(max_length=5000)]


class GroupIn(In):
    """A new group."""

    name: Name
    members: Members = Field(default=frozenset(), description="ids of users")


class GroupPatch(In):
    """What is to change."""

    name: Name | None = None
    members: Members | None = Field(None, description="ids of users: all of them")


class GroupOut(Out):
    """A group. `external_id`: how the directory that provisions it calls it."""

    id: str
    name: str
    external_id: str | None
    members: list[str]
    created_at: dt.datetime


class GroupsOut(Out):
    """One page."""

    items: list[GroupOut]
    next_cursor: str | None
