"""The page of what waits for a passkey that the signer trusts."""

from __future__ import annotations

import json

from starlette.responses import Response

from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.web.endorsements import endorse, options, read_desk
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face, checked_json
from sealwright.web.schemas.endorsements import EndorsementIn
from sealwright.web.ui.forms import Form, read_form
from sealwright.web.ui.rendering import page, redirect


async def listing(call: Call) -> Response:
    """All that waits."""
    return await _shown(call, Form())


async def create(call: Call) -> Response:
    """Endorse one."""
    form = await read_form(call)
    try:
        if not form.value("credential"):
            message = "The browser sent no passkey."
            raise InvalidInputError(message, advice="Passkeys need a script.")
        named = {name: form.value(name) for name in ("kind", "subject_id")}
        body = json.dumps(named | {"version": int(form.value("version") or 0)})[:-1]
        text = f'{body}, "credential": {form.value("credential")}}}'
        given = checked_json(EndorsementIn, text.encode())
        await endorse(
            call, given.kind, given.subject_id, given.version, given.credential.assertion()
        )
    except ValueError:
        message = "The form is not one of this page."
        return await _shown(call, form.refused(InvalidInputError(message)), 400)
    except SealwrightError as error:
        return await _shown(call, form.refused(error), status_of(error))
    return redirect(call, "/endorsements", "It is endorsed.")


async def _shown(call: Call, form: Form, status: int = 200) -> Response:
    desk = await read_desk(call)
    waiting = [
        {
            "one": one,
            "terms": json.dumps(
                {name: value for name, value in one.terms.items() if name != "xml"},
                indent=2,
                sort_keys=True,
            ),
            "xml": one.terms.get("xml", ""),
            "options": json.dumps(found) if (found := options(call, desk, one)) else "",
        }
        for one in desk.waiting
    ]
    shown = {
        "form": form,
        "waiting": waiting,
        "anchors": len(desk.anchors),
        "endorsers": desk.endorsers,
        "mine": bool(desk.mine(call.grant.user.id)),
    }
    return page(call, "organization/endorsements.html", shown, status)


ENDPOINTS = (
    Endpoint("ui.endorsements", "GET", "/endorsements", listing, "", face=Face.UI),
    Endpoint("ui.endorse", "POST", "/endorsements", create, "", face=Face.UI),
)
