"""How a worker gets an artifact that was not uploaded, and has one scanned for malware."""

from __future__ import annotations

import dataclasses
from typing import Any

from sealwright.answer import patiently
from sealwright.db import build_systems
from sealwright.errors import InternalError, OriginError
from sealwright.intake.malware import scan_artifact
from sealwright.intake.retrieval import ArtifactRetrievalLink, retrieval_timeouts, retrieve
from sealwright.intake.upload import clean_file_name
from sealwright.model.identifiers import utc_now
from sealwright.model.origin import Locator, origin_rules
from sealwright.model.request import RetrievalLink, SigningRequest, State, StoredArtifact
from sealwright.origin import standing
from sealwright.origin.rules import Case, Occasion, judge
from sealwright.policy.decide import state_after_receipt
from sealwright.queueing.lifecycle import advance
from sealwright.workbench import ACTOR, Workbench

MALWARE = "malware_detected"  #: code in the log


async def retrieve_artifact(bench: Workbench, request: SigningRequest) -> None:
    """Fetch the artifact, and put the request where it goes next."""
    # its own key for each attempt: what is there may change between two, and a key never does
    key = f"requests/{request.organization_id}/{request.id}/input-{request.attempt}"
    changes: dict[str, Any] = {}
    if request.retrieval is not None:
        link = request.retrieval
        artifact = await _retrieve_link(bench, link, key)
        # the headers may hold credentials, and are of no more use
        changes["retrieval"] = dataclasses.replace(link, headers={})
    elif request.origin.verified and request.origin.artifact_id:
        artifact = await _retrieve_remote(bench, request, key)
        changes["origin"] = dataclasses.replace(request.origin, artifact_sha256=artifact.sha256)
    else:
        message = "The request waits for an artifact, and nothing tells where it is."
        raise InternalError(message)
    following = state_after_receipt(request.snapshot)
    async with bench.database.transaction() as tx:
        await advance(
            tx,
            request,
            following,
            actor=ACTOR,
            now=utc_now(),
            data={"sha256": artifact.sha256, "size": artifact.size},
            input=artifact,
            attempt=0,
            lease_until=None,
            **changes,
        )
    await bench.queue.announce(request.id)
    if following is State.WAITING_FOR_APPROVAL:
        await bench.queue.enqueue_plan(request.id)
    else:
        await bench.queue.enqueue(request.id)


async def have_scanned(bench: Workbench, request: SigningRequest) -> None:
    """Have the artifact scanned for malware. Only what the scanner found nothing in goes on."""
    if request.input is None:
        message = "The request has no artifact to be scanned."
        raise InternalError(message)
    scan = await scan_artifact(bench.settings.clamd, bench.store, request.input)
    facts: dict[str, Any] = {
        "sha256": scan.sha256,
        "engine": scan.engine,
        "finding": scan.finding or None,
    }
    changes: dict[str, Any] = {"scan": scan}
    if scan.is_clean:
        following = State.QUEUED
        changes |= {"attempt": 0, "lease_until": None}
    else:
        following = State.FAILED
        facts |= {"code": MALWARE, "stage": request.state.value, "attempt": request.attempt}
        changes |= {
            "failed_stage": request.state,
            "reason": f"The malware scanner found {scan.finding} in the artifact.",
            "advice": "Find out how it came into the build. If it is a false alarm, tell ClamAV.",
        }
    async with bench.database.transaction() as tx:
        await advance(tx, request, following, actor=ACTOR, now=utc_now(), data=facts, **changes)
    await bench.queue.announce(request.id)
    if scan.is_clean:
        await bench.queue.enqueue(request.id)


async def _retrieve_link(bench: Workbench, link: RetrievalLink, key: str) -> StoredArtifact:
    """Fetch from where the submitter said."""
    writer = await bench.store.put_stream(key, limit=bench.settings.max_upload_bytes)
    received = await retrieve(
        ArtifactRetrievalLink(link.url, link.file_name, link.sha256 or None, link.headers),
        bench.outgoing,
        writer,
        timeouts=retrieval_timeouts(bench.settings),
    )
    found = received.artifact
    return StoredArtifact(found.key, received.file_name, found.size, found.sha256)


async def _retrieve_remote(bench: Workbench, request: SigningRequest, key: str) -> StoredArtifact:
    """Fetch from the build system, once its facts still fit what the request was accepted with.

    Raises:
        OriginError: they do not, or the bytes are not those that the build system describes.
    """
    origin = request.origin
    async with bench.database.read() as tx:
        system = await build_systems.find(tx, request.organization_id, origin.build_system_id)
        links = await build_systems.links(
            tx,
            request.organization_id,
            project_id=request.project_id,
            build_system_id=origin.build_system_id,
            repository_id=origin.repository_id,
        )
    if system is None or not links:
        message = "The repository that the artifact comes from is not linked to the project now."
        raise OriginError(message, advice="Have it linked, then submit again.")
    link = await standing.require(bench.database, bench.systems, system, links[0])
    rules = origin_rules(request.snapshot.fields.get("origin_rules", {}))
    locator = Locator(origin.repository_id, origin.run_id, origin.run_attempt, origin.artifact_id)
    connector = await bench.systems.connector(system)
    facts = await bench.systems.ask(connector.facts, link, locator, rules)
    judge(Case(system.kind, Occasion.RETRIEVAL, link, locator, facts, rules, origin))
    assert facts.artifact is not None  # noqa: S101 - a rule has seen to it
    bench.scratch.require_room(facts.artifact.size)
    limit = bench.settings.max_upload_bytes
    spooled = bench.scratch.folder / f"remote-{request.id}-{request.attempt}"
    try:
        with spooled.open("wb") as file:
            sha256 = await bench.systems.ask(
                connector.fetch_artifact, link, facts.artifact, file, limit
            )
        if facts.artifact.sha256 not in {"", sha256}:
            message = "The build system sent other bytes than those whose digest it has."
            raise OriginError(message, advice="Build and submit again.")
        size = spooled.stat().st_size
        await patiently(
            "storing the artifact",
            lambda: bench.store.put(key, spooled, sha256=sha256, size=size),
        )
    finally:
        spooled.unlink(missing_ok=True)
    return StoredArtifact(key, clean_file_name(facts.artifact.file_name), size, sha256)
