"""Certificates. Keys are made by the signer, on the token, from the command line."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, certificates
from sealwright.model.certificate import Certificate
from sealwright.model.identifiers import is_id, utc_now
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import missing
from sealwright.web.answers import json_answer, page_of
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas import CertificateOut, CertificatePatch, CertificatesOut, PageQuery
from sealwright.web.views import certificate_out


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
        return json_answer(certificate_out(await _find(tx, call)))


async def update(call: Call) -> Response:
    """Enable or disable a certificate: the signer uses no disabled one."""
    patch = await call.json(CertificatePatch)
    async with call.services.database.transaction() as tx:
        certificate = await _find(tx, call)
        await certificates.set_state(tx, certificate.organization_id, certificate.id, patch.state)
        entry = organization_entry(
            certificate.organization_id,
            "certificate.updated",
            actor=call.grant.actor,
            now=utc_now(),
            data={"certificate": certificate.id, "state": patch.state.value},
        )
        await record(tx, entry)
    return json_answer(certificate_out(dataclasses.replace(certificate, state=patch.state)))


async def _find(tx: Transaction, call: Call) -> Certificate:
    name = call.path("certificate")
    found = None
    if is_id(name):
        found = await certificates.get(tx, call.grant.organization_id, name)
    if found is None:
        raise missing(name, "certificate")
    return found


ENDPOINTS = (
    Endpoint(
        "certificates.list",
        "GET",
        "/api/v1/certificates",
        listing,
        "List certificates",
        (Answer(200, "One page", CertificatesOut),),
        query=PageQuery,
    ),
    Endpoint(
        "certificates.get",
        "GET",
        "/api/v1/certificates/{certificate}",
        get,
        "Read a certificate",
        (Answer(200, "The certificate", CertificateOut),),
    ),
    Endpoint(
        "certificates.update",
        "PATCH",
        "/api/v1/certificates/{certificate}",
        update,
        "Enable or disable a certificate",
        (Answer(200, "Changed", CertificateOut),),
        {"application/json": CertificatePatch},
    ),
)
