"""Endorsements: what does not count until a passkey that the signer trusts has signed for it."""

from __future__ import annotations

from starlette.responses import Response

from sealwright.web.answers import json_answer
from sealwright.web.endorsements import endorse, options, read_desk
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.endorsements import (
    EndorsementIn,
    EndorsementOut,
    WaitingListOut,
    WaitingOut,
)


async def listing(call: Call) -> Response:
    """All that waits, with what a trusted passkey of the caller is to sign."""
    desk = await read_desk(call)
    items = [
        WaitingOut(
            kind=one.kind,
            subject_id=one.subject_id,
            name=one.name,
            version=one.version,
            terms_sha256=one.terms_sha256,
            terms=dict(one.terms),
            public_key=options(call, desk, one),
        )
        for one in desk.waiting
    ]
    return json_answer(WaitingListOut(required=bool(desk.anchors), items=items))


async def create(call: Call) -> Response:
    """Endorse one."""
    given = await call.json(EndorsementIn)
    made = await endorse(
        call, given.kind, given.subject_id, given.version, given.credential.assertion()
    )
    found = EndorsementOut(
        kind=made.kind,
        subject_id=made.subject_id,
        version=made.version,
        terms_sha256=made.terms_sha256,
        sha256=made.sha256,
    )
    return json_answer(found, 201)


ENDPOINTS = (
    Endpoint(
        "endorsements.list",
        "GET",
        "/api/v1/endorsements",
        listing,
        "List what waits for an endorsement",
        (Answer(200, "All of it", WaitingListOut),),
    ),
    Endpoint(
        "endorsements.create",
        "POST",
        "/api/v1/endorsements",
        create,
        "Endorse a policy, an artifact configuration, a passkey or an order",
        (Answer(201, "Endorsed", EndorsementOut),),
        {"application/json": EndorsementIn},
    ),
)
