"""The web half: receive -> verify origin -> decide -> record -> enqueue.

`submit` is the whole way of a signing request until a worker takes it over (`fulfil`). It is asked
by every face of the server; none of them decides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from sealwright.db import (
    Database,
    Transaction,
    certificates,
    groups,
    projects,
    requests,
    run_submissions,
)
from sealwright.errors import (
    ConflictError,
    GoneError,
    IdempotencyConflictError,
    InternalError,
    NotFoundError,
    UnavailableError,
)
from sealwright.intake.upload import ReceivedFile
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.origin import Origin, OriginRules, origin_rules
from sealwright.model.project import SigningPolicy
from sealwright.model.request import (
    HashToSign,
    RequestKind,
    RetrievalLink,
    SigningRequest,
    State,
    StoredArtifact,
)
from sealwright.origin.replay import RunSubmission, earlier_request
from sealwright.origin.rules import judge_again
from sealwright.policy.decide import Decision, Target, check_submitter, decide
from sealwright.policy.permissions import Grant
from sealwright.queueing import lifecycle
from sealwright.queueing.queue import Queue
from sealwright.reporting.unusual import look_at_submission
from sealwright.storage import ArtifactStore, ArtifactWriter
from sealwright.transparency.record import record, request_entry
from sealwright.visible import find_policy, find_project, find_request, is_name, missing

P = ParamSpec("P")
_DUE = frozenset({State.QUEUED, State.RETRIEVING_ARTIFACT, State.SCANNING_FOR_MALWARE})


@dataclass(frozen=True)
class Submission:
    """What a client asks for. Projects, policies and configurations by id or slug.

    Attributes:
        project: may be None where `policy` is an id.
        configuration: None: the project's default.
        claimed_origin: what the client says; a claim until a trusted build system confirms it.
        idempotency_key: the same key and content again give the same request.
    """

    project: str | None
    policy: str
    configuration: str | None = None
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    claimed_origin: Origin = field(default_factory=Origin)
    idempotency_key: str | None = None
    original_request_id: str | None = None


@dataclass(frozen=True)
class Content:
    """What is to be signed: a stored artifact, one to be fetched, or a digest (perhaps with the
    stored document that it came in).

    Attributes:
        origin: verified, of the run that made the content (`run` is set) or of an earlier request's
            content, as it was verified then; else None.
        remote: the build system that `origin` names has it; the worker fetches it from there.
        run: the submission of a run, which is never made twice.
        judged_by: the origin rules that an earlier request's `origin` was judged by.
    """

    input: StoredArtifact | None = None
    link: RetrievalLink | None = None
    digest: HashToSign | None = None
    origin: Origin | None = None
    remote: bool = False
    run: RunSubmission | None = None
    judged_by: OriginRules | None = None


@dataclass(frozen=True)
class Submitted:
    """The request, and whether it was there already under the same idempotency key."""

    request: SigningRequest
    replayed: bool = False


def _to_its_end(
    function: Callable[P, Coroutine[Any, Any, Submitted]],
) -> Callable[P, Coroutine[Any, Any, Submitted]]:
    """Once begun it ends, though its client may have gone: the artifact stays if, and only if, the
    request is recorded."""

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> Submitted:
        task = asyncio.create_task(function(*args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    return run


@_to_its_end
async def submit(
    database: Database,
    queue: Queue,
    grant: Grant,
    submission: Submission,
    content: Content,
    reception: Reception | None = None,
) -> Submitted:
    """Accept a signing request whose content has been received, or refuse it and leave nothing.

    Raises:
        NotFoundError: project, policy or configuration is missing, or not for the caller.
        ForbiddenError, PolicyViolationError, OriginError, InvalidInputError: see `decide`.
        IdempotencyConflictError: the key was used for something else.
        UnavailableError: the database is away; a repetition with the same key is safe.
    """
    now = utc_now()
    request_id = reception.request_id if reception else new_id()
    try:
        async with database.transaction() as tx:
            earlier = await _submitted_before(tx, grant, submission, content)
            if earlier:
                return Submitted(earlier, replayed=True)
            target = await resolve(tx, grant, submission)
            origin = verify_origin(submission, content, target.policy)
            decision = decide(
                grant.user,
                target,
                origin,
                link=content.link,
                remote=content.remote,
                digest=content.digest,
                now=now,
            )
            request = await _record(tx, request_id, grant, submission, content, decision, now)
            if reception:
                reception.keep()  # from here on a commit may happen, whatever we hear of it
    except UnavailableError:
        request = await _committed_after_all(database, grant, request_id)
    if request.state in _DUE:
        await queue.enqueue(request.id, digest=request.kind is RequestKind.HASH)
    elif request.input and request.state is State.WAITING_FOR_APPROVAL:
        await queue.enqueue_plan(request.id)
    return Submitted(request)


class Reception:
    """A place in the store for one request's artifact, which vanishes unless it is kept."""

    def __init__(self, store: ArtifactStore, organization_id: str) -> None:
        self.request_id = new_id()
        self.key = f"requests/{organization_id}/{self.request_id}/input"
        self.kept = False
        self._store = store

    async def writer(self, limit: int) -> ArtifactWriter:
        """Begin to receive at most `limit` bytes."""
        return await self._store.put_stream(self.key, limit=limit)

    def keep(self) -> None:
        """Leave the artifact to the request that is recorded for it."""
        self.kept = True


@contextlib.asynccontextmanager
async def receiving(store: ArtifactStore, organization_id: str) -> AsyncIterator[Reception]:
    """Receive an artifact and `submit` it within: what is refused is removed from the store."""
    reception = Reception(store, organization_id)
    try:
        yield reception
    finally:
        if not reception.kept:
            await asyncio.shield(store.delete(reception.key))


def received(file: ReceivedFile) -> StoredArtifact:
    """The file as the request names it."""
    artifact = file.artifact
    return StoredArtifact(artifact.key, file.file_name, artifact.size, artifact.sha256)


async def admit(database: Database, grant: Grant, submission: Submission) -> Target:
    """Refuse whom the policy would refuse anyhow, before an artifact is received.

    Raises:
        NotFoundError, ForbiddenError, PolicyViolationError: as `submit`.
    """
    async with database.read() as tx:
        target = await resolve(tx, grant, submission)
    check_submitter(grant.user, target)
    return target


async def resubmit(
    database: Database, queue: Queue, grant: Grant, original_id: str, submission: Submission
) -> Submitted:
    """Submit an earlier request's artifact under another policy of the same project.

    The origin is the earlier one's; so are description and parameters where `submission` gives
    none.

    Raises:
        NotFoundError: no such request, or not for the caller.
        others: as `submit`.
    """
    async with database.read() as tx:
        original = await find_request(tx, grant, original_id)
    again = dataclasses.replace(
        submission,
        project=original.project_id,
        configuration=submission.configuration or original.artifact_configuration_id,
        description=submission.description or original.description,
        parameters=submission.parameters or original.parameters,
        original_request_id=original.id,
    )
    return await submit(database, queue, grant, again, _content_of(original))


async def retry(
    database: Database, queue: Queue, grant: Grant, failed_id: str, idempotency_key: str | None
) -> Submitted:
    """Submit a failed request's content again, all else being equal: the policy decides anew.

    Raises:
        ConflictError: the earlier request has not failed.
        others: as `submit`.
    """
    async with database.read() as tx:
        failed = await find_request(tx, grant, failed_id)
    if failed.state is not State.FAILED:
        message = f"The signing request is {failed.state.value}; only a failed one is retried."
        raise ConflictError(message, advice="Resubmit it to sign its artifact again.")
    again = Submission(
        project=failed.project_id,
        policy=failed.signing_policy_id,
        configuration=failed.artifact_configuration_id,
        description=failed.description,
        parameters=failed.parameters,
        idempotency_key=idempotency_key,
        original_request_id=failed.id,
    )
    return await submit(database, queue, grant, again, _content_of(failed))


async def resolve(tx: Transaction, grant: Grant, submission: Submission) -> Target:
    """Find what the submission names.

    Raises:
        NotFoundError: missing, foreign, or not for the caller.
        InvalidInputError: a slug of a policy without its project.
    """
    project = await find_project(tx, grant, submission.project) if submission.project else None
    policy = await find_policy(tx, grant, project, submission.policy)
    project = project or await projects.find(tx, grant.organization_id, policy.project_id)
    certificate = await certificates.get_current(tx, grant.organization_id, policy.certificate_id)
    if project is None or certificate is None:
        message = f"The signing policy {policy.id} lacks its project or certificate."
        raise InternalError(message)
    named = submission.configuration
    configuration = None
    if named is None or is_name(named):
        configuration = await projects.find_configuration(
            tx, grant.organization_id, project.id, named
        )
    if configuration is None and named:
        raise missing(named, "artifact configuration")
    approvers = await groups.people(tx, grant.organization_id, policy.approvers)
    return Target(project, policy, certificate, configuration, approvers)


def verify_origin(submission: Submission, content: Content, policy: SigningPolicy) -> Origin:
    """The origin with what of it is verified. What a client says stays a claim.

    Raises:
        OriginRefusedError: a verified origin of an earlier request does not fit this policy.
    """
    if content.origin:
        if content.run is None and content.origin.verified:
            judge_again(content.origin, policy.origin_rules, content.judged_by)
        return content.origin
    return dataclasses.replace(submission.claimed_origin, verified=False)


async def _record(
    tx: Transaction,
    request_id: str,
    grant: Grant,
    submission: Submission,
    content: Content,
    decision: Decision,
    now: dt.datetime,
) -> SigningRequest:
    """Insert the request, its leaves and its idempotency key; it leaves Submitted at once."""
    target = decision.target
    configuration = None if content.digest else target.configuration
    hours = target.policy.approval_hours
    request = SigningRequest(
        id=request_id,
        organization_id=grant.organization_id,
        kind=RequestKind.HASH if content.digest else RequestKind.ARTIFACT,
        state=State.SUBMITTED,
        project_id=target.project.id,
        project_slug=target.project.slug,
        project_name=target.project.name,
        signing_policy_id=target.policy.id,
        signing_policy_slug=target.policy.slug,
        signing_policy_name=target.policy.name,
        artifact_configuration_id=configuration.id if configuration else None,
        artifact_configuration_slug=configuration.slug if configuration else None,
        artifact_configuration_name=configuration.name if configuration else None,
        certificate_id=target.certificate.id,
        snapshot=decision.snapshot,
        policy_hash=decision.snapshot.sha256,
        description=submission.description,
        parameters=dict(submission.parameters),
        origin=decision.origin,
        submitted_by=grant.user.id,
        submitted_at=now,
        updated_at=now,
        input=content.input,
        retrieval=content.link,
        hash=content.digest,
        original_request_id=submission.original_request_id,
        approval_until=now + dt.timedelta(hours=hours) if hours else None,
    )
    await requests.add(tx, request)
    if content.run:
        await run_submissions.add(tx, content.run.key, request.id, now)
    facts = _facts(request)
    await record(
        tx,
        request_entry(
            request,
            "request.submitted",
            actor=grant.actor,
            now=now,
            data=facts,
            address=grant.principal.address,
        ),
    )
    if submission.idempotency_key:
        await requests.add_idempotency_key(
            tx,
            grant.user.id,
            submission.idempotency_key,
            _fingerprint(submission, content),
            request.id,
            now,
        )
    await look_at_submission(tx, request, now)
    return await lifecycle.advance(tx, request, decision.next_state, actor=grant.actor, now=now)


def _facts(request: SigningRequest) -> dict[str, object]:
    """What the log says of a submission: digests and origin, no free text and no credential."""
    origin = request.origin
    return {
        "kind": request.kind.value,
        "project": request.project_id,
        "artifact_sha256": request.input.sha256 if request.input else None,
        "artifact_size": request.input.size if request.input else None,
        "digest": request.hash.digest.hex() if request.hash else None,
        "parameters_sha256": _digest(dict(request.parameters)),
        "original_request": request.original_request_id,
        "origin_verified": origin.verified,
        "origin_repository_url": origin.repository_url,
        "origin_branch": origin.branch,
        "origin_commit": origin.commit,
        "origin_proof": origin.proof.value,
        "origin_build_system": origin.build_system_id,
        "origin_repository": origin.repository_id,
        "origin_ref": origin.ref,
        "origin_event": origin.event,
        "origin_run": origin.run_id,
        "origin_run_attempt": origin.run_attempt,
        "origin_definition": origin.build_settings_file,
        "origin_runner": origin.runner,
        "origin_artifact": origin.artifact_id,
        "origin_artifact_sha256": origin.artifact_sha256,
        "origin_checks": list(origin.checks),
    }


def _content_of(request: SigningRequest) -> Content:
    """The same stored bytes, which nobody can change, for another request.

    Raises:
        GoneError: the rules of retention have removed them.
    """
    if request.artifacts_removed_at and request.input:
        message = "The artifact of the earlier request was removed by the rules of retention."
        raise GoneError(message, advice="Submit the artifact itself.")
    digest = dataclasses.replace(request.hash, signature=None) if request.hash else None
    link = None if request.input else request.retrieval
    return Content(
        request.input,
        link,
        digest,
        request.origin,
        remote=not (request.input or link or digest),
        judged_by=origin_rules(request.snapshot.fields.get("origin_rules", {})),
    )


async def _submitted_before(
    tx: Transaction, grant: Grant, submission: Submission, content: Content
) -> SigningRequest | None:
    """The request that the idempotency key, or the same run's submission, already made."""
    if content.run and (request_id := await earlier_request(tx, content.run)):
        return await find_request(tx, grant, request_id)
    if submission.idempotency_key is None:
        return None
    found = await requests.find_idempotency_key(tx, grant.user.id, submission.idempotency_key)
    if found is None:
        return None
    fingerprint, request_id = found
    if fingerprint != _fingerprint(submission, content):
        message = "This idempotency key was used for a different signing request."
        raise IdempotencyConflictError(message, advice="Use a new key for each submission.")
    return await find_request(tx, grant, request_id)


def _fingerprint(submission: Submission, content: Content) -> str:
    artifact, link, digest = content.input, content.link, content.digest
    return _digest(
        {
            "submission": dataclasses.asdict(submission),
            "artifact": [artifact.file_name, artifact.size, artifact.sha256] if artifact else None,
            "link": [link.url, link.file_name, link.sha256] if link else None,
            "digest": [digest.digest.hex(), digest.mechanism] if digest else None,
        }
    )


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


async def _committed_after_all(database: Database, grant: Grant, request_id: str) -> SigningRequest:
    """Tell a lost answer to a commit from a lost commit.

    Raises:
        UnavailableError: not there, or the database is still away. The artifact is left in the
            store in that case: the reconciler removes those that no request names.
    """
    async with database.read() as tx:
        with contextlib.suppress(NotFoundError):
            return await find_request(tx, grant, request_id)
    message = "The database did not take the signing request."
    raise UnavailableError(message, advice="Submit again; use an Idempotency-Key.")
