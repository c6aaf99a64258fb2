"""Signing requests: submitting, reading, following, deciding, downloading."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping

from starlette.responses import Response

from sealwright.approve import approve_or_deny
from sealwright.cancel import cancel as cancel_request
from sealwright.db import Transaction, plans, requests
from sealwright.db.request_search import RequestFilter
from sealwright.errors import ConflictError, GoneError, InvalidInputError
from sealwright.model.passkey import relying_party
from sealwright.model.request import RetrievalLink, SigningRequest, State, StoredArtifact, Verdict
from sealwright.submit import Content, Submission, Submitted, received, receiving
from sealwright.submit import resubmit as resubmit_request
from sealwright.submit import retry as retry_request
from sealwright.visible import find_project, find_request, missing, project_ids
from sealwright.web import bodies, submissions, views
from sealwright.web.answers import cursor_of, json_answer, read_cursor
from sealwright.web.downloads import artifact_response
from sealwright.web.proofs import proof_response
from sealwright.web.routes import Answer, Call, Endpoint, checked
from sealwright.web.schemas.passkeys import ApprovalIn
from sealwright.web.schemas.queries import RequestsQuery, WaitQuery
from sealwright.web.schemas.signing_requests import (
    CancelIn,
    DecisionIn,
    FormSubmissionIn,
    LinkSubmissionIn,
    PlanOut,
    RawSubmissionQuery,
    ResubmissionIn,
    SigningRequestDetailOut,
    SigningRequestOut,
    SigningRequestsOut,
    SubmissionIn,
)
from sealwright.web.waiting import event_stream, is_final, is_news, wait_until

_QUERY_ONLY = frozenset({"file_name", "sha256", "wait"})


async def create(call: Call) -> Response:
    """Submit: a form, a body that is the artifact, or JSON with a link to it."""
    query = submissions.nested(dict(call.request.query_params))
    named = {name: query.pop(name) for name in ("parameters", "origin") if name in query}
    options = checked(RawSubmissionQuery, query)
    match bodies.media_type(call.request):
        case "multipart/form-data":
            submitted = await _submit_form(call)
        case "application/json":
            submitted = await _submit_link(call)
        case _:
            fields = options.model_dump(exclude_none=True, exclude=set(_QUERY_ONLY))
            submitted = await _submit_body(call, options, fields | named)
    return await submitted_answer(call, submitted, options.wait)


async def _submit_form(call: Call) -> Submitted:
    async def admit(fields: Mapping[str, str]) -> None:
        # every field before the file: so nothing is received that is then refused
        await submissions.admit_early(call, _submission(call, fields))

    async with receiving(call.services.store, call.grant.organization_id) as reception:
        form = await submissions.receive_form(call, reception, "artifact", admit)
        file = next(iter(form.files.values()), None)
        if file is None:
            message = "The form has no file."
            raise InvalidInputError(message, advice="Send the artifact in the field artifact.")
        submission = _submission(call, {name: values[0] for name, values in form.fields.items()})
        content = Content(received(file))
        return await submissions.hand_over(call, submission, content, reception)


async def _submit_body(
    call: Call, options: RawSubmissionQuery, fields: Mapping[str, object]
) -> Submitted:
    submission = submissions.submission_of(call, checked(SubmissionIn, fields))
    await submissions.admit_early(call, submission)
    async with receiving(call.services.store, call.grant.organization_id) as reception:
        file = await submissions.receive_body(call, reception, options.file_name, options.sha256)
        return await submissions.hand_over(call, submission, Content(received(file)), reception)


async def _submit_link(call: Call) -> Submitted:
    given = await call.json(LinkSubmissionIn)
    link = given.retrieval_link
    submissions.check_link(call, link.url)
    content = Content(link=RetrievalLink(link.url, link.file_name, link.sha256, link.headers))
    return await submissions.hand_over(call, submissions.submission_of(call, given), content)


def _submission(call: Call, fields: Mapping[str, str]) -> Submission:
    return submissions.submission_of(call, checked(SubmissionIn, submissions.nested(fields)))


async def submitted_answer(call: Call, submitted: Submitted, wait: float) -> Response:
    """201 with the request, perhaps after waiting for its end."""
    request = submitted.request
    if wait:
        request = await wait_until(call, request.id, wait, is_final)
    url = call.services.settings.url
    headers = {"Location": f"{url}/api/v1/signing-requests/{request.id}"}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return await _detail(call, request, 201, headers)


async def listing(call: Call) -> Response:
    """Requests that the caller may see, newest first."""
    query = call.query(RequestsQuery)
    grant = call.grant
    async with call.services.database.read() as tx:
        found, before = await find_page(tx, call, query, query.limit)
        people = await views.names(tx, grant.organization_id, [r.submitted_by for r in found])
    url = call.services.settings.url
    items = [
        SigningRequestOut.model_validate(views.request_fields(one, people, url)) for one in found
    ]
    cursor = cursor_of(before) if before else None
    return json_answer(SigningRequestsOut(items=items, next_cursor=cursor))


async def find_page(
    tx: Transaction, call: Call, query: RequestsQuery, limit: int
) -> tuple[list[SigningRequest], str | None]:
    """What the query asks for among what the caller may see; the id before which to go on.

    Raises:
        NotFoundError: the project is missing, or not for the caller.
    """
    grant = call.grant
    visible = await project_ids(tx, grant)
    if query.project:
        visible = [(await find_project(tx, grant, query.project)).id]
    wanted = RequestFilter(
        project_ids=visible,
        signing_policy_id=query.signing_policy,
        state=query.state,
        submitted_by=grant.user.id if query.submitter == "me" else query.submitter,
        submitted_from=_midnight(query.submitted_from),
        submitted_before=_midnight(query.submitted_to, days=1),
        text=query.text,
    )
    before = read_cursor(query.cursor)
    return await requests.search(tx, grant.organization_id, wanted, before=before, limit=limit)


def _midnight(day: dt.date | None, days: int = 0) -> dt.datetime | None:
    """The beginning of the day in UTC, or of the one `days` later."""
    if day is None:
        return None
    start = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
    return start + dt.timedelta(days=days) if day < dt.date.max else start


async def get(call: Call) -> Response:
    """One request; with ``wait`` once there is news, or as it is when the seconds are over."""
    query = call.query(WaitQuery)
    request = await wait_until(call, call.path("request"), query.wait, is_news(query.known))
    return await _detail(call, request)


async def events(call: Call) -> Response:
    """Each change as it happens."""
    return await event_stream(call, call.path("request"))


async def cancel(call: Call) -> Response:
    """End it."""
    given = await call.json(CancelIn)
    services = call.services
    return await _detail(
        call,
        await cancel_request(
            services.database, services.queue, call.grant, call.path("request"), given.reason
        ),
    )


async def retry(call: Call) -> Response:
    """Submit what failed once more."""
    services = call.services
    submitted = await retry_request(
        services.database,
        services.queue,
        call.grant,
        call.path("request"),
        bodies.idempotency_key(call.request),
    )
    return await submitted_answer(call, submitted, 0)


async def resubmit(call: Call) -> Response:
    """Submit the same artifact under another policy."""
    given = await call.json(ResubmissionIn)
    services = call.services
    submission = Submission(
        project=None,
        policy=given.signing_policy,
        configuration=given.artifact_configuration,
        description=given.description,
        parameters=given.parameters,
        idempotency_key=bodies.idempotency_key(call.request),
    )
    submitted = await resubmit_request(
        services.database, services.queue, call.grant, call.path("request"), submission
    )
    return await submitted_answer(call, submitted, 0)


async def approve(call: Call) -> Response:
    """Approve."""
    return await _decide(call, Verdict.APPROVE)


async def deny(call: Call) -> Response:
    """Deny: one denial ends it."""
    return await _decide(call, Verdict.DENY)


async def _decide(call: Call, verdict: Verdict) -> Response:
    given = await call.json(ApprovalIn if verdict is Verdict.APPROVE else DecisionIn)
    credential = given.credential if isinstance(given, ApprovalIn) else None
    services = call.services
    return await _detail(
        call,
        await approve_or_deny(
            services.database,
            services.queue,
            call.grant,
            call.path("request"),
            verdict,
            given.comment,
            credential.assertion() if credential else None,
            relying_party(services.settings.url),
        ),
    )


async def unsigned_artifact(call: Call) -> Response:
    """The bytes that were submitted."""
    artifact = unsigned_of(await find(call))
    return await artifact_response(call.request, call.services.store, artifact)


async def signed_artifact(call: Call) -> Response:
    """The signed bytes."""
    artifact = signed_of(await find(call))
    return await artifact_response(call.request, call.services.store, artifact)


async def plan(call: Call) -> Response:
    """What is signed, or would be."""
    request = await find(call)
    check_results_kept(request)
    async with call.services.database.read() as tx:
        found = await plans.shown(tx, request.id)
    if found is None:
        raise missing(request.id, "plan of the signing request")
    sha256, text, ahead = found
    return json_answer(
        PlanOut(request_id=request.id, sha256=sha256, plan=json.loads(text), ahead=ahead)
    )


async def proof(call: Call) -> Response:
    """The proof of the release, to be kept beside the artifact."""
    return await proof_response(call.services, await find(call))


async def find(call: Call) -> SigningRequest:
    """The request that the path names."""
    async with call.services.database.read() as tx:
        return await find_request(tx, call.grant, call.path("request"))


def unsigned_of(request: SigningRequest) -> StoredArtifact:
    """The artifact that was submitted.

    Raises:
        NotFoundError: there is none yet, or only a digest was submitted.
    """
    if request.input is None:
        raise missing(request.id, "unsigned artifact of")
    _check_kept(request)
    return request.input


def signed_of(request: SigningRequest) -> StoredArtifact:
    """The signed artifact.

    Raises:
        ConflictError: it has not been released.
        NotFoundError: only a digest was signed.
    """
    check_completed(request)
    if request.output is None:
        raise missing(request.id, "signed artifact of")
    _check_kept(request)
    return request.output


def _check_kept(request: SigningRequest) -> None:
    if request.artifacts_removed_at:
        day = request.artifacts_removed_at.date()
        message = f"The request's artifacts were removed on {day} by the rules of retention."
        raise GoneError(message, advice="Their digests and the log's proof are still there.")


def check_results_kept(request: SigningRequest) -> None:
    """Refuse to answer as if nothing had been planned.

    Raises:
        GoneError: plan and per-file results were removed by the rules of retention.
    """
    if request.results_removed_at:
        day = request.results_removed_at.date()
        message = f"What was done to each file was removed on {day} by the rules of retention."
        raise GoneError(message, advice="The log has each signature, with its digest.")


def check_completed(request: SigningRequest) -> None:
    """Refuse to hand out what has not been released.

    Raises:
        ConflictError: the request is not completed.
    """
    if request.state is not State.COMPLETED:
        message = f"The signing request is {request.state.value}; nothing is signed."
        raise ConflictError(message, advice=request.advice or "Wait until it is Completed.")


async def _detail(
    call: Call, request: SigningRequest, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    async with call.services.database.read() as tx:
        out = await views.request_out(tx, request, call.services.settings.url)
    return json_answer(out, status, headers)


_PATH = "/api/v1/signing-requests"
_ONE = f"{_PATH}/{{request}}"
_JSON = "application/json"
_BYTES = "application/octet-stream"
_DETAIL = SigningRequestDetailOut

ENDPOINTS = (
    Endpoint(
        "signing_requests.list",
        "GET",
        _PATH,
        listing,
        "List signing requests",
        (Answer(200, "One page, newest first", SigningRequestsOut),),
        query=RequestsQuery,
    ),
    Endpoint(
        "signing_requests.create",
        "POST",
        _PATH,
        create,
        "Submit an artifact",
        (Answer(201, "Submitted", _DETAIL),),
        {"multipart/form-data": FormSubmissionIn, _JSON: LinkSubmissionIn, _BYTES: None},
        query=RawSubmissionQuery,
        idempotent_by_key=True,
    ),
    Endpoint(
        "signing_requests.get",
        "GET",
        _ONE,
        get,
        "Read a signing request, or wait for its end or its next change",
        (Answer(200, "The signing request", _DETAIL),),
        query=WaitQuery,
    ),
    Endpoint(
        "signing_requests.events",
        "GET",
        f"{_ONE}/events",
        events,
        "Follow a signing request",
        (Answer(200, "Server-sent events named state", None, "text/event-stream"),),
    ),
    Endpoint(
        "signing_requests.cancel",
        "POST",
        f"{_ONE}/cancel",
        cancel,
        "Cancel a signing request",
        (Answer(200, "Canceled", _DETAIL),),
        {_JSON: CancelIn},
    ),
    Endpoint(
        "signing_requests.retry",
        "POST",
        f"{_ONE}/retry",
        retry,
        "Submit a failed request once more",
        (Answer(201, "A new signing request", _DETAIL),),
        idempotent_by_key=True,
    ),
    Endpoint(
        "signing_requests.resubmit",
        "POST",
        f"{_ONE}/resubmit",
        resubmit,
        "Submit the same artifact under another policy",
        (Answer(201, "A new signing request", _DETAIL),),
        {_JSON: ResubmissionIn},
        idempotent_by_key=True,
    ),
    Endpoint(
        "signing_requests.approve",
        "POST",
        f"{_ONE}/approve",
        approve,
        "Approve a signing request",
        (Answer(200, "Approved", _DETAIL),),
        {_JSON: ApprovalIn},
    ),
    Endpoint(
        "signing_requests.deny",
        "POST",
        f"{_ONE}/deny",
        deny,
        "Deny a signing request",
        (Answer(200, "Denied", _DETAIL),),
        {_JSON: DecisionIn},
    ),
    Endpoint(
        "signing_requests.unsigned_artifact",
        "GET",
        f"{_ONE}/unsigned-artifact",
        unsigned_artifact,
        "Download what was submitted",
        (Answer(200, "The bytes; ranges are served", None, _BYTES),),
    ),
    Endpoint(
        "signing_requests.signed_artifact",
        "GET",
        f"{_ONE}/signed-artifact",
        signed_artifact,
        "Download the signed artifact",
        (Answer(200, "The bytes; ranges are served", None, _BYTES),),
    ),
    Endpoint(
        "signing_requests.plan",
        "GET",
        f"{_ONE}/plan",
        plan,
        "Read what is signed, or would be once approved",
        (Answer(200, "The plan", PlanOut),),
    ),
    Endpoint(
        "signing_requests.proof",
        "GET",
        f"{_ONE}/proof",
        proof,
        "Download the proof of the release",
        (Answer(200, "A C2SP tlog-proof", None, "text/plain"),),
    ),
)
