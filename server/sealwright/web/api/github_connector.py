"""The wire of an existing service's connector for GitHub Actions. Translates; decides nothing.

Its public action works with this server by its ``connector-url`` alone. The token of GitHub's that
it sends is not needed: the facts are asked for with the server's own credential.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from starlette.responses import JSONResponse, Response

from sealwright.db import build_systems
from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.model.build_system import BuildSystemKind
from sealwright.model.origin import Locator
from sealwright.origin.rules import Occasion, OriginRefusedError
from sealwright.submit_run import Build, submit_run
from sealwright.visible import find_project, find_request, missing
from sealwright.web.api.compatible import STATUSES
from sealwright.web.api.v1.ci import LABELS, verify
from sealwright.web.api.v1.signing_requests import signed_of
from sealwright.web.downloads import artifact_response
from sealwright.web.problems import problem
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.fields import MAX_PARAMETERS, PARAMETER_NAME, Reference, Text

_API_VERSIONS = frozenset({"1.0", ""})
Number = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,19}$")]


class ParameterIn(BaseModel):
    """One parameter."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Annotated[str, StringConstraints(pattern=PARAMETER_NAME)]
    value: Text = ""


class SubmissionIn(BaseModel):
    """What the action sends. ``gitHubToken`` is left unread on purpose."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, coerce_numbers_to_str=True, alias_generator=to_camel
    )

    artifact_id: Number
    git_hub_workflow_run_id: Number
    git_hub_repository: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    sign_path_project_slug: Reference
    sign_path_signing_policy_slug: Reference
    sign_path_artifact_configuration_slug: (
        Annotated[str, StringConstraints(max_length=100)] | None
    ) = None
    parameters: Annotated[list[ParameterIn], Field(max_length=MAX_PARAMETERS)] | None = None


async def submit(call: Call) -> Response:
    """Submit the artifact of a workflow run."""
    _check_call(call)
    given = await call.json(SubmissionIn)
    build = Build(
        system=await _system(call, given),
        project=given.sign_path_project_slug,
        policy=given.sign_path_signing_policy_slug,
        configuration=given.sign_path_artifact_configuration_slug or None,
        parameters={one.name: one.value for one in given.parameters or ()},
        locator=Locator(
            repository=given.git_hub_repository,
            run_id=given.git_hub_workflow_run_id,
            artifact_id=given.artifact_id,
        ),
    )
    run = await verify(call, build, Occasion.SUBMISSION)
    submitted = await submit_run(call.services.database, call.services.queue, run)
    request = submitted.request
    logs = [_log("Information", f"Origin verified by {len(run.origin.checks)} rules.")]
    logs += [_log("Warning", f"{label}.".capitalize()) for label in LABELS[request.origin.proof]]
    body: dict[str, Any] = {
        "signingRequestId": request.id,
        "signingRequestUrl": f"{call.services.settings.url}/signing-requests/{request.id}",
        "validationResult": {"errors": []},
        "error": None,
        "logs": logs,
    }
    return JSONResponse(body, 201 if not submitted.replayed else 200)


async def status(call: Call) -> Response:
    """How the request stands."""
    _check_call(call)
    async with call.services.database.read() as tx:
        request = await find_request(tx, call.grant, call.path("request").lower())
    return JSONResponse(
        {
            "status": STATUSES.get(request.state, "InProgress"),
            "isFinalStatus": request.state.is_final,
            "webLink": f"{call.services.settings.url}/signing-requests/{request.id}",
            "hasArtifactBeenDownloadedBySignPathInCaseOfArtifactRetrieval": (
                request.input is not None
            ),
        }
    )


async def signed_artifact(call: Call) -> Response:
    """The signed artifact: a ZIP, as GitHub keeps artifacts."""
    _check_call(call)
    async with call.services.database.read() as tx:
        request = await find_request(tx, call.grant, call.path("request").lower())
    return await artifact_response(call.request, call.services.store, signed_of(request))


def refused(error: SealwrightError) -> Response:
    """An error in the form that the action shows."""
    answer = problem(error)
    body: dict[str, Any] = {
        "signingRequestId": None,
        "signingRequestUrl": None,
        "validationResult": None,
        "error": None,
        "logs": [],
        "code": error.code,
    }
    if isinstance(error, OriginRefusedError):
        body["validationResult"] = {
            "errors": [{"error": one.error, "howToFix": one.how_to_fix} for one in error.refusals]
        }
    elif answer.status_code >= 500:
        body["error"] = "The signing server cannot take the request now."
    else:
        body["error"] = f"{error.message} {error.advice}".strip()
        body["logs"] = [_log("Error", body["error"])]
    headers = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
    return JSONResponse(body, answer.status_code, headers)


_KEPT = ("retry-after", "www-authenticate")


def _log(level: str, message: str) -> dict[str, str]:
    return {"level": level, "message": message}


def _check_call(call: Call) -> None:
    if call.path("organization").lower() != call.grant.organization_id:
        raise missing(call.path("organization"), "organization")
    version = call.request.query_params.get("api-version", "")
    if version not in _API_VERSIONS:
        message = f"The connector's API version {version[:20]!r} is unknown."
        raise InvalidInputError(message, advice="Use api-version=1.0.")


async def _system(call: Call, given: SubmissionIn) -> str:
    """The one GitHub that links the repository to the project; empty: `verify_run` finds none."""
    async with call.services.database.read() as tx:
        organization = call.grant.organization_id
        project = await find_project(tx, call.grant, given.sign_path_project_slug)
        found = await build_systems.every(tx, organization)
        kinds = {one.id: one.kind for one in found if one.enabled}
        for link in await build_systems.links(tx, organization, project_id=project.id):
            is_github = kinds.get(link.build_system_id) is BuildSystemKind.GITHUB
            if is_github and link.path.casefold() == given.git_hub_repository.casefold():
                return link.build_system_id
    return ""


_BASE = "/connectors/github/{organization:uuid}/SigningRequests"

_TABLE = (
    ("submit", "POST", _BASE, submit, "Submit"),
    ("status", "GET", f"{_BASE}/{{request}}/Status", status, "Read a signing request"),
    (
        "signed_artifact",
        "GET",
        f"{_BASE}/{{request}}/SignedArtifact",
        signed_artifact,
        "Download the signed artifact",
    ),
)

ENDPOINTS = tuple(
    Endpoint(
        f"compatible.github_{name}",
        method,
        path,
        handler,
        summary,
        face=Face.COMPATIBLE,
        problem=refused,
    )
    for name, method, path, handler, summary in _TABLE
)
