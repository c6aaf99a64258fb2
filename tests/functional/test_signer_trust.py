"""A web process that was taken over: it writes whatever rows it likes, and has nothing signed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.authenticator import Authenticator
from tests.chaos.shim import Shim
from tests.database import add_request, seed
from tests.endorsing import Desk, equip, trust
from tests.functional.test_passkeys import session
from tests.signer import Keys, digests
from tests.web import Web

from sealwright.certify import Wish, order, wait_for
from sealwright.config import Settings
from sealwright.db import (
    Database,
    certificate_orders,
    certificates,
    endorsements,
    log,
    passkeys,
    projects,
    users,
)
from sealwright.db.tables import METADATA
from sealwright.errors import NotFoundError, SignerRefusedError
from sealwright.model.certificate import Operation, OrderState
from sealwright.model.endorsement import (
    EndorsementKind,
    configuration_subject,
    disabled_terms,
    order_terms,
    passkey_terms,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import (
    relying_party,
)
from sealwright.model.project import ArtifactConfiguration, snapshot
from sealwright.model.request import (
    HashToSign,
    RequestKind,
    SigningRequest,
)
from sealwright.model.user import Role
from sealwright.signing.signer_client import SignerClient

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@sqlite_only
async def test_rows_of_a_web_process_are_not_believed(
    database: Database, signer: SignerClient, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    rp = relying_party(signer_settings.url)
    scene = await seed(database, keys.ec, quorum=1, passkey_required=True)
    officer = await equip(database, scene.approvers[1], rp)
    approver = await equip(database, scene.approvers[0], rp)
    desk = Desk(database, scene, officer)
    tenant, policy = scene.organization.id, scene.policy

    # without a trusted passkey rows are enough, as before
    assert await signer.sign((await desk.approved(policy, approver)).id, 1, digests(1, "a"))

    with pytest.raises(NotFoundError, match="another key"):
        await signer.trust_passkey(tenant, officer.passkey.id, approver.passkey.fingerprint)
    await signer.trust_passkey(tenant, officer.passkey.id, officer.passkey.fingerprint)

    async def refused(request: SigningRequest, reason: str) -> None:
        with pytest.raises(SignerRefusedError, match=reason):
            await signer.sign(request.id, 1, digests(1, request.id))

    before = shim.count()
    await refused(await desk.approved(policy, approver), "policy waits for .* nobody")
    await desk.endorse_policy(policy, by=approver)  # whose passkey nobody trusts
    await refused(await desk.approved(policy, approver), "policy waits for .* nobody")
    await desk.endorse_policy(policy, 2)
    await refused(await desk.approved(policy, approver), "configuration waits for .* nobody")
    await desk.endorse_configuration(scene.configuration)
    await refused(await desk.approved(policy, approver), "passkey that nobody endorsed")
    await desk.endorse(
        EndorsementKind.PASSKEY, approver.passkey.id, passkey_terms(approver.passkey)
    )
    assert shim.count() == before
    signed = await desk.approved(policy, approver)
    assert await signer.sign(signed.id, 1, digests(1, "b"))
    async with database.read() as tx:
        leaves = await log.of_request(tx, signed.id, limit=100)
        named = [
            (await endorsements.of_subject(tx, tenant, kind, subject))[0].sha256
            for kind, subject in (
                (EndorsementKind.POLICY, policy.id),
                (
                    EndorsementKind.CONFIGURATION,
                    configuration_subject(scene.project.id, scene.configuration.slug),
                ),
            )
        ]
    [intended] = [one for one in leaves if one.action == "signature.intended"]
    data = json.loads(intended.body)["data"]
    assert [data["endorsement"], data["configuration_endorsement"]] == named
    before = shim.count()

    # a policy that asks for less, an approver more, another certificate: nobody endorsed those
    looser = {
        "quorum": 0, "passkey_required": False, "hash_signing_allowed": True,
        "submitters": frozenset({approver.user.id}),
    }  # fmt: skip
    for name, value in looser.items():
        changed = dataclasses.replace(policy, **{name: value})
        await refused(await desk.approved(changed, approver), "it is not as it was endorsed")
    accomplice = await equip(database, scene.approvers[2], rp)
    invented = dataclasses.replace(policy, approvers=policy.approvers | {scene.submitter.id})
    await refused(await desk.approved(invented, approver), "approvers that it had not")
    spare = dataclasses.replace(scene.certificate, id=new_id(), slug="spare")
    async with database.transaction() as tx:
        await certificates.add(tx, spare)
    swapped = dataclasses.replace(desk, scene=dataclasses.replace(scene, certificate=spare))
    moved = dataclasses.replace(policy, certificate_id=spare.id)
    await refused(await swapped.approved(moved, approver), "nor a renewal of it")
    # a passkey that the web process gave to an approver, and one that it wrote over
    await refused(await desk.approved(policy, accomplice), "passkey that nobody endorsed")
    other = await equip(database, approver.user, rp)
    await desk.endorse(EndorsementKind.PASSKEY, other.passkey.id, passkey_terms(approver.passkey))
    await refused(await desk.approved(policy, other), "passkey that nobody endorsed")
    # an endorsement for something else, or altered afterwards
    await desk.endorse(EndorsementKind.POLICY, new_id(), "00" * 32, 3)
    await refused(
        await desk.approved(dataclasses.replace(policy, quorum=2), approver),
        "it is not as it was endorsed",
    )
    # what was endorsed before and replaced since does not come back
    stricter = dataclasses.replace(policy, timestamp_required=not policy.timestamp_required)
    decided = await desk.approved(policy, approver)
    await desk.endorse_policy(stricter, 4)
    await refused(await desk.approved(policy, approver), "it is not as it was endorsed")
    async with database.transaction() as tx:
        await projects.update_policy(tx, stricter)
    with pytest.raises(SignerRefusedError, match="it has to be submitted again") as told:
        await signer.sign(decided.id, 1, digests(1, decided.id))
    assert told.value.advice == (
        "Requests decided before a policy or an artifact configuration changed under endorsements "
        "have to be submitted again."
    )
    assert shim.count() == before
    assert await signer.sign((await desk.approved(stricter, approver)).id, 1, digests(1, "c"))
    async with database.read() as tx:
        found = await endorsements.of_subject(tx, tenant, EndorsementKind.POLICY, policy.id)
    assert [one.version for one in found] == [4, 2, 1]
    before = shim.count()
    # a policy that is disabled stays so, whatever its row says
    await desk.endorse(EndorsementKind.POLICY, policy.id, disabled_terms(policy.id), 5)
    await refused(await desk.approved(stricter, approver), "was disabled, and that was endorsed")
    await desk.endorse_policy(stricter, 6)
    # a passkey that its owner removed endorses nothing, and what it endorsed holds no more
    async with database.transaction() as tx:
        await passkeys.remove(tx, tenant, officer.user.id, officer.passkey.id, utc_now())
    await refused(await desk.approved(stricter, approver), "policy waits for .* nobody")
    assert shim.count() == before
    await signer.distrust_passkey(tenant, officer.passkey.id)
    assert await signer.sign((await desk.approved(policy, approver)).id, 1, digests(1, "d"))


@sqlite_only
async def test_an_artifact_configuration_counts_by_its_newest_endorsement(
    database: Database, signer: SignerClient, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec, hash_signing_allowed=True)
    officer = await equip(database, scene.approvers[1], relying_party(signer_settings.url))
    desk = Desk(database, scene, officer)
    await signer.trust_passkey(
        scene.organization.id, officer.passkey.id, officer.passkey.fingerprint
    )
    await desk.endorse_policy(scene.policy)
    await desk.endorse_configuration(scene.configuration)
    first = scene.configuration
    looser = dataclasses.replace(
        first, id=new_id(), version=2, xml=first.xml + " ", is_default=False,
        sha256=hashlib.sha256((first.xml + " ").encode()).hexdigest(),
    )  # fmt: skip
    # a row that says of itself what it is not
    forged = dataclasses.replace(looser, id=new_id(), version=3, sha256=first.sha256)
    async with database.transaction() as tx:
        await projects.add_configuration(tx, looser)
        await projects.add_configuration(tx, forged)

    async def asked(configuration: ArtifactConfiguration | None) -> SigningRequest:
        frozen = snapshot(scene.policy, scene.certificate.sha256, configuration)
        return await add_request(
            database, scene, signatures=1, snapshot=frozen, policy_hash=frozen.sha256,
            artifact_configuration_id=configuration.id if configuration else None,
        )  # fmt: skip

    async def refused(configuration: ArtifactConfiguration | None, reason: str) -> None:
        request = await asked(configuration)
        with pytest.raises(SignerRefusedError, match=reason):
            await signer.sign(request.id, 1, digests(1, request.id))

    assert await signer.sign((await asked(first)).id, 1, digests(1, "a"))
    before = shim.count()
    await refused(looser, "newer version, and this one was never endorsed")
    await refused(forged, "not the one that was decided on")
    await refused(None, "not the one that was decided on")
    await desk.endorse_configuration(looser, 2)
    await refused(first, "configuration changed under endorsements after")
    assert shim.count() == before
    assert await signer.sign((await asked(looser)).id, 1, digests(1, "b"))
    # a bare digest is signed by no configuration
    digest = digests(1, "c")[0]
    frozen = snapshot(scene.policy, scene.certificate.sha256, None)
    bare = await add_request(
        database, scene, kind=RequestKind.HASH, snapshot=frozen, policy_hash=frozen.sha256,
        artifact_configuration_id=None,
        hash=HashToSign(digest.digest, digest.hash_algorithm, digest.mechanism.value),
    )  # fmt: skip
    assert await signer.sign(bare.id, 1, [digest])


@sqlite_only
async def test_a_removed_passkey_stays_removed(database: Database) -> None:
    """By triggers where there are no roles; for PostgreSQL see the roles' tests."""
    scene = await seed(database)
    person = await equip(database, scene.approvers[0], relying_party("https://x.example.com"))
    table = METADATA.tables["passkeys"]
    back = sa.update(table).values(removed_at=None)
    async with database.transaction() as tx:
        assert await tx.change(back) == 1, "nobody has removed it"
        assert await passkeys.remove(
            tx, scene.organization.id, person.user.id, person.passkey.id, utc_now()
        )
    for statement in (back, sa.delete(table), sa.update(table).values(user_id=scene.submitter.id)):
        with pytest.raises(sa.exc.IntegrityError, match="stays removed"):
            async with database.transaction() as tx:
                await tx.change(statement)


@sqlite_only
async def test_an_order_waits_for_its_endorsement(
    database: Database, signer: SignerClient, signer_settings: Settings, shim: Shim
) -> None:
    scene = await seed(database)
    tenant = scene.organization.id
    admin = dataclasses.replace(
        scene.submitter, id=new_id(), email=f"{new_id()}@example.com",
        role=Role.CERTIFICATE_ADMINISTRATOR,
    )  # fmt: skip
    async with database.transaction() as tx:
        await users.add(tx, admin)
    officer = await equip(database, scene.approvers[0], relying_party(signer_settings.url))
    await signer.trust_passkey(tenant, officer.passkey.id, officer.passkey.fingerprint)
    desk = Desk(database, scene, officer)
    asked = {"slug": "ordered", "subject": "CN=x", "key_type": "p-256"}
    async with database.transaction() as tx:  # in an administrator's name, whom nobody asked
        forged = await order(tx, Wish(tenant, Operation.REQUEST, "x", admin.id, asked))
        wanted = await order(
            tx, Wish(tenant, Operation.REQUEST, "x", admin.id, asked | {"slug": "wanted"})
        )
    await desk.endorse(EndorsementKind.ORDER, forged.id, order_terms(wanted))
    await desk.endorse(EndorsementKind.ORDER, wanted.id, order_terms(wanted))
    settled = await wait_for(database, tenant, wanted.id, 60)
    assert settled.state is OrderState.DONE, settled.reason
    async with database.read() as tx:
        left = await certificate_orders.get(tx, tenant, forged.id)
    assert left is not None
    assert left.state is OrderState.QUEUED, "it came first, and was not carried out"


async def test_endorsing_over_the_api_and_the_page(sqlite: Web) -> None:
    rp = relying_party(sqlite.server.url)
    admin = await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR)
    client = await session(sqlite, admin)

    async def listed(who: httpx.AsyncClient = client) -> dict[str, Any]:
        found: dict[str, Any] = (await who.get("/api/v1/endorsements")).json()
        return found

    assert await listed() == {"required": False, "items": []}
    officer = await equip(sqlite.database, admin, rp)
    await sqlite.change_policy(quorum=1, passkey_required=True)
    approver = await equip(sqlite.database, sqlite.scene.approvers[0], rp)
    key = officer.passkey
    await trust(sqlite.database, key)
    found = await listed()
    project, configuration = sqlite.scene.project, sqlite.scene.configuration
    assert found["required"]
    assert {(one["kind"], one["subject_id"]) for one in found["items"]} == {
        ("signing-policy", sqlite.scene.policy.id),
        ("artifact-configuration", configuration_subject(project.id, configuration.slug)),
        ("passkey", approver.passkey.id),
    }
    other = await session(sqlite, await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    assert [one["public_key"] for one in (await listed(other))["items"]] == [None] * 3

    async def endorse(
        one: dict[str, Any], device: Authenticator, who: httpx.AsyncClient = client
    ) -> httpx.Response:
        body = {name: one[name] for name in ("kind", "subject_id", "version")}
        options = found["items"][0]["public_key"] | (one["public_key"] or {})
        return await who.post(
            "/api/v1/endorsements", json=body | {"credential": device.sign(options)}
        )

    policy, files, passkey = found["items"]
    assert files["terms"]["xml"] == configuration.xml
    assert (await endorse(policy, approver.device)).status_code == 403
    assert (await endorse(policy, officer.device, other)).status_code == 403
    crossed = policy | {"public_key": passkey["public_key"]}
    assert (await endorse(crossed, officer.device)).status_code == 403
    assert (await endorse(policy, officer.device)).status_code == 201
    assert (await endorse(policy, officer.device)).status_code == 404
    assert (await endorse(passkey, officer.device)).status_code == 201
    assert (await endorse(files, officer.device)).status_code == 201
    assert (await listed())["items"] == []
    await sqlite.change_policy(quorum=0)
    [again] = (await listed())["items"]
    assert (again["subject_id"], again["version"]) == (sqlite.scene.policy.id, 2)
    assert again["terms"]["quorum"] == 0
    assert (await endorse(again | {"version": 1}, officer.device)).status_code == 409
    await sqlite.change_policy(enabled=False)
    [withdrawn] = (await listed())["items"]
    assert withdrawn["terms"]["disabled"] is True
    assert (await endorse(withdrawn, officer.device)).status_code == 201
    await sqlite.change_policy(quorum=1)  # while it is disabled nothing of it counts
    assert (await listed())["items"] == []
    # the officer's passkey gone, everything waits again, and nobody can endorse it
    async with sqlite.database.transaction() as tx:
        await passkeys.remove(tx, admin.organization_id, admin.id, key.id, utc_now())
    left = await listed()
    assert left["required"]
    assert {one["kind"] for one in left["items"]} == {"artifact-configuration", "passkey"}
    assert {one["public_key"] for one in left["items"]} == {None}
    assert (await endorse(left["items"][0], officer.device)).status_code == 403
