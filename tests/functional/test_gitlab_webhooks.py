"""GitLab's deliveries: genuine, forged, replayed and malformed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from tests.fakes.gitlab import FakeGitLab, build_system, delivery, pipeline_payload, sha
from tests.fakes.outgoing import LOOPBACK, TLS

from sealwright.connectors.gitlab import (
    GitLabConnector,
    JobEvent,
    MergeRequestEvent,
    PipelineEvent,
    TagPushEvent,
    parse_event,
)
from sealwright.connectors.gitlab.webhooks import STATUS_CHECK
from sealwright.errors import ConfigurationError, InvalidInputError, UnauthenticatedError

SIGNING_TOKEN = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_TOKEN = "whsec_" + base64.b64encode(bytes(32)).decode()
SECRET = "a secret token of the webhook"
PIPELINE = "Pipeline Hook"

GITLAB = FakeGitLab()
GITLAB.url = "https://gitlab.example.com"


def connector(**credentials: str) -> GitLabConnector:
    return GitLabConnector(build_system(GITLAB, **credentials), outgoing=LOOPBACK, tls=TLS)


SIGNED = connector(webhook_signing_token=SIGNING_TOKEN, webhook_secret=SECRET)
PLAIN = connector(webhook_secret=SECRET)


def test_a_signed_delivery() -> None:
    headers, body = delivery(PIPELINE, pipeline_payload(), signing_token=SIGNING_TOKEN)
    event = SIGNED.webhook(headers, body)
    assert (event.name, event.action, event.repository_id) == (PIPELINE, "", "20")
    assert event.delivery_id == headers["webhook-id"]
    assert SECRET not in repr(event)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification, whose key is not of GitLab's length but allowed."""
    token = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    headers = {
        "X-Gitlab-Event": PIPELINE,
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    system = build_system(GITLAB, webhook_signing_token=token)
    at_that_time = GitLabConnector(system, outgoing=LOOPBACK, tls=TLS, clock=lambda: 1614265331.0)
    assert at_that_time.webhook(headers, body).delivery_id == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_a_delivery_with_the_secret_token() -> None:
    headers, body = delivery(PIPELINE, pipeline_payload(), secret=SECRET)
    event = PLAIN.webhook({name.upper(): value for name, value in headers.items()}, body)
    assert event.delivery_id == headers["Idempotency-Key"]


def test_a_retry_has_the_same_delivery_id() -> None:
    first, body = delivery(PIPELINE, pipeline_payload(), secret=SECRET)
    again = first | {"X-Gitlab-Webhook-UUID": "another"}
    assert PLAIN.webhook(first, body).delivery_id == PLAIN.webhook(again, body).delivery_id


def test_deliveries_of_old_versions_are_told_apart() -> None:
    headers, body = delivery(PIPELINE, pipeline_payload(), secret=SECRET)
    bare = {name: headers[name] for name in ("X-Gitlab-Event", "X-Gitlab-Token")}
    with_event = bare | {"X-Gitlab-Event-UUID": "c2d8"}
    assert PLAIN.webhook(with_event, body).delivery_id == "c2d8"
    assert PLAIN.webhook(bare, body).delivery_id == PLAIN.webhook(bare, body).delivery_id
    assert PLAIN.webhook(bare, body).delivery_id != PLAIN.webhook(bare, body + b" ").delivery_id
    odd = PLAIN.webhook(bare | {"Idempotency-Key": "x" * 5000}, body).delivery_id
    assert odd.startswith("sha256:")


@pytest.mark.parametrize("name", ["webhook_signing_token", "webhook_secret"])
def test_secrets_are_changed_without_a_gap(name: str) -> None:
    old, new = (OTHER_TOKEN, SIGNING_TOKEN) if name == "webhook_signing_token" else ("old", "new")
    both = connector(**{name: new, f"{name}_previous": old})
    for secret in (old, new):
        given = {"signing_token" if name == "webhook_signing_token" else "secret": secret}
        assert both.webhook(*delivery(PIPELINE, pipeline_payload(), **given))


def _forgeries() -> list[tuple[str, dict[str, str], bytes]]:
    headers, body = delivery(PIPELINE, pipeline_payload(), signing_token=SIGNING_TOKEN)
    other, _ = delivery(PIPELINE, pipeline_payload(), signing_token=OTHER_TOKEN)
    unsigned, _ = delivery(PIPELINE, pipeline_payload(), secret=SECRET)
    tag = headers["webhook-signature"]
    bare_key = hmac.new(SIGNING_TOKEN.encode(), body, hashlib.sha256).digest()
    return [
        ("the body was changed", headers, body.replace(b"main", b"mine")),
        ("another id", headers | {"webhook-id": "replayed"}, body),
        ("another time", headers | {"webhook-timestamp": str(int(time.time()) + 1)}, body),
        ("another key", other, body),
        ("the token alone, where signatures are due", unsigned, body),
        ("no signature", headers | {"webhook-signature": ""}, body),
        ("no time", {k: v for k, v in headers.items() if k != "webhook-timestamp"}, body),
        ("no id", {k: v for k, v in headers.items() if k != "webhook-id"}, body),
        ("another version", headers | {"webhook-signature": "v1a," + tag[3:]}, body),
        ("cut", headers | {"webhook-signature": tag[:-2]}, body),
        ("not ASCII", headers | {"webhook-signature": "v1,ä\udcff"}, body),
        ("digits of elsewhere", headers | {"webhook-timestamp": "\uff11\uff12"}, body),
        (
            "the encoded key",
            headers | {"webhook-signature": base64.b64encode(bare_key).decode()},
            body,
        ),
        ("behind too many others", headers | {"webhook-signature": "v1,x " * 8 + tag}, body),
    ]


@pytest.mark.parametrize(
    ("what", "headers", "body"), _forgeries(), ids=lambda value: str(value)[:40]
)
def test_forged_signatures(what: str, headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(UnauthenticatedError):
        SIGNED.webhook(headers, body)


@pytest.mark.parametrize("age", [-1000, -301, 301, 1000, 10**14])
def test_signed_deliveries_grow_old(age: int) -> None:
    headers, body = delivery(
        PIPELINE, pipeline_payload(), signing_token=SIGNING_TOKEN, sent_at=time.time() + age
    )
    with pytest.raises(UnauthenticatedError, match="too long ago"):
        SIGNED.webhook(headers, body)


def test_one_of_several_signatures_is_enough() -> None:
    headers, body = delivery(PIPELINE, pipeline_payload(), signing_token=SIGNING_TOKEN)
    headers["webhook-signature"] = "v1,AAAA v2,x " + headers["webhook-signature"]
    assert SIGNED.webhook(headers, body)


@pytest.mark.parametrize(
    "secret", ["", "wrong", SECRET + " ", SECRET.upper(), "ä\udcff", SECRET[:-1]]
)
def test_wrong_secret_tokens(secret: str) -> None:
    headers, body = delivery(PIPELINE, pipeline_payload())
    with pytest.raises(UnauthenticatedError) as refused:
        PLAIN.webhook(headers | {"X-Gitlab-Token": secret}, body)
    assert SECRET not in str(refused.value)


def test_without_any_secret_nothing_is_accepted() -> None:
    headers, body = delivery(PIPELINE, pipeline_payload())
    for sent in (headers, headers | {"X-Gitlab-Token": ""}):
        with pytest.raises(UnauthenticatedError):
            connector().webhook(sent, body)


@pytest.mark.parametrize("token", ["whsec_%%%", "whsec_AAAA", "plain text"])
def test_a_signing_token_that_is_none(token: str) -> None:
    headers, body = delivery(PIPELINE, pipeline_payload(), signing_token=SIGNING_TOKEN)
    with pytest.raises(ConfigurationError) as refused:
        connector(webhook_signing_token=token).webhook(headers, body)
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"project": {"id": 20}} x',
    ],
)
def test_malformed_bodies(body: bytes) -> None:
    headers, body = delivery(PIPELINE, body, secret=SECRET)
    with pytest.raises(InvalidInputError):
        PLAIN.webhook(headers, body)


def test_an_oversized_body_is_not_even_hashed() -> None:
    headers, _ = delivery(PIPELINE, b"{}", secret=SECRET)
    with pytest.raises(InvalidInputError, match="larger"):
        PLAIN.webhook(headers, bytes(25 * 1024 * 1024 + 1))


# External status checks


def _status_check(secret: str) -> tuple[dict[str, str], bytes]:
    payload = _merge_request() | {"external_approval_rule": {"id": 7, "name": "Sealwright"}}
    body = json.dumps(payload).encode()
    tag = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "X-Gitlab-Signature": tag}, body


def test_a_status_check_s_delivery() -> None:
    checks = connector(status_check_secret="check", webhook_secret=SECRET)
    event = checks.webhook(*_status_check("check"))
    assert event.name == STATUS_CHECK
    found = parse_event(event)
    assert isinstance(found, MergeRequestEvent)
    assert (found.status_check_id, found.status_check, found.iid) == ("7", "Sealwright", "1")


@pytest.mark.parametrize("secret", ["", "other"])
def test_a_status_check_s_delivery_under_another_secret(secret: str) -> None:
    checks = connector(status_check_secret="check", webhook_secret=SECRET)
    headers, body = _status_check(secret)
    for sent in (headers, {}, {"X-Gitlab-Token": SECRET}):
        with pytest.raises(UnauthenticatedError):
            checks.webhook(sent, body)
    with pytest.raises(UnauthenticatedError):
        PLAIN.webhook(headers, body)  # no such secret is configured


# What events say


def _event_of(name: str, payload: dict[str, Any]) -> Any:
    return parse_event(PLAIN.webhook(*delivery(name, payload, secret=SECRET)))


def test_a_pipeline_event() -> None:
    assert _event_of(PIPELINE, pipeline_payload()) == PipelineEvent(
        project_id="20",
        pipeline_id="574",
        source="push",
        ref="main",
        is_tag=False,
        commit=sha("c2"),
        status="success",
        jobs=(("301", "sign", "skipped"), ("300", "build", "success")),
    )


def test_a_job_event() -> None:
    payload = {
        "object_kind": "build", "ref": "v1.0", "tag": True, "sha": sha("c2"), "build_id": 300,
        "build_name": "build", "build_status": "success", "pipeline_id": 574, "project_id": 20,
    }  # fmt: skip
    assert _event_of("Job Hook", payload) == JobEvent(
        "20", "574", "300", "build", "v1.0", True, sha("c2"), "success"
    )


@pytest.mark.parametrize(("checkout", "commit"), [(sha("c2"), sha("c2")), (None, "")])
def test_a_tag_push_event(checkout: str | None, commit: str) -> None:
    payload = {
        "object_kind": "tag_push", "ref": "refs/tags/v1.0", "checkout_sha": checkout,
        "project_id": 20,
    }  # fmt: skip
    assert _event_of("Tag Push Hook", payload) == TagPushEvent("20", "refs/tags/v1.0", commit)


def _merge_request() -> dict[str, Any]:
    return {
        "object_kind": "merge_request",
        "project": {"id": 20},
        "object_attributes": {
            "iid": 1, "source_project_id": 99, "target_project_id": 20, "state": "opened",
            "action": "open", "last_commit": {"id": sha("evil")},
        },
    }  # fmt: skip


def test_a_merge_request_event() -> None:
    assert _event_of("Merge Request Hook", _merge_request()) == MergeRequestEvent(
        "20", "99", "1", sha("evil"), "opened", "open", "", ""
    )


@pytest.mark.parametrize("name", [PIPELINE, "Job Hook", "Tag Push Hook", "Merge Request Hook"])
@pytest.mark.parametrize("shape", [None, [], "x", 7, {}, {"id": {}}])
def test_events_of_any_shape(name: str, shape: object) -> None:
    kinds = {PIPELINE: "pipeline", "Job Hook": "build", "Tag Push Hook": "tag_push"}
    names = ("project", "object_attributes", "builds", "ref", "tag", "sha", "checkout_sha")
    payload = dict.fromkeys(names, shape)
    assert _event_of(name, payload) is None  # it is of no kind
    found = _event_of(name, payload | {"object_kind": kinds.get(name, "merge_request")})
    assert found.project_id in {"", "7"}


def test_other_events_mean_nothing() -> None:
    assert _event_of("Wiki Page Hook", {"object_kind": "wiki_page"}) is None
