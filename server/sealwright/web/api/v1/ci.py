"""Submissions from builds: the build names its run, the server asks the build system about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from starlette.responses import Response

from sealwright.db import users
from sealwright.errors import InternalError, InvalidInputError
from sealwright.model.origin import Locator, Proof
from sealwright.model.user import TokenKind
from sealwright.origin.rules import Occasion
from sealwright.submit import Submitted, received, receiving
from sealwright.submit_run import Build, VerifiedRun, submit_run, verify_run
from sealwright.web import bodies, submissions
from sealwright.web.answers import json_answer
from sealwright.web.auth import bearer, make_token
from sealwright.web.routes import Answer, Call, Endpoint, checked_json
from sealwright.web.schemas.build_systems import CiFormIn, CiSubmissionIn, CiSubmissionOut

#: longer than approvals take; the token reads one request and nothing else
ACCESS = dt.timedelta(hours=48)
IDENTITY_HEADER = "x-sealwright-identity-token"
_MAX_TOKEN = 16 << 10
LABELS: Mapping[Proof, tuple[str, ...]] = {
    Proof.CLAIMED: ("origin not verified",),
    Proof.CONTROLLER: ("vouched for by its build controller",),
    Proof.RUN: ("run verified, caller not verified",),
    Proof.CALLER: (),
}


async def create(call: Call) -> Response:
    """Submit what a run made."""
    if bodies.media_type(call.request) == "multipart/form-data":
        run, submitted = await _submit_form(call)
    else:
        given = await call.json(CiSubmissionIn)
        if not given.artifact_id:
            message = "The submission names no artifact."
            raise InvalidInputError(message, advice="Give artifact_id, or send the file itself.")
        run = await verify(call, build_of(call, given), Occasion.SUBMISSION)
        submitted = await submit_run(call.services.database, call.services.queue, run)
    return await _answer(call, run, submitted)


async def _submit_form(call: Call) -> tuple[VerifiedRun, Submitted]:
    """The run is verified before the file is received."""
    verified: list[VerifiedRun] = []

    async def admit(fields: Mapping[str, str]) -> None:
        given = checked_json(CiSubmissionIn, fields.get("request", "").encode())
        if given.artifact_id:
            message = "The submission names an artifact and sends one besides."
            raise InvalidInputError(message, advice="Leave out artifact_id.")
        verified.append(await verify(call, build_of(call, given), Occasion.UPLOAD))

    services = call.services
    async with receiving(services.store, call.path("organization")) as reception:
        form = await submissions.receive_form(call, reception, "artifact", admit)
        file = next(iter(form.files.values()), None)
        if file is None or not verified:
            message = "The form has no file."
            raise InvalidInputError(message, advice="Send the parts request and artifact.")
        submitted = await submit_run(
            services.database, services.queue, verified[0], received(file), reception
        )
    return verified[0], submitted


def build_of(call: Call, given: CiSubmissionIn) -> Build:
    """What `verify_run` takes."""
    return Build(
        system=call.path("build_system"),
        project=given.project,
        policy=given.signing_policy,
        configuration=given.artifact_configuration,
        description=given.description,
        parameters=given.parameters,
        locator=Locator(
            repository=given.repository,
            run_id=given.run_id,
            run_attempt=given.run_attempt,
            artifact_id=given.artifact_id,
            identity_token=_identity_token(call),
        ),
    )


async def verify(call: Call, build: Build, occasion: Occasion) -> VerifiedRun:
    """Verify the run, whoever calls."""
    services = call.services
    return await verify_run(
        services.database,
        services.systems,
        call.path("organization").lower(),
        call.authorized,
        build,
        occasion,
    )


def _identity_token(call: Call) -> str:
    """The build's identity token: it stands for the caller, or comes besides a token of ours."""
    if call.authorized is None:
        token = bearer(call.request)
    else:
        token = call.request.headers.get(IDENTITY_HEADER, "")
    if len(token) > _MAX_TOKEN:
        message = "The identity token is too long."
        raise InvalidInputError(message)
    return token


async def _answer(call: Call, run: VerifiedRun, submitted: Submitted) -> Response:
    """201 with the request and a token that reads it; 200 where it was submitted before."""
    request = submitted.request
    services = call.services
    text, token = make_token(
        run.place.grant.user, TokenKind.REQUEST, "submission", ACCESS, request.id
    )
    if token.expires_at is None:
        message = "A token for one request never expires."
        raise InternalError(message)
    async with services.database.transaction() as tx:
        await users.add_token(tx, token)
    url = services.settings.url
    status_url = f"{url}/api/v1/signing-requests/{request.id}"
    out = CiSubmissionOut(
        id=request.id,
        state=request.state,
        url=status_url,
        web_url=f"{url}/signing-requests/{request.id}",
        status_url=status_url,
        signed_artifact_url=f"{status_url}/signed-artifact",
        access_token=text,
        access_token_expires_at=token.expires_at,
        labels=list(LABELS[request.origin.proof]),
    )
    headers = {"Location": status_url}
    return json_answer(out, 200 if submitted.replayed else 201, headers)


ENDPOINTS = (
    Endpoint(
        "ci_signing_requests.create",
        "POST",
        "/api/v1/organizations/{organization:uuid}/ci/{build_system}/signing-requests",
        create,
        "Submit what a run made",
        (
            Answer(201, "Submitted", CiSubmissionOut),
            Answer(200, "Submitted before", CiSubmissionOut),
        ),
        {"application/json": CiSubmissionIn, "multipart/form-data": CiFormIn},
        identity_tokens=True,
    ),
)
