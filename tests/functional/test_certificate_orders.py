"""What is ordered of the signer: keys and certificates on a real token, with openssl as the CA."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import io
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from asn1crypto.pkcs12 import Pfx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.chaos.shim import Shim
from tests.database import Scene, add_request, decide, policy, seed, user
from tests.openssl_ca import OpensslCa, der
from tests.signer import digests, verify
from tests.system import short_folder

from sealwright.certify import Wish, check, import_payload, order, wait_for
from sealwright.db import Database, certificate_orders, certificates, log, projects, users
from sealwright.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    SealwrightError,
    SignerRefusedError,
)
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.certificate import (
    Certificate,
    CertificateKind,
    CertificateOrder,
    CertificateSource,
    CertificateState,
    CertificateStatus,
    KeyType,
    Operation,
    OrderState,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.openpgp import published
from sealwright.model.user import Role, User
from sealwright.signing.artifact import SignatureResult
from sealwright.signing.openpgp import OpenPgpKey, prepare_document
from sealwright.signing.signer_client import SignerClient

WAIT = 120.0
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> OpensslCa:
    return OpensslCa.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pfx(ca: OpensslCa) -> bytes:
    return ca.pkcs12("secret", "P-256")


@dataclass
class Desk:
    """Orders things for one organization, in the name of one user."""

    database: Database
    scene: Scene
    person: User
    shim: Shim

    @property
    def tenant(self) -> str:
        return self.scene.organization.id

    async def place(
        self,
        operation: Operation,
        arguments: Mapping[str, str | int | bool] | None = None,
        *,
        by: User | None = None,
        secret: bytes | None = None,
        **fields: str | bytes,
    ) -> CertificateOrder:
        who = by or self.person
        wish = Wish(
            self.tenant, operation, f"user:{who.id}", who.id, arguments or {},
            **fields,  # type: ignore[arg-type]
        )  # fmt: skip
        async with self.database.transaction() as tx:
            return await order(tx, wish, sealed=secret)

    async def settled(self, made: CertificateOrder) -> CertificateOrder:
        return await wait_for(self.database, self.tenant, made.id, WAIT)

    async def have(
        self,
        operation: Operation,
        arguments: Mapping[str, str | int | bool] | None = None,
        *,
        secret: bytes | None = None,
        **fields: str | bytes,
    ) -> Certificate:
        """Order it and wait; what came of it, or the signer's error."""
        made = await self.settled(await self.place(operation, arguments, secret=secret, **fields))
        check(made)
        assert made.state is OrderState.DONE
        assert made.payload == b"", "uploads are not kept"
        return await self.certificate(made.result_id or "")

    async def certificate(self, certificate_id: str) -> Certificate:
        async with self.database.read() as tx:
            found = await certificates.get(tx, self.tenant, certificate_id)
        assert found
        return found

    async def request(self, slug: str, **more: str | int | bool) -> Certificate:
        asked = {"slug": slug, "subject": f"CN={slug},O=Example", "key_type": "p-256"} | more
        return await self.have(Operation.REQUEST, asked)

    async def actions(self) -> list[str]:
        async with self.database.read() as tx:
            return [one.action for one in reversed(await log.page(tx, self.tenant))]


@pytest.fixture
async def desk(database: Database, signer: SignerClient, shim: Shim) -> Desk:
    scene = await seed(database)
    person = user(scene.organization.id, role=Role.CERTIFICATE_ADMINISTRATOR)
    async with database.transaction() as tx:
        await users.add(tx, person)
    return Desk(database, scene, person, shim)


async def test_a_key_is_made_and_certifies_itself(desk: Desk) -> None:
    made = await desk.have(
        Operation.CREATE,
        {"slug": "release", "name": "Release", "subject": "CN=Acme", "key_type": "p-384",
         "valid_days": 20, "release": True},
    )  # fmt: skip
    leaf = x509.load_der_x509_certificate(made.certificate)
    leaf.verify_directly_issued_by(leaf)
    assert (made.key_type, made.release, made.exposed) == (KeyType.P384, True, False)
    assert made.status(utc_now()) is CertificateStatus.ACTIVE
    assert (made.days_left(utc_now()), made.warning(utc_now())) == (19, 30)
    assert await desk.actions() == [
        "certificate.ordered", "certificate.intended", "certificate.created",
    ]  # fmt: skip
    async with desk.database.read() as tx:
        [created, *_] = await log.page(tx, desk.tenant)
    facts = json.loads(created.body)
    assert facts["actor"] == "signer"
    assert facts["data"]["requested_by"] == f"user:{desk.person.id}"
    assert facts["data"]["sha256"] == made.sha256


@sqlite_only
async def test_a_request_is_answered_by_a_certification_authority(
    desk: Desk, ca: OpensslCa
) -> None:
    """The whole way, with every form in which a chain may come back."""
    before = desk.shim.count()
    for number, (name, pack) in enumerate(
        {
            "pem": lambda leaf: leaf + ca.intermediate + ca.root,
            "shuffled": lambda leaf: b"Bag Attributes\n" + ca.root + ca.intermediate + leaf,
            "without-root": lambda leaf: ca.intermediate + leaf,
            "pkcs7": lambda leaf: ca.pkcs7(ca.root, leaf, ca.intermediate),
            "pkcs7-pem": lambda leaf: ca.pkcs7(ca.intermediate, leaf, form="PEM"),
            "der-completed": der,  # from the chains of the others
        }.items()
    ):
        pending = await desk.request(name)
        assert pending.status(utc_now()) is CertificateStatus.PENDING
        assert pending.source is CertificateSource.REQUEST
        assert desk.shim.count() == before + number + 1, "a request is signed once"
        leaf = ca.issue(pending.csr)
        issued = await desk.have(Operation.INSTALL, certificate_id=pending.id, payload=pack(leaf))
        assert issued.certificate == der(leaf), name
        assert issued.id == pending.id
        expected = [der(ca.intermediate)]
        expected += [] if "without" in name or name == "pkcs7-pem" else [der(ca.root)]
        if name == "pkcs7-pem":
            expected = [der(ca.intermediate), der(ca.root)]  # the root is known by now
        if name == "without-root":
            expected = [der(ca.intermediate), der(ca.root)]
        assert list(issued.chain) == expected, name
        assert issued.subject == f"CN={name},O=Example"
        assert issued.status(utc_now()) is CertificateStatus.ACTIVE
    assert (await desk.actions())[-4:] == [
        "certificate.intended", "certificate.requested", "certificate.ordered",
        "certificate.issued",
    ]  # fmt: skip


@sqlite_only
async def test_what_was_issued_signs(
    database: Database, desk: Desk, signer: SignerClient, ca: OpensslCa
) -> None:
    pending = await desk.request("release")
    refused = await _request_with(database, desk.scene, pending)
    with pytest.raises(SignerRefusedError, match="not been issued"):
        await signer.sign(refused, 1, digests(1))
    leaf = ca.issue(pending.csr) + ca.intermediate
    issued = await desk.have(Operation.INSTALL, certificate_id=pending.id, payload=leaf)
    [item] = digests(1, "issued")
    [signature] = await signer.sign(await _request_with(database, desk.scene, issued), 1, [item])
    verify(issued, item, signature)


async def _request_with(database: Database, scene: Scene, certificate: Certificate) -> str:
    """A request that is being processed with the certificate, under a policy of its own."""
    rules = policy(
        scene.project, certificate.id, slug=f"p-{new_id()[-8:]}",
        submitters=frozenset({scene.submitter.id}),
        approvers=frozenset(one.id for one in scene.approvers),
        quorum=1,
    )  # fmt: skip
    async with database.transaction() as tx:
        await projects.add_policy(tx, rules)
    changed = dataclasses.replace(scene, certificate=certificate, policy=rules)
    made = await add_request(database, changed)
    await decide(database, made, scene.approvers[0])
    return made.id


@sqlite_only
async def test_an_openpgp_key_is_made_and_signs(
    desk: Desk, signer: SignerClient, tmp_path: Path
) -> None:
    """Key, certification and signature come from the token; gpg verifies both."""
    user_id = "Acme releases <releases@example.com>"
    made = await desk.have(
        Operation.CREATE,
        {"slug": "pgp", "kind": "openpgp", "subject": user_id, "key_type": "p-384"},
    )
    assert (made.kind, made.subject) == (CertificateKind.OPENPGP, user_id)
    key = OpenPgpKey.parse(made.certificate)
    prepared = prepare_document(key, io.BytesIO(b"content"), "sha384", int(time.time()))
    request = await _request_with(desk.database, desk.scene, made)
    [value] = await signer.sign(request, 1, [prepared.request])
    (tmp_path / "sig").write_bytes(prepared.finish(SignatureResult(value)))
    (tmp_path / "file").write_bytes(b"content")
    with short_folder() as home:
        home.chmod(0o700)
        command = ["gpg", "--homedir", home, "--batch", "--no-autostart"]
        subprocess.run([*command, "--import"], input=made.certificate, check=True)
        subprocess.run([*command, "--verify", tmp_path / "sig", tmp_path / "file"], check=True)
    with pytest.raises(InvalidInputError, match="user id"):
        await desk.have(Operation.CREATE, {"slug": "no", "kind": "openpgp", "subject": ""})


@sqlite_only
async def test_an_openpgp_key_is_renewed_succeeded_and_revoked(
    desk: Desk, signer: SignerClient
) -> None:
    asked = {"slug": "pgp", "kind": "openpgp", "subject": "Acme <a@example.com>"}
    made = await desk.have(Operation.CREATE, asked | {"key_type": "p-256", "valid_days": 10})
    await _next_second(made)
    longer = await desk.have(Operation.RENEW, {"valid_days": 100}, certificate_id=made.id)
    key = OpenPgpKey.parse(longer.certificate)
    assert key == OpenPgpKey.parse(made.certificate)
    assert (longer.slug, longer.key_uri, longer.replaces_id) == ("pgp-2", made.key_uri, made.id)
    assert longer.not_after - longer.not_before == dt.timedelta(days=100)
    other = await desk.have(
        Operation.RENEW, {"valid_days": 100, "new_key": True}, certificate_id=longer.id
    )
    assert (other.slug, other.kind) == ("pgp-3", CertificateKind.OPENPGP)
    assert other.key_uri != made.key_uri
    assert (await desk.certificate(longer.id)).status(utc_now()) is CertificateStatus.REPLACED
    with pytest.raises(InvalidInputError, match="not renewed by 'request'"):
        await desk.have(Operation.RENEW, {"method": "request"}, certificate_id=other.id)
    with pytest.raises(InvalidInputError, match="no reason"):
        await desk.have(Operation.REVOKE, {"reason": "mood"}, certificate_id=made.id)

    request = await _request_with(desk.database, desk.scene, longer)
    revoked = await desk.have(
        Operation.REVOKE, {"reason": "compromised", "comment": "Lost"}, certificate_id=made.id
    )
    for one in (revoked, await desk.certificate(longer.id)):
        assert one.status(utc_now()) is CertificateStatus.REVOKED
        assert (one.state, one.revocation_reason) == (CertificateState.DISABLED, "compromised")
        assert published(one) != one.certificate
    assert not (await desk.certificate(other.id)).is_revoked
    async with desk.database.transaction() as tx:
        enabled = await certificates.set_state(tx, desk.tenant, made.id, CertificateState.ACTIVE)
    assert not enabled, "for good"
    with pytest.raises(SignerRefusedError, match="is revoked"):
        await signer.sign(request, 1, digests(1))
    with pytest.raises(ConflictError, match="revoked already"):
        await desk.have(Operation.REVOKE, certificate_id=made.id)
    with pytest.raises(ConflictError, match="for good"):
        await desk.have(Operation.RENEW, certificate_id=made.id)
    x509_one = await desk.request("x509")
    with pytest.raises(InvalidInputError, match="its authority revokes it"):
        await desk.have(Operation.REVOKE, certificate_id=x509_one.id)
    assert (await desk.actions()).count("certificate.revoked") == 2


async def _next_second(made: Certificate) -> None:
    """Of two certifications of one second nobody can tell which counts."""
    while utc_now() < made.not_before + dt.timedelta(seconds=1):
        await asyncio.sleep(0.1)


@sqlite_only
async def test_a_chain_that_is_refused(desk: Desk, ca: OpensslCa) -> None:
    pending = await desk.request("pending")
    leaf = ca.issue(pending.csr, extensions="extendedKeyUsage=serverAuth\n") + ca.intermediate
    with pytest.raises(InvalidInputError, match="not for signing code"):
        await desk.have(Operation.INSTALL, certificate_id=pending.id, payload=leaf)
    key = ca.key("root").read_bytes()
    with pytest.raises(InvalidInputError, match="private key"):
        await desk.have(Operation.INSTALL, certificate_id=pending.id, payload=key)
    assert (await desk.certificate(pending.id)).is_pending
    assert (await desk.actions()).count("certificate.refused") == 2
    leaf = ca.issue(pending.csr) + ca.intermediate
    await desk.have(Operation.INSTALL, certificate_id=pending.id, payload=leaf)
    with pytest.raises(ConflictError, match="issued already"):
        await desk.have(Operation.INSTALL, certificate_id=pending.id, payload=b"x")


async def test_a_key_from_a_file_is_imported_and_exposed(
    desk: Desk, ca: OpensslCa, pfx: bytes, signer: SignerClient
) -> None:
    secret = import_payload(pfx, "secret")
    placed = await desk.place(Operation.IMPORT, {"slug": "old"}, secret=secret)
    assert b"secret" not in placed.payload
    assert pfx[:64] not in placed.payload
    settled = await desk.settled(placed)
    check(settled)
    made = await desk.certificate(settled.result_id or "")
    assert (made.exposed, made.source) == (True, CertificateSource.IMPORT)
    assert made.chain == (der(ca.intermediate), der(ca.root))
    made_id = (Pkcs11Uri.parse(made.key_uri).id or b"").hex()
    [key] = [one for one in await signer.list_keys() if one["id"] == made_id]
    assert key["exposed"] is True
    [item] = digests(1, "imported")
    request = await _request_with(desk.database, desk.scene, made)
    [signature] = await signer.sign(request, 1, [item])
    verify(made, item, signature)


@sqlite_only
async def test_imports_that_are_refused(
    desk: Desk, ca: OpensslCa, pfx: bytes, signer: SignerClient
) -> None:
    async def refused(message: str, content: bytes, password: str, **more: bool) -> None:
        with pytest.raises(InvalidInputError, match=message):
            await desk.have(
                Operation.IMPORT, {"slug": "new"} | more,
                secret=import_payload(content, password),
            )  # fmt: skip

    before = await _on_token(signer)
    await refused("password", pfx, "wrong")
    weak = ca.pkcs12("x", "rsa:2048")
    await refused("too weak for a release", weak, "x", release=True)
    endless = Pfx.load(pfx)
    endless["mac_data"]["iterations"] = 2**31 - 1
    await refused("too much time", endless.dump(force=True), "secret")
    assert await _on_token(signer) == before, "no key was put on the token in vain"
    imported = await desk.have(Operation.IMPORT, {"slug": "weak"}, secret=import_payload(weak, "x"))
    assert imported.key_type is KeyType.RSA_2048
    public = x509.load_der_x509_certificate(imported.certificate).public_key()
    assert isinstance(public, rsa.RSAPublicKey)


async def _on_token(signer: SignerClient) -> int:
    return len(await signer.list_keys())


async def test_a_renewal_takes_the_place(
    database: Database, desk: Desk, signer: SignerClient, ca: OpensslCa
) -> None:
    """Policies need no change, what was decided before is still signed, and the old one is kept."""
    old = await desk.have(
        Operation.CREATE, {"slug": "release", "subject": "CN=Acme", "key_type": "p-256"}
    )
    decided = await _request_with(database, desk.scene, old)
    renewed = await desk.have(Operation.RENEW, {"valid_days": 100}, certificate_id=old.id)
    assert (renewed.slug, renewed.replaces_id) == ("release-2", old.id)
    assert renewed.key_uri == old.key_uri
    assert (await desk.certificate(old.id)).status(utc_now()) is CertificateStatus.REPLACED
    async with database.read() as tx:
        found = await certificates.get_current(tx, desk.tenant, old.id)
    assert found == renewed
    [item] = digests(1, "decided before")
    [signature] = await signer.sign(decided, 1, [item])
    verify(old, item, signature)
    with pytest.raises(ConflictError, match="renewed already"):
        await desk.have(Operation.RENEW, certificate_id=old.id)

    third = await desk.have(
        Operation.RENEW, {"method": "request", "new_key": True}, certificate_id=renewed.id
    )
    assert third.is_pending
    assert third.key_uri != old.key_uri
    async with database.read() as tx:
        found = await certificates.get_current(tx, desk.tenant, old.id)
    assert found == renewed, "a pending renewal replaces nothing"
    with pytest.raises(ConflictError, match="waits for its chain"):
        await desk.have(Operation.RENEW, certificate_id=renewed.id)
    chain = ca.issue(third.csr) + ca.intermediate
    issued = await desk.have(Operation.INSTALL, certificate_id=third.id, payload=chain)
    async with database.read() as tx:
        assert await certificates.get_current(tx, desk.tenant, old.id) == issued


@sqlite_only
async def test_who_may_order(desk: Desk) -> None:
    """The signer decides again, whatever the web process let through."""
    asked = {"slug": "x", "subject": "CN=x", "key_type": "p-256"}
    before = desk.shim.count()
    other = await seed(desk.database)
    foreign = user(other.organization.id, role=Role.GLOBAL_ADMINISTRATOR)
    gone = user(desk.tenant, role=Role.GLOBAL_ADMINISTRATOR, active=False)
    powerless = user(desk.tenant, role=Role.PROJECT_ADMINISTRATOR)
    async with desk.database.transaction() as tx:
        for one in (foreign, gone, powerless):
            await users.add(tx, one)
    for one in (foreign, gone, powerless):
        settled = await desk.settled(await desk.place(Operation.CREATE, asked, by=one))
        with pytest.raises(ForbiddenError):
            check(settled)
    with pytest.raises(NotFoundError):
        await desk.have(Operation.RENEW, certificate_id=other.certificate.id)
    unasked = Wish(desk.tenant, Operation.CREATE, "system", None, asked)
    async with desk.database.transaction() as tx:
        placed = await order(tx, unasked)
    with pytest.raises(ForbiddenError, match="automatic enrolment"):
        check(await desk.settled(placed))
    assert desk.shim.count() == before, "nothing was signed"


BAD: list[dict[str, str | int | bool]] = [
    {"slug": "No slug"},
    {"name": "x" * 300},
    {"name": "\x07"},
    {"subject": "nonsense"},
    {"subject": ""},
    {"key_type": "rsa-2048"},
    {"key_type": "rsa-512"},
    {"valid_days": 0},
    {"valid_days": 100_000},
    {"valid_days": True},
    {"release": "yes"},
]


@sqlite_only
async def test_orders_that_cannot_be_carried_out(desk: Desk) -> None:
    fine: dict[str, str | int | bool] = {"slug": "x", "subject": "CN=x", "key_type": "p-256"}
    before = desk.shim.count()
    for one in BAD:
        with pytest.raises(InvalidInputError):
            await desk.have(Operation.CREATE, fine | one)
    assert desk.shim.count() == before
    await desk.have(Operation.CREATE, fine)
    with pytest.raises(ConflictError, match="x already"):
        await desk.have(Operation.CREATE, fine)
    second = {"slug": "y", "subject": "CN=y", "key_type": "p-256"}
    made = [await desk.place(Operation.CREATE, second) for _ in range(2)]
    states = [(await desk.settled(one)).state for one in made]
    assert sorted(states) == [OrderState.DONE, OrderState.FAILED], "one slug, one certificate"


@sqlite_only
async def test_an_order_that_was_cut_is_failed_and_not_repeated(
    desk: Desk, database: Database
) -> None:
    wish = Wish(desk.tenant, Operation.CREATE, "user:x", desk.person.id, {"slug": "cut"})
    async with database.transaction() as tx:
        made = await order(tx, wish)
        assert await certificate_orders.claim(tx, made, utc_now() - dt.timedelta(hours=1))
        assert not await certificate_orders.claim(tx, made, utc_now())
    settled = await desk.settled(made)
    with pytest.raises(SealwrightError, match="interrupted"):
        check(settled)


@sqlite_only
async def test_release_certificates_are_restricted_by_the_signer_itself(
    database: Database, desk: Desk, signer: SignerClient
) -> None:
    made = await desk.have(
        Operation.CREATE,
        {"slug": "r", "subject": "CN=r", "key_type": "p-256", "release": True},
    )
    rules = dataclasses.replace(
        desk.scene.policy, id=new_id(), slug="without", certificate_id=made.id, quorum=0
    )
    async with database.transaction() as tx:
        await projects.add_policy(tx, rules)
    scene = dataclasses.replace(desk.scene, certificate=made, policy=rules)
    request = await add_request(database, scene)
    with pytest.raises(SignerRefusedError, match="without approval"):
        await signer.sign(request.id, 1, digests(1))
    async with database.transaction() as tx:
        await certificates.set_state(tx, desk.tenant, made.id, CertificateState.DISABLED)
    assert (await desk.certificate(made.id)).status(utc_now()) is CertificateStatus.DISABLED
