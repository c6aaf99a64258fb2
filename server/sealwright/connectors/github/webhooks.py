"""Webhooks of GitHub: the signature over the raw body, and what the events of interest say.

An event is a hint that something happened: whoever acts on it fetches the facts. The exception is
`RequestedAction`, whose sender is known from the event alone; its signature is what proves it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sealwright.connectors import fields
from sealwright.connectors.connector import WebhookEvent
from sealwright.connectors.github.facts import definition_path
from sealwright.errors import InvalidInputError, UnauthenticatedError

_MAX_BODY = 25 * 1024 * 1024  # GitHub sends no larger ones
_DELIVERY = re.compile(r"[0-9A-Za-z-]{8,64}")
_EVENT = re.compile(r"[a-z0-9_]{1,64}")
_CALLBACK = re.compile(r"/actions/runs/([0-9]{1,19})/deployment_protection_rule$")
_ADVICE = "Set the same webhook secret in the GitHub App and on the build system."


@dataclass(frozen=True)
class RequestedAction:
    """Somebody pressed a button of a check run.

    Attributes:
        request_id: the check run's ``external_id``: the signing request.
        identifier: the button's.
        user_id, user_login: the GitHub user who pressed it; only the id is immutable.
        app_id: of the App that made the check run.
    """

    repository_id: str
    request_id: str
    check_run_id: str
    identifier: str
    user_id: str
    user_login: str
    app_id: str


@dataclass(frozen=True)
class CheckRerequested:
    """Somebody asked to run a check again; with an empty `request_id`, all checks of a commit."""

    repository_id: str
    request_id: str
    commit: str
    user_id: str


@dataclass(frozen=True)
class RunChanged:
    """A workflow run was requested, is in progress or has completed."""

    repository_id: str
    head_repository_id: str
    run_id: str
    run_attempt: int
    action: str
    event: str
    conclusion: str
    commit: str
    ref_name: str
    definition: str


@dataclass(frozen=True)
class JobChanged:
    """A job of a workflow run was queued, began or ended."""

    repository_id: str
    run_id: str
    job_id: str
    action: str
    conclusion: str


@dataclass(frozen=True)
class DeploymentRequested:
    """A job waits for the App's verdict on its environment."""

    repository_id: str
    run_id: str
    environment: str
    commit: str
    ref_name: str


@dataclass(frozen=True)
class InstallationChanged:
    """The App was installed, removed, suspended, or may access other repositories than before; or
    the account that it is installed on was renamed.

    Attributes:
        action: ``created``, ``deleted``, ``suspend``, ``unsuspend``, ``added``, ``removed``,
            ``new_permissions_accepted``, ``renamed``.
        repository_ids: of the repositories that the action is about.
    """

    installation_id: str
    account_id: str
    action: str
    repository_ids: tuple[str, ...]


@dataclass(frozen=True)
class TagPushed:
    """A tag was made, moved or deleted (`commit` is empty then).

    For an annotated tag `commit` is the id of the tag object.
    """

    repository_id: str
    ref: str
    commit: str


GitHubEvent = (
    RequestedAction
    | CheckRerequested
    | RunChanged
    | JobChanged
    | DeploymentRequested
    | InstallationChanged
    | TagPushed
)


def verified(secrets: tuple[str, ...], headers: Mapping[str, str], body: bytes) -> WebhookEvent:
    """Check the signature over the raw body, then parse it.

    Args:
        secrets: any of them may have signed: a secret is changed by having both for a while.

    Raises:
        UnauthenticatedError: no secret, no signature, or a wrong one.
        InvalidInputError: not a delivery of GitHub's.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if len(body) > _MAX_BODY:
        message = f"The webhook is larger than {_MAX_BODY} bytes."
        raise InvalidInputError(message)
    _check_signature(secrets, lower.get("x-hub-signature-256", ""), body)
    name, delivery_id = lower.get("x-github-event", ""), lower.get("x-github-delivery", "")
    if not _EVENT.fullmatch(name) or not _DELIVERY.fullmatch(delivery_id):
        message = "The webhook's event or delivery id is missing."
        raise InvalidInputError(message)
    if not lower.get("content-type", "").lower().startswith("application/json"):
        message = "The webhook is not JSON."
        raise InvalidInputError(message, advice="Set the webhook's content type to JSON in GitHub.")
    payload = _parsed(body)
    return WebhookEvent(
        delivery_id=delivery_id,
        name=name,
        action=fields.text(payload, "action"),
        repository_id=fields.text(payload, "repository", "id"),
        payload=payload,
    )


def parse_event(event: WebhookEvent) -> GitHubEvent | None:
    """What a verified delivery says; None for events without meaning here.

    Missing fields read as empty: the caller refuses what it cannot use.
    """
    parse = _PARSERS.get((event.name, event.action)) or _PARSERS.get((event.name, ""))
    return parse(event.payload) if parse else None


def _check_signature(secrets: tuple[str, ...], sent: str, body: bytes) -> None:
    # Every secret is tried, and bytes are compared: neither time nor an odd header tells a thing.
    matching = [
        hmac.compare_digest(
            b"sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode(),
            sent.encode("utf-8", "replace"),
        )
        for secret in secrets
        if secret
    ]
    if not any(matching):
        message = "The webhook's signature is missing or wrong."
        raise UnauthenticatedError(message, advice=_ADVICE)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        message = "The webhook's body is not JSON."
        raise InvalidInputError(message) from error
    if not isinstance(payload, dict):
        message = "The webhook's body is not a JSON object."
        raise InvalidInputError(message)
    return payload


def _requested_action(payload: Mapping[str, Any]) -> RequestedAction:
    return RequestedAction(
        repository_id=fields.text(payload, "repository", "id"),
        request_id=fields.text(payload, "check_run", "external_id"),
        check_run_id=fields.text(payload, "check_run", "id"),
        identifier=fields.text(payload, "requested_action", "identifier"),
        user_id=fields.text(payload, "sender", "id"),
        user_login=fields.text(payload, "sender", "login"),
        app_id=fields.text(payload, "check_run", "app", "id"),
    )


def _check_rerequested(payload: Mapping[str, Any]) -> CheckRerequested:
    return CheckRerequested(
        repository_id=fields.text(payload, "repository", "id"),
        request_id=fields.text(payload, "check_run", "external_id"),
        commit=fields.text(payload, "check_run", "head_sha")
        or fields.text(payload, "check_suite", "head_sha"),
        user_id=fields.text(payload, "sender", "id"),
    )


def _run_changed(payload: Mapping[str, Any]) -> RunChanged:
    run = payload.get("workflow_run")
    run = run if isinstance(run, Mapping) else {}
    return RunChanged(
        repository_id=fields.text(payload, "repository", "id"),
        head_repository_id=fields.text(run, "head_repository", "id"),
        run_id=fields.text(run, "id"),
        run_attempt=fields.number(run, "run_attempt"),
        action=fields.text(payload, "action"),
        event=fields.text(run, "event"),
        conclusion=fields.text(run, "conclusion"),
        commit=fields.text(run, "head_sha"),
        ref_name=fields.text(run, "head_branch"),
        definition=definition_path(run) or fields.text(payload, "workflow", "path"),
    )


def _job_changed(payload: Mapping[str, Any]) -> JobChanged:
    return JobChanged(
        repository_id=fields.text(payload, "repository", "id"),
        run_id=fields.text(payload, "workflow_job", "run_id"),
        job_id=fields.text(payload, "workflow_job", "id"),
        action=fields.text(payload, "action"),
        conclusion=fields.text(payload, "workflow_job", "conclusion"),
    )


def _deployment_requested(payload: Mapping[str, Any]) -> DeploymentRequested:
    # The run's id is in this address alone. The address itself is never called.
    callback = _CALLBACK.search(fields.text(payload, "deployment_callback_url"))
    return DeploymentRequested(
        repository_id=fields.text(payload, "repository", "id"),
        run_id=callback[1] if callback else "",
        environment=fields.text(payload, "environment"),
        commit=fields.text(payload, "deployment", "sha"),
        ref_name=fields.text(payload, "deployment", "ref"),
    )


def _installation_changed(payload: Mapping[str, Any]) -> InstallationChanged:
    lists = ("repositories", "repositories_added", "repositories_removed")
    return InstallationChanged(
        installation_id=fields.text(payload, "installation", "id"),
        account_id=fields.text(payload, "installation", "account", "id")
        or fields.text(payload, "account", "id"),
        action=fields.text(payload, "action"),
        repository_ids=tuple(
            fields.text(item, "id") for name in lists for item in fields.objects(payload, name)
        ),
    )


def _pushed(payload: Mapping[str, Any]) -> TagPushed | None:
    ref = fields.text(payload, "ref")
    if not ref.startswith("refs/tags/"):
        return None
    commit = fields.text(payload, "after")
    return TagPushed(
        repository_id=fields.text(payload, "repository", "id"),
        ref=ref,
        commit=commit if commit.strip("0") else "",
    )


_PARSERS: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], GitHubEvent | None]] = {
    ("check_run", "requested_action"): _requested_action,
    ("check_run", "rerequested"): _check_rerequested,
    ("check_suite", "rerequested"): _check_rerequested,
    ("deployment_protection_rule", "requested"): _deployment_requested,
    ("installation", ""): _installation_changed,
    ("installation_repositories", ""): _installation_changed,
    ("installation_target", ""): _installation_changed,
    ("push", ""): _pushed,
    ("workflow_job", ""): _job_changed,
    ("workflow_run", ""): _run_changed,
}
