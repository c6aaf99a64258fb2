"""Endpoints as data: the router, the permissions and the OpenAPI description are made from them.

The caller is authorized by the endpoint that the router matched, never by the request's URL.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sealwright.errors import InternalError, InvalidInputError, SealwrightError
from sealwright.policy.permissions import Grant, authorize, is_public
from sealwright.transparency.details import Change
from sealwright.web import auth, bodies
from sealwright.web.problems import problem, status_of
from sealwright.web.services import Services

_log = logging.getLogger(__name__)
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

CLIENT_CLOSED = 499  #: logged only: nobody is there to read it


class Face(enum.Enum):
    """Which of the server's faces an endpoint belongs to."""

    API = "api"  # bearer tokens, problem details, described by OpenAPI
    COMPATIBLE = "compatible"  # the wire of an existing service's clients
    SCIM = "scim"  # directories: bearer tokens of their own kind, errors in SCIM's form
    UI = "ui"  # pages: session cookie, HTML errors


@dataclass(frozen=True)
class Call:
    """One HTTP request to one endpoint, authenticated and authorized."""

    request: Request
    services: Services
    authorized: Grant | None

    @property
    def grant(self) -> Grant:
        """The caller. Only endpoints that are public have none."""
        if self.authorized is None:
            message = "A public endpoint asked for its caller."
            raise InternalError(message)
        return self.authorized

    def path(self, name: str) -> str:
        """A parameter of the matched path."""
        return str(self.request.path_params[name])

    def change(self, before: BaseModel | None, after: BaseModel | None) -> Change:
        """What the audit keeps of a change: from where it came, and the entity as it is answered
        before and after (None: there was, or is, none)."""
        return Change(
            self.grant.principal.address,
            before.model_dump(mode="json") if before else None,
            after.model_dump(mode="json") if after else None,
        )

    def query(self, model: type[Model]) -> Model:
        """The query string, checked.

        Raises:
            InvalidInputError: unknown, repeated or malformed parameters.
        """
        pairs = self.request.query_params.multi_items()
        if len({name for name, _ in pairs}) != len(pairs):
            message = "A query parameter is given twice."
            raise InvalidInputError(message)
        return checked(model, dict(pairs))

    async def json(self, model: type[Model]) -> Model:
        """The JSON body, checked.

        Raises:
            InvalidInputError: not JSON, or not of that form.
            TooLargeError: more than a megabyte.
        """
        return checked_json(model, await bodies.read_json(self.request))

    async def until_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`, but not for a client that has gone away. The body must have been read.

        Raises:
            ClientDisconnect: the client is gone; `work` was cancelled.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(self.request))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
            return task.result()
        finally:
            for one in (task, gone):
                one.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)


Handler: TypeAlias = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class Answer:
    """A success that an endpoint may answer: JSON of `model`, or bytes of `media_type`."""

    status: int
    description: str
    model: type[BaseModel] | None = None
    media_type: str = "application/json"


@dataclass(frozen=True)
class Endpoint:
    """One route.

    Attributes:
        name: its row in the table of permissions.
        bodies: media type -> model of what it takes; None: bytes.
        query: model of the query string's parameters.
        idempotent_by_key: takes ``Idempotency-Key``.
        identity_tokens: takes a CI system's identity token in place of one of ours: the handler
            then has no caller, and must verify it.
        problem: the answer to an error, where the endpoint's face has one of its own.
    """

    name: str
    method: str
    path: str
    handler: Handler
    summary: str
    answers: tuple[Answer, ...] = ()
    bodies: Mapping[str, type[BaseModel] | None] | None = None
    query: type[BaseModel] | None = None
    idempotent_by_key: bool = False
    face: Face = Face.API
    identity_tokens: bool = False
    problem: Callable[[SealwrightError], Response] = problem

    def route(self, on_ui_error: Callable[[Request, SealwrightError], Response]) -> Route:
        """The Starlette route."""

        async def run(request: Request) -> Response:
            try:
                return await self._answer(request)
            except SealwrightError as error:
                self._log_refusal(error)
                return on_ui_error(request, error) if self.face is Face.UI else self.problem(error)
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED)
            except Exception as error:  # noqa: BLE001 (the one place where faults become answers)
                _log.exception("%s failed", self.name)
                fault = InternalError(str(error))
                return on_ui_error(request, fault) if self.face is Face.UI else self.problem(fault)

        route = Route(self.path, run, methods=[self.method], name=self.name)
        if self.face is Face.COMPATIBLE:
            route.path_regex = re.compile(route.path_regex.pattern, re.IGNORECASE)
        return route

    def _log_refusal(self, error: SealwrightError) -> None:
        match status_of(error):
            case 500:
                _log.error("%s failed: %s", self.name, error, exc_info=error)
            case 503:
                _log.warning("%s: %s", self.name, error)
            case _:
                _log.info("%s refused: %s", self.name, error)

    async def _answer(self, request: Request) -> Response:
        services: Services = request.app.state.services
        if is_public(self.name):
            return await self.handler(Call(request, services, None))
        if self.identity_tokens and auth.bearer(request).count(".") == 2:
            await auth.throttle_identities(services, request)
            return await self.handler(Call(request, services, None))
        principal = await auth.authenticate(services, request, cookie=self.face is Face.UI)
        request.state.principal = principal  # an error's page is still theirs
        return await self.handler(Call(request, services, authorize(self.name, principal)))


def checked(model: type[Model], values: Mapping[str, Any]) -> Model:
    """`values` as the model, or InvalidInputError that names every fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _invalid(error) from None


def checked_json(model: type[Model], text: bytes) -> Model:
    """The JSON text as the model, or InvalidInputError that names every fault."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidInputError:
    faults: Sequence[str] = [
        f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}"[:300]
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    more = f" and {len(faults) - 10} more" if len(faults) > 10 else ""
    return InvalidInputError("; ".join(faults[:10]) + more + ".", advice="See /api/openapi.json.")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
