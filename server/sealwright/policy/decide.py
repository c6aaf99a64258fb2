"""Whether a signing request is accepted. Pure: facts in, a `Decision` or a refusal out."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass

from sealwright.errors import ForbiddenError, InvalidInputError, OriginError, PolicyViolationError
from sealwright.model.certificate import Certificate, CertificateState, KeyType
from sealwright.model.mechanism import Mechanism
from sealwright.model.origin import Origin, OriginRules
from sealwright.model.project import (
    ArtifactConfiguration,
    PolicyKind,
    PolicySnapshot,
    Project,
    SigningPolicy,
    snapshot,
)
from sealwright.model.request import HashToSign, RetrievalLink, State
from sealwright.model.user import User
from sealwright.policy.certificate_usage import other_purpose

DIGEST_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True)
class Target:
    """What a submission names, as found in the database.

    Attributes:
        approvers: ids of the users that are the policy's approvers now; see `snapshot`.
    """

    project: Project
    policy: SigningPolicy
    certificate: Certificate
    configuration: ArtifactConfiguration | None
    approvers: frozenset[str] | None = None


@dataclass(frozen=True)
class Decision:
    """That the policy accepts a request. Only `decide` makes one, and only it can be recorded.

    Attributes:
        snapshot: everything that the decision rested on.
        origin: with what of it was verified.
        next_state: where the request goes from Submitted.
    """

    target: Target
    snapshot: PolicySnapshot
    origin: Origin
    next_state: State


def check_submitter(user: User, target: Target) -> None:
    """The part of the decision that needs nothing of the artifact: taken before it is received.

    Raises:
        ForbiddenError: the user is no submitter of the policy.
        PolicyViolationError: the policy is disabled, or its certificate cannot be used.
    """
    policy = target.policy
    if not user.standing & policy.submitters:
        message = f"{user.name} is not a submitter of the signing policy {policy.slug}."
        raise ForbiddenError(message, advice="Have a project administrator add the user to it.")
    if not policy.enabled:
        message = f"The signing policy {policy.slug} is disabled."
        raise PolicyViolationError(message, advice="Have a project administrator enable it.")
    certificate = target.certificate
    if certificate.is_revoked:
        message = f"The OpenPGP key {certificate.slug} is revoked."
        raise PolicyViolationError(message, advice="Have the policy use another key.")
    if certificate.state is not CertificateState.ACTIVE:
        message = f"The certificate {certificate.slug} is disabled."
        raise PolicyViolationError(message, advice="Have a certificate administrator enable it.")
    if certificate.is_pending:
        message = f"The certificate {certificate.slug} has not been issued yet."
        raise PolicyViolationError(message, advice="Upload the chain that was issued for it.")
    check_restrictions(certificate, policy.quorum)


def decide(
    user: User,
    target: Target,
    origin: Origin,
    *,
    link: RetrievalLink | None,
    digest: HashToSign | None,
    now: dt.datetime,
    remote: bool = False,
) -> Decision:
    """Accept the request, or refuse it.

    Args:
        user: the submitter.
        target: what the submission names.
        origin: as far as it was verified.
        link: where the server is to fetch the artifact, or None.
        digest: the digest to be signed, or None for an artifact.
        remote: whether the server is to fetch the artifact from the build system.

    Raises:
        ForbiddenError, PolicyViolationError: as `check_submitter`; or the certificate has expired;
            or the policy does not sign digests.
        OriginError: the policy wants a verified origin.
        InvalidInputError: no artifact configuration, or a digest that the key cannot sign.
    """
    check_submitter(user, target)
    certificate = target.certificate
    if not certificate.not_before <= now < certificate.not_after:
        message = f"The certificate {certificate.slug} is not valid now."
        raise PolicyViolationError(message, advice="Renew it and let the policy use the new one.")
    if target.policy.origin_required and not origin.verified:
        message = f"The signing policy {target.policy.slug} accepts only a verified origin."
        raise OriginError(
            message, advice="Submit from a build system that is linked to the project as trusted."
        )
    if digest:
        _check_digest(digest, target)
    elif target.configuration is None:
        message = f"The project {target.project.slug} has no such artifact configuration."
        raise InvalidInputError(message, advice="Add one, or name one that exists.")
    # the policy may name a certificate whose place a renewal has taken
    policy = dataclasses.replace(target.policy, certificate_id=certificate.id)
    configuration = None if digest else target.configuration
    frozen = snapshot(policy, certificate.sha256, configuration, target.approvers)
    wanting = bool(link) or remote
    next_state = State.RETRIEVING_ARTIFACT if wanting else state_after_receipt(frozen)
    return Decision(target, frozen, origin, next_state)


def state_after_receipt(terms: PolicySnapshot) -> State:
    """Where a request goes once its artifact is in the store."""
    return State.WAITING_FOR_APPROVAL if terms.fields["quorum"] else state_after_approval(terms)


def state_after_approval(terms: PolicySnapshot) -> State:
    """Where a request goes that needs no approval any more."""
    return State.SCANNING_FOR_MALWARE if terms.malware_scan else State.QUEUED


def _check_digest(digest: HashToSign, target: Target) -> None:
    if not target.policy.hash_signing_allowed:
        message = f"The signing policy {target.policy.slug} does not sign bare digests."
        raise PolicyViolationError(message, advice="Submit the artifact itself.")
    if target.policy.malware_scan:
        message = f"The signing policy {target.policy.slug} scans for malware; a digest hides it."
        raise PolicyViolationError(message, advice="Submit the artifact itself.")
    if DIGEST_BYTES.get(digest.hash_algorithm) != len(digest.digest):
        message = f"The digest has {len(digest.digest)} bytes, which is no {digest.hash_algorithm}."
        raise InvalidInputError(message, advice="Use sha256, sha384 or sha512.")
    key = KeyType(target.certificate.key_type)
    if key.is_rsa == (digest.mechanism == Mechanism.ECDSA.value):
        message = f"The certificate's key is {key.value}, which cannot sign by {digest.mechanism}."
        fitting = "rsa-pkcs1 or rsa-pss" if key.is_rsa else "ecdsa"
        raise InvalidInputError(message, advice=f"Use {fitting}.")


def check_restrictions(certificate: Certificate, quorum: int) -> None:
    """Hold a certificate to what it is for, and a release certificate to what releases need: an
    approval, and a strong key.

    Raises:
        PolicyViolationError: it is not for signing content, or lacks what releases need.
    """
    if purpose := other_purpose(certificate):
        message = f"The certificate {certificate.slug} {purpose}, and signs no content."
        raise PolicyViolationError(message, advice="Use a certificate for signing code.")
    if not certificate.release:
        return
    if quorum < 1:
        message = f"The release certificate {certificate.slug} signs nothing without approval."
        raise PolicyViolationError(message, advice="Set a quorum of at least 1 in the policy.")
    if not certificate.key_type.is_strong:
        message = (
            f"The key of the release certificate {certificate.slug} is {certificate.key_type}, "
            "which is too weak for releases."
        )
        raise PolicyViolationError(message, advice="Use RSA 3072 or more, P-256 or P-384.")


def check_policy(policy: SigningPolicy, approvers: frozenset[str] | None = None) -> None:
    """Refuse a policy that could never work, or that is too weak for a release.

    Args:
        approvers: ids of the users that its approvers are now; see `snapshot`.

    Raises:
        InvalidInputError: a quorum that its approvers cannot reach.
        PolicyViolationError: a release policy without approval.
    """
    if policy.origin_rules != OriginRules() and not policy.origin_required:
        message = f"The signing policy {policy.slug} has origin rules that nothing has to keep."
        raise InvalidInputError(message, advice="Set origin_required besides.")
    people = len(policy.approvers if approvers is None else approvers)
    if policy.quorum > people:
        message = f"{policy.quorum} approvals cannot be had of {people} approvers."
        raise InvalidInputError(message, advice="Name more approvers or lower the quorum.")
    if policy.malware_scan and policy.hash_signing_allowed:
        message = f"The signing policy {policy.slug} scans for malware and signs bare digests."
        raise InvalidInputError(message, advice="A digest cannot be scanned: allow one of both.")
    if policy.kind is PolicyKind.RELEASE and policy.quorum == 0:
        message = f"The release policy {policy.slug} asks for no approval."
        raise PolicyViolationError(message, advice="Set a quorum, or make it a test policy.")
