"""What workers read of a row and its secrets, while somebody removes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from tests import database as rows
from tests.fakes.receiver import receiving_hooks

from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy
from sealwright.connectors.vault import Vault
from sealwright.db import (
    Database,
    Transaction,
    enrolment,
    outgoing_webhooks,
)
from sealwright.model.enrolment import Enrolment, EnrolmentServer
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.notification import Channel, Notification, OutgoingWebhook
from sealwright.model.request import State
from sealwright.reporting.deliver import Courier
from sealwright.worker.enrolment import Enroller

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
VAULT = Vault(bytes(32))


class NotingVault(Vault):
    """Notes what was opened last."""

    opened: Mapping[str, str] = MappingProxyType({})

    def open(self, row_id: str, sealed: Mapping[str, str]) -> dict[str, str]:
        found = super().open(row_id, sealed)
        self.opened = found
        return found


def removing(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, removal: Callable[[], Any]
) -> None:
    """Have somebody remove a row before its secrets are read."""
    read = getattr(module, name)

    async def meanwhile(tx: Transaction, id_: str) -> dict[str, str]:
        await removal()
        found: dict[str, str] = await read(tx, id_)
        return found

    monkeypatch.setattr(module, name, meanwhile)


async def test_a_webhook_that_goes_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await rows.seed(database)
    async with (
        receiving_hooks() as receiver,
        OutgoingClient(OutgoingPolicy(internal_hosts=("127.0.0.1",), allow_http=True)) as outgoing,
    ):
        webhook = OutgoingWebhook(
            id=new_id(), organization_id=scene.organization.id, project_id=scene.project.id,
            name="Chat", url=receiver.url, states=frozenset({State.COMPLETED}), enabled=True,
            created_at=utc_now(),
        )  # fmt: skip
        async with database.transaction() as tx:
            sealed = VAULT.seal(webhook.id, {"secret": "whsec_" + "A" * 32})
            await outgoing_webhooks.add(tx, webhook, sealed)

        async def remove() -> None:
            async with database.transaction() as tx:
                await outgoing_webhooks.delete(tx, webhook)

        removing(monkeypatch, outgoing_webhooks, "secrets", remove)
        message = Notification(
            scene.organization.id, Channel.WEBHOOK, webhook.id, "request.completed", utc_now(),
            utc_now(),
        )  # fmt: skip
        assert await Courier(database, outgoing, VAULT, "")._call(message) == 204


async def test_an_enrolment_server_that_goes_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene = await rows.seed(database)
    server = EnrolmentServer(
        new_id(), scene.organization.id, "ca", "CA", "https://localhost:1", "", "robot", 30, True,
        utc_now(),
    )  # fmt: skip
    async with database.transaction() as tx:
        await enrolment.add(tx, server, VAULT.seal(server.id, {"password": "open sesame"}))

    async def remove() -> None:
        async with database.transaction() as tx:
            await enrolment.remove(tx, server)

    removing(monkeypatch, enrolment, "sealed_credentials", remove)
    vault = NotingVault(bytes(32))
    enroller = Enroller(Settings(data=tmp_path), database, vault)
    certificate = dataclasses.replace(scene.certificate, enrolment_id=server.id)
    await enroller._ask(certificate, Enrolment(certificate.id, 0, utc_now(), ""))
    assert vault.opened == {"password": "open sesame"}
