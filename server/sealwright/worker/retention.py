"""The rules of retention: artifacts and details go when their time is over, records never.

Removing is safe to repeat: the store forgets first, the database notes it afterwards.
"""

from __future__ import annotations

import datetime as dt

from sealwright.db import Database, expired, organizations, requests
from sealwright.db import log as db_log
from sealwright.model.organization import Organization
from sealwright.model.request import SigningRequest
from sealwright.storage import ArtifactStore
from sealwright.transparency.record import organization_entry, record


async def apply_retention(database: Database, store: ArtifactStore, now: dt.datetime) -> int:
    """Remove what every organization wants removed; how many requests lost their artifacts.

    Raises:
        UnavailableError: the database or the store is away.
    """
    async with database.read() as tx:
        every = await organizations.every(tx)
    return sum([await _of_organization(database, store, one, now) for one in every])


async def _of_organization(
    database: Database, store: ArtifactStore, organization: Organization, now: dt.datetime
) -> int:
    removed = await _remove_artifacts(database, store, organization, now)
    data = {
        "artifacts_of_requests": removed,
        "results_of_requests": await _remove_results(database, organization, now),
        "details_erased": await _erase_details(database, organization, now),
    }
    if any(data.values()):
        async with database.transaction() as tx:
            entry = organization_entry(
                organization.id, "retention.applied", actor="system", now=now, data=data
            )
            await record(tx, entry)
    return removed


async def _remove_artifacts(
    database: Database, store: ArtifactStore, organization: Organization, now: dt.datetime
) -> int:
    if not organization.artifact_days:
        return 0
    before = now - dt.timedelta(days=organization.artifact_days)
    removed = 0
    last: SigningRequest | None = None
    while True:
        async with database.read() as tx:
            found = await requests.with_artifacts(tx, organization.id, before, after=last)
        if not found:
            return removed
        last = found[-1]
        # a younger repetition needs the input still: with it the original waits
        free = [one for one in found if not await _is_shared(database, one)]
        for request in free:
            await _remove(database, store, request, now)
        removed += len(free)


async def _remove_results(database: Database, organization: Organization, now: dt.datetime) -> int:
    total, more = 0, bool(organization.results_days)
    before = now - dt.timedelta(days=organization.results_days)
    while more:
        async with database.transaction() as tx:
            done, more = await expired.remove_results(tx, organization.id, before, now)
        total += done
    return total


async def _erase_details(database: Database, organization: Organization, now: dt.datetime) -> int:
    total, erased = 0, expired.BATCH if organization.details_days else 0
    before = now - dt.timedelta(days=organization.details_days)
    while erased == expired.BATCH:
        async with database.transaction() as tx:
            erased = await db_log.erase_details(tx, organization.id, before, limit=expired.BATCH)
        total += erased
    return total


async def _is_shared(database: Database, request: SigningRequest) -> bool:
    async with database.read() as tx:
        return bool(await requests.repetitions_with_artifacts(tx, request.id))


async def _remove(
    database: Database, store: ArtifactStore, request: SigningRequest, now: dt.datetime
) -> None:
    own = f"requests/{request.organization_id}/{request.id}/"
    for artifact in (request.input, request.output):
        if artifact and artifact.key.startswith(own):
            await store.delete(artifact.key)
    async with database.transaction() as tx:
        await requests.note_removed_artifacts(tx, request.id, now)
