"""Trusted build systems: what they are, what they sent, and who their users are here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from sealwright.db import build_systems, users, webhooks
from sealwright.errors import ForbiddenError, InvalidInputError, NotFoundError, SealwrightError
from sealwright.model.build_system import BuildSystemKind
from sealwright.model.user import UserKind
from sealwright.policy.permissions import Access
from sealwright.visible import find_build_system, missing
from sealwright.web.api.v1.build_systems import add_system, change_system, system_out
from sealwright.web.api.v1.remote_identities import add_identity, remove_identity
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.build_systems import (
    BuildSystemIn,
    BuildSystemOut,
    BuildSystemPatch,
    RemoteIdentityIn,
)
from sealwright.web.ui import repository_proofs
from sealwright.web.ui.forms import (
    Form,
    check_unchanged,
    choices_of,
    read_form,
    stamped,
    taken_away,
)
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.rendering import page, redirect

#: Kind -> settings, credentials: (name, what it is).
FIELDS: Mapping[str, tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]] = {
    "github": (
        (
            ("client_id", "Client ID of the GitHub App; or its App ID below"),
            ("app_id", "App ID of the GitHub App"),
            ("oidc_issuer", "Issuer of identity tokens; empty: that of github.com"),
            ("oidc_audience", "Audience that identity tokens must name"),
            ("bypass_actors", "Who may bypass rulesets and yet be accepted, comma-separated"),
        ),
        (
            ("private_key", "Private key of the App, PEM"),
            ("webhook_secret", "Secret of the App's webhooks"),
            ("webhook_secret_previous", "The secret before, while it is being changed"),
            ("client_secret", "Client secret, with which users prove who they are"),
            ("token", "Instead of an App: a token"),
        ),
    ),
    "gitlab": (
        (
            ("oidc_issuer", "Issuer of ID tokens; empty: the instance itself"),
            ("oidc_audience", "Audience that ID tokens must name"),
            ("status_check", "Name of the external status check"),
        ),
        (
            ("token", "Access token with read_api, for statuses with api"),
            ("webhook_signing_token", "Signing token of webhooks"),
            ("webhook_secret", "Or the secret token of webhooks"),
            ("status_check_secret", "Secret of the external status check"),
        ),
    ),
    "jenkins": (
        (
            ("user", "User whose API token it is"),
            ("jobs", "Full names of the jobs that may submit, comma-separated"),
            ("library_remotes", "Repositories of trusted libraries, comma-separated"),
            ("oidc_issuer", "Issuer of identity tokens"),
            ("oidc_audience", "Audience that identity tokens must name"),
        ),
        (("token", "API token"), ("controller_secret", "Secret that the controller signs with")),
    ),
}
#: Kind -> (name, what it can do here).
KINDS: Mapping[str, tuple[str, str]] = {
    "github": (
        "GitHub",
        "github.com or GitHub Enterprise: Actions, commit checks with buttons, triggers.",
    ),
    "gitlab": (
        "GitLab",
        "gitlab.com or your own instance: pipelines, commit statuses, triggers, status checks.",
    ),
    "jenkins": ("Jenkins", "Your controller: jobs that you list, confirmed by its API."),
}
_ADDRESSES = {
    "github": {"base_url": "https://api.github.com", "web_url": "https://github.com"},
    "gitlab": {"base_url": "https://gitlab.com", "web_url": "https://gitlab.com"},
    "jenkins": {},
}


async def listing(call: Call) -> Response:
    """All of the organization."""
    async with call.services.database.read() as tx:
        found = await build_systems.every(tx, call.grant.organization_id)
    shown = {
        "systems": found,
        "kinds": KINDS,
        "may_create": may_open(call.grant.principal, "ui.build_system_new"),
    }
    return page(call, "systems/list.html", shown)


async def one(call: Call) -> Response:
    """One of them: settings, webhooks, people."""
    return await _detail(call, Form())


async def _detail(call: Call, form: Form, status: int = 200) -> Response:
    principal = call.grant.principal
    sees = may_open(principal, "build_systems.deliveries")
    whole = may_open(principal, "ui.build_system_edit")
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
        out = await system_out(call, tx, system)
        deliveries = await webhooks.of_system(tx, system.id, limit=50) if sees else []
        organization = call.grant.organization_id
        identities = [
            known
            for known in await build_systems.identities(tx, organization, build_system_id=system.id)
            if whole or known.user_id == call.grant.user.id
        ]
        names = await users.names(tx, organization, {one.user_id for one in identities})
        people = await users.every(tx, organization, kind=UserKind.INTERACTIVE) if whole else ()
    shown: dict[str, Any] = {
        "system": out,
        "kind": KINDS[out.kind.value][0],
        "callback": repository_proofs.callback(call),
        "deliveries": deliveries,
        "may_see_deliveries": sees,
        "may_edit": whole,
        "identities": identities,
        "names": names,
        "people": [(user.id, user.name) for user in people if user.active],
        "form": form,
    }
    return page(call, "systems/detail.html", shown, status)


async def new(call: Call) -> Response:
    """The form of the chosen kind."""
    kind = call.request.query_params.get("kind", "")
    values = {"kind": kind, "slug": kind, **_ADDRESSES.get(kind, {})}
    return _form(call, None, Form(values))


async def create(call: Call) -> Response:
    """Trust it, and go to its page."""
    form = await read_form(call)
    try:
        given = form.parse(
            BuildSystemIn,
            settings=_named(form, "setting."),
            credentials=_named(form, "credential."),
        )
        system, _ = await add_system(call, given)
    except SealwrightError as error:
        return _form(call, None, form.refused(error), status_of(error))
    return redirect(call, f"/build-systems/{system.slug}", "The build system is trusted.")


async def edit(call: Call) -> Response:
    """The form with what is there; credentials never come out."""
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
        out = await system_out(call, tx, system)
    return _form(call, out, _filled(out))


def _filled(system: BuildSystemOut) -> Form:
    values = {"name": system.name, "enabled": "true" if system.enabled else ""}
    values |= {f"setting.{name}": value for name, value in system.settings.items()}
    return stamped(Form(values))


async def update(call: Call) -> Response:
    """Change it; credentials that were left empty stay."""
    form = await read_form(call, lists=("taken",))
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
        before = await system_out(call, tx, system)
    try:
        check_unchanged(form, _filled(before))
        form.require("name")
        patch = form.parse(
            BuildSystemPatch,
            enabled=form.checked("enabled"),
            settings=_named(form, "setting."),
            credentials=taken_away(form) | _named(form, "credential.") or None,
        )
        await change_system(call, patch)
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return _form(call, before, form.refused(error), status_of(error))
    return redirect(call, f"/build-systems/{before.slug}", "The build system is changed.")


async def add_person(call: Call) -> Response:
    """Say who one of its users is here."""
    form = await read_form(call)
    name = call.path("build_system")
    try:
        form.require("remote_user_id", "user")
        await add_identity(call, form.parse(RemoteIdentityIn, build_system=name))
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _detail(call, form.refused(error), status_of(error))
    return redirect(call, f"/build-systems/{name}", "The user is known now.")


async def remove_person(call: Call) -> Response:
    """Forget it."""
    await read_form(call)
    async with call.services.database.read() as tx:
        system = await find_build_system(tx, call.grant, call.path("build_system"))
        known = await build_systems.identities(
            tx, call.grant.organization_id, build_system_id=system.id
        )
        whole = call.grant.access is Access.ORGANIZATION
    wanted = call.path("identity")
    if not any(
        each.id == wanted and (whole or each.user_id == call.grant.user.id) for each in known
    ):
        raise missing(wanted, "remote identity")
    await remove_identity(call)
    return redirect(call, f"/build-systems/{system.slug}", "The user is forgotten.")


def _named(form: Form, prefix: str) -> dict[str, str]:
    """What the fields of that prefix hold.

    Raises:
        InvalidInputError: a field that no kind has.
    """
    known = {name for kind in FIELDS.values() for part in kind for name, _ in part}
    found = {
        name.removeprefix(prefix): value.strip()
        for name, value in form.values.items()
        if name.startswith(prefix) and value.strip()
    }
    if not found.keys() <= known:
        message = "The form has a field that no build system has."
        raise InvalidInputError(message)
    return found


def _form(call: Call, system: Any, form: Form, status: int = 200) -> Response:
    kind = system.kind.value if system else form.value("kind")
    settings, credentials = FIELDS.get(kind, ((), ()))
    shown = {
        "system": system,
        "form": form,
        "kind": kind if kind in FIELDS else "",
        "kinds": [(each.value, *KINDS[each.value]) for each in BuildSystemKind],
        "label": KINDS[kind][0] if kind in KINDS else "",
        "more": f"/docs/{kind}",
        "settings": settings,
        "credentials": credentials,
        "kept": choices_of(system.credentials) if system else [],
    }
    return page(call, "systems/form.html", shown, status)


_PATH = "/build-systems"
_ONE = f"{_PATH}/{{build_system}}"

ENDPOINTS = (
    Endpoint("ui.build_systems", "GET", _PATH, listing, "", face=Face.UI),
    Endpoint("ui.build_system_new", "GET", f"{_PATH}/new", new, "", face=Face.UI),
    Endpoint("ui.build_system_create", "POST", f"{_PATH}/new", create, "", face=Face.UI),
    Endpoint("ui.build_system", "GET", _ONE, one, "", face=Face.UI),
    Endpoint("ui.build_system_edit", "GET", f"{_ONE}/edit", edit, "", face=Face.UI),
    Endpoint("ui.build_system_update", "POST", f"{_ONE}/edit", update, "", face=Face.UI),
    Endpoint("ui.identity_create", "POST", f"{_ONE}/people", add_person, "", face=Face.UI),
    Endpoint(
        "ui.identity_delete",
        "POST",
        f"{_ONE}/people/{{identity}}/delete",
        remove_person,
        "",
        face=Face.UI,
    ),
)
