"""The worker half: load -> re-check -> deep-sign -> verify -> store -> log -> report.

`fulfil` is called with the id of a request that may be due. It may be called too often, too late,
or by many workers at once: the lease in the database decides who works, and each step may be
repeated by a later attempt with the same result. The queue is never asked anything.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any, BinaryIO

from sealwright import decided, storage
from sealwright.answer import Answerer, patiently
from sealwright.db import file_results
from sealwright.db import log as db_log
from sealwright.errors import (
    ArtifactError,
    ConflictError,
    EndorsementAwaitedError,
    InternalError,
    KeyStoreError,
    PolicyViolationError,
    TimestampError,
    UnavailableError,
)
from sealwright.failure import fail, is_expected, pause_after
from sealwright.model.certificate import CertificateKind
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.mechanism import Mechanism
from sealwright.model.passkey import relying_party
from sealwright.model.request import (
    FileResult,
    RequestKind,
    SigningRequest,
    Stage,
    State,
    StoredArtifact,
)
from sealwright.planning import fetch, plan_and_record
from sealwright.queueing import lease
from sealwright.queueing.endorsement_waits import wait_for_endorsement
from sealwright.queueing.lifecycle import advance
from sealwright.queueing.progress import ProgressMeter
from sealwright.reporting.objections import find_objection
from sealwright.retrieve import have_scanned, retrieve_artifact
from sealwright.signing.agreement import Agreed, agree
from sealwright.signing.artifact import Identity, SignatureRequest
from sealwright.signing.file_result import FileDigest, StageReport
from sealwright.signing.plan import Plan
from sealwright.signing.signature_value import verify_signature_value
from sealwright.signing.streams import size_of
from sealwright.signing.team import Team, is_divisible, team_of
from sealwright.signing.verify_result import Verdict
from sealwright.transparency.leaf import ARTIFACT_RELEASED
from sealwright.transparency.record import record, request_entry
from sealwright.workbench import ACTOR, Workbench

_log = logging.getLogger(__name__)
#: what a later attempt may find mended
_TEMPORARY = (UnavailableError, TimestampError, KeyStoreError)


async def fulfil(bench: Workbench, request_id: str) -> None:
    """Work on the request if it is due: to its end, or until a later attempt may do better.

    Raises:
        UnavailableError: the database is away; the reconciler comes back to the request.
        asyncio.CancelledError: the worker stops; the request has been given back.
    """
    settings = bench.settings
    claiming = asyncio.create_task(
        lease.claim(bench.database, request_id, settings.lease_seconds, relying_party(settings.url))
    )
    try:
        request = await asyncio.shield(claiming)
    except asyncio.CancelledError:
        # its commit may be under way: it is waited for, or nobody would know of the claim
        await asyncio.wait({claiming})
        if claiming.exception() is None:
            await _stop(bench, claiming.result())
        raise
    if request is None:
        return
    if request.state is State.WAITING_FOR_ENDORSEMENT:
        await bench.queue.announce(request.id)
        return
    _log.info("%s: attempt %d", request.id, request.attempt)
    try:
        if request.kind is not RequestKind.HASH:  # its end comes next
            await bench.queue.announce(request.id, request.state)
        meter = ProgressMeter()
        work = _attempt(bench, request, meter)
        await lease.hold(bench.database, request, settings.lease_seconds, work, meter)
    except lease.LeaseLostError:
        _log.info("%s: attempt %d was taken off the request", request.id, request.attempt)
    except asyncio.CancelledError:
        await _stop(bench, request)
        raise
    except Exception as error:  # noqa: BLE001 - the job wrapper: whatever it is, it ends the attempt
        await _end_badly(bench, request, error)


async def _stop(bench: Workbench, request: SigningRequest | None) -> None:
    if request is not None and request.state is not State.WAITING_FOR_ENDORSEMENT:
        await asyncio.shield(_give_back(bench, request, 0))
        await bench.queue.enqueue(request.id)


async def _attempt(bench: Workbench, request: SigningRequest, meter: ProgressMeter) -> None:
    if request.attempt > bench.settings.max_attempts:
        message = f"The workers of all {bench.settings.max_attempts} attempts died."
        raise InternalError(message)
    try:
        async with asyncio.timeout(bench.settings.request_seconds) as limit:
            if request.state is State.RETRIEVING_ARTIFACT:
                await retrieve_artifact(bench, request)
            elif request.state is State.SCANNING_FOR_MALWARE:
                await have_scanned(bench, request)
            elif request.kind is RequestKind.HASH:
                await _sign_hash(bench, request)
            else:
                await _sign_artifact(bench, request, meter)
    except TimeoutError:
        if not limit.expired():
            raise
        message = f"Signing took longer than {bench.settings.request_seconds:.0f} s."
        raise ArtifactError(
            message, advice="Sign a smaller artifact, or have request_seconds raised."
        ) from None


async def _sign_hash(bench: Workbench, request: SigningRequest) -> None:
    """Sign the digest that was handed in."""
    if request.hash is None:
        message = "The request to sign a digest has none."
        raise InternalError(message)
    async with bench.database.read() as tx:
        certificate = await decided.usable_certificate(tx, request)
    if certificate.kind is not CertificateKind.X509:
        message = "Bare digests are signed with X.509 certificates, not with OpenPGP keys."
        raise PolicyViolationError(message, advice="Sign the file by create-gpg-signature.")
    wanted = SignatureRequest(
        request.hash.digest, request.hash.hash_algorithm, Mechanism(request.hash.mechanism)
    )
    answerer = Answerer(request, bench.database, bench.signer, bench.timestamps)
    [result] = await answerer.answer([wanted])
    verify_signature_value(certificate.certificate, wanted, result.signature)
    facts = {
        "digest": request.hash.digest.hex(),
        "hash_algorithm": request.hash.hash_algorithm,
        "mechanism": request.hash.mechanism,
    }
    await _release(bench, request, "hash.signed", facts, [])
    signed = dataclasses.replace(request.hash, signature=result.signature)
    await _complete(bench, request, hash=signed)


async def _sign_artifact(bench: Workbench, request: SigningRequest, meter: ProgressMeter) -> None:
    """Sign the artifact from the inside out, and have a second child judge the result."""
    artifact = request.input
    if artifact is None:
        message = "The request has no artifact."
        raise InternalError(message)
    async with bench.database.read() as tx:
        certificate = await decided.usable_certificate(tx, request)
        configuration = await decided.configuration(tx, request)
    identity = Identity(certificate.certificate, certificate.chain)
    answerer = Answerer(request, bench.database, bench.signer, bench.timestamps)
    bench.scratch.require_room(artifact.size)
    divisible = is_divisible(configuration.encode(), artifact.size)
    async with bench.room, team_of(bench.children, bench.room, divisible=divisible) as team:
        signing = team.first
        meter.begin(Stage.FETCHING)
        await fetch(bench, artifact, signing)
        await team.share_input()
        meter.begin(Stage.PLANNING)
        plan = await plan_and_record(bench, request, team, configuration, identity)
        files = plan.files_to_sign
        meter.begin(Stage.SIGNING, files)
        reports = await team.deep_sign(plan, identity, answerer.answer_pending, meter.count)
        await team.end()
        async with team_of(bench.children, bench.room, divisible=divisible) as judges:
            signing.input.replace(judges.first.input)
            signing.output.replace(judges.first.output)
            await judges.share_input()
            meter.begin(Stage.VERIFYING, files)
            verdict, output = await _judge(
                bench, request, judges, plan, configuration, certificate.certificate
            )
            meter.begin(Stage.RELEASING, files)
    results, facts = await asyncio.to_thread(_settle, plan, reports, verdict, output)
    await _release(bench, request, ARTIFACT_RELEASED, facts, results)
    await _complete(bench, request, output=output)


async def _judge(
    bench: Workbench,
    request: SigningRequest,
    judges: Team,
    plan: Plan,
    configuration: str,
    certificate: bytes,
) -> tuple[Verdict, StoredArtifact]:
    """Have the signed artifact judged. Meanwhile the store copies it, and the log takes in the
    signatures."""
    judging = judges.first
    with judging.open_output() as signed:
        judgement = asyncio.create_task(
            judges.verify(plan, configuration.encode(), request.parameters, certificate)
        )
        # whether it succeeds is seen at the end, when it is asked for again and has little left
        sequencing = asyncio.create_task(bench.signer.checkpoint())
        try:
            output = await _store(bench, request, signed, judgement)
            return await judgement, output
        finally:
            judgement.cancel()
            sequencing.cancel()
            await asyncio.gather(judgement, sequencing, return_exceptions=True)


async def _store(
    bench: Workbench, request: SigningRequest, signed: BinaryIO, judgement: asyncio.Future[Any]
) -> StoredArtifact:
    """Put the signed artifact into the store, under a name that no other attempt gives. It is
    copied while it is judged, and visible there only if the judges agree.

    Args:
        signed: opened before the judges had it.
    """
    assert request.input is not None  # noqa: S101 - checked by the caller
    size = await asyncio.to_thread(size_of, signed)
    key = f"requests/{request.organization_id}/{request.id}/output-{new_id()}"

    async def put() -> storage.StoredArtifact | None:
        try:
            return await bench.store.put(key, signed, size=size, approval=judgement)
        except UnavailableError:
            if not judgement.done() or judgement.exception() is None:
                raise  # the store's; a judgement that failed fails whoever waits for it, at once
            return None

    stored = await patiently("storing the artifact", put) or judgement.result()
    return StoredArtifact(key, request.input.file_name, stored.size, stored.sha256)


def _settle(
    plan: Plan, reports: Sequence[StageReport], verdict: Verdict, output: StoredArtifact
) -> tuple[list[FileResult], dict[str, Any]]:
    """What was done to each file, and what the log says of it."""
    delivered = FileDigest(output.sha256, output.size)
    results = [_result(each) for each in agree(plan, reports, verdict, delivered)]
    return results, _facts(plan, output, results)


def _result(agreed: Agreed) -> FileResult:
    """What was done, with the time that the verified time stamp asserts, and what was found to
    have come into the container."""
    one, proof = agreed.result, agreed.proof
    return FileResult(
        path=one.path,
        format=one.element,
        directive=one.directive,
        summary=one.summary,
        sha256_before=one.sha256_before,
        sha256_after=one.sha256_after,
        size_after=one.size,
        timestamp=_time(proof.fact.timestamp) if proof else None,
        outputs=one.outputs,
        members=proof.members if proof else (),
    )


def _time(posix: int | None) -> dt.datetime | None:
    return None if posix is None else dt.datetime.fromtimestamp(posix, dt.UTC)


def _facts(plan: Plan, output: StoredArtifact, results: Sequence[FileResult]) -> dict[str, Any]:
    """What the log says of a release: digests and counts, no names but the output's."""
    files = [[one.path, one.directive, one.sha256_before, one.sha256_after] for one in results]
    listed = json.dumps(files, separators=(",", ":")).encode()
    return {
        "input_sha256": plan.root.sha256,
        "outputs": [{"name": output.file_name, "sha256": output.sha256}],
        "output_size": output.size,
        "plan_sha256": plan.plan_hash,
        "files": len(results),
        "files_sha256": hashlib.sha256(listed).hexdigest(),
    }


async def _release(
    bench: Workbench,
    request: SigningRequest,
    action: str,
    facts: dict[str, Any],
    results: list[FileResult],
) -> None:
    """Log what is about to be released, and have a checkpoint signed over it.

    An attempt that got so far before has logged the same already; it is not logged twice.
    """
    async with bench.database.transaction() as tx:
        await lease.require(tx, request)
        again = request.attempt > 1
        earlier = await db_log.of_action(tx, request.id, action) if again else []
        logged = any(json.loads(entry.body)["data"] == facts for entry in earlier)
        if not logged:
            if again or results:
                await file_results.put_results(tx, request.id, results)
            await record(tx, request_entry(request, action, actor=ACTOR, now=utc_now(), data=facts))
    await patiently("signing a checkpoint", bench.signer.checkpoint)


async def _complete(bench: Workbench, request: SigningRequest, **changes: Any) -> None:
    async with bench.database.transaction() as tx:
        await advance(tx, request, State.COMPLETED, actor=ACTOR, now=utc_now(), **changes)
    _log.info("%s: completed in attempt %d", request.id, request.attempt)
    await bench.queue.announce(request.id, State.COMPLETED)


async def _end_badly(bench: Workbench, request: SigningRequest, error: Exception) -> None:
    """Fail the request, or leave it to a later attempt where that may do better."""
    if is_expected(error):
        _log.warning("%s: attempt %d: %s", request.id, request.attempt, error)
    else:
        _log.error("%s: attempt %d", request.id, request.attempt, exc_info=error)
    may_pass = isinstance(error, _TEMPORARY) or not is_expected(error)
    try:
        if isinstance(error, EndorsementAwaitedError):
            await _wait_or_fail(bench, request, error)
        elif may_pass and request.attempt < bench.settings.max_attempts:
            await _give_back(bench, request, pause_after(request.attempt))
        else:
            async with bench.database.transaction() as tx:
                await fail(tx, request, error)
    except lease.LeaseLostError:
        pass
    except ConflictError:
        _log.info("%s: somebody else has moved the request on", request.id)
    except UnavailableError as away:
        _log.warning("%s: %s The lease runs out by itself.", request.id, away.message)
    await bench.queue.announce(request.id)


async def _wait_or_fail(
    bench: Workbench, request: SigningRequest, missing: EndorsementAwaitedError
) -> None:
    """Wait for what the signer, which decides, says is missing; the plan stays as it was made. If
    that is seen here as nothing to wait for, the request fails: it would come back at once."""
    async with bench.database.transaction() as tx:
        found = await find_objection(tx, request, relying_party(bench.settings.url))
        if isinstance(found, EndorsementAwaitedError):
            await wait_for_endorsement(tx, request, missing, utc_now())
        else:
            await fail(tx, request, found or missing)


async def _give_back(bench: Workbench, request: SigningRequest, pause: float) -> None:
    try:
        await lease.give_back(bench.database, request, pause)
    except UnavailableError as away:
        _log.warning("%s: %s The lease runs out by itself.", request.id, away.message)
