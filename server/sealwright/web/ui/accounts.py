"""Pages for people who are not logged in: set-up, invitations, forgotten passwords."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from starlette.responses import RedirectResponse, Response

from sealwright import accounts
from sealwright.errors import SealwrightError
from sealwright.model.user import User
from sealwright.web import auth, bodies
from sealwright.web.api.v1.accounts import send_reset, take_turn
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.accounts import AddressIn
from sealwright.web.schemas.fields import Email, In, Name, Slug
from sealwright.web.ui.forms import Form, FormError
from sealwright.web.ui.rendering import page


class SetupForm(In):
    """The first organization and its administrator."""

    slug: Slug
    name: Name
    user_name: Name
    email: Email
    password: str = Field(max_length=1024)


class InvitationForm(In):
    """How the user is called."""

    name: Name


async def setup_page(call: Call) -> Response:
    """The form for the first organization; without a link, how to get one."""
    code = call.request.query_params.get("code", "")
    if code:
        await accounts.check_setup(call.services.database, code)
    elif not await accounts.is_empty(call.services.database):
        return RedirectResponse("/login", 303)
    return page(call, "accounts/setup.html", {"code": code})


async def setup(call: Call) -> Response:
    """Make the first organization and its administrator, who is logged in then."""
    form, code = await _public_form(call)
    try:
        given = form.parse(SetupForm)
        _check_repeated(form)
        user = await accounts.set_up(
            call.services.database,
            code,
            slug=given.slug,
            name=given.name,
            user_name=given.user_name,
            email=given.email,
            password=given.password,
        )
    except SealwrightError as error:
        return _again(call, "accounts/setup.html", {"code": code}, form, error)
    return await _logged_in(call, user, "setup", "/")


async def invitation_page(call: Call) -> Response:
    """Who is invited, and to choose how to log in."""
    code = call.request.query_params.get("code", "")
    user = await accounts.invited(call.services.database, code)
    shown = {"code": code, "email": user.email, "form": Form({"name": user.name})}
    return page(call, "accounts/invitation.html", shown)


async def invitation(call: Call) -> Response:
    """Accept it: by a password, or by a passkey, which is the next page."""
    form, code = await _public_form(call)
    user = await accounts.invited(call.services.database, code)
    passkey = form.checked("passkey")
    try:
        given = form.parse(InvitationForm)
        if not passkey:
            _check_repeated(form)
        password = None if passkey else form.value("password")
        user = await accounts.accept(call.services.database, code, given.name, password)
    except SealwrightError as error:
        shown = {"code": code, "email": user.email}
        return _again(call, "accounts/invitation.html", shown, form, error)
    return await _logged_in(call, user, "invitation", "/account/passkeys/new" if passkey else "/")


async def forgotten_page(call: Call) -> Response:
    """Ask for the address."""
    possible = call.services.mailer is not None
    return page(call, "accounts/forgotten.html", {"sent": False, "possible": possible})


async def forgotten(call: Call) -> Response:
    """Send a link, if the address has an account: what the page does not tell."""
    form, _ = await _public_form(call)
    shown = {"sent": False, "possible": call.services.mailer is not None}
    try:
        await send_reset(call, form.parse(AddressIn).email)
    except SealwrightError as error:
        return _again(call, "accounts/forgotten.html", shown, form, error)
    return page(call, "accounts/forgotten.html", shown | {"sent": True})


async def new_password_page(call: Call) -> Response:
    """Ask for the new password."""
    code = call.request.query_params.get("code", "")
    user = await accounts.resetting(call.services.database, code)
    return page(call, "accounts/new_password.html", {"code": code, "email": user.email})


async def new_password(call: Call) -> Response:
    """Set it, and begin a session."""
    form, code = await _public_form(call)
    user = await accounts.resetting(call.services.database, code)
    try:
        _check_repeated(form)
        user = await accounts.reset_password(call.services.database, code, form.value("password"))
    except SealwrightError as error:
        shown = {"code": code, "email": user.email}
        return _again(call, "accounts/new_password.html", shown, form, error)
    return await _logged_in(call, user, "password-reset", "/")


async def _public_form(call: Call) -> tuple[Form, str]:
    """A form of somebody who has no session, and the code of the link that led to it."""
    auth.check_same_site(call.request)
    await take_turn(call)
    form = Form(await bodies.read_page_form(call.request))
    return form, form.value("code")[:200]


def _check_repeated(form: Form) -> None:
    if form.value("password") != form.value("repeated"):
        raise FormError({"repeated": "This is not the same."})


def _again(
    call: Call, template: str, shown: Mapping[str, object], form: Form, error: SealwrightError
) -> Response:
    return page(call, template, {**shown, "form": form.refused(error)}, status_of(error))


async def _logged_in(call: Call, user: User, method: str, target: str) -> Response:
    text, _ = await auth.begin_session(call.services, call.request, user, auth.PAGE_SESSION, method)
    response = RedirectResponse(target, 303)
    auth.set_session(call.services, response, text)
    return response


ENDPOINTS = (
    Endpoint("ui.setup_page", "GET", "/setup", setup_page, "", face=Face.UI),
    Endpoint("ui.setup", "POST", "/setup", setup, "", face=Face.UI),
    Endpoint("ui.invitation_page", "GET", "/invitation", invitation_page, "", face=Face.UI),
    Endpoint("ui.invitation", "POST", "/invitation", invitation, "", face=Face.UI),
    Endpoint("ui.forgotten_page", "GET", "/forgotten-password", forgotten_page, "", face=Face.UI),
    Endpoint("ui.forgotten", "POST", "/forgotten-password", forgotten, "", face=Face.UI),
    Endpoint("ui.new_password_page", "GET", "/new-password", new_password_page, "", face=Face.UI),
    Endpoint("ui.new_password", "POST", "/new-password", new_password, "", face=Face.UI),
)
