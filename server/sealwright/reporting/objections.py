"""What the signer would have against a request now: read for pages, reports and the queue."""

from __future__ import annotations

import datetime as dt
import hashlib

from sealwright.db import Transaction, approvals, endorsements, groups, passkeys, projects
from sealwright.errors import SignerRefusedError
from sealwright.model.passkey import RelyingParty
from sealwright.model.request import SigningRequest
from sealwright.policy.endorsements import objection
from sealwright.reporting.notify import Letter, tell


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
    decisions = await approvals.of_request(tx, request.id)
    keys = await passkeys.of_users(tx, organization, [one.user_id for one in decisions])
    trust = await endorsements.of_request(tx, request, decisions, keys)
    present = await projects.find_policy(tx, organization, None, request.signing_policy_id)
    people = await groups.people(tx, organization, present.approvers) if present else None
    return objection(trust, request, present, rp, decisions, keys, people)


async def tell_endorsers(
    tx: Transaction, request: SigningRequest, missing: SignerRefusedError, now: dt.datetime
) -> None:
    """Write to those who can endorse that something waits for it: once a day for each policy and
    reason, however many requests there are."""
    found = await endorsements.anchors(tx, request.organization_id)
    wanted = {one.user_id for one in found if one.removed_at is None}
    reason = hashlib.sha256(missing.message.encode()).hexdigest()[:16]
    letter = Letter(
        f"Endorsement needed: {request.signing_policy_name}",
        f"{missing.message} Signing requests wait for it.",
        (("Project", request.project_name), ("Signing policy", request.signing_policy_name)),
        "/endorsements",
        "Endorse",
        "Those whose passkey the signer trusts are told.",
    )
    key = f"endorse/{request.signing_policy_id}/{reason}/{now:%Y-%m-%d}"
    await tell(tx, request.organization_id, wanted, letter, now, key=key)
