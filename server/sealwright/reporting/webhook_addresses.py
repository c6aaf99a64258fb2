"""Where outgoing webhooks may go."""

from __future__ import annotations

from urllib.parse import urlsplit

from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy
from sealwright.errors import InvalidInputError


def webhook_policy(settings: Settings) -> OutgoingPolicy:
    """Every public host by HTTPS, and the internal ones that the operator named, also without."""
    hosts = settings.webhook_hosts
    return OutgoingPolicy(internal_hosts=hosts, allow_http=bool(hosts))


def check_address(settings: Settings, url: str) -> None:
    """Refuse, before it is saved, an address that would never be called.

    Raises:
        InvalidInputError: malformed, or its scheme or host is not allowed.
    """
    OutgoingClient(webhook_policy(settings)).check(url)
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in settings.webhook_hosts:
        message = "Outgoing webhooks to this host need HTTPS."
        advice = "Use https, or have the operator name the host in webhook_hosts."
        raise InvalidInputError(message, advice=advice)
