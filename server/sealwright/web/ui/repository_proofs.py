"""Linking a repository by the GitHub App's web application flow: to GitHub, and back with a code.

GitHub knows one callback of the App, that of people's accounts: the state tells which of the two
was begun. Nothing is linked on the way back, which is a mere GET: the page that it leads to has the
form, and the code goes with it.
"""

from __future__ import annotations

import hashlib
import hmac

from starlette.responses import RedirectResponse, Response

from sealwright.connectors.github import GitHubConnector
from sealwright.db import build_systems
from sealwright.errors import ForbiddenError, InvalidInputError
from sealwright.policy.permissions import authorize
from sealwright.visible import find_build_system, find_project, missing
from sealwright.web import auth
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.ui import people
from sealwright.web.ui.forms import Form
from sealwright.web.ui.rendering import page

_KIND = "link"
_ROUTE = "ui.link_create"
_MAX_CODE = 500


async def begin(call: Call) -> Response:
    """Off to GitHub. Nothing changes before the browser comes back in this session."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        system = await find_build_system(tx, call.grant, call.path("build_system"))
    connector = await call.services.systems.connector(system)
    if not isinstance(connector, GitHubConnector) or not system.settings.get("client_id"):
        message = "This build system has no web application flow."
        raise InvalidInputError(message, advice="Link with an access token of your own.")
    state = f"{_KIND}.{project.id}.{system.id}.{_mac(call, project.id, system.id)}"
    return RedirectResponse(connector.linking().authorize_url(state, callback(call)), 303)


def began(call: Call) -> bool:
    """Whether what comes back to the callback is the answer to `begin`."""
    return call.request.query_params.get("state", "").startswith(f"{_KIND}.")


async def finish(call: Call) -> Response:
    """Back from GitHub: the form that links the repository, with the code in it.

    Raises:
        ForbiddenError: this session has not begun it, or may link nothing, or GitHub refused.
        NotFoundError: project or build system are gone.
    """
    authorize(_ROUTE, call.grant.principal)
    query = call.request.query_params
    _, project_id, system_id, mac = [*query.get("state", "").split("."), "", "", ""][:4]
    if not hmac.compare_digest(mac.encode(), _mac(call, project_id, system_id).encode()):
        message = "This is no answer to something that this session has begun."
        raise ForbiddenError(message, advice="Begin again on the page of the project's builds.")
    code = query.get("code", "")
    if not 0 < len(code) <= _MAX_CODE:
        message = "The build system did not confirm who you are."
        raise ForbiddenError(message, advice="Begin again on the page of the project's builds.")
    installation = query.get("installation_id", "")
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, project_id)
        system = await build_systems.find(tx, call.grant.organization_id, system_id)
        robots = await people.ci_users(tx, call.grant.organization_id)
    if system is None:
        raise missing(system_id, "build system")
    shown = {
        "project": project,
        "system": system,
        "robots": robots,
        "code": code,
        "redirect_url": callback(call),
        "form": Form({"installation_id": installation if installation.isdecimal() else ""}),
    }
    return page(call, "projects/link.html", shown)


def callback(call: Call) -> str:
    """The one address that the App sends browsers back to."""
    return f"{call.services.settings.url}/account/remote/callback"


def _mac(call: Call, project_id: str, system_id: str) -> str:
    """Binds a state to the session: nobody can have their own answer taken in another's."""
    token = auth.page_token(call.services, call.request)
    said = f"sealwright repository link {project_id} {system_id}".encode()
    return hmac.new(token.encode(), said, hashlib.sha256).hexdigest()


ENDPOINTS = (
    Endpoint(
        "ui.link_prove",
        "GET",
        "/projects/{project}/builds/prove/{build_system}",
        begin,
        "",
        face=Face.UI,
    ),
)
