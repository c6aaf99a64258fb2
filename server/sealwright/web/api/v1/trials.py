"""Trials: what an artifact configuration would sign in a sample, or one made from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from sealwright.db import Transaction, proposals
from sealwright.errors import InvalidInputError, TooManyRequestsError
from sealwright.intake.multipart import FormData, FormLimits, receive
from sealwright.intake.upload import ReceivedFile
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.proposal import Trial, TrialState
from sealwright.model.request import StoredArtifact
from sealwright.storage import ArtifactWriter
from sealwright.visible import find_project, missing
from sealwright.web import bodies
from sealwright.web.answers import json_answer
from sealwright.web.configuration_check import check_configuration
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.fields import Parameters
from sealwright.web.schemas.proposals import TrialForm, TrialOut
from sealwright.web.schemas.queries import WaitQuery
from sealwright.web.submissions import nested, parameters_of
from sealwright.web.throttle import Rate

_RATE = Rate(20, 20)
_MOST_AT_ONCE = 20  #: unfinished trials of one organization
_ROOM = 2 << 20  #: bytes of a form besides its sample
_LOOK_SECONDS = 0.3
_ENDED = frozenset({TrialState.DONE, TrialState.FAILED})
_PARAMETERS: TypeAdapter[dict[str, str]] = TypeAdapter(Parameters)
Check = Callable[[Mapping[str, str]], Awaitable[None]]


async def create(call: Call) -> Response:
    """Begin a trial."""
    trial = await begin_trial(call, {})
    return json_answer(_out(trial), 201)


async def get(call: Call) -> Response:
    """A trial; with ``wait`` once it has ended, or as it is when the seconds are over."""
    return json_answer(_out(await await_trial(call, call.query(WaitQuery).wait)))


async def begin_trial(call: Call, fields: dict[str, str], check: Check | None = None) -> Trial:
    """Receive a form with ``xml`` and ``sample``, and leave the trial to a worker.

    Args:
        fields: filled with the form's fields as they come.
        check: called with the fields before the sample is received; raises to refuse it.

    Raises:
        NotFoundError: the project is missing, or not for the caller.
        ArtifactConfigurationError: the configuration is not valid; names line and column.
        InvalidInputError, TooLargeError: the form is malformed or too large.
        TooManyRequestsError: too often, or too many at once.
    """
    services, grant = call.services, call.grant
    await services.throttle.take(f"trials-of/{grant.user.id}", _RATE)
    async with services.database.read() as tx:
        project = await find_project(tx, grant, call.path("project"))
        if await proposals.unfinished_trials(tx, grant.organization_id) >= _MOST_AT_ONCE:
            message = f"{_MOST_AT_ONCE} trials are under way already."
            raise TooManyRequestsError(message, advice="Wait until one has ended.")
    trial_id = new_id()
    key = f"trials/{grant.organization_id}/{trial_id}/sample"
    limit = services.settings.max_upload_bytes
    bodies.check_length(call.request, limit + _ROOM)

    async def open_file(_name: str, _file_name: str) -> ArtifactWriter:
        if check:
            await check(fields)
        if fields.get("xml", "").strip():
            await check_configuration(fields["xml"])
        return await services.store.put_stream(key, limit=limit)

    kept = False
    try:
        form = await receive(
            bodies.stream(call.request),
            call.request.headers.get("content-type", ""),
            open_file=open_file,
            on_field=fields.__setitem__,
            limits=FormLimits(field_bytes=512_000, text_bytes=_ROOM),
        )
        if check:
            await check(fields)
        file = _sample(form)
        parameters = _parameters(fields)
        xml = fields.get("xml", "").replace("\r\n", "\n")
        trial = Trial(
            id=trial_id,
            organization_id=grant.organization_id,
            project_id=project.id,
            requested_by=grant.user.id,
            created_at=utc_now(),
            xml=xml if xml.strip() else "",
            parameters=parameters,
            sample=StoredArtifact(key, file.file_name, file.artifact.size, file.artifact.sha256),
        )
        async with services.database.transaction() as tx:
            await proposals.add_trial(tx, trial)
            kept = True  # from here on a commit may happen, whatever we hear of it
    finally:
        if not kept:
            with contextlib.suppress(Exception):
                await asyncio.shield(services.store.delete(key))
    return trial


def _parameters(fields: Mapping[str, str]) -> dict[str, str]:
    """``parameters[name]``, or a page's text area with a line for each.

    Raises:
        InvalidInputError: they are too many or too long.
    """
    given = nested(fields).get("parameters", "")
    if isinstance(given, str):
        given = parameters_of(given)
    try:
        return _PARAMETERS.validate_python(given)
    except ValidationError as error:
        fault = error.errors()[0]
        message = f"The values of parameters are not valid: {fault['msg'][:200]}."
        raise InvalidInputError(message, advice="One a line: name=value.") from None


def _sample(form: FormData) -> ReceivedFile:
    for file in form.files.values():
        return file
    message = "The form has no sample."
    raise InvalidInputError(message, advice="Choose a file.")


async def find_trial(tx: Transaction, call: Call) -> Trial:
    """The trial that the path names.

    Raises:
        NotFoundError: it is missing, or not for the caller.
    """
    project = await find_project(tx, call.grant, call.path("project"))
    name = call.path("trial")
    found = None
    if is_id(name):
        found = await proposals.get_trial(tx, project.organization_id, project.id, name)
    if found is None:
        raise missing(name, "trial")
    return found


async def await_trial(call: Call, seconds: float, trial_id: str | None = None) -> Trial:
    """The trial once it has ended, or as it is when the seconds are over.

    Args:
        trial_id: of a trial that was just begun; None: the one that the path names.

    Raises:
        NotFoundError: it is missing, or not for the caller.
    """
    ends = asyncio.get_running_loop().time() + seconds
    while True:
        async with call.services.database.read() as tx:
            if trial_id is None:
                trial = await find_trial(tx, call)
            else:
                project = await find_project(tx, call.grant, call.path("project"))
                known = await proposals.get_trial(tx, project.organization_id, project.id, trial_id)
                if known is None:
                    raise missing(trial_id, "trial")
                trial = known
        left = ends - asyncio.get_running_loop().time()
        if trial.state in _ENDED or left <= 0:
            return trial
        await call.until_gone(asyncio.sleep(min(_LOOK_SECONDS, left)))


def _out(trial: Trial) -> TrialOut:
    return TrialOut(
        id=trial.id,
        project_id=trial.project_id,
        state=trial.state,
        sample_name=trial.sample.file_name,
        sample_size=trial.sample.size,
        sample_sha256=trial.sample.sha256,
        created_at=trial.created_at,
        xml=trial.xml,
        plan=json.loads(trial.plan) if trial.plan else None,
        fault=trial.fault,
        advice=trial.advice,
        where=trial.where,
    )


_PATH = "/api/v1/projects/{project}/trials"

ENDPOINTS = (
    Endpoint(
        "trials.create",
        "POST",
        _PATH,
        create,
        "Try an artifact configuration on a sample",
        (Answer(201, "Begun", TrialOut),),
        {"multipart/form-data": TrialForm},
    ),
    Endpoint(
        "trials.get",
        "GET",
        f"{_PATH}/{{trial}}",
        get,
        "Read what would be signed in a sample",
        (Answer(200, "The trial", TrialOut),),
        query=WaitQuery,
    ),
)
