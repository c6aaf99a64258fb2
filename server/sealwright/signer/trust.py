"""What the signer believes of the rows that the web process writes.

An organization has trust anchors once the operator names some at the socket (`trust_passkey`). From
then on a policy, an approver's passkey or an order counts only as a trust anchor's passkey endorsed
it: whoever takes over the web process can write rows, but not these signatures.
"""

from __future__ import annotations

import dataclasses

from sealwright.db import Database, Transaction, endorsements, passkeys
from sealwright.errors import ConflictError, NotFoundError
from sealwright.model.certificate import CertificateOrder
from sealwright.model.endorsement import EndorsementKind, TrustAnchor, order_terms
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import RelyingParty
from sealwright.policy.endorsements import newest
from sealwright.transparency.record import organization_entry, record


async def is_endorsed(tx: Transaction, order: CertificateOrder, rp: RelyingParty) -> bool:
    """Whether the order may be carried out as far as trust anchors are concerned. Housekeeping's
    needs none: it can only renew what was enrolled by an endorsed one."""
    anchors = await endorsements.anchors(tx, order.organization_id)
    if not anchors or order.requested_by is None:
        return True
    found = newest(
        await endorsements.of_subject(tx, order.organization_id, EndorsementKind.ORDER, order.id),
        anchors,
        rp,
    )
    return found is not None and found.terms_sha256 == order_terms(order)


async def trust_passkey(
    database: Database, organization_id: str, passkey_id: str, fingerprint: str
) -> TrustAnchor:
    """Believe a passkey from now on, on the operator's word.

    Args:
        fingerprint: hex SHA-256 of its public key, as the operator has it from its owner.

    Raises:
        NotFoundError: there is no such passkey, or it has another key.
        ConflictError: it is believed already.
    """
    async with database.transaction() as tx:
        found = await passkeys.get(tx, organization_id, passkey_id)
        if found is None or found.removed_at is not None:
            raise _unknown(passkey_id)
        anchor = TrustAnchor(
            found.id,
            organization_id,
            found.user_id,
            found.credential_id,
            found.public_key,
            utc_now(),
        )
        if anchor.fingerprint != fingerprint.lower():
            message = "The passkey in the database has another key than this fingerprint's."
            raise NotFoundError(message, advice="Compare it with its owner; somebody changed it.")
        if passkey_id in {
            one.passkey_id for one in await endorsements.anchors(tx, organization_id)
        }:
            message = "The signer trusts this passkey already."
            raise ConflictError(message)
        await endorsements.add_anchor(tx, anchor)
        await _log(tx, "trust.added", anchor)
    return anchor


async def distrust_passkey(database: Database, organization_id: str, passkey_id: str) -> None:
    """Believe a passkey no more, nor what it endorsed.

    Raises:
        NotFoundError: it is none that is believed.
    """
    async with database.transaction() as tx:
        anchors = await endorsements.anchors(tx, organization_id)
        found = next((one for one in anchors if one.passkey_id == passkey_id), None)
        if found is None:
            raise _unknown(passkey_id)
        await endorsements.remove_anchor(tx, organization_id, passkey_id)
        await _log(tx, "trust.removed", dataclasses.replace(found, created_at=utc_now()))


async def _log(tx: Transaction, action: str, anchor: TrustAnchor) -> None:
    facts = {
        "user": anchor.user_id,
        "passkey": anchor.passkey_id,
        "public_key_sha256": anchor.fingerprint,
    }
    entry = organization_entry(
        anchor.organization_id, action, actor="signer", now=anchor.created_at, data=facts
    )
    await record(tx, entry)


def _unknown(passkey_id: str) -> NotFoundError:
    message = f"The organization has no such passkey: {passkey_id[:40]!r}."
    return NotFoundError(message, advice="Its id and fingerprint are on its owner's account page.")
