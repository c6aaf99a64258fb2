"""Certificates: what there is and when it ends, and having the signer make, take and renew them."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from sealwright.certificate_text import request_pem
from sealwright.certify import MAX_UPLOAD, check, wait_for
from sealwright.db import (
    Transaction,
    certificate_orders,
    certificates,
    enrolment,
    projects,
)
from sealwright.db.log_search import Filter
from sealwright.errors import ForbiddenError, InvalidInputError, NotFoundError, SealwrightError
from sealwright.model.certificate import (
    GENERATED_KEYS,
    Certificate,
    CertificateKind,
    CertificateOrder,
    CertificateState,
    CertificateStatus,
    OrderState,
    RevocationReason,
    current,
)
from sealwright.model.identifiers import is_id, utc_now
from sealwright.visible import missing, project_ids
from sealwright.web import auth, awaited, bodies
from sealwright.web.api.v1.certificates import (
    change,
    find,
    order_certificate,
    order_chain,
    order_import,
    order_renewal,
    order_revocation,
    request,
)
from sealwright.web.audit import audit_page, subject_names
from sealwright.web.certificate_views import certificate_out
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.certificates import (
    CertificateImportIn,
    CertificateIn,
    CertificatePatch,
    CertificateRenewIn,
    CertificateRevokeIn,
)
from sealwright.web.ui.forms import (
    Form,
    FormError,
    StaleFormError,
    check_unchanged,
    read_form,
    stamped,
)
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.rendering import page, redirect

#: How long a form waits for the signer before it shows the order instead.
WAIT_SECONDS = 25.0
_ROOM = 64 << 10  #: bytes of a form besides its file
_ACTIVITY = 20

#: Ways to a certificate: name -> (label, what it is for).
WAYS: Mapping[str, tuple[str, str]] = {
    "self-signed": (
        "Self-signed",
        "A key is made on the token and certifies itself. For tests, or for users who trust you.",
    ),
    "request": (
        "By a certification authority",
        "A key is made on the token, and a request to send. Upload the chain that comes back.",
    ),
    "enrolment": (
        "By an EST server",
        "A key is made on the token; the server issues its certificate, and renews it in time.",
    ),
    "openpgp": (
        "OpenPGP key",
        "A key is made on the token and certifies its own user id. Verified by gpg.",
    ),
    "import": (
        "From a PKCS #12 file",
        "A key that was made elsewhere goes onto the token. It counts as exposed for good.",
    ),
}

REASONS: Mapping[RevocationReason, str] = {
    RevocationReason.UNSPECIFIED: "No reason given",
    RevocationReason.SUPERSEDED: "Another key took its place",
    RevocationReason.COMPROMISED: "Somebody else may have the key",
    RevocationReason.RETIRED: "The key is not used any more",
}


async def listing(call: Call) -> Response:
    """All of the organization, those that need somebody first."""
    async with call.services.database.read() as tx:
        found = await certificates.every(tx, call.grant.organization_id)
    now = utc_now()
    ranks = {
        CertificateStatus.EXPIRED: 0,
        CertificateStatus.ACTIVE: 1,
        CertificateStatus.PENDING: 2,
        CertificateStatus.DISABLED: 3,
        CertificateStatus.REPLACED: 4,
        CertificateStatus.REVOKED: 5,
    }
    ordered = sorted(
        found, key=lambda one: (one.warning(now) is None, ranks[one.status(now)], one.not_after)
    )
    shown = {
        "certificates": [certificate_out(one, now) for one in ordered],
        "may_create": may_open(call.grant.principal, "ui.certificate_new"),
        "sees_servers": may_open(call.grant.principal, "ui.enrolment_servers"),
    }
    return page(call, "certificates/list.html", shown)


async def one(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    return await _detail(call, certificate, {})


async def new(call: Call) -> Response:
    """The form of the chosen way."""
    way = call.request.query_params.get("way", "")
    return await _form(call, Form({"way": way, "key_type": "rsa-3072", "valid_days": "365"}))


async def create(call: Call) -> Response:
    """Order it, and go to what came of it."""
    form, file = await _read(call, "file")
    try:
        made = await _order(call, form, file)
        return await _settled(call, made, "The certificate is there.")
    except ForbiddenError:
        raise
    except SealwrightError as error:
        return await _form(call, form.refused(error), status_of(error))


async def _order(call: Call, form: Form, file: bytes) -> CertificateOrder:
    release = form.checked("release")
    if form.value("way") == "import":
        if not file:
            raise FormError({"file": "Choose the file."})
        content = base64.b64encode(file)
        given = form.parse(CertificateImportIn, release=release, file=content)
        return await order_import(call, given)
    if form.value("way") not in WAYS:
        raise FormError({"way": "Choose a way."})
    if form.value("way") == "openpgp":
        more: dict[str, Any] = {"kind": CertificateKind.OPENPGP, "release": release}
    else:
        more = {"source": form.value("way"), "release": release}
    return await order_certificate(call, form.parse(CertificateIn, **more))


async def install(call: Call) -> Response:
    """Take the uploaded chain, from a file or as text."""
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    form, file = await _read(call, "chain")
    try:
        made = await order_chain(call, certificate, file or form.value("text").encode())
        return await _settled(call, made, "The chain is complete, and the certificate in use.")
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _detail(call, certificate, {"upload": form.refused(error)}, status_of(error))


async def renew(call: Call) -> Response:
    """Order a successor."""
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    form = await read_form(call)
    try:
        form.require("method", "valid_days")
        method, _, server = form.value("method").partition(":")
        given = form.parse(
            CertificateRenewIn,
            method=method,
            enrolment=server or None,
            new_key=form.checked("new_key"),
        )
        made = await order_renewal(call, certificate, given)
        return await _settled(call, made, "The renewal is there.")
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _detail(call, certificate, {"renewal": form.refused(error)}, status_of(error))


async def revoke(call: Call) -> Response:
    """Have an OpenPGP key revoke itself."""
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    form = await read_form(call)
    try:
        form.require("reason")
        if not form.checked("sure"):
            raise FormError({"sure": "Confirm that it is for good."})
        given = form.parse(CertificateRevokeIn)
        made = await order_revocation(call, certificate, given)
        return await _settled(call, made, "The key is revoked. Publish it as it is now.")
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        shown = {"revocation": form.refused(error)}
        return await _detail(call, certificate, shown, status_of(error))


async def update(call: Call) -> Response:
    """Rename, enable, disable or restrict it."""
    form = await read_form(call)
    async with call.services.database.read() as tx:
        found = await find(tx, call)
    try:
        check_unchanged(form, _standing(found))
    except StaleFormError as error:
        return await _detail(call, found, {"form": form.refused(error)}, status_of(error))
    release = {"true": True, "false": False}.get(form.value("release"))
    if not (form.value("name").strip() or form.value("state") or release is not None):
        message = "The form names nothing to change."
        raise InvalidInputError(message)
    changed = await change(call, form.parse(CertificatePatch, release=release))
    if release is not None:
        freed = "Policies without approval may use it from now on."
        held = "Nothing is signed with it without approval from now on."
        return redirect(call, f"/certificates/{changed.slug}", held if release else freed)
    told = {
        CertificateState.DISABLED: "Nothing is signed with it from now on.",
        CertificateState.ACTIVE: "The signer may use it.",
    }
    return redirect(call, f"/certificates/{changed.slug}", told[changed.state])


def _standing(certificate: Certificate) -> Form:
    """What the buttons of its page change."""
    release = "true" if certificate.release else "false"
    return stamped(
        Form({"name": certificate.name, "state": certificate.state.value, "release": release})
    )


async def show_order(call: Call) -> Response:
    """What became of an order that took longer."""
    name = call.path("order")
    found = None
    async with call.services.database.read() as tx:
        if is_id(name):
            found = await certificate_orders.get(tx, call.grant.organization_id, name)
        if found is None:
            raise missing(name, "order")
        result = None
        if found.result_id:
            result = await certificates.get(tx, found.organization_id, found.result_id)
        url = call.services.settings.url
        waiting = await awaited.orders(tx, found.organization_id, [found], url)
    shown = {"order": found, "result": result, "awaited": waiting.get(found.id)}
    return page(call, "certificates/order.html", shown)


async def _settled(call: Call, made: CertificateOrder, message: str) -> Response:
    """To the certificate once the signer is done; to the order where that takes longer.

    Raises:
        SealwrightError: why the signer refused.
    """
    database = call.services.database
    async with database.read() as tx:
        url = call.services.settings.url
        endorsing = await awaited.orders(tx, made.organization_id, [made], url)
    if endorsing:  # that is for people, and takes longer
        return redirect(call, f"/certificates/orders/{made.id}")
    waiting = wait_for(database, made.organization_id, made.id, WAIT_SECONDS)
    settled = await call.until_gone(waiting)
    check(settled)
    if settled.state is not OrderState.DONE:
        return redirect(call, f"/certificates/orders/{made.id}")
    async with database.read() as tx:
        result = await certificates.get(tx, made.organization_id, settled.result_id or "")
    if result and result.is_pending:
        following = (
            "The EST server is asked to issue the certificate."
            if result.enrolment_id
            else "Send it to your certification authority, and upload the chain that comes back."
        )
        message = f"The request is made. {following}"
    return redirect(call, f"/certificates/{settled.result_id}", message)


async def _detail(
    call: Call, certificate: Certificate, forms: Mapping[str, Form], status: int = 200
) -> Response:
    principal = call.grant.principal
    async with call.services.database.read(frozen=True) as tx:
        others = {one.id: one for one in await certificates.every(tx, certificate.organization_id)}
        used = await _policies(tx, call, certificate, others)
        server = None
        if certificate.enrolment_id:
            server = await enrolment.find(tx, certificate.organization_id, certificate.enrolment_id)
        servers = await enrolment.every(tx, certificate.organization_id)
        failure = await enrolment.error_of(tx, certificate.id)
        wanted = Filter(certificate_id=certificate.id)
        activity = names = None
        if may_open(principal, "ui.audit"):
            activity = await audit_page(
                tx, certificate.organization_id, wanted, before=None, limit=_ACTIVITY
            )
            names = await subject_names(tx, certificate.organization_id, activity)
    renewals = [("self-signed", "Self-signed"), ("request", "By a request")]
    method = certificate_method(certificate)
    if certificate.kind is CertificateKind.OPENPGP:
        renewals, method, servers = [("self-signed", "By itself")], "self-signed", []
    renewals += [
        ("enrolment" if one == server else f"enrolment:{one.slug}", f"By the EST server {one.name}")
        for one in servers
        if one.enabled
    ]
    if not (server and server.enabled) and method == "enrolment":
        method = "request"
    renewal = Form({"method": method, "valid_days": "365"})
    shown: dict[str, Any] = {
        "certificate": certificate_out(certificate),
        "request": request_pem(certificate) if certificate.csr else "",
        "replaces": others.get(certificate.replaces_id or ""),
        "replaced_by": others.get(certificate.replaced_by_id or ""),
        "policies": used,
        "activity": activity,
        "names": names,
        "may_edit": may_open(principal, "ui.certificate_update"),
        "server": server,
        "waits_for": failure,
        "renewals": renewals,
        "form": Form(),
        "seen": _standing(certificate).value("seen"),
        "upload": Form(),
        "renewal": renewal,
        "revocation": Form({"reason": "unspecified"}),
        "reasons": [(reason.value, label) for reason, label in REASONS.items()],
    }
    return page(call, "certificates/detail.html", shown | dict(forms), status)


def certificate_method(certificate: Certificate) -> str:
    """How it would be renewed unless told otherwise."""
    source = certificate.source.value
    return source if source in {"self-signed", "request", "enrolment"} else "request"


async def _policies(
    tx: Transaction, call: Call, certificate: Certificate, others: Mapping[str, Certificate]
) -> list[tuple[str, str, str, str]]:
    """Project and policy (slug and name of each) that use it today, as far as the caller sees."""
    visible = await project_ids(tx, call.grant)
    by_id = {one.id: one for one in await projects.every(tx, certificate.organization_id)}
    found = []
    for policy in await projects.policies(tx, certificate.organization_id):
        if visible is not None and policy.project_id not in visible:
            continue
        if current(others[policy.certificate_id], others).id == certificate.id:
            project = by_id[policy.project_id]
            found.append((project.slug, project.name, policy.slug, policy.name))
    return found


async def _form(call: Call, form: Form, status: int = 200) -> Response:
    way = form.value("way") if form.value("way") in WAYS else ""
    async with call.services.database.read() as tx:
        servers = await enrolment.every(tx, call.grant.organization_id)
    shown = {
        "form": form,
        "way": way,
        "ways": [(name, label, purpose) for name, (label, purpose) in WAYS.items()],
        "label": WAYS[way][0] if way else "",
        "purpose": WAYS[way][1] if way else "",
        "servers": [(one.slug, one.name) for one in servers if one.enabled],
        "key_types": [(one.value, one.value.upper()) for one in GENERATED_KEYS],
    }
    return page(call, "certificates/form.html", shown, status)


async def _read(call: Call, name: str) -> tuple[Form, bytes]:
    """A form with one small file (``multipart/form-data``); the file is empty where none was
    chosen.

    Raises:
        InvalidInputError: malformed.
        ForbiddenError: it is not one of this session's.
        TooLargeError: the file.
    """
    body = await bodies.read(call.request, MAX_UPLOAD + _ROOM)
    if bodies.media_type(call.request) != "multipart/form-data":
        message = "The form is not one with a file."
        raise InvalidInputError(message)

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        call.request.headers, chunks(), max_files=1, max_fields=30, max_part_size=MAX_UPLOAD
    )
    try:
        parsed = await parser.parse()
    except (MultiPartException, KeyError, ValueError):
        message = "The form is malformed."
        raise InvalidInputError(message) from None
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(parsed.close)
        values = {key: value for key, value in parsed.items() if isinstance(value, str)}
        upload = parsed.get(name)
        content = await upload.read() if isinstance(upload, UploadFile) else b""
    if any("\x00" in value for value in values.values()):
        message = "The form is malformed: a field holds a NUL."
        raise InvalidInputError(message)
    auth.check_csrf(call.services, call.request, values.pop("csrf", ""))
    return Form(values), content


_PATH = "/certificates"
_ONE = f"{_PATH}/{{certificate}}"

ENDPOINTS = (
    Endpoint("ui.certificates", "GET", _PATH, listing, "", face=Face.UI),
    Endpoint("ui.certificate_new", "GET", f"{_PATH}/new", new, "", face=Face.UI),
    Endpoint("ui.certificate_create", "POST", f"{_PATH}/new", create, "", face=Face.UI),
    Endpoint(
        "ui.certificate_order", "GET", f"{_PATH}/orders/{{order}}", show_order, "", face=Face.UI
    ),
    Endpoint("ui.certificate", "GET", _ONE, one, "", face=Face.UI),
    Endpoint("ui.certificate_update", "POST", f"{_ONE}/edit", update, "", face=Face.UI),
    Endpoint("ui.certificate_install", "POST", f"{_ONE}/chain", install, "", face=Face.UI),
    Endpoint("ui.certificate_revoke", "POST", f"{_ONE}/revoke", revoke, "", face=Face.UI),
    Endpoint("ui.certificate_renew", "POST", f"{_ONE}/renew", renew, "", face=Face.UI),
    Endpoint(
        "ui.certificate_request_download", "GET", f"{_ONE}/request", request, "", face=Face.UI
    ),
)
