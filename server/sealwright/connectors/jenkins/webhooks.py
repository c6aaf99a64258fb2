"""Notifications of a Jenkins controller, in a form of our own: Jenkins has none that is signed.

    POST, Content-Type: application/json
    X-Sealwright-Signature-256: sha256=<hex HMAC-SHA-256 of the body under the controller secret>

    {"delivery_id": "<unique>", "sent_at": <POSIX seconds>, "event": "build",
     "repository": "team/app", "run_id": "12", "status": "completed", "result": "SUCCESS"}

``repository`` is the linked job's full name; for a branch of a multibranch Pipeline that of the
Pipeline, and ``run_id`` is ``main/12``. Everything is signed, the delivery's id and time too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from sealwright.connectors import fields
from sealwright.connectors.connector import WebhookEvent
from sealwright.errors import InvalidInputError, UnauthenticatedError

SIGNATURE_HEADER = "X-Sealwright-Signature-256"
TOLERANCE = 300
"""Seconds that a notification's time may be away from ours."""

_MAX_BODY = 64 * 1024
_MAX_DELIVERY_ID = 200


@dataclass(frozen=True)
class BuildEvent:
    """A build began or ended."""

    repository_id: str
    run_id: str
    status: str
    result: str


def sign(body: bytes, secret: str) -> str:
    """The header's value for a body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify(
    headers: Mapping[str, str], body: bytes, credentials: Mapping[str, str], now: float
) -> WebhookEvent:
    """Check a notification's signature, in constant time, and its age; then parse it.

    Raises:
        UnauthenticatedError: the signature is missing, wrong or too old.
        InvalidInputError: not a notification.
    """
    if len(body) > _MAX_BODY:
        message = f"The notification is larger than {_MAX_BODY} bytes."
        raise InvalidInputError(message)
    sent = {name.lower(): value for name, value in headers.items()}.get(
        SIGNATURE_HEADER.lower(), ""
    )
    secrets = (
        credentials.get("controller_secret", ""),
        credentials.get("controller_secret_previous", ""),
    )
    # Every secret is tried: the time tells nobody which one was right.
    matching = [
        hmac.compare_digest(sign(body, secret).encode(), sent.encode("utf-8", "surrogateescape"))
        for secret in secrets
        if secret
    ]
    if not any(matching):
        message = "The notification's signature is missing or wrong."
        raise UnauthenticatedError(message, advice="Compare the controller secret on both sides.")
    return _event(body, now)


def parse_event(event: WebhookEvent) -> BuildEvent | None:
    """What a verified notification says; None if it is not about a build."""
    if event.name != "build":
        return None
    payload = event.payload
    return BuildEvent(
        repository_id=event.repository_id,
        run_id=fields.text(payload, "run_id"),
        status=fields.text(payload, "status"),
        result=fields.text(payload, "result"),
    )


def _event(body: bytes, now: float) -> WebhookEvent:
    try:
        payload = fields.parse(body)
    except fields.MalformedError as error:
        message = f"The notification is {error}."
        raise InvalidInputError(message) from error
    delivery_id = fields.text(payload, "delivery_id")
    if not delivery_id.isprintable() or not 0 < len(delivery_id) <= _MAX_DELIVERY_ID:
        message = "The notification has no delivery_id."
        raise InvalidInputError(message, advice="Send a unique one with each notification.")
    if abs(now - fields.number(payload, "sent_at")) > TOLERANCE:
        message = "The notification was sent too long ago, or in the future."
        raise UnauthenticatedError(message, advice="Check the clocks of both machines.")
    return WebhookEvent(
        delivery_id=delivery_id,
        name=fields.printable(fields.text(payload, "event"), 64),
        action="",
        repository_id=fields.text(payload, "repository"),
        payload=payload,
    )
