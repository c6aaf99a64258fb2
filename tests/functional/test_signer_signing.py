"""Signing through the socket, on both databases and a real token."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections import Counter

import pytest
import sqlalchemy as sa
from tests.authenticator import Authenticator, from_text, text
from tests.chaos.shim import CKM_RSA_PKCS, DEVICE_MEMORY, Shim
from tests.database import add_request, decide, seed
from tests.signer import Keys, digests, intents_of, running_signer, verify

from sealwright.config import Settings
from sealwright.db import Database, approvals, certificates, passkeys, projects, requests
from sealwright.errors import InvalidInputError, SignerRefusedError, UnavailableError
from sealwright.model.certificate import CertificateState
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.mechanism import Mechanism
from sealwright.model.passkey import Assertion, Passkey, approval_challenge, relying_party
from sealwright.model.request import (
    Approval,
    HashToSign,
    RequestKind,
    SigningRequest,
    State,
    StoredArtifact,
    Verdict,
)
from sealwright.policy.passkeys import verify_registration
from sealwright.signer.grants import SPARE_LOSSES
from sealwright.signing.artifact import SignatureRequest
from sealwright.signing.signer_client import SignerClient
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.leaf import LeafEntry
from sealwright.transparency.note import SigningKey
from sealwright.transparency.publish import publish
from sealwright.transparency.verify import LogReport, verify_log


async def read_log(
    database: Database, settings: Settings, client: SignerClient
) -> tuple[LogReport, list[LeafEntry]]:
    """Verify the log offline, as it is after a checkpoint."""
    checkpoint = await client.checkpoint()
    store = FolderTiles(settings.data / "copy")
    assert await publish(database, store) == checkpoint.size
    vkey = _verifier_key(settings)
    leaves: list[LeafEntry] = []
    report = verify_log(store, checkpoint.text, vkey, on_leaf=leaves.append)
    assert report.checkpoint.size == checkpoint.size
    return report, leaves


def _verifier_key(settings: Settings) -> str:
    return SigningKey.parse(settings.checkpoint_key.read_text().strip()).verifier.encode()


async def test_signatures_come_in_order_and_are_logged(
    database: Database, signer: SignerClient, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=40)
    items = digests(40)
    signatures = await signer.sign(request.id, 1, items)
    for item, signature in zip(items, signatures, strict=True):
        verify(keys.ec, item, signature)
    report, leaves = await read_log(database, signer_settings, signer)
    assert report.unmatched_intents == ()
    assert Counter(leaf.event.action for leaf in leaves) == {
        "signature.intended": 40,
        "signature.made": 40,
    }
    first = leaves[0].event
    assert (first.actor, first.request, first.organization, first.policy_hash) == (
        "signer",
        request.id,
        scene.organization.id,
        request.policy_hash,
    )
    assert first.data["digest"] in {item.digest.hex() for item in items}
    assert first.data["certificate"] == keys.ec.sha256
    assert shim.count() == 40


async def test_rsa_with_both_mechanisms(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.rsa)
    request = await add_request(database, scene, signatures=3)
    items = [
        *digests(2, mechanism=Mechanism.RSA_PKCS1),
        *digests(1, mechanism=Mechanism.RSA_PSS),
    ]
    first, second, _ = await signer.sign(request.id, 1, items)
    verify(keys.rsa, items[0], first)
    verify(keys.rsa, items[1], second)
    assert Counter(made.mechanism for made in shim.signatures())[CKM_RSA_PKCS] == 2


async def test_what_is_made_is_given_again(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=10)
    items = digests(10)
    early = await signer.sign(request.id, 1, items[:6])
    everything = await signer.sign(request.id, 1, [*items, items[0], items[9]])
    assert everything[:6] == early
    assert everything[10:] == [everything[0], everything[9]]
    assert shim.count() == 10
    other = await add_request(database, scene, signatures=1)
    assert await signer.sign(other.id, 1, items[:1]) != early[:1], "another request signs anew"


async def test_large_batches_are_split(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=2500)
    items = digests(2500)
    signatures = await signer.sign(request.id, 1, items)
    for n in (0, 1023, 1024, 2499):
        verify(keys.ec, items[n], signatures[n])
    assert shim.count() == 2500


async def test_ten_clients_at_once(
    database: Database, signer_settings: Settings, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    """Ten connections, two requests, all asking for digests that others ask for as well."""
    scene = await seed(database, keys.ec)
    found = [await add_request(database, scene, signatures=30) for _ in range(2)]
    clients = [SignerClient(signer_settings.socket) for _ in range(10)]

    async def work(n: int) -> dict[tuple[str, bytes], bytes]:
        made = {}
        for start in range(0, 30, 6):
            items = digests(30)[start : start + 6]
            request = found[n % 2]
            for item, signature in zip(
                items, await clients[n].sign(request.id, 1, items), strict=True
            ):
                made[request.id, item.digest] = signature
        return made

    first, second, *others = await asyncio.gather(*(work(n) for n in range(10)))
    for n, other in enumerate(others):
        assert other == (first, second)[n % 2], "nobody got another signature"
    assert shim.count() == 60
    await asyncio.gather(*(client.close() for client in clients))


async def test_many_calls_on_one_connection(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=200)
    items = digests(200)
    answers = await asyncio.gather(*(signer.sign(request.id, 1, [item]) for item in items))
    for item, (signature,) in zip(items, answers, strict=True):
        verify(keys.ec, item, signature)
    assert shim.count() == 200


async def test_of_many_at_once_each_has_its_own_fate(
    database: Database, signer: SignerClient, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    """Their intents and outcomes may share a commit: a refusal, and a signature that the token does
    not make, cost the others nothing."""
    scene = await seed(database, keys.ec)
    able = [await add_request(database, scene, signatures=1) for _ in range(7)]
    unable = [
        await add_request(database, scene, signatures=1, state=State.QUEUED),
        await add_request(database, scene, lease_until=utc_now() - dt.timedelta(hours=1)),
    ]
    shim.inject("C_SignInit", DEVICE_MEMORY)
    calls = [signer.sign(one.id, 1, digests(1, one.id)) for one in (*able, *unable)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results[7:]] == [SignerRefusedError] * 2
    assert Counter(map(type, results[:7])) == {list: 6, UnavailableError: 1}
    for request, result in zip(able, results[:7], strict=True):
        made = isinstance(result, list)
        [intent] = await intents_of(database, request)
        assert intent.state == ("made" if made else "refused")
        if made:
            verify(keys.ec, digests(1, request.id)[0], result[0])
    for request in unable:
        assert await intents_of(database, request) == []
    report, leaves = await read_log(database, signer_settings, signer)
    assert report.unmatched_intents == ()
    assert Counter(leaf.event.action for leaf in leaves) == {
        "signature.intended": 7,
        "signature.made": 6,
        "signature.abandoned": 1,
    }
    assert shim.count() == 6


async def test_the_record_is_read_for_every_call(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    """Whatever is withdrawn between two calls counts for the second, replayed or not."""
    scene = await seed(database, keys.ec, quorum=1)
    request = await add_request(database, scene)
    item = digests(1)
    with pytest.raises(SignerRefusedError, match="0 of 1"):
        await signer.sign(request.id, 1, item)
    await decide(database, request, scene.approvers[0])
    await signer.sign(request.id, 1, item)

    async with database.transaction() as tx:
        await projects.update_policy(tx, dataclasses.replace(scene.policy, enabled=False))
    with pytest.raises(SignerRefusedError, match="disabled"):
        await signer.sign(request.id, 1, item)
    async with database.transaction() as tx:
        await projects.update_policy(tx, scene.policy)
        await certificates.set_state(
            tx, scene.organization.id, scene.certificate.id, CertificateState.DISABLED
        )
    with pytest.raises(SignerRefusedError, match="disabled"):
        await signer.sign(request.id, 1, item)
    async with database.transaction() as tx:
        await certificates.set_state(
            tx, scene.organization.id, scene.certificate.id, CertificateState.ACTIVE
        )
        await requests.move(tx, request, State.CANCELED, utc_now())
    with pytest.raises(SignerRefusedError, match="Canceled"):
        await signer.sign(request.id, 1, item)
    assert shim.count() == 1
    assert len(await intents_of(database, request)) == 1


async def test_a_newer_attempt_takes_the_right_away(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, attempt=2)
    with pytest.raises(SignerRefusedError, match="taken over by attempt 2"):
        await signer.sign(request.id, 1, digests(1))
    with pytest.raises(SignerRefusedError, match="Attempt 3"):
        await signer.sign(request.id, 3, digests(1))
    await signer.sign(request.id, 2, digests(1))
    assert shim.count() == 1


async def test_no_more_than_planned(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=5)
    with pytest.raises(SignerRefusedError, match="its plan has 5"):
        await signer.sign(request.id, 1, digests(6))
    answers = await asyncio.gather(
        *(signer.sign(request.id, 1, digests(3, salt)) for salt in "ab"), return_exceptions=True
    )
    assert sorted(isinstance(answer, SignerRefusedError) for answer in answers) == [False, True]
    assert shim.count() == 3
    unplanned = await add_request(database, scene, plan_hash="")
    with pytest.raises(SignerRefusedError, match="plan is not recorded"):
        await signer.sign(unplanned.id, 1, digests(1))


async def test_no_more_losses_than_allowed(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene, signatures=1)
    for _ in range(1 + SPARE_LOSSES + 1):
        await signer.sign(request.id, 1, digests(1))
        async with database.transaction() as tx:  # as if the signer had died before it recorded it
            await tx.change(
                sa.text("UPDATE signature_intents SET state='intended' WHERE state='made'")
            )
    with pytest.raises(SignerRefusedError, match="was lost"):
        await signer.sign(request.id, 1, digests(1))
    assert shim.count() == 1 + SPARE_LOSSES + 1


async def test_a_bare_digest(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec, hash_signing_allowed=True)
    [item, other] = digests(2)
    payload = HashToSign(item.digest, "sha256", Mechanism.ECDSA.value)
    request = await add_request(
        database, scene, kind=RequestKind.HASH, hash=payload, plan_hash="", signatures=0
    )
    with pytest.raises(SignerRefusedError, match="not the one"):
        await signer.sign(request.id, 1, [other])
    [signature] = await signer.sign(request.id, 1, [item])
    verify(keys.ec, item, signature)
    assert shim.count() == 1


async def test_a_certification_authority_signs_no_digests(
    database: Database, signer: SignerClient, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.authority)
    request = await add_request(database, scene)
    with pytest.raises(SignerRefusedError, match="certification authority"):
        await signer.sign(request.id, 1, digests(1))
    assert shim.count() == 0


async def test_unknown_requests_and_malformed_items(
    database: Database, signer: SignerClient, shim: Shim
) -> None:
    with pytest.raises(SignerRefusedError, match="no signing request"):
        await signer.sign(new_id(), 1, digests(1))
    with pytest.raises(InvalidInputError, match="is not one"):
        await signer.sign("../\x00", 1, digests(1))
    short = SignatureRequest(b"short", "sha256", Mechanism.ECDSA)
    with pytest.raises(InvalidInputError, match="not one of 'sha256'"):
        await signer.sign(new_id(), 1, [short])
    assert await signer.sign(new_id(), 1, []) == []
    assert shim.count() == 0


async def test_what_a_finished_request_left_open_is_settled_at_the_start(
    database: Database, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    scene = await seed(database, keys.ec)
    request = await add_request(database, scene)
    unfinished = await add_request(database, scene)
    async with running_signer(signer_settings) as client:
        await client.sign(request.id, 1, digests(3))
        await client.sign(unfinished.id, 1, digests(1))
    async with database.transaction() as tx:
        await tx.change(sa.text("UPDATE signature_intents SET state='intended', signature=NULL"))
        await requests.move(tx, request, State.FAILED, utc_now())
    async with running_signer(signer_settings) as client:
        assert [one.state for one in await intents_of(database, request)] == ["abandoned"] * 3
        assert [one.state for one in await intents_of(database, unfinished)] == ["intended"]
        # the unfinished one is settled, and intended anew, when it is asked for again
        await client.sign(unfinished.id, 1, digests(1))
    states = sorted(one.state for one in await intents_of(database, unfinished))
    assert states == ["abandoned", "made"]
    assert shim.count() == 5


async def test_approvals_by_passkey_are_verified_again(
    database: Database, signer: SignerClient, signer_settings: Settings, keys: Keys, shim: Shim
) -> None:
    """The signer reads passkey and assertion for itself; an approval that was written into the
    database, or given for another artifact, does not count."""
    rp = relying_party(signer_settings.url)
    scene = await seed(database, keys.ec, quorum=1, passkey_required=True)
    approver = scene.approvers[0]
    device = Authenticator(rp.origin, rp.id)
    made = device.register(
        {"user": {"id": text(approver.id.encode())}, "challenge": text(b"x" * 32)}
    )["response"]
    credential = verify_registration(
        from_text(made["clientDataJSON"]), from_text(made["attestationObject"]), b"x" * 32, rp
    )
    passkey = Passkey(
        new_id(), scene.organization.id, approver.id, "Key", credential.credential_id,
        credential.public_key, 0, utc_now(),
    )  # fmt: skip
    async with database.transaction() as tx:
        await passkeys.add(tx, passkey)

    async def approved(sha256: str | None) -> SigningRequest:
        stored = StoredArtifact("key", "a.exe", 1, "ab" * 32)
        request = await add_request(database, scene, signatures=1, input=stored)
        assertion = None
        if sha256 is not None:
            challenge = approval_challenge(request.id, sha256, request.policy_hash, approver.id)
            answer = device.sign({"challenge": text(challenge)})
            response = answer["response"]
            assertion = Assertion(
                from_text(answer["rawId"]),
                from_text(response["clientDataJSON"]),
                from_text(response["authenticatorData"]),
                from_text(response["signature"]),
            )
        approval = Approval(
            new_id(), request.id, approver.id, approver.name, Verdict.APPROVE, "", utc_now(),
            assertion,
        )  # fmt: skip
        async with database.transaction() as tx:
            await approvals.add(tx, request.organization_id, approval)
        return request

    for sha256, message in ((None, "0 of 1 approvals by passkey"), ("cd" * 32, "challenge")):
        request = await approved(sha256)
        with pytest.raises(SignerRefusedError, match=message):
            await signer.sign(request.id, 1, digests(1))
    assert shim.count() == 0
    good = await approved("ab" * 32)
    await signer.sign(good.id, 1, digests(1))
    assert shim.count() == 1
    async with database.transaction() as tx:
        await passkeys.remove(tx, scene.organization.id, approver.id, passkey.id, utc_now())
    late = await approved("ab" * 32)
    with pytest.raises(SignerRefusedError, match="was removed"):
        await signer.sign(late.id, 1, digests(1))
