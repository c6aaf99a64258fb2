"""GitLab's webhooks: who sent them, and what they are about.

Sources: docs.gitlab.com, "Webhooks" (secret and signing tokens), "Webhook events", "External status
checks" (HMAC); standardwebhooks.com (the signed form).

A delivery only ever triggers a fetch. What its payload says is a claim, whoever sent it: a
developer may set what a custom template puts in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sealwright.connectors import fields
from sealwright.connectors.connector import WebhookEvent
from sealwright.errors import ConfigurationError, InvalidInputError, UnauthenticatedError

STATUS_CHECK = "External Status Check"
"""Our name for the delivery of an external status check: GitLab sends it without one."""

TOLERANCE = 300
"""Seconds that a signed delivery's time may be away from ours (standardwebhooks.com)."""

_MAX_BODY = 25 * 1024 * 1024  # GitLab's own limit
_MAX_DELIVERY_ID = 200
_MAX_SIGNATURES = 8
_KEY_BYTES = range(24, 64 + 1)
_DELIVERY_HEADERS = (
    "webhook-id",
    "idempotency-key",
    "x-gitlab-webhook-uuid",
    "x-gitlab-event-uuid",
)


@dataclass(frozen=True)
class PipelineEvent:
    """``Pipeline Hook``. `jobs` are (id, name, status), as the payload has them."""

    project_id: str
    pipeline_id: str
    source: str
    ref: str
    is_tag: bool
    commit: str
    status: str
    jobs: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class JobEvent:
    """``Job Hook``."""

    project_id: str
    pipeline_id: str
    job_id: str
    name: str
    ref: str
    is_tag: bool
    commit: str
    status: str


@dataclass(frozen=True)
class TagPushEvent:
    """``Tag Push Hook``. `commit` is empty where the tag was deleted."""

    project_id: str
    ref: str
    commit: str


@dataclass(frozen=True)
class MergeRequestEvent:
    """``Merge Request Hook``, or the delivery of an external status check, which then is named."""

    project_id: str
    source_project_id: str
    iid: str
    commit: str
    state: str
    action: str
    status_check_id: str
    status_check: str


GitLabEvent = PipelineEvent | JobEvent | TagPushEvent | MergeRequestEvent


def verify(
    headers: Mapping[str, str], body: bytes, credentials: Mapping[str, str], now: float
) -> WebhookEvent:
    """Check who sent a delivery, over its raw body, and parse it.

    With ``webhook_signing_token`` the signed form is demanded; with ``webhook_secret`` alone the
    token in ``X-Gitlab-Token`` is. ``status_check_secret`` is for external status checks. While
    one is changed, the old one may stay as ``..._previous``.

    Raises:
        UnauthenticatedError: signature or token are missing, wrong or too old.
        InvalidInputError: not a webhook of GitLab.
        ConfigurationError: the signing token is none.
    """
    if len(body) > _MAX_BODY:
        message = f"The delivery is larger than {_MAX_BODY} bytes."
        raise InvalidInputError(message)
    sent = {name.lower(): value for name, value in headers.items()}
    name = sent.get("x-gitlab-event", "")
    if not name:
        name = STATUS_CHECK
        _check_status_check(sent, body, _both(credentials, "status_check_secret"))
    elif credentials.get("webhook_signing_token", ""):
        _check_signature(sent, body, _both(credentials, "webhook_signing_token"), now)
    else:
        _check_token(sent, _both(credentials, "webhook_secret"))
    try:
        payload = fields.parse(body)
    except fields.MalformedError as error:
        message = f"The delivery is {error}."
        raise InvalidInputError(message) from error
    return WebhookEvent(
        delivery_id=_delivery_id(sent, body),
        name=fields.printable(name, 64),
        action="",
        repository_id=fields.text(payload, "project", "id") or fields.text(payload, "project_id"),
        payload=payload,
    )


def pipeline_event(payload: Mapping[str, object]) -> PipelineEvent | None:
    """Read a ``Pipeline Hook``; None if it is none."""
    if payload.get("object_kind") != "pipeline":
        return None
    jobs = tuple(
        (fields.text(job, "id"), fields.text(job, "name"), fields.text(job, "status"))
        for job in fields.objects(payload, "builds")
    )
    return PipelineEvent(
        project_id=fields.text(payload, "project", "id"),
        pipeline_id=fields.text(payload, "object_attributes", "id"),
        source=fields.text(payload, "object_attributes", "source"),
        ref=fields.text(payload, "object_attributes", "ref"),
        is_tag=fields.flag(payload, "object_attributes", "tag") is True,
        commit=fields.text(payload, "object_attributes", "sha"),
        status=fields.text(payload, "object_attributes", "status"),
        jobs=jobs,
    )


def job_event(payload: Mapping[str, object]) -> JobEvent | None:
    """Read a ``Job Hook``, whose ``object_kind`` still is ``build``; None if it is none."""
    if payload.get("object_kind") != "build":
        return None
    return JobEvent(
        project_id=fields.text(payload, "project_id") or fields.text(payload, "project", "id"),
        pipeline_id=fields.text(payload, "pipeline_id"),
        job_id=fields.text(payload, "build_id"),
        name=fields.text(payload, "build_name"),
        ref=fields.text(payload, "ref"),
        is_tag=fields.flag(payload, "tag") is True,
        commit=fields.text(payload, "sha"),
        status=fields.text(payload, "build_status"),
    )


def tag_push_event(payload: Mapping[str, object]) -> TagPushEvent | None:
    """Read a ``Tag Push Hook``; None if it is none."""
    if payload.get("object_kind") != "tag_push":
        return None
    return TagPushEvent(
        project_id=fields.text(payload, "project_id") or fields.text(payload, "project", "id"),
        ref=fields.text(payload, "ref"),
        commit=fields.text(payload, "checkout_sha"),
    )


def merge_request_event(payload: Mapping[str, object]) -> MergeRequestEvent | None:
    """Read a ``Merge Request Hook`` or a status check's delivery; None if it is neither."""
    if payload.get("object_kind") != "merge_request":
        return None
    return MergeRequestEvent(
        project_id=fields.text(payload, "project", "id"),
        source_project_id=fields.text(payload, "object_attributes", "source_project_id"),
        iid=fields.text(payload, "object_attributes", "iid"),
        commit=fields.text(payload, "object_attributes", "last_commit", "id"),
        state=fields.text(payload, "object_attributes", "state"),
        action=fields.text(payload, "object_attributes", "action"),
        status_check_id=fields.text(payload, "external_approval_rule", "id"),
        status_check=fields.text(payload, "external_approval_rule", "name"),
    )


def parse_event(event: WebhookEvent) -> GitLabEvent | None:
    """What a verified delivery says; None for events without meaning here.

    Missing fields read as empty: the caller refuses what it cannot use.
    """
    parse = _PARSERS.get(event.name)
    return parse(event.payload) if parse else None


def _check_signature(
    sent: Mapping[str, str], body: bytes, signing_tokens: Sequence[str], now: float
) -> None:
    delivery, timestamp = sent.get("webhook-id", ""), sent.get("webhook-timestamp", "")
    signatures = sent.get("webhook-signature", "").split(" ")[:_MAX_SIGNATURES]
    if not delivery or not timestamp.isascii() or not timestamp.isdecimal():
        message = "The delivery is not signed."
        advice = "Set the signing token on the webhook in GitLab."
        raise UnauthenticatedError(message, advice=advice)
    signed = f"{delivery}.{timestamp}.".encode() + body
    digests = [hmac.digest(_signing_key(token), signed, "sha256") for token in signing_tokens]
    genuine = ["v1," + base64.b64encode(digest).decode() for digest in digests]
    # Every pair is compared: the time tells nobody which one was right.
    matching = [_equal(expected, given) for expected in genuine for given in signatures]
    if not any(matching):
        message = "The delivery has a wrong signature."
        raise UnauthenticatedError(message, advice="Compare the signing token with GitLab's.")
    if abs(now - int(timestamp[:15])) > TOLERANCE:
        message = "The delivery was signed too long ago, or in the future."
        raise UnauthenticatedError(message, advice="Check the clocks of both machines.")


def _signing_key(signing_token: str) -> bytes:
    try:
        key = base64.b64decode(signing_token.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _KEY_BYTES:
        message = "The webhook's signing token is malformed."
        advice = "Store it as GitLab shows it: whsec_ and the Base64 of 32 bytes."
        raise ConfigurationError(message, advice=advice)
    return key


def _check_token(sent: Mapping[str, str], secrets: Sequence[str]) -> None:
    if not any([_equal(secret, sent.get("x-gitlab-token", "")) for secret in secrets]):  # noqa: C419
        message = "The delivery has a wrong secret token, or none."
        raise UnauthenticatedError(message, advice="Compare it with the webhook's in GitLab.")


def _check_status_check(sent: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
    genuine = [hmac.new(key.encode(), body, hashlib.sha256).hexdigest() for key in secrets]
    if not any([_equal(tag, sent.get("x-gitlab-signature", "")) for tag in genuine]):  # noqa: C419
        message = "The delivery names no event, and is no signed status check either."
        advice = "Compare the status check's shared secret with GitLab's."
        raise UnauthenticatedError(message, advice=advice)


def _both(credentials: Mapping[str, str], name: str) -> list[str]:
    """A secret and, while it is changed, its predecessor."""
    given = (credentials.get(name, ""), credentials.get(f"{name}_previous", ""))
    return [secret for secret in given if secret]


def _delivery_id(sent: Mapping[str, str], body: bytes) -> str:
    """What deliveries are told apart by; the body's digest where GitLab sends nothing."""
    given = next((sent[name] for name in _DELIVERY_HEADERS if sent.get(name)), "")
    if given.isprintable() and 0 < len(given) <= _MAX_DELIVERY_ID:
        return given
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _equal(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))


_PARSERS: Mapping[str, Callable[[Mapping[str, object]], GitLabEvent | None]] = {
    "Pipeline Hook": pipeline_event,
    "Job Hook": job_event,
    "Tag Push Hook": tag_push_event,
    "Merge Request Hook": merge_request_event,
    STATUS_CHECK: merge_request_event,
}
