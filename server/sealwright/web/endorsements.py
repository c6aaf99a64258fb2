"""What waits for a trusted passkey, and endorsing it. The signer decides by it (`signer.trust`)."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealwright.db import (
    Transaction,
    certificate_orders,
    endorsements,
    groups,
    passkeys,
    projects,
    request_sets,
    requests,
    users,
)
from sealwright.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from sealwright.model.certificate import CertificateOrder
from sealwright.model.endorsement import (
    MAX_APPROVERS,
    Endorsement,
    EndorsementKind,
    TrustAnchor,
    configuration_subject,
    configuration_terms,
    disabled_terms,
    endorsement_challenge,
    order_terms,
    passkey_terms,
    policy_terms,
)
from sealwright.model.identifiers import utc_now
from sealwright.model.passkey import Assertion, RelyingParty, relying_party
from sealwright.model.project import ArtifactConfiguration, SigningPolicy, snapshot
from sealwright.model.request import RequestKind, SigningRequest, State
from sealwright.policy.endorsements import newest, verify_endorsement
from sealwright.policy.permissions import Grant
from sealwright.reporting.outbox import announce
from sealwright.transparency.details import Change
from sealwright.transparency.record import organization_entry, record
from sealwright.web.passkeys import endorsement_options
from sealwright.web.routes import Call

_MAX_VERSION = 2**31 - 1


@dataclass(frozen=True)
class Waiting:
    """Something that does not count until it is endorsed.

    Attributes:
        version: the one that its next endorsement has.
        terms: what is endorsed, for people to read.
        approvers, certificate_id: of a policy; part of what is endorsed.
        path: of the page that has it.
        withdraws: it matters only where something else of the subject was endorsed.
    """

    kind: EndorsementKind
    subject_id: str
    name: str
    version: int
    terms_sha256: str
    terms: Mapping[str, Any]
    approvers: tuple[str, ...] = ()
    certificate_id: str | None = None
    path: str = ""
    withdraws: bool = False


@dataclass(frozen=True)
class Desk:
    """What the organization has to endorse, and who may.

    Attributes:
        anchors: the passkeys that the signer was told to trust; none: nothing needs an endorsement.
            Those that their owners removed count for nothing.
        endorsers: names of those who may endorse.
    """

    anchors: Sequence[TrustAnchor]
    waiting: Sequence[Waiting]
    endorsers: Sequence[str] = ()

    def mine(self, user_id: str) -> Sequence[TrustAnchor]:
        """Those of one user that count."""
        return [one for one in self.anchors if one.user_id == user_id and one.removed_at is None]


async def read_desk(call: Call) -> Desk:
    """What waits in the caller's organization."""
    async with call.services.database.read() as tx:
        return await _read(tx, call.grant, relying_party(call.services.settings.url))


async def waiting_for(
    tx: Transaction, grant: Grant, rp: RelyingParty
) -> tuple[Sequence[Waiting], Sequence[SigningRequest]]:
    """What the caller's own passkey can endorse, and the requests of the organization that wait
    for that, oldest first."""
    anchors = await endorsements.anchors(tx, grant.organization_id)
    if not any(one.user_id == grant.user.id and one.removed_at is None for one in anchors):
        return (), ()
    desk = await _read(tx, grant, rp)
    held = await request_sets.waiting_on(tx, grant.organization_id, State.WAITING_FOR_ENDORSEMENT)
    return desk.waiting, held


def options(call: Call, desk: Desk, one: Waiting) -> dict[str, Any] | None:
    """What `navigator.credentials.get` is to be given so that its answer endorses this; None where
    no passkey of the caller's is trusted."""
    user = call.grant.user
    mine = [anchor.as_passkey() for anchor in desk.mine(user.id)]
    if not mine:
        return None
    challenge = endorsement_challenge(
        user.organization_id, one.kind, one.subject_id, one.version, one.terms_sha256, user.id
    )
    return endorsement_options(call.services, challenge, mine)


async def endorse(
    call: Call, kind: EndorsementKind, subject_id: str, version: int, assertion: Assertion
) -> Endorsement:
    """Record that a trusted passkey of the caller signed for what waits.

    Raises:
        NotFoundError: nothing of this kind waits.
        ConflictError: somebody endorsed it meanwhile.
        ForbiddenError: the passkey is not trusted, or signed for something else.
    """
    grant = call.grant
    rp = relying_party(call.services.settings.url)
    async with call.services.database.transaction() as tx:
        desk = await _read(tx, grant, rp)
        found = next(
            (one for one in desk.waiting if (one.kind, one.subject_id) == (kind, subject_id)), None
        )
        if found is None:
            message = "Nothing of this kind waits for an endorsement."
            raise NotFoundError(message, advice="Read the list again.")
        if found.version != version:
            message = "It was endorsed or changed meanwhile."
            raise ConflictError(message, advice="Read the list again.")
        if len(found.approvers) > MAX_APPROVERS:
            message = f"The policy has {len(found.approvers)} approvers; {MAX_APPROVERS} can be."
            raise InvalidInputError(message, advice="Name a smaller group.")
        if not desk.mine(grant.user.id):
            message = "None of your passkeys is trusted by the signer."
            raise ForbiddenError(message, advice="The operator runs 'sealwright trust add'.")
        made = Endorsement(
            grant.organization_id,
            kind,
            subject_id,
            version,
            found.terms_sha256,
            found.approvers,
            found.certificate_id,
            grant.user.id,
            assertion,
            utc_now(),
        )
        verify_endorsement(made, desk.anchors, rp)
        await endorsements.add(tx, made)
        facts: dict[str, Any] = {
            "kind": kind.value,
            "subject": subject_id,
            "version": version,
            "terms_sha256": made.terms_sha256,
            "endorsement": made.sha256,
        }
        if kind is EndorsementKind.POLICY:
            facts["policy"] = subject_id
        entry = organization_entry(
            grant.organization_id,
            "endorsement.made",
            actor=grant.actor,
            now=made.created_at,
            data=facts,
            change=Change(grant.principal.address, None, {"terms": found.terms}),
        )
        await record(tx, entry)
        concerned = await _concerned(tx, found, grant.organization_id, made.created_at)
    for request in concerned:
        if request.state is State.WAITING_FOR_ENDORSEMENT:
            digest = request.kind is RequestKind.HASH
            await call.services.queue.enqueue(request.id, digest=digest)
        else:
            await call.services.queue.announce(request.id)
    return made


async def _concerned(
    tx: Transaction, endorsed: Waiting, organization_id: str, now: dt.datetime
) -> list[SigningRequest]:
    """Requests that wait and rest on what is endorsed: those that waited for it become due, the
    others get another version and are told again. Of many the first; all of them become due."""
    rests: dict[str, Any] = {}
    match endorsed.kind:
        case EndorsementKind.POLICY:
            rests["policy_id"] = endorsed.subject_id
        case EndorsementKind.CONFIGURATION:
            terms = endorsed.terms
            rests["configuration"] = (terms["project_id"], terms["configuration_slug"])
        case EndorsementKind.PASSKEY:
            rests["approver_id"] = endorsed.terms["user_id"]
        case _:
            return []
    await request_sets.make_due(tx, organization_id, State.WAITING_FOR_ENDORSEMENT, now)
    due = await request_sets.waiting_on(tx, organization_id, State.WAITING_FOR_ENDORSEMENT, **rests)
    undecided = await request_sets.waiting_on(
        tx, organization_id, State.WAITING_FOR_APPROVAL, **rests
    )
    told = []
    for request in undecided:
        amended = await requests.amend(tx, request, now)
        if amended is not None:
            await announce(tx, amended, now, again=True)
            told.append(amended)
    return [*due, *told]


async def _read(tx: Transaction, grant: Grant, rp: RelyingParty) -> Desk:
    organization = grant.organization_id
    anchors = await endorsements.anchors(tx, organization)
    if not anchors:
        return Desk((), ())
    listed = await projects.policies(tx, organization)
    found = [await describe_policy(tx, one) for one in listed]
    found += [
        describe_configuration(one)
        for one in await projects.newest_configurations(tx, organization)
    ]
    asked = {one for policy in listed if policy.passkey_required for one in policy.approvers}
    approvers = await groups.people(tx, organization, asked)
    found += await _passkeys(tx, organization, approvers, anchors)
    found += await _orders(tx, organization)
    waiting = await unendorsed(tx, organization, found, anchors, rp)
    return Desk(anchors, waiting, await endorsers(tx, organization, anchors))


async def endorsers(
    tx: Transaction, organization_id: str, anchors: Sequence[TrustAnchor]
) -> tuple[str, ...]:
    """Names of those who may endorse."""
    names = set()
    for user_id in {one.user_id for one in anchors if one.removed_at is None}:
        found = await users.get(tx, organization_id, user_id)
        if found is not None and found.active:
            names.add(found.name)
    return tuple(sorted(names))


async def unendorsed(
    tx: Transaction,
    organization_id: str,
    found: Sequence[Waiting],
    anchors: Sequence[TrustAnchor],
    rp: RelyingParty,
) -> list[Waiting]:
    """Those of `found` that nobody with a trusted passkey has endorsed as they are."""
    waiting = []
    for kind in EndorsementKind:
        of_kind = [one for one in found if one.kind is kind]
        ids = [one.subject_id for one in of_kind]
        present = await endorsements.of_subjects(tx, organization_id, kind, ids)
        for one in of_kind:
            made = present.get(one.subject_id, [])
            valid = newest(made, anchors, rp)
            if valid is None and one.withdraws:
                continue
            if valid is not None and valid.terms_sha256 == one.terms_sha256:
                continue
            last = max((earlier.version for earlier in made), default=0)
            if last < _MAX_VERSION:
                waiting.append(dataclasses.replace(one, version=last + 1))
    return waiting


async def describe_policy(tx: Transaction, policy: SigningPolicy) -> Waiting:
    """What is endorsed of a policy: its terms, or that it is disabled."""
    path = f"/projects/{policy.project_id}/signing-policies/{policy.id}"
    if not policy.enabled:
        return Waiting(
            EndorsementKind.POLICY,
            policy.id,
            policy.name,
            0,
            disabled_terms(policy.id),
            {"policy_id": policy.id, "policy_slug": policy.slug, "disabled": True},
            path=path,
            withdraws=True,
        )
    approvers = await groups.people(tx, policy.organization_id, policy.approvers)
    fields = snapshot(policy, "", None, approvers).fields
    left_out = {"certificate_sha256", "artifact_configuration_id", "artifact_configuration_sha256"}
    return Waiting(
        EndorsementKind.POLICY,
        policy.id,
        policy.name,
        0,
        policy_terms(fields, approvers, policy.certificate_id),
        {name: value for name, value in fields.items() if name not in left_out},
        tuple(sorted(approvers)),
        policy.certificate_id,
        path,
    )


def describe_configuration(one: ArtifactConfiguration) -> Waiting:
    """What is endorsed of a version of an artifact configuration."""
    return Waiting(
        EndorsementKind.CONFIGURATION,
        configuration_subject(one.project_id, one.slug),
        one.name,
        0,
        configuration_terms(one),
        {
            "project_id": one.project_id,
            "configuration_slug": one.slug,
            "configuration_version": one.version,
            "sha256": one.sha256,
            "xml": one.xml,
        },
        path=f"/projects/{one.project_id}/artifact-configurations/{one.id}",
    )


async def _passkeys(
    tx: Transaction, organization_id: str, user_ids: frozenset[str], anchors: Sequence[TrustAnchor]
) -> list[Waiting]:
    if not user_ids:
        return []
    trusted = {one.passkey_id for one in anchors}
    people = {one.id: one for one in await users.some(tx, organization_id, user_ids)}
    return [
        Waiting(
            EndorsementKind.PASSKEY,
            one.id,
            f"{one.name} of {people[one.user_id].name}",
            0,
            passkey_terms(one),
            {
                "user": people[one.user_id].email or people[one.user_id].name,
                "user_id": one.user_id,
                "fingerprint": one.fingerprint,
                "added": one.created_at.isoformat(),
            },
        )
        for one in await passkeys.of_users(tx, organization_id, user_ids)
        if one.removed_at is None and one.id not in trusted
    ]


async def _orders(tx: Transaction, organization_id: str) -> list[Waiting]:
    return [
        describe_order(one)
        for one in await certificate_orders.waiting(tx)
        if one.organization_id == organization_id and one.requested_by is not None
    ]


def describe_order(one: CertificateOrder) -> Waiting:
    """What is endorsed of an order."""
    return Waiting(
        EndorsementKind.ORDER,
        one.id,
        f"{one.operation.value} a certificate",
        0,
        order_terms(one),
        {
            "operation": one.operation.value,
            "certificate": one.certificate_id,
            "arguments": dict(one.arguments),
            "requested_by": one.requested_by,
        },
        path=f"/certificates/orders/{one.id}",
    )
