"""Queries about CI systems, on both databases."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt

import pytest
from tests.database import Scene, add_request, seed

from sealwright.connectors.vault import Vault
from sealwright.db import Database, build_systems, outbox, projects, run_submissions, webhooks
from sealwright.db.outbox import Message
from sealwright.db.webhooks import Delivery
from sealwright.model.build_system import (
    BuildSystemKind,
    RepositoryLink,
    TrustedBuildSystem,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.origin import OriginRules

LATER = dt.timedelta(minutes=1)


@dataclasses.dataclass
class Linked:
    scene: Scene
    system: TrustedBuildSystem
    link: RepositoryLink


@pytest.fixture
async def linked(database: Database) -> Linked:
    scene = await seed(database)
    system = TrustedBuildSystem(
        new_id(), scene.organization.id, "github", "GitHub", BuildSystemKind.GITHUB,
        "https://api.github.com", "https://github.com", True, utc_now(), {"client_id": "x"},
    )  # fmt: skip
    link = RepositoryLink(
        new_id(), scene.organization.id, scene.project.id, system.id, "1001", "77", "octo/app",
        "3001", utc_now(),
    )  # fmt: skip
    async with database.transaction() as tx:
        await build_systems.add(tx, system, Vault(bytes(32)).seal(system.id, {"token": "t"}))
        await build_systems.add_link(tx, link)
    return Linked(scene, system, link)


def message(linked: Linked, subject: str) -> Message:
    now = utc_now()
    return Message(
        linked.scene.organization.id, "report", subject, linked.link.id, None, "queued", now, now
    )


async def test_build_systems_come_back_without_credentials(
    database: Database, linked: Linked
) -> None:
    async with database.read() as tx:
        found = await build_systems.find(tx, linked.scene.organization.id, "github")
        assert found == linked.system
        assert await build_systems.find(tx, new_id(), "github") is None
        sealed = await build_systems.sealed_credentials(tx, linked.system.id)
        assert Vault(bytes(32)).open(linked.system.id, sealed) == {"token": "t"}
        assert await build_systems.links(tx, new_id()) == []


async def test_origin_rules_come_back_as_they_were(database: Database, linked: Linked) -> None:
    rules = OriginRules(branches=("main",), rulesets={"pull_request": "2"}, no_reruns=True)
    policy = dataclasses.replace(linked.scene.policy, origin_rules=rules)
    async with database.transaction() as tx:
        await projects.update_policy(tx, policy)
        found = await projects.find_policy(tx, policy.organization_id, None, policy.id)
    assert found == policy


async def test_messages_of_one_subject_are_due_one_by_one(
    database: Database, linked: Linked
) -> None:
    async with database.transaction() as tx:
        for subject in ("a", "a", "b"):
            await outbox.add(tx, message(linked, subject))
        first, other = await outbox.due(tx, utc_now(), each=8)
        assert (first.subject, other.subject) == ("a", "b")
        assert await outbox.claim(tx, first, utc_now() + LATER)
        assert not await outbox.claim(tx, first, utc_now() + LATER)
        assert [one.subject for one in await outbox.due(tx, utc_now(), each=8)] == ["b"]
        await outbox.told(tx, first, utc_now(), "70001", "https://example.com")
        assert [one.subject for one in await outbox.due(tx, utc_now(), each=8)] == ["a", "b"]
        told = await outbox.last_told(tx, "a")
        assert told is not None
        assert told.reference == "70001"
        assert await outbox.by_reference(tx, linked.link.id, "70001") == told
        assert await outbox.by_reference(tx, new_id(), "70001") is None


async def test_what_waits_for_one_build_system_hides_nothing_of_another(
    database: Database, linked: Linked
) -> None:
    other_system = dataclasses.replace(linked.system, id=new_id(), slug="other")
    other_link = dataclasses.replace(linked.link, id=new_id(), build_system_id=other_system.id)
    async with database.transaction() as tx:
        await build_systems.add(tx, other_system, {})
        await build_systems.add_link(tx, other_link)
        for number in range(12):
            await outbox.add(tx, message(linked, f"a{number}"))
        await outbox.add(tx, dataclasses.replace(message(linked, "b"), link_id=other_link.id))
        found = await outbox.due(tx, utc_now(), each=2)
    assert [one.subject for one in found] == ["a0", "a1", "b"]
    assert [one.build_system_id for one in found[1:]] == [linked.system.id, other_system.id]


async def test_one_of_many_equal_deliveries_is_new(database: Database, linked: Linked) -> None:
    now = utc_now()
    delivery = Delivery(linked.system.id, "d1", "push", "noted", "1001", {"run_id": "5"}, now,
                        due_at=now)  # fmt: skip

    async def receive() -> bool:
        async with database.transaction() as tx:
            return await webhooks.add(tx, delivery) is None

    assert sum(await asyncio.gather(*(receive() for _ in range(12)))) == 1
    async with database.transaction() as tx:
        [due] = await webhooks.due(tx, utc_now(), each=5)
        assert due.repeats == 11
        assert await webhooks.claim(tx, due, utc_now() + LATER)
        assert not await webhooks.claim(tx, due, utc_now() + LATER)
        await webhooks.settle(tx, due, "done")
        assert await webhooks.due(tx, utc_now() + LATER * 2, each=5) == []


async def test_one_of_many_equal_submissions_is_first(database: Database, linked: Linked) -> None:
    key, token = "ab" * 32, "cd" * 32
    request = await add_request(database, linked.scene)
    until = utc_now() + LATER

    async def submit() -> bool:
        async with database.transaction() as tx:
            earlier = await run_submissions.find(tx, key)
            assert await run_submissions.take_token(tx, linked.system.id, token, key, until)
            if earlier is None:
                await run_submissions.add(tx, key, request.id, utc_now())
            return earlier is None

    assert sum(await asyncio.gather(*(submit() for _ in range(12)))) == 1
    async with database.transaction() as tx:
        other = "ef" * 32
        assert not await run_submissions.take_token(tx, linked.system.id, token, other, until)
