"""Signature intents: written by the signer alone, before and after the token is used."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sealwright.db.chunks import chunked
from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import signature_intents as _T  # noqa: N812 (a table, used as one letter)
from sealwright.db.tables import signing_requests

INTENDED = "intended"  #: committed; the token is being asked, or nobody knows what became of it
MADE = "made"  #: signed; `signature` is set
REFUSED = "refused"  #: the token did not sign
ABANDONED = "abandoned"  #: the outcome was lost: the token may have signed, nothing was released


_COUNT = Prepared(
    sa.select(_T.c.state, sa.func.count().label("n"))
    .where(_T.c.request_id == sa.bindparam("request"))
    .group_by(_T.c.state)
)
_OF_REQUEST = sa.select(_T).where(_T.c.request_id == sa.bindparam("request")).order_by(_T.c.id)
_SOME_LOCKED = _OF_REQUEST.where(
    _T.c.digest.in_(sa.bindparam("digests", expanding=True))
).with_for_update()
_OVER_ONE_LOCKED = Prepared(
    _OF_REQUEST.where(_T.c.digest == sa.bindparam("digest")).with_for_update()
)
_LOCKED = sa.select(_T).where(_T.c.id.in_(sa.bindparam("ids", expanding=True))).with_for_update()
_ONE_LOCKED = Prepared(sa.select(_T).where(_T.c.id == sa.bindparam("id")).with_for_update())
_LOCK = Prepared(
    sa.select(
        sa.func.pg_advisory_xact_lock(sa.bindparam("number", type_=sa.BigInteger)).label("lock")
    )
)
_INSERT = Prepared(_T.insert())
_SETTLE = Prepared(
    _T.update()
    .where(_T.c.id == sa.bindparam("intent"), _T.c.state == INTENDED)
    .values(state=sa.bindparam("outcome"), signature=sa.bindparam("value"))
)


@dataclass(frozen=True)
class Intent:
    """One signature that the token was or may have been asked for. `digest` is raw.

    `state` is one of the constants of this module.
    """

    id: str
    organization_id: str
    request_id: str
    certificate_id: str
    mechanism: str
    hash_algorithm: str
    digest: bytes
    state: str
    signature: bytes | None
    created_at: dt.datetime


async def add(tx: Transaction, intents: Sequence[Intent]) -> None:
    """Insert a batch."""
    await tx.change(_INSERT, [vars(intent) for intent in intents])


async def of_request(tx: Transaction, request_id: str) -> list[Intent]:
    """Intents of the request, oldest first."""
    return [Intent(**row) for row in await tx.all(_OF_REQUEST, request=request_id)]


async def over(tx: Transaction, request_id: str, digests: Sequence[bytes]) -> list[Intent]:
    """Intents of the request over these digests; nobody else changes them until `tx` ends."""
    if len(digests) == 1:
        rows = await tx.all(_OVER_ONE_LOCKED, request=request_id, digest=digests[0])
        return [Intent(**row) for row in rows]
    found: list[Intent] = []
    for part in chunked(digests):
        rows = await tx.all(_SOME_LOCKED, request=request_id, digests=part)
        found += [Intent(**row) for row in rows]
    return found


async def lock(tx: Transaction, request_id: str) -> None:
    """Let no other signer intend for this request until `tx` ends; SQLite has one writer anyway."""
    if tx.is_postgresql:
        number = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], signed=True)
        await tx.one(_LOCK, number=number)


async def count(tx: Transaction, request_id: str) -> dict[str, int]:
    """How many intents the request has in each state."""
    rows = await tx.all(_COUNT, request=request_id)
    return {row["state"]: row["n"] for row in rows}


async def locked(tx: Transaction, ids: Sequence[str]) -> dict[str, Intent]:
    """Intents by their ids; nobody else changes them until `tx` ends."""
    found: dict[str, Intent] = {}
    for part in chunked(ids):
        one = len(part) == 1
        rows = await (tx.all(_ONE_LOCKED, id=part[0]) if one else tx.all(_LOCKED, ids=part))
        found |= {row["id"]: Intent(**row) for row in rows}
    return found


async def left_open(tx: Transaction, limit: int) -> list[Intent]:
    """Intents of finished requests whose outcome was never recorded; locked until `tx` ends."""
    rows = await tx.all(
        sa.select(_T)
        .join(signing_requests, _T.c.request_id == signing_requests.c.id)
        .where(_T.c.state == INTENDED, signing_requests.c.finished_at.is_not(None))
        .order_by(_T.c.id)
        .limit(limit)
        .with_for_update(of=_T)
    )
    return [Intent(**row) for row in rows]


async def settle(tx: Transaction, settled: Sequence[Intent]) -> None:
    """Write state and signature of intents that were INTENDED; others stay as they are."""
    if settled:
        await tx.change(
            _SETTLE,
            [
                {"intent": intent.id, "outcome": intent.state, "value": intent.signature}
                for intent in settled
            ],
        )
