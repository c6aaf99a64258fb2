"""Scanning a stored artifact for malware."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from sealwright.connectors.clamd import Clamd
from sealwright.errors import ConfigurationError, VerificationError
from sealwright.model.identifiers import utc_now
from sealwright.model.request import MalwareScan, StoredArtifact
from sealwright.storage import ArtifactStore


async def scan_artifact(
    address: str, store: ArtifactStore, artifact: StoredArtifact
) -> MalwareScan:
    """Have clamd look at the artifact, which is read from the store once more.

    Args:
        address: the setting `clamd`.

    Raises:
        ConfigurationError: there is no scanner.
        TooLargeError: it does not take so much.
        UnavailableError: it or the store is away.
        VerificationError: the stored bytes are not those that were submitted.
    """
    if not address:
        message = "The signing policy wants a malware scan, and this server has no scanner."
        raise ConfigurationError(message, advice="Have the setting 'clamd' made.")
    digest = hashlib.sha256()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in await store.open_range(artifact.key):
            digest.update(chunk)
            yield chunk

    scanned = await Clamd(address).scan(chunks())
    if digest.hexdigest() != artifact.sha256:
        message = "The stored artifact is not the one that was submitted."
        raise VerificationError(message, advice="Submit again; the store may be damaged.")
    return MalwareScan(
        sha256=artifact.sha256,
        engine=scanned.engine[:200],
        finding=scanned.finding,
        scanned_at=utc_now().isoformat(timespec="seconds"),
    )
