"""EST servers (RFC 7030): certification authorities that issue and renew by themselves."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7
from starlette.responses import Response

from sealwright.connectors.est import CREDENTIALS, EstClient
from sealwright.db import enrolment
from sealwright.errors import ForbiddenError, NotFoundError, SealwrightError, UnavailableError
from sealwright.model.enrolment import RENEW_DAYS, EnrolmentServer
from sealwright.web.api.v1 import enrolment_servers as servers
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.enrolment import EnrolmentServerIn, EnrolmentServerPatch
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

_MAX_FORM = 512 << 10  #: bytes: three PEM fields, percent-encoded
_MOST_SHOWN = 50  #: certificates


@dataclasses.dataclass(frozen=True)
class Authority:
    """A CA certificate as a page shows it. `sha256`: of its DER, in hex."""

    subject: str
    issuer: str
    not_after: dt.datetime
    sha256: str


async def listing(call: Call) -> Response:
    """All of the organization."""
    async with call.services.database.read() as tx:
        found = await enrolment.every(tx, call.grant.organization_id)
    may_change = may_open(call.grant.principal, "ui.new_enrolment_server_page")
    shown = {"servers": found, "may_change": may_change}
    return page(call, "enrolment_servers/list.html", shown)


async def new_page(call: Call) -> Response:
    """The form for one more."""
    return page(call, "enrolment_servers/form.html", _shown(Form({"renew_days": str(RENEW_DAYS)})))


async def create(call: Call) -> Response:
    """Add it."""
    form = await read_form(call, limit=_MAX_FORM)
    try:
        made = await servers.add(call, form.parse(EnrolmentServerIn, credentials=_given(form)))
    except ForbiddenError:
        raise
    except SealwrightError as error:
        shown = _shown(_public(form).refused(error))
        return page(call, "enrolment_servers/form.html", shown, status_of(error))
    told = "The EST server is added. Fetch its CA certificates to try it."
    return redirect(call, f"{_PATH}/{made.slug}", told)


async def edit_page(call: Call) -> Response:
    """One of them, with its form."""
    return await _detail(call)


async def update(call: Call) -> Response:
    """Change it. Credentials that are left empty stay."""
    form = await read_form(call, lists=("taken",), limit=_MAX_FORM)
    async with call.services.database.read() as tx:
        present = await servers.find(tx, call)
    try:
        check_unchanged(form, _filled(present))
        form.require("name", "url", "roots", "renew_days")
        patch = form.parse(
            EnrolmentServerPatch,
            user=form.value("user"),
            credentials=taken_away(form) | _given(form),
            enabled=form.checked("enabled"),
        )
        changed = await servers.change(call, patch)
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _detail(call, form=_public(form.refused(error)), status=status_of(error))
    return redirect(call, f"{_PATH}/{changed.slug}", "Saved.")


async def attempt(call: Call) -> Response:
    """Ask it for its authority's certificates (4.1), and show what came."""
    await read_form(call)
    async with call.services.database.read() as tx:
        server = await servers.find(tx, call)
        sealed = await enrolment.sealed_credentials(tx, server.id)
    try:
        credentials = call.services.systems.vault().open(server.id, sealed)
        hosts = call.services.settings.build_system_hosts
        async with EstClient(server, credentials, hosts) as client:
            content = await client.authorities()
        came = await asyncio.to_thread(_authorities, content)
    except SealwrightError as error:
        return await _detail(call, tried=Form().refused(error), status=status_of(error))
    return await _detail(call, came=came)


async def remove(call: Call) -> Response:
    """Delete it, unless a certificate depends on it."""
    await read_form(call)
    try:
        gone = await servers.remove(call)
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _detail(call, tried=Form().refused(error), status=status_of(error))
    return redirect(call, _PATH, f"{gone.name} is removed.")


def _authorities(content: bytes) -> list[Authority]:
    """What a ``cacerts`` answer holds (certs-only PKCS #7, in base64).

    Raises:
        UnavailableError: it is no such thing.
    """
    try:
        found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(content))
        shown = [_authority(one) for one in found[:_MOST_SHOWN]]
    except (binascii.Error, ValueError):
        shown = []
    if not shown:
        message = "The EST server answered something that holds no certificates."
        raise UnavailableError(message, advice="Check its address.")
    return shown


def _authority(certificate: x509.Certificate) -> Authority:
    return Authority(
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        certificate.not_valid_after_utc,
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _given(form: Form) -> dict[str, str]:
    return {name: form.value(name) for name in CREDENTIALS if form.value(name).strip()}


def _public(form: Form) -> Form:
    """What of a form may be shown again."""
    values = {name: value for name, value in form.values.items() if name not in CREDENTIALS}
    return dataclasses.replace(form, values=values)


def _filled(server: EnrolmentServer) -> Form:
    values = {
        "name": server.name,
        "url": server.url,
        "roots": server.roots,
        "user": server.user,
        "renew_days": str(server.renew_days),
        "enabled": "true" if server.enabled else "",
    }
    return stamped(Form(values))


async def _detail(
    call: Call,
    *,
    form: Form | None = None,
    tried: Form | None = None,
    came: Sequence[Authority] = (),
    status: int = 200,
) -> Response:
    async with call.services.database.read() as tx:
        server = await servers.find(tx, call)
        kept = await enrolment.sealed_credentials(tx, server.id)
    shown = _shown(form or _filled(server), server, sorted(kept))
    shown |= {"tried": tried or Form(), "came": came}
    return page(call, "enrolment_servers/form.html", shown, status)


def _shown(
    form: Form, server: EnrolmentServer | None = None, kept: Sequence[str] = ()
) -> dict[str, object]:
    return {"form": form, "server": server, "kept": kept, "takeable": choices_of(kept)}


_PATH = "/enrolment-servers"
_ONE = f"{_PATH}/{{enrolment_server}}"
_TABLE = (
    ("enrolment_servers", "GET", _PATH, listing),
    ("new_enrolment_server_page", "GET", f"{_PATH}/new", new_page),
    ("create_enrolment_server", "POST", f"{_PATH}/new", create),
    ("enrolment_server", "GET", _ONE, edit_page),
    ("update_enrolment_server", "POST", _ONE, update),
    ("try_enrolment_server", "POST", f"{_ONE}/try", attempt),
    ("remove_enrolment_server", "POST", f"{_ONE}/remove", remove),
)

ENDPOINTS = tuple(
    Endpoint(f"ui.{name}", method, path, handler, "", face=Face.UI)
    for name, method, path, handler in _TABLE
)
