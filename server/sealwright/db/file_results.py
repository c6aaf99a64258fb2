"""What was done to each file of a signing request."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from sealwright.db.chunks import chunked
from sealwright.db.database import Transaction
from sealwright.db.tables import file_results
from sealwright.model.request import FileResult
from sealwright.model.signed_member import Change, SignedMember


async def put_results(tx: Transaction, request_id: str, results: Sequence[FileResult]) -> None:
    """Replace the per-file results."""
    await tx.change(file_results.delete().where(file_results.c.request_id == request_id))
    if results:
        await tx.change(
            file_results.insert(),
            [
                {"request_id": request_id, "position": position}
                | vars(result)
                | {"members": [vars(each) for each in result.members] or None}
                for position, result in enumerate(results)
            ],
        )


async def results(
    tx: Transaction, request_id: str, *, start: int = 0, limit: int | None = None
) -> list[FileResult]:
    """The per-file results in the artifact's order, from position `start` on; at most `limit`."""
    statement = _select_results(request_id).where(file_results.c.position >= start)
    rows = await tx.all(statement.limit(limit))
    return [_result(row) for row in rows]


async def count_results(tx: Transaction, request_id: str) -> int:
    """How many per-file results there are: their positions begin at 0 and leave none out."""
    row = await tx.one(
        sa.select(sa.func.max(file_results.c.position).label("last")).where(
            file_results.c.request_id == request_id
        )
    )
    return int(row["last"]) + 1 if row and row["last"] is not None else 0


async def results_of(tx: Transaction, request_id: str, paths: Sequence[str]) -> list[FileResult]:
    """The results of the files at these paths, in the artifact's order."""
    found: list[FileResult] = []
    for part in chunked(paths):
        some = file_results.c.path.in_(part)
        found += [_result(row) for row in await tx.all(_select_results(request_id).where(some))]
    return found


async def additions(tx: Transaction, request_id: str) -> dict[str, list[SignedMember]]:
    """What signing added to each container, changed and removed there, by the container's path as
    in the plan. A detached signature lies in the one around the file that it is for."""
    found: dict[str, list[SignedMember]] = {}
    some = file_results.c.members.is_not(None)
    for row in await tx.all(_select_results(request_id).where(some)):
        one = _result(row)
        container = one.path.rpartition("!/")[0] if one.outputs else one.path
        found.setdefault(container, []).extend(one.members)
    return found


def _select_results(request_id: str) -> sa.Select[Any]:
    names = [field.name for field in dataclasses.fields(FileResult)]
    return (
        sa.select(*(file_results.c[name] for name in names))
        .where(file_results.c.request_id == request_id)
        .order_by(file_results.c.position)
    )


def _result(row: sa.RowMapping) -> FileResult:
    members = tuple(
        SignedMember(**each | {"change": Change(each["change"])}) for each in row["members"] or ()
    )
    return FileResult(**dict(row) | {"outputs": tuple(row["outputs"]), "members": members})
