"""From HTTP to `submit`: the forms that a submission may come in.

Shared by the project's own API and the compatible wire. A form is streamed: its file goes to the
store as it arrives, and only if the policy that its earlier fields name lets the caller submit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sealwright.db import projects
from sealwright.errors import ForbiddenError, InvalidInputError, TooLargeError
from sealwright.intake.multipart import FormData, FormLimits, receive
from sealwright.intake.upload import ReceivedFile, receive_raw
from sealwright.model.origin import Origin
from sealwright.storage import ArtifactWriter, StoredArtifact
from sealwright.submit import Content, Reception, Submission, Submitted, admit, submit
from sealwright.web import bodies
from sealwright.web.routes import Call
from sealwright.web.schemas.signing_requests import OriginIn, SubmissionIn

_BRACKETED = re.compile(r"(parameters|origin)\[([^\[\]]{1,100})\]")
_MAX_NOTED_BYTES = 1 << 20
Admit = Callable[[Mapping[str, str]], Awaitable[None]]


def nested(fields: Mapping[str, str]) -> dict[str, Any]:
    """``parameters[a]=1`` and ``origin[commit]=2`` as the objects that JSON would hold."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        match = _BRACKETED.fullmatch(name)
        if match:
            values.setdefault(match[1], {})[match[2]] = value
        else:
            values[name] = value
    return values


def parameters_of(lines: str) -> dict[str, str]:
    """What a form's text area holds: ``name=value``, one a line."""
    pairs = (line.partition("=") for line in lines.splitlines() if line.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def submission_of(call: Call, given: SubmissionIn) -> Submission:
    """What `submit` takes."""
    return Submission(
        project=given.project,
        policy=given.signing_policy,
        configuration=given.artifact_configuration,
        description=given.description,
        parameters=given.parameters,
        claimed_origin=origin_of(given.origin),
        idempotency_key=bodies.idempotency_key(call.request),
    )


def origin_of(given: OriginIn) -> Origin:
    """The origin as a claim."""
    return Origin(verified=False, **given.model_dump())


class _Noted:
    """An `ArtifactWriter` for a small file of which only the name is wanted."""

    def __init__(self) -> None:
        self._size = 0
        self._sha256 = hashlib.sha256()

    async def write(self, data: bytes | memoryview) -> None:
        self._size += len(data)
        if self._size > _MAX_NOTED_BYTES:
            message = f"A file beside the artifact is longer than {_MAX_NOTED_BYTES} bytes."
            raise TooLargeError(message, advice="Leave it out.")
        self._sha256.update(data)

    async def commit(
        self,
        *,
        sha256: str | None = None,  # noqa: ARG002 (the protocol's)
        size: int | None = None,  # noqa: ARG002
    ) -> StoredArtifact:
        return StoredArtifact("", self._size, self._sha256.hexdigest())

    async def sync(self) -> None:
        """Nothing is kept."""

    async def abort(self) -> None:
        """Nothing was kept."""


async def receive_form(
    call: Call,
    reception: Reception,
    file_field: str,
    admit_fields: Admit,
    noted: frozenset[str] = frozenset(),
) -> FormData:
    """Receive a form with one file in the field `file_field`, whatever its case.

    Args:
        admit_fields: called with the fields that came before the file; raises to refuse it.
        noted: fields, in lower case, that may hold a small file each, which is not stored.
    """
    limit = call.services.settings.max_upload_bytes
    seen: dict[str, str] = {}

    async def open_file(name: str, _file_name: str) -> ArtifactWriter:
        if name.lower() in noted:
            return _Noted()
        if name.lower() != file_field.lower():
            message = f"The field {name[:100]!r} takes no file."
            raise InvalidInputError(message, advice=f"Send the artifact as {file_field}.")
        await admit_fields(seen)
        return await reception.writer(limit)

    bodies.check_length(call.request, limit + (4 << 20))
    return await receive(
        bodies.stream(call.request),
        call.request.headers.get("content-type", ""),
        open_file=open_file,
        on_field=seen.__setitem__,
        limits=FormLimits(files=1 + len(noted)),
    )


async def receive_body(
    call: Call, reception: Reception, file_name: str, sha256: str | None
) -> ReceivedFile:
    """Receive the whole body as the artifact."""
    limit = call.services.settings.max_upload_bytes
    bodies.check_length(call.request, limit)
    return await receive_raw(
        bodies.stream(call.request),
        await reception.writer(limit),
        file_name=file_name,
        sha256=sha256,
    )


async def admit_early(call: Call, submission: Submission) -> None:
    """Refuse before anything is received what would be refused after."""
    await admit(call.services.database, call.grant, submission)


async def admit_somewhere(call: Call) -> None:
    """Refuse who may submit nowhere, where a form names its policy only after the file.

    Raises:
        ForbiddenError: the caller is a submitter of no policy.
    """
    async with call.services.database.read() as tx:
        found = await projects.policies(tx, call.grant.organization_id)
    if not any(call.grant.user.standing & policy.submitters for policy in found):
        message = f"{call.grant.user.name} is not a submitter of any signing policy."
        raise ForbiddenError(message, advice="Have a project administrator add the user to one.")


async def hand_over(
    call: Call, submission: Submission, content: Content, reception: Reception | None = None
) -> Submitted:
    """Submit."""
    services = call.services
    return await submit(
        services.database, services.queue, call.grant, submission, content, reception
    )


def check_link(call: Call, url: str) -> None:
    """Refuse at once an address that the worker may not fetch from.

    Raises:
        InvalidInputError: malformed, or its scheme or host is not allowed.
    """
    call.services.outgoing.check(url)
