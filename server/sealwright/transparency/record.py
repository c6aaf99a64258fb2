"""Writing leaves: in the transaction that changes the state, or not at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sealwright.db import Transaction
from sealwright.db import log as db_log
from sealwright.errors import InternalError, InvalidInputError, TooLargeError
from sealwright.model.request import SigningRequest
from sealwright.transparency.leaf import Event


def body(
    action: str,
    *,
    actor: str,
    organization: str,
    now: dt.datetime,
    request: str | None = None,
    policy_hash: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> str:
    """A leaf's canonical JSON without its sequence number: an `Event`.

    Args:
        action: dotted verb, such as ``request.completed`` or ``signature.intended``.
        actor: ``user:<id>``, ``worker``, ``signer`` or ``system``: never a name or an address.
        data: digests, origin facts, intent or result; strings, integers, booleans, None, lists
            and objects of these.

    Raises:
        InternalError: it would be larger than the log takes, or has no canonical form.
    """
    try:
        event = Event(now, actor, action, organization, request, policy_hash, data or {})
        return event.encode().decode()
    except (InvalidInputError, TooLargeError) as error:
        message = f"No log leaf can be made of {action[:60]!r}: {error.message}"
        raise InternalError(message) from error


def request_entry(
    request: SigningRequest,
    action: str,
    *,
    actor: str,
    now: dt.datetime,
    data: Mapping[str, Any] | None = None,
) -> db_log.NewEntry:
    """A leaf about one request."""
    return db_log.NewEntry(
        organization_id=request.organization_id,
        request_id=request.id,
        action=action,
        body=body(
            action,
            actor=actor,
            organization=request.organization_id,
            now=now,
            request=request.id,
            policy_hash=request.policy_hash,
            data=data,
        ),
        created_at=now,
    )


def organization_entry(
    organization_id: str,
    action: str,
    *,
    actor: str,
    now: dt.datetime,
    data: Mapping[str, Any] | None = None,
) -> db_log.NewEntry:
    """A leaf about an organization's users, projects, policies or certificates."""
    return db_log.NewEntry(
        organization_id=organization_id,
        request_id=None,
        action=action,
        body=body(action, actor=actor, organization=organization_id, now=now, data=data),
        created_at=now,
    )


async def record(tx: Transaction, *entries: db_log.NewEntry) -> None:
    """Insert leaves. They are in the log once `tx` commits; the tree takes them up soon after."""
    await db_log.append(tx, entries)
