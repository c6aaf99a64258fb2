"""Which endorsements hold. Pure; the web process shows by it, the signer decides by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sealwright.errors import ForbiddenError
from sealwright.model.endorsement import Endorsement, TrustAnchor
from sealwright.model.passkey import RelyingParty
from sealwright.policy.passkeys import verify_assertion


def verify_endorsement(
    endorsement: Endorsement, anchors: Iterable[TrustAnchor], rp: RelyingParty
) -> None:
    """Check that a trust anchor's passkey signed for it.

    Raises:
        ForbiddenError: none of them did, or not for this.
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
