"""Submitting files from a page: one request for each file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from sealwright.db import Transaction, projects
from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.intake.multipart import FormData, FormLimits, receive
from sealwright.model.request import RetrievalLink, SigningRequest
from sealwright.policy.permissions import Grant
from sealwright.storage import ArtifactWriter
from sealwright.submit import Content, Reception, received, receiving
from sealwright.visible import find_project, project_ids
from sealwright.web import auth, bodies, submissions
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.signing_requests import RetrievalLinkIn, SubmissionIn
from sealwright.web.ui.forms import Form, read_form
from sealwright.web.ui.rendering import page, redirect

MAX_FILES = 5  #: in one form; with a script each file is a form of its own
_ROOM = 4 << 20  #: bytes of a form besides its files


async def submit_page(call: Call) -> Response:
    """The form; which policies and configurations it offers, its project tells."""
    values = {
        name: value
        for name, value in call.request.query_params.items()
        if name in {"project", "signing_policy"}
    }
    return await _form(call, Form(values))


async def submit(call: Call) -> Response:
    """Receive files, and go to their request, or to the list where there are several."""
    fields: dict[str, str] = {}
    try:
        made = await _receive(call, fields)
    except SealwrightError as error:
        if "csrf" not in fields or status_of(error) == 404:
            raise
        return await _form(call, Form(fields).refused(error), status_of(error))
    if len(made) == 1:
        return redirect(call, f"/signing-requests/{made[0].id}", "Submitted.")
    message = f"{len(made)} files are submitted, each as a request of its own."
    return redirect(call, "/signing-requests?submitter=me", message)


async def submit_link(call: Call) -> Response:
    """Have the server fetch a file, and go to its request."""
    form = await read_form(call)
    once = form.value("once")[:100]
    try:
        form.require("url", "file_name")
        link = form.parse(RetrievalLinkIn)
        given = _given(form.values)
        submissions.check_link(call, link.url)
        submission = submissions.submission_of(call, given)
        if once:
            said = [once, link.model_dump_json(), given.model_dump_json()]
            submission = dataclasses.replace(submission, idempotency_key=_key(said))
        content = Content(link=RetrievalLink(link.url, link.file_name, link.sha256, {}))
        made = await submissions.hand_over(call, submission, content)
    except SealwrightError as error:
        if status_of(error) == 404:
            raise
        return await _form(call, form.refused(error), status_of(error))
    return redirect(call, f"/signing-requests/{made.request.id}", "Submitted.")


def _key(said: list[str]) -> str:
    return f"page-{hashlib.sha256(json.dumps(said).encode()).hexdigest()}"


async def _receive(call: Call, fields: dict[str, str]) -> list[SigningRequest]:
    """Every file of the form as a request: all of them or, where one is refused, those before it.

    Raises:
        ForbiddenError: the form is not one of this session's, or the caller may not submit.
        InvalidInputError: no file, or a malformed form.
        others: as `submit`.
    """
    services = call.services
    limit = services.settings.max_upload_bytes
    bodies.check_length(call.request, limit * MAX_FILES + _ROOM)
    receptions: dict[str, Reception] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def open_file(name: str, _file_name: str) -> ArtifactWriter:
            # all fields come before the files: nothing is received that is then refused
            auth.check_csrf(services, call.request, fields.get("csrf", ""))
            await submissions.admit_early(call, submissions.submission_of(call, _given(fields)))
            place = receiving(services.store, call.grant.organization_id)
            receptions[name] = await stack.enter_async_context(place)
            return await receptions[name].writer(limit)

        form = await receive(
            bodies.stream(call.request),
            call.request.headers.get("content-type", ""),
            open_file=open_file,
            on_field=fields.__setitem__,
            limits=FormLimits(files=MAX_FILES),
        )
        auth.check_csrf(services, call.request, fields.get("csrf", ""))
        return await _hand_over(
            call, form, receptions, _given(fields), fields.get("once", "")[:100]
        )


async def _hand_over(
    call: Call,
    form: FormData,
    receptions: Mapping[str, Reception],
    given: SubmissionIn,
    once: str,
) -> list[SigningRequest]:
    """Submit each file. `once` is of the page that had the form: sent twice from it, by a double
    click or by going back, the same file under the same policy is the same request."""
    if not form.files:
        message = "No file was chosen."
        raise InvalidInputError(message, advice="Choose the file that is to be signed.")
    submission = submissions.submission_of(call, given)
    made = []
    for name, file in form.files.items():
        content = Content(received(file))
        if once:
            said = [once, file.file_name, file.artifact.sha256, given.model_dump_json()]
            submission = dataclasses.replace(submission, idempotency_key=_key(said))
        done = await submissions.hand_over(call, submission, content, receptions[name])
        made.append(done.request)
    return made


def _given(fields: Mapping[str, str]) -> SubmissionIn:
    """The form's fields as a submission.

    Raises:
        FormError: they do not fit.
    """
    parameters = submissions.parameters_of(fields.get("parameters", ""))
    plain = {name: value for name, value in fields.items() if name != "parameters"}
    return Form(plain).parse(SubmissionIn, parameters=parameters)


async def _form(call: Call, form: Form, status: int = 200) -> Response:
    async with call.services.database.read() as tx:
        shown = await _choices(tx, call.grant, form.value("project"))
    once = form.value("once") or secrets.token_hex(16)
    shown |= {"form": form, "once": once, "more": range(2, MAX_FILES + 1)}
    return page(call, "requests/submit.html", shown, status)


async def _choices(tx: Transaction, grant: Grant, chosen: str) -> dict[str, Any]:
    """Projects in which the caller submits somewhere; of the chosen one what it offers."""
    visible = await project_ids(tx, grant)
    mine = [
        one
        for one in await projects.policies(tx, grant.organization_id)
        if one.enabled
        and grant.user.standing & one.submitters
        and (visible is None or one.project_id in visible)
    ]
    places = {one.project_id for one in mine}
    found = [one for one in await projects.every(tx, grant.organization_id) if one.id in places]
    if not chosen and len(found) == 1:
        chosen = found[0].slug
    project = await find_project(tx, grant, chosen) if chosen else None
    policies: list[tuple[str, str]] = []
    configurations: dict[str, str] = {}
    if project is not None:
        policies = [(one.slug, one.name) for one in mine if one.project_id == project.id]
        for one in await projects.configurations(tx, grant.organization_id, project.id):
            configurations.setdefault(one.slug, one.name)
    return {
        "projects": [(one.slug, one.name) for one in found],
        "project": project,
        "policies": policies,
        "configurations": list(configurations.items()),
    }


ENDPOINTS = (
    Endpoint("ui.submit_page", "GET", "/submit", submit_page, "", face=Face.UI),
    Endpoint("ui.submit_link", "POST", "/submit/link", submit_link, "", face=Face.UI),
    Endpoint("ui.submit_files", "POST", "/submit", submit, "", face=Face.UI),
)
