"""What the signer would have against a request now: read for pages, reports and the queue."""

from __future__ import annotations

from sealwright.db import Transaction, endorsements, passkeys, projects, requests
from sealwright.errors import SignerRefusedError
from sealwright.model.passkey import RelyingParty
from sealwright.model.request import SigningRequest
from sealwright.policy.endorsements import objection


async def find_objection(
    tx: Transaction, request: SigningRequest, rp: RelyingParty
) -> SignerRefusedError | None:
    """The signer's objection, as far as it is about endorsements; None: there is none, or the
    request is at its end. An `EndorsementAwaitedError`: it is one that can still be given.

    Args:
        rp: the server that passkeys are for.
    """
    organization = request.organization_id
    if request.state.is_final or not await endorsements.anchors(tx, organization):
        return None
    approvals = await requests.decisions(tx, request.id)
    keys = await passkeys.of_users(tx, organization, [one.user_id for one in approvals])
    trust = await endorsements.of_request(tx, request, approvals, keys)
    present = await projects.find_policy(tx, organization, None, request.signing_policy_id)
    return objection(trust, request, present, rp, approvals, keys)
