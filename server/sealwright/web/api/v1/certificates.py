"""Certificates. What needs the token is ordered of the signer, which decides again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from sealwright.certificate_text import request_pem
from sealwright.certify import MAX_UPLOAD, Wish, check, import_payload, order, wait_for
from sealwright.db import Transaction, certificate_orders, certificates, enrolment
from sealwright.errors import ConflictError, InvalidInputError
from sealwright.model.certificate import (
    Certificate,
    CertificateKind,
    CertificateOrder,
    CertificateState,
    Operation,
    OrderState,
)
from sealwright.model.enrolment import EnrolmentServer
from sealwright.model.identifiers import is_id, utc_now
from sealwright.restrict import restrict
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import is_name, missing, project_ids
from sealwright.web import awaited, bodies
from sealwright.web.answers import json_answer, page_of
from sealwright.web.auth import check_fresh
from sealwright.web.certificate_views import certificate_out, order_out
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.certificates import (
    CertificateImportIn,
    CertificateIn,
    CertificateOrderOut,
    CertificateOrdersOut,
    CertificateOut,
    CertificatePatch,
    CertificateRenewIn,
    CertificateRevokeIn,
    CertificatesOut,
    OrderQuery,
)
from sealwright.web.schemas.queries import PageQuery


async def listing(call: Call) -> Response:
    """All certificates."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        found = await certificates.every(tx, call.grant.organization_id)
    page, cursor = page_of(found, query.cursor, query.limit, lambda one: one.id)
    items = [certificate_out(one) for one in page]
    return json_answer(CertificatesOut(items=items, next_cursor=cursor))


async def get(call: Call) -> Response:
    """One certificate."""
    async with call.services.database.read() as tx:
        return json_answer(certificate_out(await find(tx, call)))


async def request(call: Call) -> Response:
    """The request for a certification authority."""
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    if not certificate.csr:
        message = "The certificate was made without a request."
        raise ConflictError(message, advice="Renew it by 'request' to get one.")
    headers = {"Content-Disposition": f'attachment; filename="{certificate.slug}.csr"'}
    return Response(request_pem(certificate), 200, headers, "text/plain")


async def update(call: Call) -> Response:
    """Rename, enable, disable or restrict a certificate: the signer uses no disabled one."""
    return json_answer(certificate_out(await change(call, await call.json(CertificatePatch))))


async def change(call: Call, patch: CertificatePatch) -> Certificate:
    """Change what the signer has no say in; the certificate afterwards.

    Raises:
        NotFoundError
        ConflictError: a revoked key would be enabled.
        ForbiddenError: the restriction would fall, and the caller's log-in is too long ago.
        PolicyViolationError: it cannot become a release certificate; names what is in the way.
    """
    changes: dict[str, Any] = patch.model_dump(exclude_none=True)
    async with call.services.database.transaction() as tx:
        certificate = await find(tx, call)
        if patch.release is not None and patch.release != certificate.release:
            await _restrict(tx, call, certificate, release=patch.release)
        ids = certificate.organization_id, certificate.id
        if patch.state is CertificateState.ACTIVE and certificate.is_revoked:
            message = f"The OpenPGP key {certificate.slug} is revoked, which is for good."
            raise ConflictError(message, advice="Make another key, and let policies use it.")
        if patch.state is not None:
            await certificates.set_state(tx, *ids, patch.state)
        if patch.name is not None:
            await certificates.rename(tx, *ids, patch.name)
        changed = dataclasses.replace(certificate, **changes)
        facts = patch.model_dump(mode="json", exclude_none=True)
        await _log_update(tx, call, certificate, changed, facts)
    return changed


async def _restrict(
    tx: Transaction, call: Call, certificate: Certificate, *, release: bool
) -> None:
    """Make it a release certificate, also renewals not issued yet; or lift that."""
    organization_id = certificate.organization_id
    if not release:
        check_fresh(call.grant.principal)
        await certificates.set_release(tx, organization_id, certificate.id, release=False)
        return
    _, *renewals = await restrict(tx, certificate, await project_ids(tx, call.grant))
    for one in renewals:
        await _log_update(tx, call, one, dataclasses.replace(one, release=True), {"release": True})


async def _log_update(
    tx: Transaction, call: Call, before: Certificate, after: Certificate, facts: Mapping[str, Any]
) -> None:
    now = utc_now()
    entry = organization_entry(
        before.organization_id,
        "certificate.updated",
        actor=call.grant.actor,
        now=now,
        data={"certificate": before.id} | dict(facts),
        change=call.change(certificate_out(before, now), certificate_out(after, now)),
    )
    await record(tx, entry)


async def create(call: Call) -> Response:
    """Have a key made on the token, and a certificate or a request for it."""
    seconds = call.query(OrderQuery).wait
    made = await order_certificate(call, await call.json(CertificateIn))
    return await _outcome(call, made, seconds)


async def order_certificate(call: Call, given: CertificateIn) -> CertificateOrder:
    """Order what `create` answers with.

    Raises:
        InvalidInputError, ConflictError, TooManyRequestsError
    """
    arguments: dict[str, str | int | bool] = {
        "slug": given.slug,
        "name": given.name or given.slug,
        "kind": given.kind.value,
        "subject": given.subject,
        "key_type": given.key_type,
        "valid_days": given.valid_days,
        "release": given.release,
    }
    operation = Operation.CREATE if given.source == "self-signed" else Operation.REQUEST
    if given.kind is CertificateKind.OPENPGP and operation is not Operation.CREATE:
        message = "An OpenPGP key certifies itself."
        raise InvalidInputError(message, advice="Leave the source out.")
    async with call.services.database.transaction() as tx:
        await _check_free(tx, call, given.slug)
        if given.source == "enrolment":
            server = await _find_server(tx, call, given.enrolment or "")
            arguments["enrolment_id"] = server.id
        return await order(tx, _wish(call, operation, arguments))


async def _find_server(tx: Transaction, call: Call, name: str) -> EnrolmentServer:
    found = None
    if is_name(name):
        found = await enrolment.find(tx, call.grant.organization_id, name)
    if found is None:
        raise missing(name, "EST server")
    return found


async def import_file(call: Call) -> Response:
    """Have the key of a PKCS #12 file put on the token."""
    seconds = call.query(OrderQuery).wait
    made = await order_import(call, await call.json(CertificateImportIn))
    return await _outcome(call, made, seconds)


async def order_import(call: Call, given: CertificateImportIn) -> CertificateOrder:
    """Order what `import_file` answers with.

    Raises:
        ConflictError, TooLargeError, TooManyRequestsError
        UnavailableError: there is no signer to seal the file to.
    """
    arguments: dict[str, str | int | bool] = {
        "slug": given.slug,
        "name": given.name or given.slug,
        "release": given.release,
    }
    secret = import_payload(given.file, given.password)
    async with call.services.database.transaction() as tx:
        await _check_free(tx, call, given.slug)
        return await order(tx, _wish(call, Operation.IMPORT, arguments), sealed=secret)


async def install(call: Call) -> Response:
    """Take the chain that was issued for a request."""
    seconds = call.query(OrderQuery).wait
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    made = await order_chain(call, certificate, await bodies.read(call.request, MAX_UPLOAD))
    return await _outcome(call, made, seconds)


async def order_chain(call: Call, certificate: Certificate, content: bytes) -> CertificateOrder:
    """Order what `install` answers with.

    Raises:
        InvalidInputError, ConflictError, TooManyRequestsError
    """
    if not content:
        message = "The upload is empty."
        raise InvalidInputError(message, advice="Send the chain: PEM, DER or PKCS #7.")
    wish = dataclasses.replace(
        _wish(call, Operation.INSTALL, {}), certificate_id=certificate.id, payload=content
    )
    async with call.services.database.transaction() as tx:
        return await order(tx, wish)


async def renew(call: Call) -> Response:
    """Have a successor made. Policies use it as soon as it is issued."""
    seconds = call.query(OrderQuery).wait
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    made = await order_renewal(call, certificate, await call.json(CertificateRenewIn))
    return await _outcome(call, made, seconds)


async def order_renewal(
    call: Call, certificate: Certificate, given: CertificateRenewIn
) -> CertificateOrder:
    """Order what `renew` answers with.

    Raises:
        ConflictError, TooManyRequestsError
    """
    arguments = given.model_dump(exclude_none=True, exclude={"enrolment"})
    async with call.services.database.transaction() as tx:
        if given.enrolment is not None:
            if given.method not in {None, "enrolment"}:
                message = f"An EST server renews nothing by {given.method!r}."
                raise InvalidInputError(message, advice="Leave the method out.")
            server = await _find_server(tx, call, given.enrolment)
            arguments |= {"method": "enrolment", "enrolment_id": server.id}
        wish = dataclasses.replace(
            _wish(call, Operation.RENEW, arguments), certificate_id=certificate.id
        )
        return await order(tx, wish)


async def revoke(call: Call) -> Response:
    """Have an OpenPGP key revoke itself, for good."""
    seconds = call.query(OrderQuery).wait
    async with call.services.database.read() as tx:
        certificate = await find(tx, call)
    made = await order_revocation(call, certificate, await call.json(CertificateRevokeIn))
    return await _outcome(call, made, seconds)


async def order_revocation(
    call: Call, certificate: Certificate, given: CertificateRevokeIn
) -> CertificateOrder:
    """Order what `revoke` answers with.

    Raises:
        ConflictError, TooManyRequestsError
    """
    arguments = given.model_dump(mode="json")
    wish = dataclasses.replace(
        _wish(call, Operation.REVOKE, arguments), certificate_id=certificate.id
    )
    async with call.services.database.transaction() as tx:
        return await order(tx, wish)


async def orders(call: Call) -> Response:
    """What was ordered lately."""
    async with call.services.database.read() as tx:
        found = await certificate_orders.latest(tx, call.grant.organization_id)
        organization_id, url = call.grant.organization_id, call.services.settings.url
        waiting = await awaited.orders(tx, organization_id, found, url)
        items = [await _order_out(tx, one, waiting) for one in found]
    return json_answer(CertificateOrdersOut(items=items))


async def get_order(call: Call) -> Response:
    """One order, perhaps once it is settled."""
    seconds = call.query(OrderQuery).wait
    name, organization_id = call.path("order"), call.grant.organization_id
    database = call.services.database
    found = None
    if is_id(name):
        async with database.read() as tx:
            found = await certificate_orders.get(tx, organization_id, name)
    if found is None:
        raise missing(name, "order")
    if seconds and not found.state.is_final:
        found = await call.until_gone(wait_for(database, organization_id, name, seconds))
    async with database.read() as tx:
        waiting = await awaited.orders(tx, organization_id, [found], call.services.settings.url)
        return json_answer(await _order_out(tx, found, waiting))


async def find(tx: Transaction, call: Call) -> Certificate:
    """The certificate of the path, by id or slug.

    Raises:
        NotFoundError
    """
    name = call.path("certificate")
    found = await certificates.find(tx, call.grant.organization_id, name)
    if found is None:
        raise missing(name, "certificate")
    return found


def _wish(call: Call, operation: Operation, arguments: dict[str, str | int | bool]) -> Wish:
    grant = call.grant
    return Wish(grant.organization_id, operation, grant.actor, grant.user.id, arguments)


async def _check_free(tx: Transaction, call: Call, slug: str) -> None:
    """The signer looks again; here the answer comes at once."""
    if await certificates.by_slug(tx, call.grant.organization_id, slug):
        message = f"There is a certificate {slug!r} already."
        raise ConflictError(message, advice="Choose another slug; certificates are kept for good.")


async def _outcome(call: Call, made: CertificateOrder, seconds: float) -> Response:
    """201 with what came of it, or 202 where the signer is not done yet; or why it refused."""
    database = call.services.database
    if seconds:
        waiting = wait_for(database, made.organization_id, made.id, seconds)
        made = await call.until_gone(waiting)
    check(made)
    base = f"{call.services.settings.url}/api/v1"
    async with database.read() as tx:
        url = call.services.settings.url
        endorsing = await awaited.orders(tx, made.organization_id, [made], url)
        out = await _order_out(tx, made, endorsing)
    if made.state is OrderState.DONE:
        return json_answer(out, 201, {"Location": f"{base}/certificates/{made.result_id}"})
    return json_answer(out, 202, {"Location": f"{base}/certificate-orders/{made.id}"})


async def _order_out(
    tx: Transaction, one: CertificateOrder, waiting: awaited.Awaited
) -> CertificateOrderOut:
    certificate = None
    if one.result_id:
        certificate = await certificates.get(tx, one.organization_id, one.result_id)
    return order_out(one, certificate, waiting.get(one.id))


_PATH = "/api/v1/certificates"
_ONE = f"{_PATH}/{{certificate}}"
_JSON = "application/json"
_ORDERED = (
    Answer(201, "Done", CertificateOrderOut),
    Answer(202, "Ordered", CertificateOrderOut),
)

ENDPOINTS = (
    Endpoint(
        "certificates.list",
        "GET",
        _PATH,
        listing,
        "List certificates",
        (Answer(200, "One page", CertificatesOut),),
        query=PageQuery,
    ),
    Endpoint(
        "certificates.create",
        "POST",
        _PATH,
        create,
        "Make a key on the token, with a certificate or a request",
        _ORDERED,
        {_JSON: CertificateIn},
        query=OrderQuery,
    ),
    Endpoint(
        "certificates.import",
        "POST",
        f"{_PATH}/import",
        import_file,
        "Import a PKCS #12 file into the token",
        _ORDERED,
        {_JSON: CertificateImportIn},
        query=OrderQuery,
    ),
    Endpoint(
        "certificates.get",
        "GET",
        _ONE,
        get,
        "Read a certificate",
        (Answer(200, "The certificate", CertificateOut),),
    ),
    Endpoint(
        "certificates.request",
        "GET",
        f"{_ONE}/request",
        request,
        "Read a certificate's PKCS #10 request",
        (Answer(200, "The request in PEM", None, "text/plain"),),
    ),
    Endpoint(
        "certificates.update",
        "PATCH",
        _ONE,
        update,
        "Rename, enable or disable a certificate",
        (Answer(200, "Changed", CertificateOut),),
        {_JSON: CertificatePatch},
    ),
    Endpoint(
        "certificates.install",
        "POST",
        f"{_ONE}/chain",
        install,
        "Upload the chain that was issued for a request",
        _ORDERED,
        {
            "application/octet-stream": None,
            "application/x-pem-file": None,
            "application/pkix-cert": None,
            "application/pkcs7-mime": None,
        },
        query=OrderQuery,
    ),
    Endpoint(
        "certificates.renew",
        "POST",
        f"{_ONE}/renew",
        renew,
        "Renew a certificate",
        _ORDERED,
        {_JSON: CertificateRenewIn},
        query=OrderQuery,
    ),
    Endpoint(
        "certificates.revoke",
        "POST",
        f"{_ONE}/revoke",
        revoke,
        "Revoke an OpenPGP key",
        _ORDERED,
        {_JSON: CertificateRevokeIn},
        query=OrderQuery,
    ),
    Endpoint(
        "certificate_orders.list",
        "GET",
        "/api/v1/certificate-orders",
        orders,
        "List what was ordered of the signer",
        (Answer(200, "The latest", CertificateOrdersOut),),
    ),
    Endpoint(
        "certificate_orders.get",
        "GET",
        "/api/v1/certificate-orders/{order}",
        get_order,
        "Read what became of an order",
        (Answer(200, "The order", CertificateOrderOut),),
        query=OrderQuery,
    ),
)
