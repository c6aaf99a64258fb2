"""Outgoing webhooks: told once each end, signed as others verify it, again until they are taken."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from tests.fakes.receiver import Receiver, receiving_hooks
from tests.valkey import Valkey
from tests.web import Web, WebServer, opened, running

from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy, Timeouts
from sealwright.connectors.vault import open_vault
from sealwright.db import notifications
from sealwright.model.identifiers import utc_now
from sealwright.model.notification import Channel, Notification
from sealwright.model.user import Role
from sealwright.reporting import deliver
from sealwright.reporting.deliver import GIVE_UP, Courier
from sealwright.worker.housekeeping import remove_expired


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving_hooks() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def near_server(valkey: Valkey, sqlite_template: Any, tmp_path_factory: Any) -> Any:
    """A server whose operator lets webhooks go to this machine."""
    file = tmp_path_factory.mktemp("hooks") / "sealwright.sqlite3"
    file.write_bytes(sqlite_template.read_bytes())
    with running(valkey, f"sqlite:///{file}", webhook_hosts=["127.0.0.1"]) as server:
        yield server


@pytest.fixture
async def near(near_server: WebServer) -> AsyncIterator[Web]:
    async with opened(near_server) as web:
        yield web


@pytest.fixture
async def courier(near: Web) -> AsyncIterator[Courier]:
    policy = OutgoingPolicy(internal_hosts=("127.0.0.1",), allow_http=True)
    async with OutgoingClient(policy) as outgoing:
        yield Courier(near.database, outgoing, open_vault(near.server.settings.vault_key), "")


async def administrator(web: Web) -> httpx.AsyncClient:
    return await web.client(await web.add_user(role=Role.PROJECT_ADMINISTRATOR))


def path(web: Web, *more: str) -> str:
    return "/".join((f"/api/v1/projects/{web.scene.project.slug}/outgoing-webhooks", *more))


async def hooked(web: Web, receiver: Receiver, **fields: Any) -> tuple[httpx.AsyncClient, Any]:
    client = await administrator(web)
    answer = await client.post(path(web), json={"name": "Chat", "url": receiver.url} | fields)
    assert answer.status_code == 201, answer.text
    return client, answer.json()


async def deliveries(web: Web, client: httpx.AsyncClient, webhook: Any) -> list[dict[str, Any]]:
    answer = await client.get(path(web, webhook["id"], "deliveries"))
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def make_due(web: Web, **values: Any) -> None:
    """Let what waits be tried now."""
    sets = ", ".join([f"{name} = :{name}" for name in ("due_at", *values)])
    bound = {"due_at": utc_now().replace(tzinfo=None).isoformat(" ")} | values
    statement = sa.text(f"UPDATE notifications SET {sets} WHERE due_at IS NOT NULL")
    async with web.database.transaction() as tx:
        await tx.change(statement.bindparams(**bound))


async def test_an_end_is_told_once_and_signed(
    near: Web, receiver: Receiver, courier: Courier
) -> None:
    client, webhook = await hooked(near, receiver, authentication="Bearer canary")
    request = await near.submit()
    await courier.send_due()
    assert receiver.calls == []  # it has not ended yet
    await near.complete(request["id"])
    await asyncio.gather(*(courier.send_due() for _ in range(4)))
    [call] = receiver.calls
    assert call.json == {
        "OrganizationId": near.scene.organization.id,
        "SigningRequestId": request["id"],
        "Status": "Completed",
    }
    assert call.headers["authentication"] == "Bearer canary"
    assert call.headers["content-type"] == "application/json"
    # the standard's own library
    assert Webhook(webhook["secret"]).verify(call.body, call.headers) == call.json
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook["secret"]).verify(call.body + b" ", call.headers)
    [delivery] = await deliveries(near, client, webhook)
    assert (delivery["status"], delivery["attempts"], delivery["error"]) == (204, 1, "")
    assert delivery["done_at"]
    assert "canary" not in near.server.log


async def test_what_was_not_taken_is_told_again_under_the_same_id(
    near: Web, receiver: Receiver, courier: Courier
) -> None:
    client, webhook = await hooked(near, receiver)
    receiver.statuses = [500, 302]
    await near.fail((await near.submit())["id"])
    for _ in range(3):
        await make_due(near)
        await courier.send_due()
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    [delivery] = await deliveries(near, client, webhook)
    assert (delivery["attempts"], delivery["status"], delivery["due_at"]) == (3, 204, None)

    again = path(near, webhook["id"], "deliveries", str(delivery["id"]), "redeliver")
    assert (await client.post(again)).status_code == 204
    await courier.send_due()
    assert receiver.calls[-1].json == receiver.calls[0].json
    assert receiver.calls[-1].headers["webhook-id"] != receiver.calls[0].headers["webhook-id"]


@pytest.mark.parametrize("status", [410, 503])
async def test_given_up(near: Web, receiver: Receiver, courier: Courier, status: int) -> None:
    client, webhook = await hooked(near, receiver)
    receiver.statuses = [status]
    await near.fail((await near.submit())["id"])
    if status != 410:  # "gone" is final at once; others for two days
        long_ago = (utc_now() - GIVE_UP - dt.timedelta(hours=1)).replace(tzinfo=None)
        await make_due(near, created_at=long_ago.isoformat(" "))
    await courier.send_due()
    [delivery] = await deliveries(near, client, webhook)
    assert (delivery["status"], delivery["due_at"], delivery["done_at"]) == (status, None, None)
    assert str(status) in delivery["error"]


async def test_only_what_is_wanted_is_told(near: Web, receiver: Receiver, courier: Courier) -> None:
    client, webhook = await hooked(near, receiver, states=["Completed"])
    await near.fail((await near.submit())["id"])
    await courier.send_due()
    assert receiver.calls == []
    one = path(near, webhook["id"])
    changed = await client.patch(one, json={"states": ["Failed"], "name": "Pager"})
    assert (changed.json()["states"], changed.json()["name"]) == (["Failed"], "Pager")
    assert "secret" not in changed.json()
    await near.fail((await near.submit())["id"])
    await courier.send_due()
    assert [call.json["Status"] for call in receiver.calls] == ["Failed"]
    await near.fail((await near.submit())["id"])
    assert (await client.delete(one)).status_code == 204
    await courier.send_due()
    assert len(receiver.calls) == 1
    assert (await client.get(path(near))).json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"url": "http://example.com/x"}, "HTTPS"),
        ({"url": "ftp://127.0.0.1/x"}, "scheme"),
        ({"url": "https://user:x@example.com/"}, "user name"),
        ({"secret": "hunter2"}, "whsec_"),
        ({"authentication": "a\r\nb: c"}, "authentication"),
        ({"states": ["Processing"]}, "Completed"),
        ({"states": []}, "Completed"),
    ],
)
async def test_what_cannot_work_is_refused(
    near: Web, receiver: Receiver, fields: dict[str, Any], word: str
) -> None:
    client = await administrator(near)
    answer = await client.post(path(near), json={"name": "x", "url": receiver.url} | fields)
    assert answer.status_code == 400
    assert word in answer.text


async def test_internal_addresses_are_the_operators_to_allow(
    sqlite: Web, receiver: Receiver
) -> None:
    client = await administrator(sqlite)
    answer = await client.post(path(sqlite), json={"name": "x", "url": receiver.url})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_secrets_are_sealed_and_changes_audited(near: Web, receiver: Receiver) -> None:
    client, webhook = await hooked(near, receiver, authentication="canary")
    async with near.database.read() as tx:
        row = await tx.one(
            sa.text("SELECT secrets FROM outgoing_webhooks ORDER BY id DESC LIMIT 1")
        )
        leaf = await tx.one(
            sa.text("SELECT body, details FROM log_entries JOIN log_details ON entry_id = id "
                    "WHERE action = 'outgoing_webhook.created' ORDER BY id DESC LIMIT 1")
        )  # fmt: skip
    assert row is not None
    assert leaf is not None
    for text in (str(row["secrets"]), leaf["body"], leaf["details"]):
        assert "canary" not in text
        assert webhook["secret"] not in text
    assert json.loads(leaf["details"])["after"]["url"] == receiver.url
    assert (await client.get(path(near))).json()["items"][0]["has_authentication"] is True


async def test_a_project_has_a_bounded_number(near: Web, receiver: Receiver) -> None:
    client, _ = await hooked(near, receiver)
    for _ in range(19):
        made = await client.post(path(near), json={"name": "x", "url": receiver.url})
        assert made.status_code == 201
    answer = await client.post(path(near), json={"name": "x", "url": receiver.url})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_old_messages_are_forgotten(near: Web, receiver: Receiver, courier: Courier) -> None:
    client, webhook = await hooked(near, receiver)
    await near.fail((await near.submit())["id"])
    later = utc_now() + dt.timedelta(days=31)
    await remove_expired(near.database, later)
    assert len(await deliveries(near, client, webhook)) == 1  # it waits to be sent
    await courier.send_due()
    assert await remove_expired(near.database, later) >= 1
    assert await deliveries(near, client, webhook) == []


async def waiting_for(web: Web, webhook: Any, count: int) -> None:
    """Have so many messages wait for the webhook."""
    now = utc_now()
    async with web.database.transaction() as tx:
        for number in range(count):
            message = Notification(
                web.scene.organization.id, Channel.WEBHOOK, webhook["id"], "x", now, now,
                {"number": number},
            )  # fmt: skip
            await notifications.add(tx, message)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_dead_receiver_holds_up_nobody_else(
    near: Web, receiver: Receiver, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nothing that is sent to the dead one ends within this test
    monkeypatch.setattr(deliver, "_TIMEOUTS", Timeouts(connect=300.0, idle=300.0, total=300.0))
    async with receiving_hooks() as dead:
        dead.silent = True
        _, to_dead = await hooked(near, dead)
        _, to_live = await hooked(near, receiver)
        await waiting_for(near, to_dead, 150)
        sending = asyncio.create_task(courier.run(Channel.WEBHOOK))
        await until(lambda: len(dead.calls) == 2)
        await waiting_for(near, to_live, 20)
        await until(lambda: len(receiver.calls) == 20)
        assert len(dead.calls) == 2

        # the courier is killed; another one sends what it had begun, under the same ids
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        dead.silent = False
        await make_due(near)
        await courier.send_due()
    numbers = [call.json["number"] for call in dead.calls]
    ids = [call.headers["webhook-id"] for call in dead.calls]
    assert sorted(numbers[2:]) == list(range(150))
    assert set(ids[:2]) < set(ids[2:])
    # one that was taken and not noted as such when the courier was killed comes twice
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 20
