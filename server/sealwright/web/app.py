"""The web application: routes, middleware, and what is open while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match, Route

from sealwright import logs
from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient
from sealwright.db import Database
from sealwright.errors import NotFoundError
from sealwright.intake.retrieval import retrieval_policy
from sealwright.origin.systems import open_systems
from sealwright.queueing.queue import Queue
from sealwright.reporting.mail import open_mailer
from sealwright.storage import open_store
from sealwright.web.api import (
    back_channel,
    compatible,
    github_connector,
    scim,
    scim_answers,
    webhooks,
)
from sealwright.web.api.v1 import (
    accounts,
    artifact_configurations,
    build_systems,
    certificates,
    ci,
    endorsements,
    enrolment_servers,
    groups,
    hash_signing,
    health,
    identity_providers,
    log,
    log_entries,
    organization,
    outgoing_webhooks,
    passkeys,
    projects,
    proposals,
    remote_identities,
    repository_links,
    request_parts,
    scim_tokens,
    sessions,
    signing_policies,
    signing_requests,
    tokens,
    trials,
    triggers,
    users,
)
from sealwright.web.auth import LastUse
from sealwright.web.middleware import KnownHosts, RequestIds, SecurityHeaders, allowed_hosts
from sealwright.web.openapi import describe
from sealwright.web.problems import problem_response
from sealwright.web.routes import Answer, Call, Endpoint, Face
from sealwright.web.services import Services
from sealwright.web.throttle import Throttle
from sealwright.web.ui import registry
from sealwright.web.ui.rendering import error_page

_SHUTDOWN_SECONDS = 10


async def _openapi(call: Call) -> Response:
    """This description."""
    return JSONResponse(describe(ENDPOINTS, call.services.settings.url))


#: Every route of the server. The first that matches answers.
ENDPOINTS: tuple[Endpoint, ...] = (
    *health.ENDPOINTS,
    Endpoint(
        "openapi.get",
        "GET",
        "/api/openapi.json",
        _openapi,
        "Read this description",
        (Answer(200, "OpenAPI 3.1", None, "application/json"),),
    ),
    *sessions.ENDPOINTS,
    *users.ENDPOINTS,
    *groups.ENDPOINTS,
    *passkeys.ENDPOINTS,
    *accounts.ENDPOINTS,
    *endorsements.ENDPOINTS,
    *identity_providers.ENDPOINTS,
    *scim_tokens.ENDPOINTS,
    *scim.ENDPOINTS,
    *back_channel.ENDPOINTS,
    *tokens.ENDPOINTS,
    *projects.ENDPOINTS,
    *artifact_configurations.ENDPOINTS,
    *proposals.ENDPOINTS,
    *trials.ENDPOINTS,
    *signing_policies.ENDPOINTS,
    *build_systems.ENDPOINTS,
    *repository_links.ENDPOINTS,
    *triggers.ENDPOINTS,
    *remote_identities.ENDPOINTS,
    *certificates.ENDPOINTS,
    *enrolment_servers.ENDPOINTS,
    *signing_requests.ENDPOINTS,
    *request_parts.ENDPOINTS,
    *hash_signing.ENDPOINTS,
    *ci.ENDPOINTS,
    *webhooks.ENDPOINTS,
    *log.ENDPOINTS,
    *log_entries.ENDPOINTS,
    *organization.ENDPOINTS,
    *outgoing_webhooks.ENDPOINTS,
    *compatible.ENDPOINTS,
    *github_connector.ENDPOINTS,
    *registry.ENDPOINTS,
)

_PAGES = frozenset(one.path for one in ENDPOINTS if one.face is Face.UI and one.method == "GET")
_FORMS = frozenset(one.path for one in ENDPOINTS if one.face is Face.UI and one.method == "POST")


def create_app(settings: Settings) -> Starlette:
    """Make the application. It opens the database, the queue and the store when it starts.

    Raises:
        ConfigurationError: a URL of the settings is none of a kind that is known (at the start).
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        queue = Queue(settings.redis)
        database = Database(settings.database)
        outgoing = OutgoingClient(retrieval_policy(settings))
        store = await asyncio.to_thread(open_store, settings.artifacts)
        systems = open_systems(settings, database)
        app.state.services = Services(
            settings,
            database,
            queue,
            store,
            Throttle(queue),
            outgoing,
            systems,
            open_mailer(settings),
        )
        app.state.last_use = LastUse()
        try:
            yield
        finally:
            systems.close()
            await outgoing.aclose()
            await queue.close()
            await database.close()

    return Starlette(
        routes=[endpoint.route(error_page) for endpoint in ENDPOINTS],
        middleware=[
            Middleware(RequestIds),
            Middleware(SecurityHeaders, https=settings.url.startswith("https://")),
            Middleware(KnownHosts, allowed=allowed_hosts(settings)),
        ],
        exception_handlers={HTTPException: _no_route},
        lifespan=lifespan,
    )


def server(settings: Settings) -> uvicorn.Server:
    """The application in uvicorn, on the address that the settings name."""
    logs.configure(settings.log_level)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http="httptools",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def serve(settings: Settings) -> None:
    """Run the web process until it is told to stop (SIGINT, SIGTERM)."""
    server(settings).run()


async def _no_route(request: Request, error: Exception) -> Response:
    """What the router itself answers: no such path, or not by this method. A page to a browser."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    headers = error.headers if isinstance(error, HTTPException) else None
    wants_page = "text/html" in request.headers.get("accept", "")
    if status == 405 and wants_page and request.method == "GET":
        above = _page_above(request)
        if above:
            return RedirectResponse(above, 303)
    if status == 405:
        return problem_response(
            "method_not_allowed", "This path does not take this method.", headers=headers
        )
    message = "There is nothing at this path."
    if request.url.path.startswith(f"{scim_answers.BASE}/"):
        return scim_answers.problem(NotFoundError(message))
    if wants_page:
        return error_page(request, NotFoundError(message))
    return problem_response("not_found", message)


def _page_above(request: Request) -> str:
    """The nearest page above an address that takes forms alone: where a form was refused, a browser
    stays at its address, and asks for that when it is told to reload. Empty: it is none of a form.
    """
    routes: list[Route] = request.app.routes
    scope = dict(request.scope)
    path = request.scope["path"]

    def found(path: str) -> Route | None:
        scope["path"] = path
        return next((one for one in routes if one.matches(scope)[0] is Match.FULL), None)

    scope["method"] = "POST"
    form = found(path)
    if form is None or form.path not in _FORMS:
        return ""
    scope["method"] = "GET"
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        page = found(path)
        if page is not None and page.path in _PAGES:
            return path
    return ""
