"""Invitations on their way: by mail where the server sends some, else for the administrator."""

from __future__ import annotations

import logging

from sealwright.accounts import Invitation
from sealwright.errors import SealwrightError
from sealwright.web.services import Services

_log = logging.getLogger(__name__)


async def deliver(services: Services, invitation: Invitation) -> bool:
    """Send it; False where no mail goes out, so that somebody hands the link over."""
    if services.mailer is None:
        return False
    try:
        await services.mailer.send(invitation.mail())
    except SealwrightError as error:
        _log.warning("an invitation was not sent: %s", error)
        return False
    return True
