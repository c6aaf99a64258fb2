"""The decision: each fact changed singly turns an acceptance into the refusal that names it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import pytest
from tests import database as rows
from tests import keys

from sealwright.errors import (
    ForbiddenError,
    InvalidInputError,
    OriginError,
    PolicyViolationError,
    SealwrightError,
)
from sealwright.model.certificate import CertificateState, KeyType
from sealwright.model.identifiers import utc_now
from sealwright.model.origin import Origin
from sealwright.model.project import PolicyKind
from sealwright.model.request import HashToSign, RetrievalLink, State
from sealwright.model.user import User
from sealwright.policy.decide import Decision, Target, check_policy, decide

LINK = RetrievalLink("https://example.com/a.zip", "a.zip")
DIGEST = HashToSign(bytes(32), "sha256", "rsa-pkcs1")


@dataclasses.dataclass(frozen=True)
class Case:
    user: User
    target: Target
    origin: Origin = Origin()  # noqa: RUF009 (frozen)
    link: RetrievalLink | None = None
    digest: HashToSign | None = None
    now: dt.datetime = dataclasses.field(default_factory=utc_now)

    def decide(self) -> Decision:
        return decide(
            self.user, self.target, self.origin, link=self.link, digest=self.digest, now=self.now
        )

    def policy(self, **fields: object) -> Case:
        policy = dataclasses.replace(self.target.policy, **fields)  # type: ignore[arg-type]
        return dataclasses.replace(self, target=dataclasses.replace(self.target, policy=policy))

    def certificate(self, **fields: object) -> Case:
        changed = dataclasses.replace(self.target.certificate, **fields)  # type: ignore[arg-type]
        target = dataclasses.replace(self.target, certificate=changed)
        return dataclasses.replace(self, target=target)


@pytest.fixture
def case() -> Case:
    organization = rows.organization()
    user = rows.user(organization.id)
    certificate = rows.certificate(organization.id)
    project = rows.project(organization.id)
    policy = rows.policy(project, certificate.id, submitters=frozenset({user.id}))
    return Case(user, Target(project, policy, certificate, rows.configuration(project)))


def test_accepted(case: Case) -> None:
    decision = case.decide()
    assert decision.next_state is State.QUEUED
    assert case.target.configuration is not None
    fields = decision.snapshot.fields
    assert fields["artifact_configuration_sha256"] == case.target.configuration.sha256
    assert fields["certificate_sha256"] == case.target.certificate.sha256


def test_where_it_goes(case: Case) -> None:
    assert case.policy(quorum=1).decide().next_state is State.WAITING_FOR_APPROVAL
    scanning = case.policy(malware_scan=True)
    assert scanning.decide().next_state is State.SCANNING_FOR_MALWARE
    assert scanning.policy(quorum=1).decide().next_state is State.WAITING_FOR_APPROVAL
    linked = dataclasses.replace(case, link=LINK)
    assert linked.decide().next_state is State.RETRIEVING_ARTIFACT
    assert linked.policy(quorum=1).decide().next_state is State.RETRIEVING_ARTIFACT


def test_a_digest_has_no_configuration(case: Case) -> None:
    hashed = dataclasses.replace(case, digest=DIGEST).policy(hash_signing_allowed=True)
    assert hashed.decide().snapshot.fields["artifact_configuration_id"] is None


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda c: c.policy(submitters=frozenset()), ForbiddenError),
        (lambda c: c.policy(enabled=False), PolicyViolationError),
        (lambda c: c.certificate(state=CertificateState.DISABLED), PolicyViolationError),
        (lambda c: c.certificate(not_after=c.now), PolicyViolationError),
        (
            lambda c: c.certificate(not_before=c.now + dt.timedelta(seconds=1)),
            PolicyViolationError,
        ),
        (lambda c: c.policy(origin_required=True), OriginError),
        (
            lambda c: dataclasses.replace(
                c.policy(origin_required=True), origin=Origin(commit="abc", branch="main")
            ),
            OriginError,
        ),
        (
            lambda c: dataclasses.replace(
                c, target=dataclasses.replace(c.target, configuration=None)
            ),
            InvalidInputError,
        ),
        (lambda c: dataclasses.replace(c, digest=DIGEST), PolicyViolationError),
        (
            lambda c: dataclasses.replace(
                c, digest=dataclasses.replace(DIGEST, hash_algorithm="sha1")
            ).policy(hash_signing_allowed=True),
            InvalidInputError,
        ),
        (
            lambda c: dataclasses.replace(
                c, digest=dataclasses.replace(DIGEST, digest=bytes(31))
            ).policy(hash_signing_allowed=True),
            InvalidInputError,
        ),
        (
            lambda c: (
                dataclasses.replace(c, digest=DIGEST)
                .policy(hash_signing_allowed=True)
                .certificate(key_type=KeyType.P256)
            ),
            InvalidInputError,
        ),
        (
            lambda c: dataclasses.replace(
                c, digest=dataclasses.replace(DIGEST, mechanism="ecdsa")
            ).policy(hash_signing_allowed=True),
            InvalidInputError,
        ),
    ],
)
def test_refused(case: Case, change: Callable[[Case], Case], error: type[SealwrightError]) -> None:
    case.decide()
    with pytest.raises(error) as refusal:
        change(case).decide()
    assert refusal.value.message


def test_a_verified_origin_is_enough(case: Case) -> None:
    verified = dataclasses.replace(case, origin=Origin(verified=True, commit="abc"))
    assert verified.policy(origin_required=True).decide().origin.verified


def test_policies_that_could_not_work(case: Case) -> None:
    policy = case.target.policy
    check_policy(policy)
    with pytest.raises(InvalidInputError):
        check_policy(dataclasses.replace(policy, quorum=1))
    with pytest.raises(PolicyViolationError):
        check_policy(dataclasses.replace(policy, kind=PolicyKind.RELEASE))


def test_release_certificates_need_approval_and_a_strong_key(case: Case) -> None:
    release = case.certificate(release=True)
    with pytest.raises(PolicyViolationError, match="without approval"):
        release.decide()
    assert release.policy(quorum=1).decide()
    weak = release.certificate(key_type=KeyType.RSA_2048)
    with pytest.raises(PolicyViolationError, match="too weak"):
        weak.policy(quorum=1).decide()
    assert case.certificate(key_type=KeyType.RSA_2048).decide(), "good enough for tests"
    with pytest.raises(PolicyViolationError, match="not been issued"):
        case.certificate(certificate=b"", sha256="").decide()


def test_certification_authorities_sign_no_content(case: Case) -> None:
    root = keys.issue("Root", keys.new_key("p256"), None, authority=True)
    with pytest.raises(PolicyViolationError, match="is a certification authority's"):
        case.certificate(certificate=root.der).decide()


def test_the_snapshot_names_the_renewal(case: Case) -> None:
    renewed = case.certificate(id="renewal")
    fields = renewed.decide().snapshot.fields
    assert fields["certificate_id"] == "renewal" != renewed.target.policy.certificate_id


def test_a_digest_cannot_be_scanned(case: Case) -> None:
    digest = dataclasses.replace(case.policy(malware_scan=True), digest=DIGEST)
    with pytest.raises(PolicyViolationError, match="malware"):
        digest.policy(hash_signing_allowed=True).decide()
    both = case.policy(malware_scan=True, hash_signing_allowed=True).target.policy
    with pytest.raises(InvalidInputError, match="malware"):
        check_policy(both)
