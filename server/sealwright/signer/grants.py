"""The signer's own decision. Pure: what the record says goes in, a `Grant` or a refusal comes out.

The worker's word counts for nothing but the digests. Everything else is read again from the
database and must fit together: the request, the policy as it was snapshot and as it is now, the
certificate, the approvals, and what the request has been granted before.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import NoReturn, TypeVar

from sealwright.errors import ForbiddenError, InternalError, SignerRefusedError
from sealwright.model.certificate import Certificate, CertificateState
from sealwright.model.endorsement import Trust
from sealwright.model.identifiers import made_at
from sealwright.model.mechanism import Mechanism
from sealwright.model.passkey import Passkey, RelyingParty, approval_challenge
from sealwright.model.project import SigningPolicy
from sealwright.model.request import Approval, RequestKind, SigningRequest, State, Verdict
from sealwright.model.signer_messages import DIGEST_SIZES, DigestToSign
from sealwright.policy.certificate_usage import other_purpose
from sealwright.policy.endorsements import check_configuration, check_passkey, check_policy
from sealwright.policy.passkeys import verify_assertion

#: Nothing is signed for requests made longer ago: what they were granted is forgotten after that.
SIGNED_WITHIN = dt.timedelta(days=365)
_SKEW = dt.timedelta(days=1)
#: For so long after its lease ran out a worker may still get signatures, unless another took over.
LEASE_GRACE = dt.timedelta(seconds=60)
#: How many outcomes a request may lose besides each planned one once in every attempt.
SPARE_LOSSES = 8

T = TypeVar("T")
_PROOF = object()


@dataclass(frozen=True)
class Usage:
    """What a request has been granted.

    Attributes:
        counted: intents that were made or are under way.
        lost: intents whose outcome was lost: the token may have signed, nothing was released.
    """

    counted: int
    lost: int


@dataclass(frozen=True)
class Record:
    """What the signer read for itself, in one transaction.

    Attributes:
        passkeys: those of the approvers.
        trust: what was endorsed, where the organization has trust anchors.
    """

    request: SigningRequest
    policy: SigningPolicy | None
    certificate: Certificate | None
    approvals: Sequence[Approval]
    usage: Usage
    passkeys: Sequence[Passkey] = ()
    trust: Trust | None = None


@dataclass(frozen=True)
class Grant:
    """The permission to sign `fresh` for `request` with `certificate`'s key. Only `permit` makes
    one, and nothing is signed without.

    Attributes:
        endorsed: what the log says of the endorsements that it rests on, if any.
    """

    request: SigningRequest
    certificate: Certificate
    fresh: tuple[DigestToSign, ...]
    proof: InitVar[object]
    endorsed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            message = "A grant was made without a decision."
            raise InternalError(message)


@dataclass(frozen=True)
class _Terms:
    """What the snapshot says, as far as the signer decides by it."""

    policy_id: str
    project_id: str
    certificate_id: str
    certificate_sha256: str
    approvers: frozenset[str]
    quorum: int
    hash_signing_allowed: bool
    malware_scan: bool
    origin_required: bool
    artifact_configuration_id: str | None
    passkey_required: bool


def permit(
    record: Record,
    attempt: int,
    items: Sequence[DigestToSign],
    fresh: Sequence[DigestToSign],
    now: dt.datetime,
    rp: RelyingParty,
) -> Grant:
    """Decide whether the digests may be signed.

    Args:
        record: `usage` does not count `fresh`.
        attempt: the caller's.
        items: all digests that are asked for, also those whose signature is only given again.
        fresh: those among them that have no signature yet.
        rp: the server that approvers' passkeys are for.

    Raises:
        SignerRefusedError: they may not; the message says which fact does not fit.
    """
    request = record.request
    _check_claim(request, attempt, now)
    terms = _terms(request)
    _check_policy(request, terms, record.policy)
    certificate = _check_certificate(request, terms, record.certificate, now)
    endorsed = _check_endorsed(record, rp)
    _check_approvals(request, terms, _counting(record, terms, rp))
    _check_items(certificate, items)
    if request.kind is RequestKind.HASH:
        _check_hash(request, terms, items)
    _check_budget(request, record.usage, len(fresh))
    return Grant(request, certificate, tuple(fresh), _PROOF, endorsed)


def _check_claim(request: SigningRequest, attempt: int, now: dt.datetime) -> None:
    # by its id, which cannot be changed as long as anything refers to it
    if not now - SIGNED_WITHIN <= made_at(request.id) <= now + _SKEW:
        _refuse("The request was made more than a year ago, or in the future.")
    if request.state is not State.PROCESSING:
        _refuse(f"The request is {request.state.value}, not {State.PROCESSING.value}.")
    if attempt != request.attempt:
        _refuse(f"Attempt {attempt} was taken over by attempt {request.attempt}.")
    if request.lease_until is None or now > request.lease_until + LEASE_GRACE:
        _refuse("The worker's lease has run out.")


def _check_policy(request: SigningRequest, terms: _Terms, policy: SigningPolicy | None) -> None:
    if (terms.policy_id, terms.project_id) != (request.signing_policy_id, request.project_id):
        _refuse("The policy snapshot is of another policy than the request's.")
    if terms.artifact_configuration_id != request.artifact_configuration_id:
        _refuse("The policy snapshot names another artifact configuration than the request.")
    if policy is None or policy.id != terms.policy_id or policy.project_id != terms.project_id:
        _refuse("The signing policy does not exist any more.")
    if not policy.enabled:
        _refuse(f"The signing policy {policy.slug} is disabled.")
    if terms.malware_scan and not _is_scanned(request):
        _refuse("The policy wants a malware scan, and there is none of this artifact.")
    if terms.origin_required and not request.origin.verified:
        _refuse("The policy requires a verified origin, and the request has none.")


def _check_endorsed(record: Record, rp: RelyingParty) -> dict[str, str]:
    if record.trust is None:
        return {}
    policy = check_policy(record.trust, record.request.snapshot.fields, record.policy, rp)
    configuration = check_configuration(record.trust, record.request, rp)
    named = {"endorsement": policy.sha256}
    return named | ({"configuration_endorsement": configuration.sha256} if configuration else {})


def _is_scanned(request: SigningRequest) -> bool:
    scan, artifact = request.scan, request.input
    return bool(scan and artifact and scan.is_clean and scan.sha256 == artifact.sha256)


def _check_certificate(
    request: SigningRequest, terms: _Terms, certificate: Certificate | None, now: dt.datetime
) -> Certificate:
    if certificate is None or certificate.organization_id != request.organization_id:
        _refuse("The certificate does not exist any more.")
    if not certificate.id == request.certificate_id == terms.certificate_id:
        _refuse("The request's certificate is not the one of its policy snapshot.")
    if certificate.is_pending:
        _refuse(f"The certificate {certificate.slug} has not been issued yet.")
    if hashlib.sha256(certificate.certificate).hexdigest() != terms.certificate_sha256:
        _refuse("The certificate was replaced since the request was decided.")
    if certificate.is_revoked:
        _refuse(f"The OpenPGP key {certificate.slug} is revoked.")
    if certificate.state is not CertificateState.ACTIVE:
        _refuse(f"The certificate {certificate.slug} is {certificate.state.value}.")
    if not certificate.not_before <= now <= certificate.not_after:
        _refuse(f"The certificate {certificate.slug} is not valid at this time.")
    if certificate.release:
        _check_release(certificate, terms)
    if purpose := other_purpose(certificate):
        _refuse(f"The certificate {certificate.slug} {purpose}.")
    return certificate


def _check_release(certificate: Certificate, terms: _Terms) -> None:
    if terms.quorum < 1:
        _refuse(f"The release certificate {certificate.slug} signs nothing without approval.")
    if not certificate.key_type.is_strong:
        _refuse(f"The key of the release certificate {certificate.slug} is too weak for releases.")


def _counting(record: Record, terms: _Terms, rp: RelyingParty) -> Sequence[Approval]:
    """The decisions that count: where the policy asks for passkeys, no approval without one's
    signature over this very request, content and policy."""
    if not terms.passkey_required:
        return record.approvals
    return [
        one
        for one in record.approvals
        if one.verdict is not Verdict.APPROVE or _is_asserted(one, record, rp)
    ]


def _is_asserted(approval: Approval, record: Record, rp: RelyingParty) -> bool:
    request, assertion = record.request, approval.assertion
    if assertion is None:
        return False
    challenge = approval_challenge(
        request.id, request.content_digest, request.policy_hash, approval.user_id
    )
    for passkey in record.passkeys:
        if (
            passkey.credential_id == assertion.credential_id
            and passkey.user_id == approval.user_id
            and passkey.organization_id == request.organization_id
        ):
            try:
                verify_assertion(assertion, passkey, challenge, rp)
            except ForbiddenError as error:
                _refuse(f"An approval does not hold. {error.message}")
            if record.trust is not None:
                check_passkey(record.trust, passkey, rp)
            return True
    return False


def _check_approvals(request: SigningRequest, terms: _Terms, approvals: Sequence[Approval]) -> None:
    if any(one.verdict is not Verdict.APPROVE for one in approvals):
        _refuse("An approver denied the request.")
    counted = {
        one.user_id
        for one in approvals
        if one.request_id == request.id
        and one.user_id in terms.approvers
        and one.user_id != request.submitted_by
    }
    if len(counted) < terms.quorum:
        kind = "approvals by passkey" if terms.passkey_required else "approvals"
        _refuse(f"The request has {len(counted)} of {terms.quorum} {kind}.")


def _check_items(certificate: Certificate, items: Sequence[DigestToSign]) -> None:
    for item in items:
        if (item.mechanism is Mechanism.ECDSA) is certificate.key_type.is_rsa:
            _refuse(f"A key of type {certificate.key_type.value} does not sign {item.mechanism}.")
        if DIGEST_SIZES.get(item.hash_algorithm) != len(item.digest):
            _refuse(f"A digest of {len(item.digest)} bytes is not one of {item.hash_algorithm}.")


def _check_hash(request: SigningRequest, terms: _Terms, items: Sequence[DigestToSign]) -> None:
    if not terms.hash_signing_allowed:
        _refuse("The signing policy does not allow that bare digests are signed.")
    wanted = request.hash
    if wanted is None or any(
        (item.digest, item.hash_algorithm, item.mechanism.value)
        != (wanted.digest, wanted.hash_algorithm, wanted.mechanism)
        for item in items
    ):
        _refuse("The digest is not the one that the request was submitted with.")


def _check_budget(request: SigningRequest, usage: Usage, fresh: int) -> None:
    """Hold a request to its plan: its signatures once for every attempt, since a later attempt may
    come to other digests; and as many lost outcomes, and `SPARE_LOSSES` more."""
    if request.kind is RequestKind.HASH:
        planned = 1
    elif not request.plan_hash:
        _refuse("The request's plan is not recorded.")
    else:
        planned = request.signatures
    allowed = planned * request.attempt
    if fresh and usage.counted + fresh > allowed:
        _refuse(
            f"The request has {usage.counted} signatures and asks for {fresh} more; "
            f"its plan has {planned}, and this is attempt {request.attempt}."
        )
    if fresh and usage.lost > allowed + SPARE_LOSSES:
        _refuse(f"The outcome of {usage.lost} signatures of the request was lost already.")


def _terms(request: SigningRequest) -> _Terms:
    if request.snapshot.sha256 != request.policy_hash:
        _refuse("The policy snapshot is not the one that the request was decided by.")
    try:
        # snapshots of earlier versions say nothing of passkeys
        fields = {"passkey_required": False, **request.snapshot.fields}
        terms = _Terms(
            policy_id=_field(fields, "policy_id", str),
            project_id=_field(fields, "project_id", str),
            certificate_id=_field(fields, "certificate_id", str),
            certificate_sha256=_field(fields, "certificate_sha256", str),
            approvers=frozenset(map(str, _field(fields, "approvers", list))),
            quorum=_field(fields, "quorum", int),
            hash_signing_allowed=_field(fields, "hash_signing_allowed", bool),
            malware_scan=_field({"malware_scan": False, **fields}, "malware_scan", bool),
            origin_required=_field(fields, "origin_required", bool),
            artifact_configuration_id=fields["artifact_configuration_id"],
            # snapshots of earlier versions do not have it
            passkey_required=_field(
                {"passkey_required": False, **fields}, "passkey_required", bool
            ),
        )
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError):
        _refuse("The policy snapshot cannot be read.")
    return terms


def _field(fields: Mapping[str, object], name: str, kind: type[T]) -> T:
    value = fields[name]
    if type(value) is not kind:
        raise TypeError(name)
    return value


def _refuse(message: str) -> NoReturn:
    raise SignerRefusedError(
        message, advice="Submit the artifact again; nothing was signed by this call."
    )
