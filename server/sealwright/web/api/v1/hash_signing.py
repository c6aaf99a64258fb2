"""Signing bare digests: the worker has the signer sign, and the answer waits for it."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.model.request import HashToSign
from sealwright.submit import Content, Submission
from sealwright.web import bodies, submissions
from sealwright.web.api.v1.signing_requests import submitted_answer
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.queries import WaitQuery
from sealwright.web.schemas.signing_requests import HashSubmissionIn, SigningRequestDetailOut


async def create(call: Call) -> Response:
    """Submit a digest."""
    wait = call.query(WaitQuery).wait
    given = await call.json(HashSubmissionIn)
    submission = Submission(
        project=given.project,
        policy=given.signing_policy,
        description=given.description,
        idempotency_key=bodies.idempotency_key(call.request),
    )
    digest = HashToSign(given.digest, given.hash_algorithm, given.mechanism.value)
    submitted = await submissions.hand_over(call, submission, Content(digest=digest))
    return await submitted_answer(call, submitted, wait)


ENDPOINTS = (
    Endpoint(
        "hash_signing_requests.create",
        "POST",
        "/api/v1/hash-signing-requests",
        create,
        "Have a digest signed",
        (Answer(201, "Submitted; with wait, signed", SigningRequestDetailOut),),
        {"application/json": HashSubmissionIn},
        query=WaitQuery,
        idempotent_by_key=True,
    ),
)
