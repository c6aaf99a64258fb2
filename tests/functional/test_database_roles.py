"""What PostgreSQL's roles may do, and a signer that has only its own."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.chaos.shim import Shim
from tests.database import add_request, decide, seed, user
from tests.endorsing import Desk, equip
from tests.expiry import count, id_of, insert
from tests.postgres import Postgres
from tests.signer import Keys, digests, intents_of, running_signer

from sealwright.certify import Wish, order, wait_for
from sealwright.config import Settings
from sealwright.db import (
    Database,
    app_keys,
    build_systems,
    certificates,
    intents,
    passkeys,
    plans,
    tables,
    users,
)
from sealwright.db import log as db_log
from sealwright.db.roles import grant, statements
from sealwright.errors import ConfigurationError, SignerRefusedError, UnavailableError
from sealwright.model.app_key import AppKey
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem
from sealwright.model.certificate import KeyType, Operation, OrderState
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import relying_party
from sealwright.model.request import State
from sealwright.model.user import Role
from sealwright.transparency.record import organization_entry, record
from sealwright.worker.housekeeping import remove_expired

APPLICATION = "test_application"
SIGNER = "test-signer"

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
async def roles(postgres: Postgres, database_url: str) -> None:
    for role in (APPLICATION, SIGNER):
        await postgres.execute(
            f"""DO $$ BEGIN CREATE ROLE "{role}" LOGIN;
            EXCEPTION WHEN duplicate_object THEN NULL; END $$"""
        )
    await grant(database_url, application=APPLICATION, signer=SIGNER)
    await grant(database_url, application=APPLICATION, signer=SIGNER)  # as after every migration


def as_role(url: str, role: str) -> str:
    return url.replace("//postgres@", f"//{role}@")


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(sa.text(statement))


@pytest.fixture
async def application(roles: None, database_url: str) -> AsyncIterator[Database]:
    async with opened(as_role(database_url, APPLICATION)) as database:
        yield database


@pytest.fixture
async def settings(roles: None, signer_settings: Settings) -> Settings:
    url = as_role(signer_settings.database, SIGNER)
    return signer_settings.model_copy(update={"signer_database_url": url})


async def test_a_signer_with_its_own_role_signs(
    database: Database, application: Database, settings: Settings, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec, quorum=1)
    request = await add_request(application, scene)
    await decide(application, request, scene.approvers[0])
    async with application.transaction() as tx:
        entry = organization_entry(scene.organization.id, "test.done", actor="x", now=utc_now())
        await record(tx, entry)
    async with running_signer(settings) as client:
        await client.sign(request.id, 1, digests(5))
        assert (await client.checkpoint()).size == 11
        made = await client.create_certificate(
            scene.organization.id, "made", "Made", "CN=Made", KeyType.P256
        )
        assert made
        person = user(scene.organization.id, role=Role.CERTIFICATE_ADMINISTRATOR)
        async with application.transaction() as tx:
            await users.add(tx, person)
            asked = {"slug": "ordered", "subject": "CN=x", "key_type": "p-256"}
            wish = Wish(person.organization_id, Operation.REQUEST, "x", person.id, asked)
            placed = await order(tx, wish)
        settled = await wait_for(application, person.organization_id, placed.id, 60)
        assert settled.state is OrderState.DONE, settled.reason
        assert await client.health() == {"database": "ok", "token": "ok", "log": "ok"}
    assert shim.count() == 7


ADD_LEAF = "INSERT INTO log_entries (organization_id, action, body, created_at"
FORBIDDEN = {
    APPLICATION: [
        "INSERT INTO signature_intents SELECT * FROM signature_intents",
        "UPDATE signature_intents SET state = 'made'",
        "UPDATE log_head SET size = 0",
        "INSERT INTO log_head SELECT * FROM log_head",
        "INSERT INTO log_tiles VALUES ('tile/0/000', '', 1)",
        "DELETE FROM log_tiles",
        "UPDATE log_entries SET body = ''",
        "UPDATE log_entries SET sequence = 5",
        "DELETE FROM log_entries",
        "UPDATE log_details SET details = ''",
        f"{ADD_LEAF}, sequence) VALUES ('', 'test.done', '', now(), 7)",
        f"{ADD_LEAF}) VALUES ('', 'signature.made', '', now())",
        f"{ADD_LEAF}) VALUES ('', 'certificate.created', '', now())",
        f"{ADD_LEAF}) VALUES ('', 'certificate.issued', '', now())",
        "INSERT INTO certificates SELECT * FROM certificates",
        "UPDATE certificate_orders SET state = 'queued'",
        "UPDATE signer_envelopes SET public_key = ''",
        "INSERT INTO signer_envelopes VALUES ('', '', now())",
        "UPDATE certificates SET key_uri = ''",
        "UPDATE certificates SET certificate = ''",
        "UPDATE approvals SET verdict = 'approve'",
        "DELETE FROM approvals",
        "DELETE FROM signing_requests",
        "UPDATE artifact_configurations SET xml = ''",
        "UPDATE plans SET plan = ''",
        "INSERT INTO trust_anchors SELECT * FROM trust_anchors",
        "UPDATE trust_anchors SET public_key = ''",
        "DELETE FROM trust_anchors",
        "UPDATE endorsements SET terms_sha256 = ''",
        "DELETE FROM endorsements",
        f"{ADD_LEAF}) VALUES ('', 'trust.added', '', now())",
        "UPDATE alembic_version SET version_num = ''",
        "DROP TABLE log_entries",
        "ALTER TABLE log_entries DISABLE ROW LEVEL SECURITY",
        "TRUNCATE log_entries",
    ],
    SIGNER: [
        "DELETE FROM log_tiles",
        "INSERT INTO endorsements SELECT * FROM endorsements",
        "UPDATE trust_anchors SET public_key = ''",
        "UPDATE signing_requests SET state = 'Processing'",
        "INSERT INTO approvals SELECT * FROM approvals",
        "UPDATE signing_policies SET enabled = true",
        "UPDATE certificates SET state = 'active'",
        "UPDATE certificates SET release = false",
        "UPDATE certificates SET key_uri = ''",
        "DELETE FROM certificates",
        "INSERT INTO certificate_orders SELECT * FROM certificate_orders",
        "UPDATE certificate_orders SET requested_by = NULL",
        "UPDATE log_entries SET body = ''",
        "DELETE FROM log_entries",
        "DELETE FROM signature_intents",
        "UPDATE signature_intents SET digest = ''",
        "SELECT password_hash FROM users",
        "SELECT * FROM api_tokens",
        "SELECT * FROM timestamp_tokens",
        "SELECT * FROM log_details",
        "TRUNCATE log_tiles",
    ],
}


@pytest.mark.parametrize("role", FORBIDDEN)
async def test_what_a_role_may_not_do(roles: None, database_url: str, role: str) -> None:
    async with opened(as_role(database_url, role)) as database:
        for statement in FORBIDDEN[role]:
            with pytest.raises(UnavailableError):
                await execute(database, statement)


async def test_the_application_restricts_certificates_and_lifts_nothing(
    database: Database, application: Database, keys: Keys
) -> None:
    scene = await seed(database, keys.ec)
    tenant, one = scene.organization.id, scene.certificate.id

    async def release(through: Database, wanted: bool) -> bool:
        async with through.transaction() as tx:
            return await certificates.set_release(tx, tenant, one, release=wanted)

    assert await release(application, True)
    assert await release(application, True)
    with pytest.raises(UnavailableError, match="role"):
        await release(application, False)
    async with application.transaction() as tx:
        assert await certificates.rename(tx, tenant, one, "Renamed")
        found = await certificates.get(tx, tenant, one)
    assert found is not None
    assert found.release
    assert await release(database, False)


async def test_the_application_cannot_bring_back_a_removed_passkey(
    database: Database, application: Database, settings: Settings, keys: Keys, shim: Shim
) -> None:
    """An officer removed a stolen passkey that the signer was told to trust; who has taken over the
    web process holds it, and its database role."""
    rp = relying_party(settings.url)
    scene = await seed(database, keys.ec, quorum=1, passkey_required=True)
    tenant = scene.organization.id
    officer = await equip(application, scene.approvers[1], rp)
    approver = await equip(application, scene.approvers[0], rp)
    desk = Desk(application, scene, officer)
    async with running_signer(settings) as client:
        await client.trust_passkey(tenant, officer.passkey.id, officer.passkey.fingerprint)
        await client.trust_passkey(tenant, approver.passkey.id, approver.passkey.fingerprint)
        await desk.endorse_policy(scene.policy, by=approver)
        await desk.endorse_configuration(scene.configuration)
        async with application.transaction() as tx:
            assert await passkeys.remove(tx, tenant, officer.user.id, officer.passkey.id, utc_now())
        for change in ("removed_at = NULL", "name = 'x'", "sign_count = 0"):
            await execute(application, f"UPDATE passkeys SET {change}")
        for change in ("public_key = ''", "user_id = ''", "credential_id = ''"):
            with pytest.raises(UnavailableError):
                await execute(application, f"UPDATE passkeys SET {change}")
        with pytest.raises(UnavailableError):
            await execute(application, "DELETE FROM passkeys")
        async with database.read() as tx:
            kept = await passkeys.get(tx, tenant, officer.passkey.id)
            other = await passkeys.get(tx, tenant, approver.passkey.id)
        assert kept is not None
        assert kept.removed_at is not None
        assert kept.name == officer.passkey.name
        assert other is not None
        assert other.name == "x", "only what was removed cannot be changed"
        # neither what it endorsed before counts, nor what it endorses now, nor its approvals
        request = await desk.approved(scene.policy, approver)
        with pytest.raises(SignerRefusedError, match=r"configuration waits for .* nobody"):
            await client.sign(request.id, 1, digests(1, "a"))
        looser = dataclasses.replace(scene.policy, quorum=0)
        await desk.endorse_policy(looser, 2)
        await desk.endorse_configuration(scene.configuration, 2)
        request = await desk.approved(looser, approver)
        with pytest.raises(SignerRefusedError, match="it is not as it was endorsed"):
            await client.sign(request.id, 1, digests(1, "b"))
        await desk.endorse_configuration(scene.configuration, 3, by=approver)
        request = await desk.approved(scene.policy, officer)
        with pytest.raises(SignerRefusedError, match="the passkey was removed"):
            await client.sign(request.id, 1, digests(1, "c"))
        assert shim.count() == 0
        request = await desk.approved(scene.policy, approver)
        assert await client.sign(request.id, 1, digests(1, "d"))


async def test_the_log_cannot_be_written_and_nothing_is_signed(
    postgres: Postgres,
    database: Database,
    settings: Settings,
    keys: Keys,
    shim: Shim,
) -> None:
    """The right is revoked mid-run, with calls under way; once it is back, work goes on."""
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=300)
    async with running_signer(settings) as client:
        await client.sign(request.id, 1, digests(10))
        for table in ("log_entries", "signature_intents"):
            before = shim.count()
            await postgres.execute(
                f'REVOKE INSERT ON {table} FROM "{SIGNER}"',
                f"REVOKE INSERT (organization_id, request_id, action, body, created_at) ON "
                f'log_entries FROM "{SIGNER}"',
                database=settings.database,
            )
            for n in range(5):
                with pytest.raises(UnavailableError):
                    await client.sign(request.id, 1, digests(20, f"{table}{n}"))
            assert shim.count() == before
            await grant(settings.database, application=APPLICATION, signer=SIGNER)
        assert len(await client.sign(request.id, 1, digests(20))) == 20
    assert shim.count() == 20
    assert {one.state for one in await intents_of(database, request)} == {"made"}


async def test_outcomes_that_cannot_be_recorded_are_not_given_out(
    postgres: Postgres, database: Database, settings: Settings, keys: Keys, shim: Shim
) -> None:
    """The right to settle goes while the token is at work."""
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=10)
    async with running_signer(settings) as client:
        await postgres.execute(
            f'REVOKE UPDATE (state, signature) ON signature_intents FROM "{SIGNER}"',
            f'GRANT UPDATE (created_at) ON signature_intents TO "{SIGNER}"',  # to lock rows
            database=settings.database,
        )
        with pytest.raises(UnavailableError):
            await client.sign(request.id, 1, digests(4))
        assert shim.count() == 4
        assert {one.state for one in await intents_of(database, request)} == {"intended"}
        await grant(settings.database, application=APPLICATION, signer=SIGNER)
        assert len(await client.sign(request.id, 1, digests(4))) == 4
    states = sorted(one.state for one in await intents_of(database, request))
    assert states == ["abandoned"] * 4 + ["made"] * 4
    assert shim.count() == 8


def test_names_of_roles(database_url: str) -> None:
    for name in ('a"; DROP TABLE users; --', "", "a" * 64, "ä"):
        with pytest.raises(ConfigurationError):
            list(statements(name, SIGNER))
    with pytest.raises(ConfigurationError, match="different"):
        list(statements(SIGNER, SIGNER))


async def test_sqlite_has_no_roles(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Only PostgreSQL"):
        await grant(f"sqlite:///{tmp_path / 'x.sqlite3'}", application="a", signer="b")


async def test_the_application_removes_what_has_had_its_time(
    database: Database, application: Database
) -> None:
    scene = await seed(database)
    own = {"organization_id": scene.organization.id}
    old = utc_now() - dt.timedelta(days=371)
    waiting = await add_request(database, scene, state=State.WAITING_FOR_APPROVAL)
    ended = await add_request(database, scene, state=State.COMPLETED, finished_at=old)
    for request in (waiting, ended):
        await insert(database, tables.plans, request_id=request.id)
        named = own | {"request_id": request.id, "certificate_id": scene.certificate.id}
        await insert(database, tables.request_words, **own, word="x", request_id=request.id)
        for state, at in (("made", old), ("intended", old), ("made", utc_now())):
            await insert(
                database, tables.signature_intents, **named, id=id_of(at), state=state,
                created_at=at,
            )  # fmt: skip
    for finished_at in (None, old, utc_now()):
        await insert(
            database, tables.certificate_orders, **own, state="done", finished_at=finished_at
        )
    for table in ("plans", "request_words", "signature_intents", "certificate_orders"):
        await execute(application, f"DELETE FROM {table}")
    left = {
        table.name: await count(database, table)
        for table in (tables.plans, tables.signature_intents, tables.certificate_orders)
    }
    assert left == {"plans": 1, "signature_intents": 4, "certificate_orders": 2}
    async with database.read() as tx:
        assert await plans.get(tx, waiting.id) is not None
        [intended, *_] = await intents.of_request(tx, ended.id)
    assert intended.state == "intended"
    assert await remove_expired(application, utc_now()) == 0


async def test_the_application_can_do_its_own_work(
    database: Database, application: Database
) -> None:
    scene = await seed(database)
    async with application.transaction() as tx:
        await users.add(tx, user(scene.organization.id))
        await db_log.append(
            tx,
            [db_log.NewEntry(scene.organization.id, None, "certificate.updated", "", utc_now())],
        )
    with pytest.raises(UnavailableError):
        await execute(application, "DELETE FROM users")


async def test_the_signer_alone_says_which_key_speaks_for_an_app(
    database: Database, application: Database, settings: Settings, keys: Keys
) -> None:
    scene = await seed(database, keys.ec)
    system = TrustedBuildSystem(
        new_id(), scene.organization.id, "github", "GitHub", BuildSystemKind.GITHUB,
        "https://api.github.com", "https://github.com", True, utc_now(),
    )  # fmt: skip
    async with application.transaction() as tx:
        await build_systems.add(tx, system, {})
    key = AppKey(system.id, scene.organization.id, "Iv1.x", "pkcs11:id=%01", utc_now())
    with pytest.raises(UnavailableError):
        async with application.transaction() as tx:
            await app_keys.put(tx, key)
    async with opened(settings.signer_database) as signer, signer.transaction() as tx:
        await app_keys.put(tx, key)
        assert await app_keys.key_uris_of_certificates(tx) == [scene.certificate.key_uri]
    async with application.read() as tx:
        assert await app_keys.get(tx, system.id) == key
    with pytest.raises(UnavailableError):
        async with application.transaction() as tx:
            await app_keys.remove(tx, system.id)
