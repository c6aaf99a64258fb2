"""`fulfil` in this process, on both databases: a real signer, token, format children and store."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import json
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, BinaryIO

import pytest
from tests.chaos.shim import Shim
from tests.clamd import EICAR, STREAM_MAX, ClamDaemon
from tests.database import configuration
from tests.endorsing import Desk, equip
from tests.file_server import file_server
from tests.signer import Keys, intents_of
from tests.system import QueueServer
from tests.toys_signed import contents
from tests.works import Failing, Works, at_work

from sealwright import answer
from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy
from sealwright.db import Database, certificates, file_results, plans, projects, requests
from sealwright.errors import UnavailableError
from sealwright.fulfil import fulfil
from sealwright.model.certificate import CertificateState
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.mechanism import Mechanism
from sealwright.model.member_tree import NAME, MemberTree, inside
from sealwright.model.passkey import RelyingParty, relying_party
from sealwright.model.project import snapshot
from sealwright.model.request import (
    HashToSign,
    RequestKind,
    RetrievalLink,
    SigningRequest,
    State,
)
from sealwright.queueing import endorsement_waits, lease
from sealwright.queueing.queue import Queue
from sealwright.signing.artifact import SignatureRequest
from sealwright.signing.engine import verify_file
from sealwright.signing.file_result import FileDigest, StageReport
from sealwright.signing.signature_value import verify_signature_value
from sealwright.signing.signer_client import SignerClient
from sealwright.signing.team import Team
from sealwright.signing.timestamp_client import TimestampClient
from sealwright.signing.timestamp_http import TimestampHttp
from sealwright.worker.housekeeping import remove_orphans

SIGNATURES = 3


@pytest.fixture(scope="module")
def queue_server() -> Iterator[QueueServer]:
    with QueueServer.run() as made:
        yield made


@pytest.fixture
async def works(
    signer: SignerClient,
    signer_settings: Settings,
    keys: Keys,
    shim: Shim,
    queue_server: QueueServer,
) -> AsyncIterator[Works]:
    async with at_work(signer_settings, keys, shim, queue_server) as made:
        yield made


async def test_artifact_is_signed(works: Works) -> None:
    request = await works.request()
    done = await works.fulfil(request)
    assert done.state is State.COMPLETED, done.reason
    assert done.lease_until is None
    assert done.signatures == SIGNATURES
    output = await works.output(done)
    facts = verify_file(output)
    assert len(facts) == SIGNATURES
    assert {fact.signer for _, fact in facts} == {works.scene.certificate.certificate}
    assert await works.left_over() == []
    async with works.bench.database.read() as tx:
        results = await file_results.results(tx, request.id)
    assert [one.timestamp is not None for one in results] == [False, True, True, False, True]
    before, after = (
        contents(each.read_bytes(), "product.zip") for each in (works.artifact, output)
    )
    files = []
    for one in results:
        digests = [hashlib.sha256(held[one.path]).hexdigest() for held in (before, after)]
        assert [one.sha256_before, one.sha256_after] == digests
        assert one.size_after == len(after[one.path])
        files.append([one.path, one.directive, *digests])
    [released] = await works.leaves(request, "artifact.released")
    listed = json.dumps(files, separators=(",", ":")).encode()
    assert released["files_sha256"] == hashlib.sha256(listed).hexdigest()
    # a message that comes late, or twice, changes nothing
    assert await works.fulfil(request) == done
    assert works.shim.count() == SIGNATURES


async def test_signers_that_tell_what_was_not_planned_release_nothing(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signed artifact is good, what the child that signed it tells of it is not."""
    real = Team.deep_sign
    other = FileDigest(hashlib.sha256(b"other").hexdigest(), 5)
    lies: dict[str, Callable[[list[StageReport]], list[StageReport]]] = {
        "What was told of the signing is not what was planned": lambda told: told[:-1],
        "Other contents were told than those in between": lambda told: [
            dataclasses.replace(one, passing=other) for one in told
        ],
    }
    for message, lie in lies.items():

        async def tell(team: Team, *of: Any, lie: Any = lie) -> Sequence[StageReport]:
            return lie(list(await real(team, *of)))  # type: ignore[no-any-return]

        monkeypatch.setattr(Team, "deep_sign", tell)
        request = await works.request()
        refused = await works.fulfil(request)
        assert refused.state is State.FAILED
        assert message in refused.reason
        assert "Report this as a defect" in refused.advice
        assert "artifact.released" not in await works.actions(request)
        async with works.bench.database.read() as tx:
            assert await file_results.results(tx, request.id) == []


async def test_second_attempt_gives_the_same_bytes_and_signs_nothing(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "PATIENCE_SECONDS", 0.0)
    request = await works.request()
    outputs = []
    store = works.bench.store

    async def remember(key: str, source: BinaryIO, **named: Any) -> Any:
        outputs.append(source.read())
        if len(outputs) == 1:
            message = "The store is away."
            raise UnavailableError(message)
        return await store.put(key, source, **named)

    class Remembering(Failing):
        put = staticmethod(remember)

    works.bench = dataclasses.replace(works.bench, store=Remembering(store, "", 0))
    given_back = await works.fulfil(request)
    assert given_back.state is State.PROCESSING
    assert given_back.lease_until is not None
    assert given_back.lease_until > utc_now()
    assert await works.fulfil(request) == given_back  # not before its pause is over
    signed, stamped = works.shim.count(), works.tsa.requests
    assert (signed, stamped) == (SIGNATURES, SIGNATURES)
    await works.due_now(request)
    done = await works.fulfil(request)
    assert (done.state, done.attempt) == (State.COMPLETED, 2)
    assert outputs[0] == outputs[1]
    assert (works.shim.count(), works.tsa.requests) == (signed, stamped)
    assert (await works.actions(request)).count("artifact.released") == 1


async def test_nothing_is_signed_until_the_endorsement_is_there(
    works: Works, signer: SignerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, scene = works.bench.database, works.scene
    officer = await equip(database, scene.approvers[0], relying_party(works.bench.settings.url))
    key = officer.passkey
    await signer.trust_passkey(scene.organization.id, key.id, key.fingerprint)
    desk = Desk(database, scene, officer)
    await desk.endorse_policy(scene.policy)
    request = await works.request()
    waiting = await works.fulfil(request)
    assert (waiting.state, waiting.attempt) == (State.WAITING_FOR_ENDORSEMENT, 0)

    # a worker that sees no objection changes nothing: the signer decides, and says what is missing
    async def blind(*_: object) -> None:
        return None

    with monkeypatch.context() as patched:
        patched.setattr(endorsement_waits, "find_objection", blind)
        waiting = await works.fulfil(request)
    assert (waiting.state, waiting.attempt) == (State.WAITING_FOR_ENDORSEMENT, 1)
    assert "configuration waits for an endorsement" in waiting.reason
    assert works.shim.count() == 0
    await desk.endorse_configuration(scene.configuration)
    done = await works.fulfil(request)
    assert done.state is State.COMPLETED, done.reason
    assert works.shim.count() == SIGNATURES


async def test_parts_that_are_away_for_a_moment_cost_no_attempt(works: Works) -> None:
    request = await works.request()
    store: Any = Failing(works.bench.store, "fetch", 2)
    works.bench = dataclasses.replace(works.bench, store=Failing(store, "put", 2))  # type: ignore[arg-type]
    done = await works.fulfil(request)
    assert (done.state, done.attempt) == (State.COMPLETED, 1)


async def test_a_killed_judge_is_not_a_store_that_is_away(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        message = "The process that read the artifact was killed from outside."
        raise UnavailableError(message)

    puts = []
    store = works.bench.store

    async def count(key: str, source: BinaryIO, **named: Any) -> Any:
        puts.append(key)
        return await store.put(key, source, **named)

    class Counting(Failing):
        put = staticmethod(count)

    works.bench = dataclasses.replace(works.bench, store=Counting(store, "", 0))
    monkeypatch.setattr(Team, "verify", killed)
    request = await works.request()
    assert (await works.fulfil(request)).state is State.PROCESSING  # given back, to be tried again
    [output] = [key for key in puts if "/output-" in key]
    assert output not in [key async for key in store.list()]


async def test_what_stays_away_fails_after_the_last_attempt(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "PATIENCE_SECONDS", 0.0)
    settings = works.bench.settings.model_copy(update={"max_attempts": 2})
    store: Any = Failing(works.bench.store, "fetch", 99)
    works.bench = dataclasses.replace(works.bench, store=store, settings=settings)
    request = await works.request()
    assert (await works.fulfil(request)).state is State.PROCESSING
    await works.due_now(request)
    failed = await works.fulfil(request)
    assert (failed.state, failed.failed_stage) == (State.FAILED, State.PROCESSING)
    assert failed.reason == "The store is away."
    assert works.shim.count() == 0


async def test_time_stamp_authority_that_is_away_or_lies_is_left_to_a_later_attempt(
    works: Works,
) -> None:
    honest = works.tsa.behaviour
    works.tsa.behaviour = lambda asked: dataclasses.replace(honest(asked), status=503)
    request = await works.request()
    given_back = await works.fulfil(request)
    assert given_back.state is State.PROCESSING
    works.tsa.behaviour = honest
    await works.due_now(request)
    async with TimestampHttp() as http:
        client = TimestampClient([works.tsa.authority()], http)
        works.bench = dataclasses.replace(works.bench, timestamps=client)
        assert (await works.fulfil(request)).state is State.COMPLETED
    assert works.shim.count() == SIGNATURES


async def test_what_was_disabled_or_changed_meanwhile_is_refused(works: Works) -> None:
    scene, database = works.scene, works.bench.database
    request = await works.request()
    async with database.transaction() as tx:
        await projects.update_policy(tx, dataclasses.replace(scene.policy, enabled=False))
    failed = await works.fulfil(request)
    assert failed.state is State.FAILED
    assert "disabled" in failed.reason
    async with database.transaction() as tx:
        await projects.update_policy(tx, scene.policy)
        await certificates.set_state(
            tx, scene.organization.id, scene.certificate.id, CertificateState.DISABLED
        )
    failed = await works.fulfil(await works.request())
    assert scene.certificate.slug in failed.reason
    async with database.transaction() as tx:
        await certificates.set_state(
            tx, scene.organization.id, scene.certificate.id, CertificateState.ACTIVE
        )
    other = snapshot(scene.policy, "0" * 64, scene.configuration)
    failed = await works.fulfil(await works.request(snapshot=other, policy_hash=other.sha256))
    assert "certificate" in failed.reason
    assert works.shim.count() == 0


async def test_stored_artifact_that_was_changed_is_refused(works: Works) -> None:
    request = await works.request()
    assert request.input is not None
    another = dataclasses.replace(request.input, sha256="0" * 64)
    async with works.bench.database.transaction() as tx:
        await requests.amend(tx, request, utc_now(), input=another)
    failed = await works.fulfil(request)
    assert failed.state is State.FAILED
    assert "not the one that was submitted" in failed.reason
    assert works.shim.count() == 0


async def test_cancellation_stops_the_work(works: Works) -> None:
    works.shim.delay("C_Sign", 1.5, times=20)
    request = await works.request()
    working = asyncio.create_task(fulfil(works.bench, request.id))
    async with asyncio.timeout(20):
        while (await works.read(request)).state is not State.PROCESSING:
            await asyncio.sleep(0.02)
    now = await works.read(request)
    async with works.bench.database.transaction() as tx:
        await requests.move(tx, now, State.CANCELED, utc_now())
    async with asyncio.timeout(5):
        await working
    canceled = await works.read(request)
    assert canceled.state is State.CANCELED
    assert canceled.output is None
    assert await works.left_over() == []


async def test_stopping_worker_gives_the_request_back(
    works: Works, queue_server: QueueServer
) -> None:
    works.shim.delay("C_Sign", 0.5, times=20)
    request = await works.request()
    working = asyncio.create_task(fulfil(works.bench, request.id))
    async with asyncio.timeout(20):
        while (await works.read(request)).state is not State.PROCESSING:
            await asyncio.sleep(0.02)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    back = await works.read(request)
    assert (back.state, back.lease_until) == (State.PROCESSING, None)
    queue = Queue(queue_server.url)
    assert await queue.waiting([request.id]) == {request.id}
    await queue.close()
    works.shim.clear()
    done = await works.fulfil(request)
    assert (done.state, done.attempt) == (State.COMPLETED, 2)
    assert await works.left_over() == []


async def test_a_claim_under_way_is_given_back(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker stops between the claim's commit and its answer."""
    request = await works.request()
    claimed = asyncio.Event()

    async def claim(
        database: Database, request_id: str, seconds: float, rp: RelyingParty
    ) -> SigningRequest | None:
        found = await lease_claim(database, request_id, seconds, rp)
        claimed.set()
        await asyncio.sleep(0.1)
        return found

    lease_claim = lease.claim
    monkeypatch.setattr(lease, "claim", claim)
    working = asyncio.create_task(fulfil(works.bench, request.id))
    await claimed.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    back = await works.read(request)
    assert (back.state, back.lease_until, back.attempt) == (State.PROCESSING, None, 1)


async def test_workers_that_keep_dying_end_the_request(works: Works) -> None:
    most = works.bench.settings.max_attempts
    request = await works.request(attempt=most, state=State.PROCESSING)
    failed = await works.fulfil(request)
    assert failed.state is State.FAILED
    assert "operator" in failed.advice  # what went wrong is the server's affair


async def test_digest_is_signed_and_checked(works: Works) -> None:
    digest = HashToSign(hashlib.sha256(b"x").digest(), "sha256", "ecdsa")
    policy = dataclasses.replace(works.scene.policy, hash_signing_allowed=True)
    async with works.bench.database.transaction() as tx:
        await projects.update_policy(tx, policy)
    frozen = snapshot(policy, works.scene.certificate.sha256, None)
    fields: dict[str, Any] = {
        "kind": RequestKind.HASH,
        "hash": digest,
        "snapshot": frozen,
        "policy_hash": frozen.sha256,
        "artifact_configuration_id": None,
        "input": None,
    }
    done = await works.fulfil(await works.request(**fields))
    assert done.state is State.COMPLETED, done.reason
    assert done.hash is not None
    assert done.hash.signature is not None
    wanted = SignatureRequest(digest.digest, "sha256", Mechanism.ECDSA)
    verify_signature_value(works.scene.certificate.certificate, wanted, done.hash.signature)
    assert (await works.actions(done))[-2:] == ["hash.signed", "request.completed"]
    # a token that signs wrongly is not believed
    works.shim.spoil(times=50)
    spoiled = await works.fulfil(await works.request(**fields))
    assert spoiled.state is not State.COMPLETED
    assert spoiled.hash is not None
    assert spoiled.hash.signature is None


async def test_artifact_is_retrieved_and_goes_where_its_policy_says(works: Works) -> None:
    async with (
        file_server() as files,
        OutgoingClient(OutgoingPolicy(internal_hosts=("127.0.0.1",), allow_http=True)) as outgoing,
    ):
        content = works.artifact.read_bytes()
        files.serve("/product.zip", content)
        works.bench = dataclasses.replace(works.bench, outgoing=outgoing)
        link = RetrievalLink(
            f"http://127.0.0.1:{files.port}/product.zip",
            "product.zip",
            headers={"Authorization": "Bearer canary"},
        )
        fields: dict[str, Any] = {
            "state": State.RETRIEVING_ARTIFACT,
            "input": None,
            "retrieval": link,
        }
        fetched = await works.fulfil(await works.request(**fields))
        assert fetched.state is State.QUEUED
        assert fetched.input is not None
        assert fetched.input.sha256 == hashlib.sha256(content).hexdigest()
        assert files.received[0].header("Authorization") == "Bearer canary"
        assert fetched.retrieval is not None
        assert fetched.retrieval.headers == {}
        done = await works.fulfil(fetched)
        assert (done.state, done.attempt) == (State.COMPLETED, 1)
        wrong = dataclasses.replace(link, sha256="0" * 64)
        failed = await works.fulfil(await works.request(**fields | {"retrieval": wrong}))
        assert (failed.state, failed.failed_stage) == (State.FAILED, State.RETRIEVING_ARTIFACT)
        scene = dataclasses.replace(works.scene.policy, quorum=1)
        frozen = snapshot(scene, works.scene.certificate.sha256, works.scene.configuration)
        waits = await works.fulfil(
            await works.request(**fields, snapshot=frozen, policy_hash=frozen.sha256)
        )
        assert waits.state is State.WAITING_FOR_APPROVAL


async def test_every_signature_has_its_intent(works: Works) -> None:
    done = await works.fulfil(await works.request())
    found = await intents_of(works.bench.database, done)
    assert sorted(one.digest for one in found) == sorted(
        one.data for one in works.shim.signatures()
    )
    assert {one.state for one in found} == {"made"}


async def test_orphans_are_removed_and_nothing_else(works: Works) -> None:
    done = await works.fulfil(await works.request())
    assert done.input is not None
    assert done.output is not None
    store, organization = works.bench.store, works.scene.organization.id
    lost = f"requests/{organization}/{new_id()}/input"
    stale = f"requests/{organization}/{done.id}/output-{'0' * 64}"
    for key in (lost, stale):
        await store.put(key, works.artifact, sha256=done.input.sha256, size=done.input.size)
    assert await remove_orphans(works.bench.database, store, utc_now()) == 0  # may still be named
    tomorrow = utc_now() + dt.timedelta(days=2)
    assert await remove_orphans(works.bench.database, store, tomorrow) == 2
    assert sorted([key async for key in store.list()]) == sorted([done.input.key, done.output.key])


# --- malware ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clamd() -> Iterator[ClamDaemon]:
    with ClamDaemon.run() as daemon:
        yield daemon


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_artifact_is_scanned_before_it_is_signed(
    signer: SignerClient,
    signer_settings: Settings,
    keys: Keys,
    shim: Shim,
    queue_server: QueueServer,
    clamd: ClamDaemon,
) -> None:
    """Clean ones go on, infected ones end, and without a scanner nothing is signed."""
    settings = signer_settings.model_copy(update={"clamd": clamd.address, "max_attempts": 2})
    async with at_work(settings, keys, shim, queue_server, malware_scan=True) as works:
        clean = await works.fulfil(await works.request(state=State.SCANNING_FOR_MALWARE))
        assert (clean.state, clean.attempt) == (State.QUEUED, 0)
        assert clean.scan is not None
        assert clean.input is not None
        assert (clean.scan.finding, clean.scan.sha256) == ("", clean.input.sha256)
        done = await works.fulfil(clean)
        assert done.state is State.COMPLETED, done.reason
        assert "request.scanning_for_malware" not in await works.actions(done)
        assert "request.queued_for_processing" in await works.actions(done)

        before = shim.count()
        unscanned = await works.fulfil(await works.request())
        assert (unscanned.state, shim.count()) == (State.FAILED, before), "the signer looks too"
        assert "malware scan" in unscanned.reason

        asked = await works.request(state=State.SCANNING_FOR_MALWARE)
        clamd.stop()
        waiting = await works.fulfil(asked)
        assert (waiting.state, waiting.attempt) == (State.SCANNING_FOR_MALWARE, 1)
        await works.due_now(asked)
        failed = await works.fulfil(asked)
        assert (failed.state, failed.failed_stage) == (State.FAILED, State.SCANNING_FOR_MALWARE)
        assert "cannot be reached" in failed.reason
        clamd.start()

        with zipfile.ZipFile(works.artifact, "a") as archive:
            archive.writestr("bin/tool.com", EICAR)
        infected = await works.fulfil(await works.request(state=State.SCANNING_FOR_MALWARE))
        assert (infected.state, infected.failed_stage) == (State.FAILED, asked.state)
        assert infected.scan is not None
        assert infected.scan.finding.startswith("Eicar-Test")
        assert "Eicar-Test" in infected.reason
        works.artifact.write_bytes(os.urandom(STREAM_MAX + (1 << 20)))
        large = await works.fulfil(await works.request(state=State.SCANNING_FOR_MALWARE))
        assert (large.state, large.failed_stage) == (State.FAILED, asked.state)
        assert "StreamMaxLength" in large.advice
        works.bench = dataclasses.replace(works.bench, settings=signer_settings)
        none = await works.fulfil(await works.request(state=State.SCANNING_FOR_MALWARE))
        assert (none.state, none.failed_stage) == (State.FAILED, asked.state)
        assert shim.count() == before


async def test_what_comes_with_signatures_is_told(works: Works) -> None:
    xml = """<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1"><zip-file>
      <jar-file path="in.jar"><jar-sign/></jar-file>
      <file path="a.txt"><create-raw-signature output-file-name="${file.name}.sig"/></file>
    </zip-file></artifact-configuration>"""
    files = configuration(works.scene.project, xml, slug="java", is_default=False)
    async with works.bench.database.transaction() as tx:
        await projects.add_configuration(tx, files)
    works.scene = dataclasses.replace(works.scene, configuration=files)
    inner = works.folder / "in.jar"
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("a.class", b"1")
    with zipfile.ZipFile(works.artifact, "w") as made:
        made.write(inner, "in.jar")
        made.writestr("a.txt", b"text")
    done = await works.fulfil(await works.request())
    assert done.state is State.COMPLETED, done.reason
    async with works.bench.database.read() as tx:
        told = await file_results.additions(tx, done.id)
        packed = await plans.tree(tx, done.id)
    assert packed is not None
    tree = MemberTree.unpack(packed)
    assert [node[NAME] for node in inside(tree.root)] == ["a.txt", "a.txt.sig", "in.jar"]
    with zipfile.ZipFile(await works.output(done)) as opened:
        [detached] = told["product.zip"]
        assert (detached.path, detached.size) == (
            "a.txt.sig",
            opened.getinfo("a.txt.sig").file_size,
        )
        with opened.open("in.jar") as stream, zipfile.ZipFile(stream) as jar:
            came = set(jar.namelist()) - {"a.class"}
    assert {one.path for one in told["product.zip!/in.jar"]} == came
    assert "META-INF/SIGNER.SF" in came
