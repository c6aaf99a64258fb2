"""Pages that put together what several statements found, while somebody adds to it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import sqlalchemy as sa
from tests import database as rows
from tests.functional.test_web_pages import logged_in
from tests.web import Web, WebServer, opened, signing_certificate

from sealwright.db import Transaction, build_systems, certificates, projects, proposals
from sealwright.model.build_system import BuildSystemKind, RepositoryLink, TrustedBuildSystem
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.proposal import Proposal
from sealwright.model.user import Role


async def add(tx: Transaction, web: Web) -> None:
    """Add what refers to others that are just as new."""
    organization, submitter = web.scene.organization.id, web.scene.submitter.id
    other = rows.project(organization, slug="other")
    key = rows.certificate(
        organization, slug="other", certificate=signing_certificate("p256").certificate
    )
    system = TrustedBuildSystem(
        new_id(), organization, "github", "GitHub", BuildSystemKind.GITHUB,
        "https://github.invalid", "https://github.invalid", True, utc_now(), {},
    )  # fmt: skip
    await projects.add(tx, other)
    await certificates.add(tx, key)
    await projects.add_policy(
        tx, rows.policy(other, key.id, slug="other", submitters=frozenset({submitter}))
    )
    await build_systems.add(tx, system, b"")
    await build_systems.add_link(
        tx,
        RepositoryLink(
            new_id(), organization, web.scene.project.id, system.id, "1", "2", "octo/app", "",
            utc_now(),
        ),
    )  # fmt: skip
    await proposals.add(
        tx,
        Proposal(
            new_id(), organization, other.id, "initial", "Initial",
            web.scene.configuration.xml, "Better", None, submitter, utc_now(),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("/", "proposals"),
        ("/projects/product/builds", "repository_links"),
        ("/certificates/test-certificate", "signing_policies"),
        ("/API/v1/{organization}/Cryptoki/MySigningPolicies", "signing_policies"),
    ],
)
async def test_readers_see_one_state(postgresql_web: WebServer, path: str, table: str) -> None:
    """The reader stands before the table that refers to others, whose rows it has read already."""
    async with opened(postgresql_web) as web:
        reader = await (web.submitter() if path.startswith("/API") else logged_in(web))
        path = path.format(organization=web.scene.organization.id)
        async with web.database.transaction() as tx:
            await tx.connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            reading = asyncio.create_task(reader.get(path))
            await _waits(web, table, reading)
            await add(tx, web)
        assert (await reading).status_code == 200
        assert (await reader.get(path)).status_code == 200


async def test_a_restriction_looks_at_what_was_added_meanwhile(
    postgresql_web: WebServer,
) -> None:
    """It stands before the policies; those that come refer to a certificate as new as they are."""
    async with opened(postgresql_web) as web:
        keeper = await web.client(await web.add_user(role=Role.CERTIFICATE_ADMINISTRATOR))
        path = "/api/v1/certificates/test-certificate"
        async with web.database.transaction() as tx:
            await tx.connection.execute(
                sa.text("LOCK TABLE signing_policies IN ACCESS EXCLUSIVE MODE")
            )
            patching = asyncio.create_task(keeper.patch(path, json={"release": True}))
            await _waits(web, "signing_policies", patching)
            await add(tx, web)
        refused = await patching
        assert refused.status_code == 403, refused.text
        assert "Signing policies without approval use" in refused.json()["detail"]


async def _waits(web: Web, table: str, reading: asyncio.Task[httpx.Response]) -> None:
    """Return when somebody waits for the table."""
    waiting = sa.text(
        f"SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
    )
    async with web.database.read() as tx:
        while not await tx.one(waiting):
            assert not reading.done(), reading.result().text
            await asyncio.sleep(0.01)
