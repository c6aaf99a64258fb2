"""What people and other systems are told of: outgoing webhooks, and messages on their way."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sealwright.model.request import State

#: the states that an outgoing webhook can tell of
HOOK_STATES = frozenset({State.COMPLETED, State.FAILED, State.DENIED, State.CANCELED})


class Channel(enum.StrEnum):
    """How a message goes out."""

    WEBHOOK = "webhook"
    MAIL = "mail"


@dataclass(frozen=True)
class OutgoingWebhook:
    """An address of the user's that is told how a project's signing requests end.

    Attributes:
        states: of `HOOK_STATES`: which ends are told.
    """

    id: str
    organization_id: str
    project_id: str
    name: str
    url: str
    states: frozenset[State]
    enabled: bool
    created_at: dt.datetime


@dataclass(frozen=True)
class Notification:
    """One message: written with the change that it tells of, sent later, again until it is taken.

    Attributes:
        target_id: the webhook's or user's id.
        event: what it tells of, such as ``request.completed``.
        key: no two messages have the same; None: any number.
        due_at: when to send it, or to try again; None once it is done with.
        done_at: when it was taken; None: not yet, or given up.
        error: why the last attempt failed.
        status: HTTP status of the last answer, or None.
        milliseconds: how long the last attempt took.
    """

    organization_id: str
    channel: Channel
    target_id: str
    event: str
    created_at: dt.datetime
    due_at: dt.datetime | None
    payload: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    key: str | None = None
    id: int = 0
    attempts: int = 0
    done_at: dt.datetime | None = None
    error: str = ""
    status: int | None = None
    milliseconds: int | None = None
