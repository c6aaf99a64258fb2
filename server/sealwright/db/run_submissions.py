"""What was submitted from which run, and which identity tokens were used for it."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import run_submissions, seen_token_ids

#: how long rows are kept once their request has ended, see `db.expired`; older submissions are
#: known by their requests
KEEP = dt.timedelta(days=90)


async def find(tx: Transaction, submission: str) -> str | None:
    """The id of the request that this submission made.

    Takes a lock on the submission first where the database has such locks, so that two of the same
    come one after the other.
    """
    if tx.is_postgresql:
        number = int.from_bytes(bytes.fromhex(submission)[:8], "big", signed=True)
        await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
    row = await tx.one(
        sa.select(run_submissions.c.request_id).where(run_submissions.c.submission == submission)
    )
    return row["request_id"] if row else None


async def add(tx: Transaction, submission: str, request_id: str, now: dt.datetime) -> None:
    """Note the request. Call `find` first."""
    await tx.change(
        run_submissions.insert().values(
            submission=submission, request_id=request_id, created_at=now
        )
    )


async def take_token(
    tx: Transaction,
    build_system_id: str,
    token_id: str,
    submission: str,
    expires_at: dt.datetime,
) -> bool:
    """Use the token (hex SHA-256 of its ``jti``) for a submission; False: it served another."""
    if tx.is_postgresql:
        number = int.from_bytes(bytes.fromhex(token_id)[:8], "big", signed=True)
        await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
    table = seen_token_ids
    row = await tx.one(
        sa.select(table.c.submission).where(
            table.c.build_system_id == build_system_id, table.c.token_id == token_id
        )
    )
    if row is not None:
        return bool(row["submission"] == submission)
    await tx.change(
        table.insert().values(
            build_system_id=build_system_id,
            token_id=token_id,
            submission=submission,
            expires_at=expires_at,
        )
    )
    return True
