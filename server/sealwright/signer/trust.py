"""What the signer believes of the rows that the web process writes.

An organization has trust anchors once the operator names some at the socket (`trust_passkey`). From
then on a policy, an approver's passkey or an order counts only as a trust anchor's passkey endorsed
it: whoever takes over the web process can write rows, but not these signatures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sealwright.db import Database, Transaction, certificates, endorsements, passkeys
from sealwright.errors import ConflictError, NotFoundError, SignerRefusedError
from sealwright.model.certificate import CertificateOrder
from sealwright.model.endorsement import (
    Endorsement,
    EndorsementKind,
    TrustAnchor,
    order_terms,
    passkey_terms,
    policy_terms,
)
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import Passkey, RelyingParty
from sealwright.model.request import Approval, SigningRequest
from sealwright.policy.endorsements import newest
from sealwright.transparency.record import organization_entry, record

_MAX_RENEWALS = 100  # that are followed back to the certificate that a policy named
_ADVICE = "Have it endorsed at /endorsements with a passkey that the signer trusts."


@dataclass(frozen=True)
class Trust:
    """What an organization with trust anchors has endorsed. Whether it holds is still to be seen.

    Attributes:
        of_policy: of the request's policy.
        of_passkeys: passkey id -> endorsements of it.
        lineage: the request's certificate and all that it renews, directly or not.
    """

    anchors: Sequence[TrustAnchor]
    of_policy: Sequence[Endorsement]
    of_passkeys: Mapping[str, Sequence[Endorsement]] = field(default_factory=dict)
    lineage: frozenset[str] = frozenset()

    def check_policy(self, fields: Mapping[str, Any], rp: RelyingParty) -> Endorsement:
        """The endorsement that the snapshot's policy rests on: always the newest, so that nobody
        brings back what was endorsed before.

        Raises:
            SignerRefusedError: there is none, or it is of other terms.
        """
        found = newest(self.of_policy, self.anchors, rp)
        if found is None:
            _refuse("Nobody with a trusted passkey has endorsed the signing policy.")
        terms = policy_terms(fields, found.approvers, found.certificate_id)
        if terms != found.terms_sha256:
            _refuse("The signing policy is not the one that was endorsed last.")
        if not set(fields["approvers"]) <= set(found.approvers):
            _refuse("The signing policy has approvers that it had not when it was endorsed.")
        if found.certificate_id not in self.lineage:
            _refuse("The certificate is not the one of the endorsed policy, nor a renewal of it.")
        return found

    def is_trusted(self, passkey: Passkey, rp: RelyingParty) -> bool:
        """Whether the passkey is an anchor, or was endorsed as this user's."""
        for anchor in self.anchors:
            if anchor.credential_id == passkey.credential_id:
                return (anchor.public_key, anchor.user_id) == (passkey.public_key, passkey.user_id)
        found = newest(self.of_passkeys.get(passkey.id, ()), self.anchors, rp)
        return found is not None and found.terms_sha256 == passkey_terms(passkey)


async def read_trust(
    tx: Transaction,
    request: SigningRequest,
    approvals: Sequence[Approval],
    keys: Sequence[Passkey],
) -> Trust | None:
    """What is there for the request; None where its organization has no trust anchors."""
    organization = request.organization_id
    anchors = await endorsements.anchors(tx, organization)
    if not anchors:
        return None
    used = {one.assertion.credential_id for one in approvals if one.assertion}
    asserted = [key.id for key in keys if key.credential_id in used]
    return Trust(
        anchors,
        await endorsements.of_subject(
            tx, organization, EndorsementKind.POLICY, request.signing_policy_id
        ),
        {
            one: await endorsements.of_subject(tx, organization, EndorsementKind.PASSKEY, one)
            for one in asserted
        },
        await _lineage(tx, organization, request.certificate_id),
    )


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


async def _lineage(tx: Transaction, organization_id: str, certificate_id: str) -> frozenset[str]:
    seen: list[str] = []
    following: str | None = certificate_id
    while following and following not in seen and len(seen) < _MAX_RENEWALS:
        seen.append(following)
        found = await certificates.get(tx, organization_id, following)
        following = found.replaces_id if found else None
    return frozenset(seen)


def _unknown(passkey_id: str) -> NotFoundError:
    message = f"The organization has no such passkey: {passkey_id[:40]!r}."
    return NotFoundError(message, advice="Its id and fingerprint are on its owner's account page.")


def _refuse(message: str) -> NoReturn:
    raise SignerRefusedError(message, advice=_ADVICE)
