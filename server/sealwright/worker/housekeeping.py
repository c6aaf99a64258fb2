"""What a worker does besides: remove what nobody needs, and copy the log out."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import re
from pathlib import Path

from sealwright.db import Database, expired, requests
from sealwright.errors import SealwrightError
from sealwright.model.identifiers import made_at, utc_now
from sealwright.model.request import SigningRequest
from sealwright.storage import ArtifactStore
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.publish import publish
from sealwright.worker.retention import apply_retention

_log = logging.getLogger(__name__)

_HOUSE_SECONDS = 3600.0
_PUBLISH_SECONDS = 5.0
#: what is younger may belong to a submission that is being received
_ORPHAN_AGE = dt.timedelta(days=1)
_SAMPLE = re.compile(r"trials/[^/]+/(?P<id>[0-9a-f-]{36})/sample")
_KEY = re.compile(r"requests/[^/]+/(?P<id>[0-9a-f-]{36})/[^/]+")


async def keep_house(database: Database, store: ArtifactStore) -> None:
    """Every hour, spread over workers: remove uploads that broke off, and artifacts that no
    request names; apply the rules of retention, the fixed ones and the organizations'."""
    while True:
        await asyncio.sleep(_HOUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        try:
            await keep_house_once(database, store, utc_now())
        except SealwrightError as error:
            _log.warning("cannot keep house now: %s", error)


async def keep_house_once(database: Database, store: ArtifactStore, now: dt.datetime) -> None:
    """Everything that is due by `now`.

    Raises:
        UnavailableError: the database or the store is away.
    """
    swept = await store.sweep()
    removed = await remove_orphans(database, store, now)
    removed += await remove_old_samples(store, now)
    rows = await remove_expired(database, now)
    await apply_retention(database, store, now)
    if swept or removed or rows:
        message = "removed %d broken uploads, %d orphaned artifacts and %d rows"
        _log.info(message, swept, removed, rows)


async def remove_expired(database: Database, now: dt.datetime) -> int:
    """Remove the rows whose time is over by the fixed rules, a few in a transaction; how many.

    Raises:
        UnavailableError: the database is away.
    """
    total = 0
    for rule in expired.RULES:
        removed = expired.BATCH
        while removed == expired.BATCH:
            async with database.transaction() as tx:
                removed = await expired.remove_some(tx, rule, now)
            total += removed
    return total


async def remove_orphans(database: Database, store: ArtifactStore, now: dt.datetime) -> int:
    """Remove artifacts older than a day that no request names; how many.

    A request whose commit was lost leaves its input, an attempt that died after storing its output.

    Raises:
        UnavailableError: the database or the store is away.
    """
    removed = 0
    async for key in store.list("requests/"):
        match = _KEY.fullmatch(key)
        if match is None or now - made_at(match["id"]) < _ORPHAN_AGE:
            continue
        async with database.read() as tx:
            request = await requests.get_any(tx, match["id"])
        if not _is_named(request, key):
            await store.delete(key)
            removed += 1
    return removed


async def remove_old_samples(store: ArtifactStore, now: dt.datetime) -> int:
    """Remove samples of trials that are older than a day; how many.

    A trial removes its own when it ends. What is left is of a trial whose process died.

    Raises:
        UnavailableError: the store is away.
    """
    removed = 0
    async for key in store.list("trials/"):
        match = _SAMPLE.fullmatch(key)
        if match and now - made_at(match["id"]) >= _ORPHAN_AGE:
            await store.delete(key)
            removed += 1
    return removed


def _is_named(request: SigningRequest | None, key: str) -> bool:
    if request is None:
        return False
    if not request.state.is_final:
        return True  # its worker may be about to name it
    return any(artifact and artifact.key == key for artifact in (request.input, request.output))


async def publish_log(database: Database, folder: Path) -> None:
    """Keep the log's copy in `folder` up to date. A log that was set back is reported each time and
    not copied."""
    store = FolderTiles(folder)
    while True:
        try:
            await publish(database, store)
        except SealwrightError as error:
            _log.warning("the log was not copied: %s", error)
        await asyncio.sleep(_PUBLISH_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
