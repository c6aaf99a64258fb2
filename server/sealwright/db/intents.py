"""Signature intents: written by the signer alone, before and after the token is used."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import signature_intents as _T  # noqa: N812 (a table, used as one letter)


@dataclass(frozen=True)
class Intent:
    """One signature that the token was or may have been asked for. `digest` is raw.

    `state`: ``intended`` (committed, outcome unknown), ``made`` (`signature` is set) or
    ``abandoned`` (the token refused, or the outcome was lost and the digest intended anew).
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
    await tx.change(_T.insert(), [dataclasses.asdict(intent) for intent in intents])


async def of_request(
    tx: Transaction, request_id: str, digests: Sequence[bytes] | None = None
) -> list[Intent]:
    """Intents of the request, oldest first; only those over `digests` where given."""
    statement = sa.select(_T).where(_T.c.request_id == request_id).order_by(_T.c.id)
    if digests is None:
        return [Intent(**row) for row in await tx.all(statement)]
    found: list[Intent] = []
    for start in range(0, len(digests), 500):
        part = digests[start : start + 500]
        found += [Intent(**row) for row in await tx.all(statement.where(_T.c.digest.in_(part)))]
    return found


async def count(tx: Transaction, request_id: str) -> int:
    """How many intents the request has used, whatever became of them."""
    row = await tx.one(
        sa.select(sa.func.count().label("n")).select_from(_T).where(_T.c.request_id == request_id)
    )
    return int(row["n"]) if row else 0


async def settle(tx: Transaction, signatures: Mapping[str, bytes | None]) -> None:
    """Set outcomes by intent id: a signature makes it ``made``, None ``abandoned``."""
    if not signatures:
        return
    await tx.change(
        _T.update()
        .where(_T.c.id == sa.bindparam("intent"), _T.c.state == "intended")
        .values(state=sa.bindparam("outcome"), signature=sa.bindparam("value")),
        [
            {
                "intent": intent,
                "outcome": "abandoned" if signature is None else "made",
                "value": signature,
            }
            for intent, signature in signatures.items()
        ],
    )
