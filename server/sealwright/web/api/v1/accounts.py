"""For people who are not logged in: accepting an invitation, and forgotten passwords."""

from __future__ import annotations

import asyncio
import logging

from starlette.responses import Response

from sealwright import accounts
from sealwright.errors import SealwrightError
from sealwright.reporting.mail import Mail, Mailer
from sealwright.web.answers import no_content
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.accounts import AcceptanceIn, AddressIn, NewPasswordIn
from sealwright.web.throttle import Rate

_log = logging.getLogger(__name__)
_RESETS_OF_ONE = Rate(3, 0.2)
_LINKS_FROM_ONE = Rate(100, 60)
_sending: set[asyncio.Task[None]] = set()


async def accept(call: Call) -> Response:
    """Accept an invitation with the code of its link, and choose a password to log in with."""
    given = await call.json(AcceptanceIn)
    await take_turn(call)
    await accounts.accept(call.services.database, given.code, given.name, given.password)
    return no_content()


async def forgotten(call: Call) -> Response:
    """Ask for a link to a new password. Whether the address has an account is not told."""
    given = await call.json(AddressIn)
    await take_turn(call)
    await send_reset(call, given.email)
    return Response(status_code=202)


async def reset(call: Call) -> Response:
    """Set a new password with the code of such a link. Every session ends."""
    given = await call.json(NewPasswordIn)
    await take_turn(call)
    await accounts.reset_password(call.services.database, given.code, given.password)
    return no_content()


async def take_turn(call: Call) -> None:
    """Count one use of a link or form by somebody who is not logged in.

    Raises:
        TooManyRequestsError: too many from this address.
    """
    address = call.request.client.host if call.request.client else ""
    await call.services.throttle.take(f"account-forms-from/{address}", _LINKS_FROM_ONE)


async def send_reset(call: Call, email: str) -> None:
    """Send a link to a new password, if the address has an account and there is a mail server.

    Raises:
        TooManyRequestsError: too many for this address.
    """
    services = call.services
    await services.throttle.take(f"password-reset/{email}", _RESETS_OF_ONE)
    if services.mailer is None:
        return
    made = await accounts.forgotten(services.database, email, services.settings.url)
    if made is not None:
        # not awaited: the time that it takes would tell that there is an account
        task = asyncio.create_task(_send(services.mailer, made.mail()))
        _sending.add(task)
        task.add_done_callback(_sending.discard)


async def _send(mailer: Mailer, mail: Mail) -> None:
    try:
        await mailer.send(mail)
    except SealwrightError as error:
        _log.warning("a link to a new password was not sent: %s", error)


ENDPOINTS = (
    Endpoint(
        "invitations.accept",
        "POST",
        "/api/v1/invitations/accept",
        accept,
        "Accept an invitation",
        (Answer(204, "Accepted; log in with the password"),),
        {"application/json": AcceptanceIn},
    ),
    Endpoint(
        "password_resets.create",
        "POST",
        "/api/v1/password-resets",
        forgotten,
        "Ask for a new password",
        (Answer(202, "A link is sent if the address has an account"),),
        {"application/json": AddressIn},
    ),
    Endpoint(
        "password_resets.complete",
        "POST",
        "/api/v1/password-resets/complete",
        reset,
        "Set a new password",
        (Answer(204, "Set"),),
        {"application/json": NewPasswordIn},
    ),
)
