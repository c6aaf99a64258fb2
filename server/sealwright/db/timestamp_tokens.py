"""Time stamp tokens that were fetched for a request, so that a restart gives the same bytes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from sealwright.db.chunks import chunked
from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import timestamp_tokens

_SOME = sa.select(timestamp_tokens.c.imprint, timestamp_tokens.c.token).where(
    timestamp_tokens.c.request_id == sa.bindparam("request"),
    timestamp_tokens.c.imprint.in_(sa.bindparam("imprints", expanding=True)),
)
_INSERT = Prepared(timestamp_tokens.insert())


async def put(
    tx: Transaction, request_id: str, tokens: Mapping[str, bytes], now: dt.datetime
) -> None:
    """Keep time stamp tokens by the hex SHA-256 of the signature they stamp."""
    if tokens:
        await tx.change(
            _INSERT,
            [
                {"request_id": request_id, "imprint": imprint, "token": token, "created_at": now}
                for imprint, token in tokens.items()
            ],
        )


async def some(tx: Transaction, request_id: str, imprints: Sequence[str]) -> dict[str, bytes]:
    """Kept tokens among `imprints`."""
    found: dict[str, bytes] = {}
    for part in chunked(imprints):
        rows = await tx.all(_SOME, request=request_id, imprints=part)
        found |= {row["imprint"]: row["token"] for row in rows}
    return found
