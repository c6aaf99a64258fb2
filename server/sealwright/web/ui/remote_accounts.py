"""Who one is on a build system: proven there, so that the buttons of a commit check count."""

from __future__ import annotations

import hashlib
import hmac

from starlette.responses import RedirectResponse, Response

from sealwright.connectors.github import GitHubConnector
from sealwright.db import build_systems
from sealwright.errors import ForbiddenError, InvalidInputError
from sealwright.visible import find_build_system
from sealwright.web import auth
from sealwright.web.api.v1.remote_identities import add_identity, remove_identity
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.build_systems import RemoteIdentityIn
from sealwright.web.ui import repository_proofs
from sealwright.web.ui.forms import read_form
from sealwright.web.ui.rendering import page, redirect

_MAX_CODE = 500


async def listing(call: Call) -> Response:
    """One's own accounts, and the build systems where one can prove more."""
    user = call.grant.user
    async with call.services.database.read() as tx:
        found = await build_systems.identities(tx, user.organization_id)
        systems = await build_systems.every(tx, user.organization_id)
    own = [one for one in found if one.user_id == user.id]
    linked = {one.build_system_id for one in own}
    shown = {
        "identities": own,
        "names": {one.id: one.name for one in systems},
        "open": [
            one for one in systems
            if one.enabled and one.settings.get("client_id") and one.id not in linked
        ],
    }  # fmt: skip
    return page(call, "account/remote.html", shown)


async def begin(call: Call) -> Response:
    """Off to the build system. Nothing changes before the browser comes back in this session."""
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
    connector = await call.services.systems.connector(system)
    if not isinstance(connector, GitHubConnector) or not system.settings.get("client_id"):
        message = "This kind of build system has no buttons to decide with."
        raise InvalidInputError(message)
    state = f"{system.id}.{_mac(call, system.id)}"
    return RedirectResponse(
        connector.linking().authorize_url(state, repository_proofs.callback(call)), 303
    )


async def finish(call: Call) -> Response:
    """Back from it: the code proves who this session's user is over there."""
    if repository_proofs.began(call):
        return await repository_proofs.finish(call)
    query = call.request.query_params
    system_id, _, mac = query.get("state", "").partition(".")
    if not hmac.compare_digest(mac.encode(), _mac(call, system_id).encode()):
        message = "This is no answer to something that this session has begun."
        raise ForbiddenError(message, advice="Begin again on your account's page.")
    code = query.get("code", "")
    if not 0 < len(code) <= _MAX_CODE:
        message = "The build system did not confirm who you are."
        raise ForbiddenError(message, advice="Begin again on your account's page.")
    given = RemoteIdentityIn(
        build_system=system_id, code=code, redirect_url=repository_proofs.callback(call), user=None
    )
    identity = await add_identity(call, given)
    return redirect(call, "/account/remote", f"You are {identity.login} there.")


async def remove(call: Call) -> Response:
    """Forget one."""
    await read_form(call)
    await remove_identity(call)
    return redirect(call, "/account/remote", "It is forgotten.")


def _mac(call: Call, system_id: str) -> str:
    """Binds a state to the session: nobody can have their own answer taken in another's."""
    token = auth.page_token(call.services, call.request)
    said = f"sealwright remote account {system_id}".encode()
    return hmac.new(token.encode(), said, hashlib.sha256).hexdigest()


ENDPOINTS = (
    Endpoint("ui.remote_accounts", "GET", "/account/remote", listing, "", face=Face.UI),
    Endpoint(
        "ui.remote_account_callback", "GET", "/account/remote/callback", finish, "", face=Face.UI
    ),
    Endpoint(
        "ui.link_remote_account",
        "GET",
        "/account/remote/{build_system}",
        begin,
        "",
        face=Face.UI,
    ),
    Endpoint(
        "ui.remove_remote_account",
        "POST",
        "/account/remote-accounts/{identity}/remove",
        remove,
        "",
        face=Face.UI,
    ),
)
