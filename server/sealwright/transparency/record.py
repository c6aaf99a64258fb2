"""Writing leaves: in the transaction that changes the state, or not at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sealwright.db import Transaction
from sealwright.db import log as db_log
from sealwright.db.log_search import About
from sealwright.errors import InternalError, InvalidInputError, TooLargeError
from sealwright.model.request import SigningRequest
from sealwright.transparency.details import MEMBER, Change, commitment
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


#: member of a leaf's data -> what the leaf is found by
_ABOUT = {
    "project": "project_id",
    "policy": "signing_policy_id",
    "certificate": "certificate_id",
    "user": "user_id",
}


def request_entry(
    request: SigningRequest,
    action: str,
    *,
    actor: str,
    now: dt.datetime,
    data: Mapping[str, Any] | None = None,
    address: str = "",
) -> db_log.NewEntry:
    """A leaf about one request. It is found by what the request belongs to besides, unless it is
    one of the many about single signatures.

    Args:
        address: where the actor called from: kept beside the log, committed to by the leaf.
    """
    of_signature = action.startswith("signature.")
    details = Change(address).seal() if address else None
    if details:
        data = dict(data or {}) | {MEMBER: commitment(details)}
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
        about=About()
        if of_signature
        else About(actor, request.project_id, request.signing_policy_id, request.certificate_id),
        details=details,
    )


def organization_entry(
    organization_id: str,
    action: str,
    *,
    actor: str,
    now: dt.datetime,
    data: Mapping[str, Any] | None = None,
    change: Change | None = None,
) -> db_log.NewEntry:
    """A leaf about an organization's users, projects, policies or certificates.

    Args:
        data: ids and digests. Those under ``project``, ``policy``, ``certificate`` and ``user`` are
            what the leaf is found by.
        change: what names a person or shows values: kept beside the log, committed to by the leaf.
    """
    members = dict(data or {})
    about = {
        column: members[name]
        for name, column in _ABOUT.items()
        if isinstance(members.get(name), str)
    }
    details = change.seal() if change else None
    if details:
        members[MEMBER] = commitment(details)
    return db_log.NewEntry(
        organization_id=organization_id,
        request_id=None,
        action=action,
        body=body(action, actor=actor, organization=organization_id, now=now, data=members),
        created_at=now,
        about=About(actor, **about),
        details=details,
    )


async def record(tx: Transaction, *entries: db_log.NewEntry) -> None:
    """Insert leaves. They are in the log once `tx` commits; the tree takes them up soon after."""
    await db_log.append(tx, entries)
