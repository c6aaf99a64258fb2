"""What the API takes and answers about outgoing webhooks."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from sealwright.model.notification import HOOK_STATES
from sealwright.model.request import State
from sealwright.web.schemas.fields import In, Out

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
HeaderValue = Annotated[
    str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[\x20-\x7e]+$")
]
Secret = Annotated[str, StringConstraints(max_length=100)]


def _only_ends(states: frozenset[State] | None) -> frozenset[State] | None:
    if states is not None and (not states or states - HOOK_STATES):
        names = ", ".join(sorted(state.value for state in HOOK_STATES))
        message = f"one or more of {names}"
        raise ValueError(message)
    return states


class OutgoingWebhookIn(In):
    """A new webhook."""

    name: Name
    url: Url
    states: frozenset[State] = Field(
        HOOK_STATES, description="Completed, Failed, Denied, Canceled: which ends are told"
    )
    secret: Secret | None = Field(
        None, description="whsec_...; left out, one is made and shown this once"
    )
    authentication: HeaderValue | None = Field(
        None, description="value of the Authentication header, sent exactly so"
    )
    enabled: bool = True

    _ends = field_validator("states")(_only_ends)


class OutgoingWebhookPatch(In):
    """What of a webhook changes."""

    name: Name | None = None
    url: Url | None = None
    states: frozenset[State] | None = None
    secret: Secret | None = None
    authentication: HeaderValue | Literal[""] | None = Field(
        None, description="empty: it is taken away"
    )
    enabled: bool | None = None

    _ends = field_validator("states")(_only_ends)


class OutgoingWebhookOut(Out):
    """A webhook, without its secrets."""

    id: str
    name: str
    url: str
    states: list[State]
    enabled: bool
    has_authentication: bool
    created_at: dt.datetime


class NewOutgoingWebhookOut(OutgoingWebhookOut):
    """A webhook with its signing secret, which is not shown again."""

    secret: str


class OutgoingWebhooksOut(Out):
    """All of a project."""

    items: list[OutgoingWebhookOut]


class HookDeliveryOut(Out):
    """One message to a webhook, and what came of its last attempt."""

    id: int
    event: str
    request_id: str | None
    created_at: dt.datetime
    attempts: int
    due_at: dt.datetime | None = Field(description="of the next attempt; null: none follows")
    done_at: dt.datetime | None = Field(description="when the receiver took it")
    error: str
    status: int | None = Field(description="HTTP status of the last answer")
    milliseconds: int | None
    payload: dict[str, Any]


class HookDeliveriesOut(Out):
    """One page, newest first."""

    items: list[HookDeliveryOut]
    next_cursor: str | None
