"""Writing leaves: in the transaction that changes the state, or not at all."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from sealwright.db import Transaction
from sealwright.db import log as db_log
from sealwright.errors import InternalError
from sealwright.model.request import SigningRequest

#: C2SP tlog-tiles bounds an entry to 65,535 bytes; the sequencer still adds the sequence number.
MAX_BODY_BYTES = 65_000


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
    """A leaf's canonical JSON without its sequence number.

    Args:
        action: dotted verb, such as ``request.completed`` or ``signature.intended``.
        actor: ``user:<id>``, ``worker``, ``signer`` or ``system``: never a name or an address.
        data: digests, origin facts, intent or result; strings, integers, booleans, None, lists
            and objects of these.

    Raises:
        InternalError: the leaf would be larger than the log takes.
    """
    text = json.dumps(
        {
            "action": action,
            "actor": actor,
            "data": data or {},
            "organization": organization,
            "policy_hash": policy_hash,
            "request": request,
            "time": now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    if len(text.encode()) > MAX_BODY_BYTES:
        message = f"A log leaf for {action} has more than {MAX_BODY_BYTES} bytes."
        raise InternalError(message)
    return text


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
