"""Single sign-on and provisioning: identity providers, and tokens of directories."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.db import identity_providers, users
from sealwright.errors import SealwrightError
from sealwright.model.identity_provider import IdentityProvider
from sealwright.model.user import Role, TokenKind
from sealwright.web.api.v1 import identity_providers as providers
from sealwright.web.api.v1 import scim_tokens
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.identity_providers import IdentityProviderIn, IdentityProviderPatch
from sealwright.web.schemas.scim import ScimTokenIn
from sealwright.web.sign_on import back_channel_url, logout_url, redirect_url
from sealwright.web.ui.forms import Form, check_unchanged, read_form, stamped
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.rendering import page, redirect
from sealwright.web.ui.users import ROLES


async def listing(call: Call) -> Response:
    """All of both."""
    return await _listing(call)


async def new_page(call: Call) -> Response:
    """The form for one more."""
    return await _form(
        call, None, Form({"default_role": Role.REGULAR_USER.value, "enabled": "true"})
    )


async def create(call: Call) -> Response:
    """Trust one more."""
    form = await read_form(call)
    try:
        given = form.parse(
            IdentityProviderIn,
            domains=_domains(form),
            just_in_time=form.checked("just_in_time"),
            enabled=form.checked("enabled"),
        )
        made = await providers.add(call, given)
    except SealwrightError as error:
        return await _form(call, None, form.refused(error), status_of(error))
    return redirect(call, f"{_PATH}/{made.slug}", "The identity provider is added.")


async def edit_page(call: Call) -> Response:
    """The form for one that is there."""
    if call.path("provider") == _TOKENS:  # where a refused form of them has left a browser
        return redirect(call, _PATH)
    async with call.services.database.read() as tx:
        found = await providers.find(tx, call)
    return await _form(call, found, _filled(found))


def _filled(found: IdentityProvider) -> Form:
    values = {
        "name": found.name,
        "client_id": found.client_id,
        "domains": " ".join(found.domains),
        "just_in_time": "true" if found.just_in_time else "",
        "default_role": found.default_role.value,
        "group_claim": found.group_claim,
        "enabled": "true" if found.enabled else "",
    }
    return stamped(Form(values))


async def update(call: Call) -> Response:
    """Change it."""
    form = await read_form(call)
    async with call.services.database.read() as tx:
        found = await providers.find(tx, call)
    try:
        check_unchanged(form, _filled(found))
        patch = form.parse(
            IdentityProviderPatch,
            domains=_domains(form),
            just_in_time=form.checked("just_in_time"),
            enabled=form.checked("enabled"),
            group_claim=form.value("group_claim"),
            **({"client_secret": ""} if form.checked("public") else {}),
        )
        await providers.change(call, patch)
    except SealwrightError as error:
        return await _form(call, found, form.refused(error), status_of(error))
    return redirect(call, f"{_PATH}/{found.slug}", "Saved.")


async def remove(call: Call) -> Response:
    """Trust it no more."""
    await read_form(call)
    gone = await providers.remove(call)
    return redirect(call, _PATH, f"{gone.name} is removed. Its users stay.")


async def add_token(call: Call) -> Response:
    """Make a SCIM token; its text is on the page that answers, and never again."""
    form = await read_form(call)
    try:
        text, _ = await scim_tokens.add(call, form.parse(ScimTokenIn))
    except SealwrightError as error:
        return await _listing(call, form=form.refused(error), status=status_of(error))
    return await _listing(call, made=text)


async def revoke_token(call: Call) -> Response:
    """Revoke one for good."""
    await read_form(call)
    await scim_tokens.end(call)
    return redirect(call, _PATH, "The token counts no more.")


def _domains(form: Form) -> tuple[str, ...]:
    return tuple(form.value("domains").replace(",", " ").split())


async def _listing(
    call: Call, *, form: Form | None = None, made: str = "", status: int = 200
) -> Response:
    organization = call.grant.organization_id
    async with call.services.database.read() as tx:
        found = await identity_providers.every(tx, organization)
        tokens = await users.tokens_of_kind(tx, organization, TokenKind.SCIM)
    shown = {
        "providers": found,
        "tokens": [one for one in tokens if one.revoked_at is None],
        "form": form or Form({"expires_in_days": "365"}),
        "made": made,
        "scim_url": f"{call.services.settings.url}/scim/v2",
        "may_change": may_open(call.grant.principal, "ui.new_identity_provider_page"),
    }
    return page(call, "identity_providers/list.html", shown, status)


async def _form(
    call: Call, found: IdentityProvider | None, form: Form, status: int = 200
) -> Response:
    confidential = False
    if found is not None:
        async with call.services.database.read() as tx:
            confidential = await providers.has_secret(tx, found)
    shown = {
        "confidential": confidential,
        "provider": found,
        "form": form,
        "roles": ROLES,
        "redirect_url": redirect_url(call.services),
        "logout_url": logout_url(call.services),
        "back_channel_url": back_channel_url(call.services, found) if found else "",
    }
    return page(call, "identity_providers/form.html", shown, status)


_PATH = "/identity-providers"
_TOKENS = "scim-tokens"
_ONE = f"{_PATH}/{{provider}}"
_TABLE = (
    ("identity_providers", "GET", _PATH, listing),
    ("new_identity_provider_page", "GET", f"{_PATH}/new", new_page),
    ("create_identity_provider", "POST", f"{_PATH}/new", create),
    ("add_scim_token", "POST", f"{_PATH}/{_TOKENS}", add_token),
    ("revoke_scim_token", "POST", f"{_PATH}/{_TOKENS}/{{token}}/revoke", revoke_token),
    ("identity_provider", "GET", _ONE, edit_page),
    ("update_identity_provider", "POST", _ONE, update),
    ("remove_identity_provider", "POST", f"{_ONE}/remove", remove),
)

ENDPOINTS = tuple(
    Endpoint(f"ui.{name}", method, path, handler, "", face=Face.UI)
    for name, method, path, handler in _TABLE
)
