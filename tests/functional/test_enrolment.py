"""Automatic enrolment: worker, signer on a real token, and an EST server over TLS."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
from collections.abc import Iterator

import pytest
from tests.chaos.shim import Shim
from tests.database import seed, user
from tests.fakes.est import EstServer
from tests.functional.test_certificate_orders import WAIT, Desk
from tests.openssl_ca import OpensslCa, openssl

from sealwright.certify import check, wait_for
from sealwright.config import Settings
from sealwright.connectors.vault import Vault
from sealwright.db import Database, certificate_orders, certificates, enrolment, users
from sealwright.errors import ConfigurationError, NotFoundError
from sealwright.model.certificate import Certificate, CertificateSource, Operation
from sealwright.model.enrolment import EnrolmentServer
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import Role
from sealwright.signing.signer_client import SignerClient
from sealwright.worker.enrolment import Enroller

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
VAULT = Vault(bytes(32))


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> OpensslCa:
    return OpensslCa.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def est(ca: OpensslCa) -> Iterator[EstServer]:
    with EstServer(ca).run() as server:
        yield server


@pytest.fixture
async def desk(database: Database, signer: SignerClient, shim: Shim) -> Desk:
    scene = await seed(database)
    person = user(scene.organization.id, role=Role.CERTIFICATE_ADMINISTRATOR)
    async with database.transaction() as tx:
        await users.add(tx, person)
    return Desk(database, scene, person, shim)


@pytest.fixture
def enroller(database: Database, signer_settings: Settings) -> Enroller:
    settings = signer_settings.model_copy(update={"build_system_hosts": ("localhost",)})
    return Enroller(settings, database, VAULT)


async def name(desk: Desk, est: EstServer, **fields: object) -> EnrolmentServer:
    made = EnrolmentServer(
        new_id(), desk.tenant, "ca", "CA", est.url, est.ca.root.decode(), "robot", 30, True,
        utc_now(),
    )  # fmt: skip
    made = dataclasses.replace(made, **fields)  # type: ignore[arg-type]
    async with desk.database.transaction() as tx:
        await enrolment.add(tx, made, VAULT.seal(made.id, {"password": "open sesame"}))
    return made


async def enrolled(desk: Desk, server: EnrolmentServer) -> Certificate:
    asked = {"slug": "auto", "subject": "CN=Auto,O=Example", "key_type": "p-256"}
    return await desk.have(Operation.REQUEST, asked | {"enrolment_id": server.id})


async def settle(desk: Desk) -> None:
    """Wait until the signer has done what was ordered, and see that it did."""
    async with desk.database.read() as tx:
        found = await certificate_orders.latest(tx, desk.tenant)
    for one in found:
        check(await wait_for(desk.database, desk.tenant, one.id, WAIT))


async def test_from_the_request_to_the_renewal(
    desk: Desk, est: EstServer, enroller: Enroller
) -> None:
    server = await name(desk, est)
    pending = await enrolled(desk, server)
    assert pending.source is CertificateSource.ENROLMENT
    est.waits, est.days = 1, 20
    now = utc_now()
    assert await enroller.enrol(now) == 1
    assert await enroller.enrol(now) == 0, "the server said when to come again"
    assert (await desk.certificate(pending.id)).is_pending
    assert await enroller.enrol(utc_now() + dt.timedelta(seconds=18)) == 1
    await settle(desk)
    issued = await desk.certificate(pending.id)
    assert not issued.is_pending
    assert len(issued.chain) == 2
    basic = "Basic " + base64.b64encode(b"robot:open sesame").decode()
    assert est.asked == [("simpleenroll", basic, "")] * 2

    assert await enroller.renew(utc_now()) == 1, "20 days are less than 30"
    await settle(desk)
    assert await enroller.renew(utc_now()) == 0, "one is on its way"
    est.days = 90
    assert await enroller.enrol(utc_now()) == 1
    await settle(desk)
    async with desk.database.read() as tx:
        current = await certificates.get_current(tx, desk.tenant, pending.id)
    assert current is not None
    assert (current.slug, current.replaces_id) == ("auto-2", pending.id)
    assert current.key_uri != issued.key_uri, "a new key"
    assert est.asked[-1][0] == "simplereenroll"
    assert await enroller.renew(utc_now()) == 0
    assert "certificate.issued" in await desk.actions()


async def test_what_came_otherwise_is_renewed_by_the_server(
    desk: Desk, est: EstServer, enroller: Enroller
) -> None:
    server = await name(desk, est)
    asked = {"slug": "own", "subject": "CN=Own,O=Example", "key_type": "p-256"}
    old = await desk.have(Operation.CREATE, asked)
    other = await desk.have(Operation.CREATE, asked | {"slug": "other"})
    by = {"method": "enrolment", "enrolment_id": server.id}
    pending = await desk.have(Operation.RENEW, by, certificate_id=old.id)
    assert (pending.enrolment_id, pending.replaces_id) == (server.id, old.id)
    assert await enroller.enrol(utc_now()) == 1
    await settle(desk)
    assert est.asked[-1][0] == "simpleenroll", "it has issued none of it before"
    async with desk.database.read() as tx:
        current = await certificates.get_current(tx, desk.tenant, old.id)
    assert current is not None
    assert current.id == pending.id
    assert len(current.chain) == 2
    with pytest.raises(NotFoundError, match="EST server"):
        await desk.have(Operation.RENEW, {"method": "enrolment"}, certificate_id=other.id)


async def test_a_server_that_refuses_or_is_another(
    desk: Desk, est: EstServer, enroller: Enroller, ca: OpensslCa
) -> None:
    server = await name(desk, est)
    pending = await enrolled(desk, server)
    est.status = 401
    assert await enroller.enrol(utc_now()) == 1
    async with desk.database.read() as tx:
        assert "refuses" in await enrolment.error_of(tx, pending.id)
    est.status = 500
    assert await enroller.enrol(utc_now() + dt.timedelta(hours=2)) == 1
    stranger = OpensslCa.make(ca.folder / "stranger")
    async with desk.database.transaction() as tx:
        other = dataclasses.replace(server, roots=stranger.root.decode())
        await enrolment.update(tx, other, VAULT.seal(server.id, {"password": "x"}))
    asked = len(est.asked)
    assert await enroller.enrol(utc_now() + dt.timedelta(hours=9)) == 1
    async with desk.database.read() as tx:
        assert "certificate was refused" in await enrolment.error_of(tx, pending.id)
    assert await enroller.enrol(utc_now() + dt.timedelta(seconds=5)) == 0
    async with desk.database.transaction() as tx:  # somebody mends it
        await enrolment.hurry(tx, server, utc_now())
    assert await enroller.enrol(utc_now()) == 1
    assert len(est.asked) == asked, "nothing was sent to a server that is not the one"
    actions = await desk.actions()
    assert actions.count("certificate.enrolment_failed") == 3
    with pytest.raises(NotFoundError, match="EST server"):
        await desk.have(
            Operation.REQUEST,
            {"slug": "no", "subject": "CN=no", "key_type": "p-256", "enrolment_id": new_id()},
        )


async def test_a_client_certificate(desk: Desk, ca: OpensslCa, enroller: Enroller) -> None:
    key = ca.folder / "client.key"
    csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                  "-keyout", key, "-subj", "/CN=robot")  # fmt: skip
    leaf = ca.issue(csr, extensions="extendedKeyUsage=clientAuth\n") + ca.intermediate
    with EstServer(ca).run(client_ca=ca.root) as est:
        server = await name(desk, est, user="")
        credentials = {"client_certificate": leaf.decode(), "client_key": key.read_text()}
        async with desk.database.transaction() as tx:
            await enrolment.update(tx, server, VAULT.seal(server.id, credentials))
        pending = await enrolled(desk, server)
        assert await enroller.enrol(utc_now()) == 1
        await settle(desk)
        assert not (await desk.certificate(pending.id)).is_pending
        [(path, authorization, subject)] = est.asked
        assert (path, authorization) == ("simpleenroll", "")
        assert "robot" in subject


async def test_what_cannot_work(desk: Desk, est: EstServer) -> None:
    from sealwright.connectors.est import EstClient

    server = await name(desk, est)
    for roots, credentials in (
        ("nonsense", {}),
        (server.roots, {"client_certificate": "nonsense", "client_key": "x"}),
    ):
        with pytest.raises(ConfigurationError):
            EstClient(dataclasses.replace(server, roots=roots), credentials)
