"""The signer's decision: every fact changed singly refuses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from tests import database as rows
from tests.authenticator import Authenticator, from_text, text
from tests.expiry import id_of

from sealwright.errors import InternalError, SignerRefusedError
from sealwright.model.certificate import CertificateState, KeyType
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.mechanism import Mechanism
from sealwright.model.origin import Origin
from sealwright.model.passkey import Assertion, Passkey, approval_challenge, relying_party
from sealwright.model.project import PolicySnapshot, snapshot
from sealwright.model.request import (
    Approval,
    HashToSign,
    RequestKind,
    State,
    StoredArtifact,
    Verdict,
)
from sealwright.model.signer_messages import DigestToSign
from sealwright.policy.passkeys import verify_registration
from sealwright.signer.grants import LEASE_GRACE, SPARE_LOSSES, Grant, Record, Usage, permit

NOW = utc_now()
RP = relying_party("https://sign.example.com")
ITEMS = tuple(
    DigestToSign(hashlib.sha256(bytes([n])).digest(), "sha256", Mechanism.ECDSA) for n in range(3)
)


def make_certificate(*extensions: x509.ExtensionType) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


LEAF = make_certificate(x509.BasicConstraints(ca=False, path_length=None))


@dataclasses.dataclass
class Case:
    """A request that is permitted, for tests to spoil."""

    record: Record
    attempt: int = 1
    items: tuple[DigestToSign, ...] = ITEMS
    now: dt.datetime = NOW

    def decide(self) -> Grant:
        return permit(self.record, self.attempt, self.items, self.items, self.now, RP)

    def refuses(self, message: str) -> None:
        with pytest.raises(SignerRefusedError, match=message):
            self.decide()

    def set(self, part: str, **fields: Any) -> Case:
        changed = dataclasses.replace(getattr(self.record, part), **fields)
        self.record = dataclasses.replace(self.record, **{part: changed})
        return self

    def snapshot(self, text: str | None = None, **fields: Any) -> Case:
        """Change the snapshot, and with it the hash that the request was decided by."""
        if text is None:
            old = json.loads(self.record.request.snapshot.text)
            text = json.dumps(old | fields)
        changed = PolicySnapshot(text)
        return self.set("request", snapshot=changed, policy_hash=changed.sha256)


def case(**of_request: Any) -> Case:
    tenant = rows.organization()
    submitter, *approvers = (rows.user(tenant.id) for _ in range(4))
    key = rows.certificate(tenant.id, certificate=LEAF, key_type=KeyType.P256)
    product = rows.project(tenant.id)
    files = rows.configuration(product)
    policy = rows.policy(
        product,
        key.id,
        # a policy may name the submitter as an approver: that approval still does not count
        approvers=frozenset({submitter.id, *(one.id for one in approvers)}),
        quorum=2,
        origin_required=True,
    )
    scene = rows.Scene(tenant, submitter, tuple(approvers), key, product, files, policy)
    request = rows.request(
        scene,
        **{"origin": Origin(verified=True), "lease_until": NOW, "signatures": 3} | of_request,
    )
    approvals = [approval(request.id, approvers[0].id), approval(request.id, approvers[1].id)]
    return Case(Record(request, policy, key, approvals, Usage(0, 0)))


def approval(request_id: str, user_id: str, verdict: Verdict = Verdict.APPROVE) -> Approval:
    return Approval(new_id(), request_id, user_id, "", verdict, "", NOW)


def bare_digest(**fields: Any) -> Case:
    made = case(
        kind=RequestKind.HASH,
        hash=HashToSign(ITEMS[0].digest, "sha256", "ecdsa"),
        plan_hash="",
        signatures=0,
    )
    made.items = ITEMS[:1]
    return made.snapshot(**{"hash_signing_allowed": True} | fields)


def test_permitted() -> None:
    grant = case().decide()
    assert grant.fresh == ITEMS
    assert bare_digest().decide().fresh == ITEMS[:1]


def test_a_grant_cannot_be_made_otherwise() -> None:
    grant = case().decide()
    with pytest.raises(InternalError):
        Grant(grant.request, grant.certificate, ITEMS, object())
    with pytest.raises((InternalError, TypeError, ValueError)):
        dataclasses.replace(grant, fresh=())


@pytest.mark.parametrize("state", [state for state in State if state is not State.PROCESSING])
def test_only_while_it_is_processed(state: State) -> None:
    case().set("request", state=state).refuses(state.value)


Spoil = Callable[[Case], Case]
CHANGED: dict[str, tuple[Spoil, str]] = {
    "attempt before": (lambda c: c.set("request", attempt=2), "taken over"),
    "attempt after": (lambda c: c.set("request", attempt=0), "taken over"),
    "no lease": (lambda c: c.set("request", lease_until=None), "lease"),
    "old lease": (
        lambda c: c.set("request", lease_until=NOW - LEASE_GRACE - dt.timedelta(seconds=1)),
        "lease",
    ),
    "policy hash": (lambda c: c.set("request", policy_hash="0" * 64), "snapshot"),
    "snapshot text": (
        lambda c: c.set("request", snapshot=PolicySnapshot(c.record.request.snapshot.text + " ")),
        "snapshot",
    ),
    "snapshot not JSON": (lambda c: c.snapshot("{"), "cannot be read"),
    "snapshot a list": (lambda c: c.snapshot("[]"), "cannot be read"),
    "snapshot nested": (lambda c: c.snapshot("[" * 100_000), "cannot be read"),
    "snapshot empty": (lambda c: c.snapshot("{}"), "cannot be read"),
    "snapshot quorum": (lambda c: c.snapshot(quorum=True), "cannot be read"),
    "snapshot approvers": (lambda c: c.snapshot(approvers="abc"), "cannot be read"),
    "snapshot policy": (lambda c: c.snapshot(policy_id=new_id()), "another policy"),
    "snapshot project": (lambda c: c.snapshot(project_id=new_id()), "another policy"),
    "snapshot configuration": (
        lambda c: c.snapshot(artifact_configuration_id=new_id()),
        "artifact configuration",
    ),
    "request's policy": (lambda c: c.set("request", signing_policy_id=new_id()), "another policy"),
    "request's project": (lambda c: c.set("request", project_id=new_id()), "another policy"),
    "request's configuration": (
        lambda c: c.set("request", artifact_configuration_id=None),
        "artifact configuration",
    ),
    "policy gone": (
        lambda c: _with(c, policy=None),
        "policy does not exist",
    ),
    "policy another": (lambda c: c.set("policy", id=new_id()), "policy does not exist"),
    "policy of another project": (
        lambda c: c.set("policy", project_id=new_id()),
        "policy does not exist",
    ),
    "policy disabled": (lambda c: c.set("policy", enabled=False), "disabled"),
    "origin": (lambda c: c.set("request", origin=Origin(verified=False)), "verified origin"),
    "certificate gone": (lambda c: _with(c, certificate=None), "certificate does not exist"),
    "certificate of another tenant": (
        lambda c: c.set("certificate", organization_id=new_id()),
        "certificate does not exist",
    ),
    "certificate another": (lambda c: c.set("certificate", id=new_id()), "not the one"),
    "request's certificate": (
        lambda c: c.set("request", certificate_id=new_id()),
        "not the one",
    ),
    "snapshot's certificate": (lambda c: c.snapshot(certificate_id=new_id()), "not the one"),
    "certificate replaced": (
        lambda c: c.set("certificate", certificate=make_certificate()),
        "replaced",
    ),
    "snapshot's certificate hash": (
        lambda c: c.snapshot(certificate_sha256="0" * 64),
        "replaced",
    ),
    "certificate disabled": (
        lambda c: c.set("certificate", state=CertificateState.DISABLED),
        "is disabled",
    ),
    "certificate restricted since": (
        lambda c: c.snapshot(quorum=0).set("certificate", release=True),
        "nothing without approval",
    ),
    "certificate expired": (
        lambda c: c.set("certificate", not_after=NOW - dt.timedelta(seconds=1)),
        "not valid",
    ),
    "certificate not yet valid": (
        lambda c: c.set("certificate", not_before=NOW + dt.timedelta(seconds=1)),
        "not valid",
    ),
    "key type": (lambda c: c.set("certificate", key_type=KeyType.RSA_3072), "does not sign"),
    "denied": (lambda c: _approve(c, 2, Verdict.DENY), "denied"),
    "quorum": (lambda c: c.snapshot(quorum=3), "2 of 3"),
    "one approval": (lambda c: _with(c, approvals=c.record.approvals[:1]), "1 of 2"),
    "same approver twice": (
        lambda c: _with(c, approvals=[c.record.approvals[0]] * 2),
        "1 of 2",
    ),
    "approver not in the snapshot": (
        lambda c: c.snapshot(approvers=[c.record.approvals[0].user_id]),
        "1 of 2",
    ),
    "approval by the submitter": (
        lambda c: c.set("request", submitted_by=c.record.approvals[0].user_id),
        "1 of 2",
    ),
    "approval of another request": (
        lambda c: _with(
            c,
            approvals=[
                c.record.approvals[0],
                dataclasses.replace(c.record.approvals[1], request_id=new_id()),
            ],
        ),
        "1 of 2",
    ),
    "no plan": (lambda c: c.set("request", plan_hash=""), "plan is not recorded"),
    "fewer planned": (lambda c: c.set("request", signatures=2), "its plan has 2"),
    "none planned": (lambda c: c.set("request", signatures=0), "its plan has 0"),
    "some used": (lambda c: c.set("usage", counted=1), "its plan has 3"),
    "many lost": (lambda c: c.set("usage", lost=3 + SPARE_LOSSES + 1), "was lost"),
    "mechanism": (
        lambda c: _items(c, dataclasses.replace(ITEMS[0], mechanism=Mechanism.RSA_PSS)),
        "does not sign",
    ),
    "digest too short": (
        lambda c: _items(c, dataclasses.replace(ITEMS[0], digest=b"short")),
        "not one of",
    ),
    "another hash": (
        lambda c: _items(c, dataclasses.replace(ITEMS[0], hash_algorithm="sha384")),
        "not one of",
    ),
    "unknown hash": (
        lambda c: _items(c, dataclasses.replace(ITEMS[0], hash_algorithm="sha1")),
        "not one of",
    ),
}


def _with(spoiled: Case, **parts: Any) -> Case:
    spoiled.record = dataclasses.replace(spoiled.record, **parts)
    return spoiled


def _approve(spoiled: Case, count: int, verdict: Verdict) -> Case:
    user = json.loads(spoiled.record.request.snapshot.text)["approvers"][count]
    more = approval(spoiled.record.request.id, user, verdict)
    return _with(spoiled, approvals=[*spoiled.record.approvals, more])


def _items(spoiled: Case, *items: DigestToSign) -> Case:
    spoiled.items = items
    return spoiled


@pytest.mark.parametrize("fact", CHANGED)
def test_each_fact_counts(fact: str) -> None:
    spoil, message = CHANGED[fact]
    spoil(case()).refuses(message)


BARE: dict[str, tuple[Spoil, str]] = {
    "not allowed": (lambda c: c.snapshot(hash_signing_allowed=False), "does not allow"),
    "another digest": (lambda c: _items(c, ITEMS[1]), "not the one"),
    "one more": (lambda c: _items(c, *ITEMS[:2]), "not the one"),
    "none recorded": (lambda c: c.set("request", hash=None), "not the one"),
    "another mechanism": (
        lambda c: c.set("request", hash=HashToSign(ITEMS[0].digest, "sha256", "rsa-pss")),
        "not the one",
    ),
    "another algorithm": (
        lambda c: c.set("request", hash=HashToSign(ITEMS[0].digest, "sha512", "ecdsa")),
        "not the one",
    ),
    "used": (lambda c: c.set("usage", counted=1), "its plan has 1"),
}


@pytest.mark.parametrize("fact", BARE)
def test_each_fact_of_a_bare_digest_counts(fact: str) -> None:
    spoil, message = BARE[fact]
    spoil(bare_digest()).refuses(message)


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        (x509.BasicConstraints(ca=True, path_length=0), "certification authority"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), "time stamp authority"),
        (
            x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=True,
                crl_sign=False, encipher_only=False, decipher_only=False,
            ),
            "signing certificates",
        ),
    ],
)  # fmt: skip
def test_keys_that_others_trust_for_more(extension: x509.ExtensionType, message: str) -> None:
    der = make_certificate(extension)
    spoiled = case().set("certificate", certificate=der)
    spoiled.snapshot(certificate_sha256=hashlib.sha256(der).hexdigest()).refuses(message)


def test_a_certificate_that_cannot_be_read() -> None:
    spoiled = case().set("certificate", certificate=b"junk")
    spoiled.snapshot(certificate_sha256=hashlib.sha256(b"junk").hexdigest()).refuses("be read")


@pytest.mark.parametrize("days", [-366, 2])
def test_what_was_granted_so_long_ago_is_forgotten(days: int) -> None:
    made = id_of(NOW + dt.timedelta(days=days))
    case().set("request", id=made).refuses("more than a year ago, or in the future")


def test_within_the_grace() -> None:
    case().set("request", lease_until=NOW - LEASE_GRACE).decide()


def test_a_later_attempt_may_need_all_signatures_anew() -> None:
    spoiled = case(attempt=2).set("usage", counted=3)
    spoiled.attempt = 2
    spoiled.decide()
    spoiled.set("usage", counted=4).refuses("its plan has 3, and this is attempt 2")


def test_what_is_only_given_again_needs_no_room() -> None:
    full = case().set("usage", counted=3)
    assert permit(full.record, 1, ITEMS, (), NOW, RP).fresh == ()


def test_the_allowance_for_lost_outcomes() -> None:
    case().set("usage", lost=3 + SPARE_LOSSES).decide()


@given(
    quorum=st.integers(0, 4),
    approvers=st.sets(st.integers(0, 5)),
    decisions=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Verdict)), max_size=6),
)
def test_approvals_against_their_definition(
    quorum: int, approvers: set[int], decisions: list[tuple[int, Verdict]]
) -> None:
    """User 0 is the submitter."""
    users = [f"user-{n}" for n in range(6)]
    tried = case().snapshot(quorum=quorum, approvers=[users[n] for n in approvers])
    tried.set("request", submitted_by=users[0])
    request_id = tried.record.request.id
    _with(tried, approvals=[approval(request_id, users[n], verdict) for n, verdict in decisions])
    denied = any(verdict is Verdict.DENY for _, verdict in decisions)
    counted = {n for n, verdict in decisions if verdict is Verdict.APPROVE} & approvers - {0}
    if denied or len(counted) < quorum:
        tried.refuses("denied" if denied else f"{len(counted)} of {quorum}")
    else:
        tried.decide()


def by_passkey(**of_second: Any) -> Case:
    """Two approvals by passkeys under a policy that asks for them; the second one may be spoilt."""
    made = case().snapshot(passkey_required=True)
    made.set("request", input=StoredArtifact("key", "a.exe", 1, "ab" * 32))
    request = made.record.request
    approvals, keys = [], []
    for position, one in enumerate(made.record.approvals):
        of = of_second if position else {}
        device = Authenticator("https://sign.example.com", "sign.example.com")
        options = {"user": {"id": text(one.user_id.encode())}, "challenge": text(b"x" * 32)}
        answer = device.register(options)["response"]
        credential = verify_registration(
            from_text(answer["clientDataJSON"]),
            from_text(answer["attestationObject"]),
            b"x" * 32,
            RP,
        )
        passkey = Passkey(
            new_id(), request.organization_id, one.user_id, "Key", credential.credential_id,
            credential.public_key, 0, NOW,
        )  # fmt: skip
        device = dataclasses.replace(device, **of.get("device", {}))
        facts = {
            "request_id": request.id,
            "content_sha256": request.content_digest,
            "policy_hash": request.policy_hash,
            "user_id": one.user_id,
        } | of.get("challenge", {})
        answer = device.sign({"challenge": text(approval_challenge(**facts))})
        response = answer["response"]
        assertion = Assertion(
            from_text(answer["rawId"]),
            from_text(response["clientDataJSON"]),
            from_text(response["authenticatorData"]),
            from_text(response["signature"]),
        )
        signed = None if of.get("unsigned") else assertion
        approvals.append(dataclasses.replace(one, assertion=signed))
        keys.append(dataclasses.replace(passkey, **of.get("passkey", {})))
    return _with(made, approvals=approvals, passkeys=keys)


def test_approvals_by_passkey() -> None:
    assert by_passkey().decide().fresh == ITEMS


ASSERTED: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"unsigned": True}, "1 of 2 approvals by passkey"),
    "another request": ({"challenge": {"request_id": new_id()}}, "another challenge"),
    "another artifact": ({"challenge": {"content_sha256": "cd" * 32}}, "another challenge"),
    "another policy": ({"challenge": {"policy_hash": "00" * 32}}, "another challenge"),
    "another user": ({"challenge": {"user_id": new_id()}}, "another challenge"),
    "another site": ({"device": {"origin": "https://evil.example.com"}}, "another site"),
    "another server": ({"device": {"rp_id": "evil.example.com"}}, "another server"),
    "user not verified": ({"device": {"flags": 0x01}}, "did not verify"),
    "another key": (
        {"device": {"key": ec.generate_private_key(ec.SECP256R1())}},
        "signature is wrong",
    ),
    "removed": ({"passkey": {"removed_at": NOW}}, "was removed"),
    "somebody else's": ({"passkey": {"user_id": new_id()}}, "1 of 2 approvals by passkey"),
    "of another tenant": (
        {"passkey": {"organization_id": new_id()}},
        "1 of 2 approvals by passkey",
    ),
    "unknown": ({"passkey": {"credential_id": b"x"}}, "1 of 2 approvals by passkey"),
}


@pytest.mark.parametrize("fact", ASSERTED)
def test_each_fact_of_an_assertion_counts(fact: str) -> None:
    spoilt, message = ASSERTED[fact]
    by_passkey(**spoilt).refuses(message)


def test_a_denial_without_a_passkey_still_ends_it() -> None:
    _approve(by_passkey(), 3, Verdict.DENY).refuses("denied")


def test_the_artifact_was_exchanged_after_the_approvals() -> None:
    made = by_passkey()
    made.set("request", input=StoredArtifact("key", "a.exe", 1, "ef" * 32))
    made.refuses("another challenge")


def test_the_real_snapshot_is_read() -> None:
    """`model.project.snapshot` writes what this reads."""
    made = case()
    frozen = snapshot(
        made.record.policy, made.record.certificate.sha256, None  # type: ignore[union-attr,arg-type]
    )  # fmt: skip
    made.set("request", snapshot=frozen, policy_hash=frozen.sha256, artifact_configuration_id=None)
    made.decide()
