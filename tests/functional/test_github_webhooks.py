"""Webhooks: no forgery gets in, every example of GitHub's gets through, and what events say."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.github_world import SECRET, WHEN
from tests.fakes.make_github_data import WEBHOOKS, fetch
from tests.shared import missing

from sealwright.connectors.connector import WebhookEvent
from sealwright.connectors.github import (
    CheckRerequested,
    DeploymentRequested,
    GitHubConnector,
    GitHubEvent,
    InstallationChanged,
    JobChanged,
    RequestedAction,
    RunChanged,
    TagPushed,
    parse_event,
)
from sealwright.errors import InvalidInputError, UnauthenticatedError
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem

DELIVERY = "0b989ba4-242f-11e5-81e1-c7b6966d2516"
EXAMPLES = json.loads(
    (Path(__file__).parent.parent / "fakes" / "github_webhooks.json").read_text(encoding="utf-8")
)["examples"]


def connector(**credentials: str) -> GitHubConnector:
    kind, web = BuildSystemKind.GITHUB, "https://github.com"
    given = credentials or {"webhook_secret": SECRET}
    return GitHubConnector(
        TrustedBuildSystem(
            "b", "o", "github", "GitHub", kind, "https://api.github.com", web, True, WHEN, {}, given
        )
    )


CONNECTOR = connector()


def signature(body: bytes, secret: str = SECRET) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def headers(body: bytes, **changes: str | None) -> dict[str, str]:
    sent = {
        "X-GitHub-Event": "ping",
        "X-GitHub-Delivery": DELIVERY,
        "X-Hub-Signature-256": signature(body),
        "Content-Type": "application/json",
    }
    merged = {**sent, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return {name: value for name, value in merged.items() if value is not None}


def deliver(event: str, payload: object) -> WebhookEvent:
    body = json.dumps(payload).encode()
    return CONNECTOR.webhook(headers(body, X_GitHub_Event=event), body)


def said(event: str, payload: object) -> GitHubEvent | None:
    return parse_event(deliver(event, payload))


def example(event: str, **fields: str) -> dict[str, Any]:
    found = next(
        item["payload"]
        for item in EXAMPLES
        if item["event"] == event
        and all(item["payload"].get(name) == value for name, value in fields.items())
    )
    copied: dict[str, Any] = json.loads(json.dumps(found))
    return copied


def test_githubs_own_vector() -> None:
    # "Validating webhook deliveries" gives this secret, payload and signature.
    body = b"Hello, World!"
    expected = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert signature(body) == f"sha256={expected}"
    with pytest.raises(InvalidInputError):  # signed, but no JSON
        CONNECTOR.webhook(headers(body), body)


def test_a_delivery() -> None:
    body = b'{"action": "created", "repository": {"id": 42}, "x": [1]}'
    event = CONNECTOR.webhook(headers(body, X_GitHub_Event="check_run"), body)
    assert (event.delivery_id, event.name, event.action) == (DELIVERY, "check_run", "created")
    assert (event.repository_id, event.payload["x"]) == ("42", [1])


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_header_names_have_no_case(case: Any) -> None:
    body = b"{}"
    sent = {case(name): value for name, value in headers(body).items()}
    assert CONNECTOR.webhook(sent, body).name == "ping"


BODY = b'{"action":"x"}'


@pytest.mark.parametrize(
    "forged",
    [
        None,
        "",
        "sha256=",
        signature(BODY).removeprefix("sha256="),
        signature(BODY).upper(),
        signature(BODY)[:-1],
        signature(BODY) + "0",
        signature(BODY) + " ",
        signature(BODY, "another secret"),
        signature(BODY, ""),
        signature(BODY + b" "),
        signature(BODY).replace("sha256", "sha1"),
        "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest(),
        "sha256=" + hashlib.sha256(BODY).hexdigest(),
        "sha256=é",
        "sha256=\udcff",
        f"{signature(BODY, 'x')},{signature(BODY)}",
    ],
)
def test_forged_signatures_are_refused(forged: str | None) -> None:
    with pytest.raises(UnauthenticatedError):
        CONNECTOR.webhook(headers(BODY, X_Hub_Signature_256=forged), BODY)


def test_any_change_of_the_body_is_refused() -> None:
    sent = headers(BODY)
    for position in range(len(BODY)):
        changed = bytearray(BODY)
        changed[position] ^= 1
        with pytest.raises(UnauthenticatedError):
            CONNECTOR.webhook(sent, bytes(changed))


def test_the_old_sha1_signature_does_not_count() -> None:
    old = "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()
    with pytest.raises(UnauthenticatedError):
        CONNECTOR.webhook(headers(BODY, X_Hub_Signature_256=None, X_Hub_Signature=old), BODY)


def test_without_a_secret_nothing_gets_in() -> None:
    for broken in (connector(token="t"), connector(webhook_secret="")):
        for forged in (signature(BODY), signature(BODY, "")):
            with pytest.raises(UnauthenticatedError, match="signature"):
                broken.webhook(headers(BODY, X_Hub_Signature_256=forged), BODY)


def test_both_secrets_count_while_one_is_changed() -> None:
    both = connector(webhook_secret="new", webhook_secret_previous="old")
    for secret in ("new", "old"):
        assert both.webhook(headers(BODY, X_Hub_Signature_256=signature(BODY, secret)), BODY)
    with pytest.raises(UnauthenticatedError):
        both.webhook(headers(BODY), BODY)


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (b"", {}),
        (b"{", {}),
        (b"[]", {}),
        (b"7", {}),
        (b"null", {}),
        (b"\xff", {}),
        (b"[" * 100_000, {}),
        (b'{"a":' * 50_000, {}),
        (b'{"a": ' + b"9" * 10_000 + b"}", {}),
        (b"payload=%7B%7D", {"Content_Type": "application/x-www-form-urlencoded"}),
        (b"{}", {"Content_Type": None}),
        (b"{}", {"X_GitHub_Event": None}),
        (b"{}", {"X_GitHub_Event": "../x"}),
        (b"{}", {"X_GitHub_Event": "X" * 100}),
        (b"{}", {"X_GitHub_Delivery": None}),
        (b"{}", {"X_GitHub_Delivery": "a b"}),
        (b"{}", {"X_GitHub_Delivery": "1" * 100}),
    ],
)
def test_signed_nonsense_is_refused(body: bytes, changes: dict[str, str | None]) -> None:
    with pytest.raises(InvalidInputError):
        CONNECTOR.webhook(headers(body, **changes), body)


def test_a_huge_body_is_refused_unread() -> None:
    body = bytes(25 * 1024 * 1024 + 1)
    with pytest.raises(InvalidInputError, match="larger"):
        CONNECTOR.webhook({}, body)


# What events say


def test_a_button() -> None:
    payload = example("check_run", action="requested_action")
    payload["check_run"]["external_id"] = "request-1"
    payload["requested_action"]["identifier"] = "approve"
    action = said("check_run", payload)
    assert action == RequestedAction(
        repository_id=str(payload["repository"]["id"]),
        request_id="request-1",
        check_run_id=str(payload["check_run"]["id"]),
        identifier="approve",
        user_id=str(payload["sender"]["id"]),
        user_login=payload["sender"]["login"],
        app_id=str(payload["check_run"]["app"]["id"]),
    )


def test_a_check_again() -> None:
    payload = example("check_run", action="rerequested")
    payload["check_run"]["external_id"] = "request-1"
    event = said("check_run", payload)
    assert isinstance(event, CheckRerequested)
    assert (event.request_id, event.commit) == ("request-1", payload["check_run"]["head_sha"])
    suite = example("check_suite", action="rerequested")
    event = said("check_suite", suite)
    assert isinstance(event, CheckRerequested)
    assert (event.request_id, event.commit) == ("", suite["check_suite"]["head_sha"])
    assert event.user_id == str(suite["sender"]["id"])


def test_a_run() -> None:
    payload = example("workflow_run", action="completed")
    run = payload["workflow_run"]
    run["path"] = ".github/workflows/a.yml@refs/heads/main"
    event = said("workflow_run", payload)
    assert event == RunChanged(
        repository_id=str(payload["repository"]["id"]),
        head_repository_id=str(run["head_repository"]["id"]),
        run_id=str(run["id"]),
        run_attempt=run["run_attempt"],
        action="completed",
        event=run["event"],
        conclusion=run["conclusion"] or "",
        commit=run["head_sha"],
        ref_name=run["head_branch"],
        definition=".github/workflows/a.yml",
    )
    del run["path"]  # as in older payloads
    event = said("workflow_run", payload)
    assert isinstance(event, RunChanged)
    assert event.definition == payload["workflow"]["path"]


def test_a_deployment() -> None:
    base = "https://api.github.com/repos/octo-org/app"
    payload = {
        "action": "requested",
        "environment": "production",
        "event": "push",
        "deployment_callback_url": f"{base}/actions/runs/5001/deployment_protection_rule",
        "deployment": {"sha": "c" * 40, "ref": "main"},
        "repository": {"id": 1001},
    }
    expected = DeploymentRequested("1001", "5001", "production", "c" * 40, "main")
    assert said("deployment_protection_rule", payload) == expected
    for callback in (None, f"{base}/actions/runs/x/deployment_protection_rule", base, 7, "/../"):
        event = said("deployment_protection_rule", payload | {"deployment_callback_url": callback})
        assert isinstance(event, DeploymentRequested)
        assert event.run_id == ""


@pytest.mark.parametrize("action", ["created", "deleted", "suspend"])
def test_installations(action: str) -> None:
    payload = example("installation", action=action)
    event = said("installation", payload)
    assert isinstance(event, InstallationChanged)
    assert event.installation_id == str(payload["installation"]["id"])
    assert event.account_id == str(payload["installation"]["account"]["id"])
    assert event.action == action
    wanted = tuple(str(item["id"]) for item in payload.get("repositories", []))
    assert event.repository_ids == wanted


@pytest.mark.parametrize("action", ["added", "removed"])
def test_repositories_of_installations(action: str) -> None:
    payload = example("installation_repositories", action=action)
    event = said("installation_repositories", payload)
    assert isinstance(event, InstallationChanged)
    wanted = tuple(str(item["id"]) for item in payload[f"repositories_{action}"])
    assert wanted
    assert (event.action, event.repository_ids) == (action, wanted)


def test_tags() -> None:
    payload = example("push", ref="refs/tags/simple-tag")
    repository_id = str(payload["repository"]["id"])
    payload["after"] = "c" * 40
    assert said("push", payload) == TagPushed(repository_id, "refs/tags/simple-tag", "c" * 40)
    payload["after"] = "0" * 40
    assert said("push", payload) == TagPushed(repository_id, "refs/tags/simple-tag", "")
    assert said("push", example("push", ref="refs/heads/master")) is None


def test_the_rest_says_nothing() -> None:
    assert said("ping", example("ping")) is None
    assert said("check_run", example("check_run", action="completed")) is None
    assert said("star", {"action": "created"}) is None
    assert said("unheard_of", {}) is None


SHAPES: list[Any] = [{}, {"action": 7}, {"repository": None}, {"repository": [], "sender": "x"}]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("event", "noun", "action"),
    [
        ("check_run", "check_run", "requested_action"),
        ("check_run", "check_run", "rerequested"),
        ("check_suite", "check_suite", "rerequested"),
        ("workflow_run", "workflow_run", "completed"),
        ("workflow_job", "workflow_job", "completed"),
        ("installation", "installation", "created"),
        ("installation_target", "installation", "renamed"),
        ("installation_repositories", "repositories_added", "added"),
        ("deployment_protection_rule", "deployment", "requested"),
        ("push", "ref", ""),
    ],
)
def test_missing_and_odd_fields_read_as_empty(
    event: str, noun: str, action: str, shape: dict[str, Any]
) -> None:
    for odd in (None, [], "x", 7, True, {}, {"id": {}}, [7, {"id": None}]):
        said(event, {"action": action, **shape, noun: odd})
    nothing = said(event, {"action": action})
    values = vars(nothing).values() if nothing else ()
    assert all(value in ("", (), 0, action) for value in values)


def every_example() -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        groups = fetch(WEBHOOKS)
    except (OSError, subprocess.SubprocessError) as error:
        missing(f"no webhook examples from npm: {error}")
        return
    for group in groups:
        for payload in group["examples"]:
            yield group["name"], payload


def test_every_example_gets_through() -> None:
    count = 0
    events: dict[type[GitHubEvent] | None, int] = {}
    for name, payload in every_example():
        event = deliver(name, payload)
        assert event.repository_id == str(payload.get("repository", {}).get("id", ""))
        parsed = parse_event(event)
        kind = type(parsed) if parsed else None
        events[kind] = events.get(kind, 0) + 1
        count += 1
    assert count == 329
    assert events[RequestedAction] == 1
    assert events[CheckRerequested] == 4
    assert events[RunChanged] == 5
    assert events[JobChanged] >= 4
    assert events[InstallationChanged] == 10
    assert events[TagPushed] == 5
