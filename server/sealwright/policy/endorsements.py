"""Which endorsements hold, and what rests on none. Pure; the web process shows by it, the signer
decides by it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from sealwright.errors import EndorsementAwaitedError, ForbiddenError, SignerRefusedError
from sealwright.model.endorsement import (
    Endorsement,
    Trust,
    TrustAnchor,
    configuration_terms,
    disabled_terms,
    passkey_terms,
    policy_terms,
)
from sealwright.model.passkey import Passkey, RelyingParty
from sealwright.model.project import SigningPolicy, snapshot
from sealwright.model.request import Approval, RequestKind, SigningRequest, Verdict
from sealwright.policy.passkeys import verify_assertion

#: What is to be done about what waits, and about requests that were decided by what holds no more.
_ENDORSE = (
    "Have it endorsed at /endorsements with a passkey that the signer trusts. The request goes on "
    "by itself then."
)
_AGAIN = (
    "Requests decided before a policy or an artifact configuration changed under endorsements have "
    "to be submitted again."
)


def verify_endorsement(
    endorsement: Endorsement, anchors: Iterable[TrustAnchor], rp: RelyingParty
) -> None:
    """Check that a trust anchor's passkey signed for it.

    Raises:
        ForbiddenError: none of them did, or not for this, or the passkey was removed.
    """
    for anchor in anchors:
        if (
            anchor.organization_id == endorsement.organization_id
            and anchor.user_id == endorsement.user_id
            and anchor.credential_id == endorsement.assertion.credential_id
        ):
            verify_assertion(endorsement.assertion, anchor.as_passkey(), endorsement.challenge, rp)
            return
    message = "The endorsement is not by a passkey that the signer was told to trust."
    raise ForbiddenError(message, advice="Have somebody endorse it whose passkey is trusted.")


def newest(
    endorsements: Sequence[Endorsement], anchors: Sequence[TrustAnchor], rp: RelyingParty
) -> Endorsement | None:
    """The one with the highest version among those that hold."""
    for one in sorted(endorsements, key=lambda one: one.version, reverse=True):
        try:
            verify_endorsement(one, anchors, rp)
        except ForbiddenError:
            continue
        return one
    return None


def check_policy(
    trust: Trust,
    fields: Mapping[str, Any],
    present: SigningPolicy | None,
    rp: RelyingParty,
    people: Collection[str] | None = None,
) -> Endorsement:
    """The endorsement that a snapshot's policy rests on: always the newest, so that nobody brings
    back what was endorsed before.

    Args:
        fields: the snapshot's.
        present: the policy as its row is now. It decides nothing but what people are told, and
            whether waiting is of use.
        people: ids of its approvers now, groups resolved; None: not known.

    Raises:
        EndorsementAwaitedError: there is none yet of what the policy still says.
        SignerRefusedError: the newest is of other terms, or none to come can be of these.
    """
    found = newest(trust.of_policy, trust.anchors, rp)
    if found is None:
        lacking = "nobody with a trusted passkey has endorsed it."
        _wait_for_policy(lacking, trust, fields, present, people)
    if found.terms_sha256 == disabled_terms(fields["policy_id"]):
        message = "The signing policy was disabled, and that was endorsed."
        _refuse(message, f"Once it is enabled again, have that endorsed. {_AGAIN}")
    terms = policy_terms(fields, found.approvers, found.certificate_id)
    if terms != found.terms_sha256:
        if present is not None and _as_decided(fields, present):
            lacking = "it is not as it was endorsed."
            _wait_for_policy(lacking, trust, fields, present, people)
        _refuse(
            "The signing policy changed under endorsements after the request was decided: it has "
            "to be submitted again.",
            _AGAIN,
        )
    if not set(fields["approvers"]) <= set(found.approvers):
        lacking = "it has approvers that it had not when it was endorsed."
        _wait_for_policy(lacking, trust, fields, present, people)
    if found.certificate_id not in trust.lineage:
        lacking = "its certificate is not the endorsed one, nor a renewal of it."
        _wait_for_policy(lacking, trust, fields, present, people)
    return found


def _wait_for_policy(
    lacking: str,
    trust: Trust,
    fields: Mapping[str, Any],
    present: SigningPolicy | None,
    people: Collection[str] | None,
) -> NoReturn:
    """Have the request wait, but not for an endorsement that cannot be: what is endorsed is the
    policy as it is now, and that perhaps covers the request no more.

    Args:
        lacking: why the present endorsement does not do: the end of a sentence.

    Raises:
        EndorsementAwaitedError: a later one can.
        SignerRefusedError: none can.
    """
    if present is None or not present.enabled:
        _refuse("The signing policy is disabled, or not there any more.", _AGAIN)
    if not _as_decided(fields, present) or present.certificate_id not in trust.lineage:
        _refuse("The signing policy was changed after the request was decided.", _AGAIN)
    if people is not None and not set(fields["approvers"]) <= set(people):
        message = "The signing policy has lost an approver since the request was decided."
        _refuse(message, _AGAIN)
    _wait(f"The signing policy waits for an endorsement: {lacking}")


def check_configuration(
    trust: Trust, request: SigningRequest, rp: RelyingParty
) -> Endorsement | None:
    """The endorsement that the request's artifact configuration rests on: always the newest of its
    slug. None where a bare digest is signed, which needs no configuration.

    Raises:
        EndorsementAwaitedError: there is none yet of the version.
        SignerRefusedError: the newest is of another, or only a newer version can be endorsed.
    """
    if request.kind is RequestKind.HASH:
        return None
    configuration = trust.configuration
    decided = request.snapshot.fields["artifact_configuration_sha256"]
    if (
        configuration is None
        or configuration.id != request.artifact_configuration_id
        or hashlib.sha256(configuration.xml.encode()).hexdigest() != decided
    ):
        _refuse("The artifact configuration is not the one that was decided on.", _AGAIN)
    found = newest(trust.of_configuration, trust.anchors, rp)
    terms = configuration_terms(configuration)
    if found is None or terms != found.terms_sha256:
        if found and any(terms == one.terms_sha256 for one in trust.of_configuration):
            _refuse(
                "The artifact configuration changed under endorsements after the request was "
                "decided: it has to be submitted again.",
                _AGAIN,
            )
        if trust.configuration_outdated:
            _refuse(
                "The artifact configuration has a newer version, and this one was never endorsed.",
                _AGAIN,
            )
        _wait(
            "The artifact configuration waits for an endorsement: nobody with a trusted passkey "
            "has endorsed it."
            if found is None
            else "The artifact configuration waits for an endorsement: it is not the version that "
            "was endorsed last."
        )
    return found


def check_passkey(trust: Trust, passkey: Passkey, rp: RelyingParty) -> None:
    """Let an approval by the passkey count.

    Raises:
        EndorsementAwaitedError: the passkey is no anchor, and was not endorsed as its user's.
    """
    if not is_trusted(trust, passkey, rp):
        _wait("An approval waits for an endorsement: it is by a passkey that nobody endorsed.")


def is_trusted(trust: Trust, passkey: Passkey, rp: RelyingParty) -> bool:
    """Whether the passkey is an anchor, or was endorsed as this user's."""
    for anchor in trust.anchors:
        if anchor.credential_id == passkey.credential_id:
            known = (anchor.public_key, anchor.user_id) == (passkey.public_key, passkey.user_id)
            return known and anchor.removed_at is None
    found = newest(trust.of_passkeys.get(passkey.id, ()), trust.anchors, rp)
    return found is not None and found.terms_sha256 == passkey_terms(passkey)


def objection(
    trust: Trust | None,
    request: SigningRequest,
    present: SigningPolicy | None,
    rp: RelyingParty,
    approvals: Iterable[Approval] = (),
    keys: Iterable[Passkey] = (),
    people: Collection[str] | None = None,
) -> SignerRefusedError | None:
    """What the signer would have against the request now, as far as policy, configuration and
    approvers' passkeys need endorsements; None: nothing.

    Args:
        keys: passkeys of those who approved.
        people: see `check_policy`.
    """
    if trust is None:
        return None
    try:
        check_policy(trust, request.snapshot.fields, present, rp, people)
        check_configuration(trust, request, rp)
        if request.snapshot.fields.get("passkey_required"):
            for passkey in _asserting(approvals, keys):
                check_passkey(trust, passkey, rp)
    except SignerRefusedError as error:
        return error
    return None


def _as_decided(fields: Mapping[str, Any], present: SigningPolicy) -> bool:
    """Whether the policy still says what the snapshot says, but for people and certificate."""
    now = snapshot(present, "", None).fields
    return policy_terms(fields, (), None) == policy_terms(now, (), None)


def _asserting(approvals: Iterable[Approval], keys: Iterable[Passkey]) -> list[Passkey]:
    """The passkeys that approvals were signed by."""
    used = {
        (one.user_id, one.assertion.credential_id)
        for one in approvals
        if one.verdict is Verdict.APPROVE and one.assertion
    }
    return [key for key in keys if (key.user_id, key.credential_id) in used]


def _wait(message: str) -> NoReturn:
    raise EndorsementAwaitedError(message, advice=_ENDORSE)


def _refuse(message: str, advice: str) -> NoReturn:
    raise SignerRefusedError(message, advice=advice)
