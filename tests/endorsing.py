"""People with passkeys, and what they endorse: by rows, as a web process writes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from sealwright.db import Database, approvals, endorsements, passkeys, projects
from sealwright.model.endorsement import (
    Endorsement,
    EndorsementKind,
    TrustAnchor,
    configuration_subject,
    configuration_terms,
    endorsement_challenge,
    policy_terms,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import Assertion, Passkey, RelyingParty, approval_challenge
from sealwright.model.project import ArtifactConfiguration, SigningPolicy, snapshot
from sealwright.model.request import Approval, SigningRequest, StoredArtifact, Verdict
from sealwright.model.user import User
from sealwright.policy.passkeys import verify_registration
from tests.authenticator import Authenticator, from_text, text
from tests.database import Scene, add_request


@dataclasses.dataclass
class Person:
    """A user with a passkey in the database."""

    user: User
    device: Authenticator
    passkey: Passkey

    def answer(self, challenge: bytes) -> Assertion:
        answer = self.device.sign({"challenge": text(challenge)})
        response = answer["response"]
        return Assertion(
            from_text(answer["rawId"]),
            from_text(response["clientDataJSON"]),
            from_text(response["authenticatorData"]),
            from_text(response["signature"]),
            from_text(response["userHandle"]),
        )


async def equip(database: Database, user: User, rp: RelyingParty) -> Person:
    """Give the user a passkey, by a row: as registering does, or a web process that lies."""
    device = Authenticator(rp.origin, rp.id)
    options = {"user": {"id": text(user.id.encode())}, "challenge": text(b"x" * 32)}
    made = device.register(options)["response"]
    found = verify_registration(
        from_text(made["clientDataJSON"]), from_text(made["attestationObject"]), b"x" * 32, rp
    )
    passkey = Passkey(
        new_id(), user.organization_id, user.id, "Key", found.credential_id, found.public_key, 0,
        utc_now(),
    )  # fmt: skip
    async with database.transaction() as tx:
        await passkeys.add(tx, passkey)
    return Person(user, device, passkey)


@dataclasses.dataclass
class Desk:
    """An organization, and the officer whose passkey the signer trusts."""

    database: Database
    scene: Scene
    officer: Person

    async def endorse(
        self,
        kind: EndorsementKind,
        subject: str,
        terms: str,
        version: int = 1,
        *,
        by: Person | None = None,
        **policy: Any,
    ) -> None:
        who = by or self.officer
        tenant = self.scene.organization.id
        challenge = endorsement_challenge(tenant, kind, subject, version, terms, who.user.id)
        made = Endorsement(
            tenant, kind, subject, version, terms, policy.get("approvers", ()),
            policy.get("certificate_id"), who.user.id, who.answer(challenge), utc_now(),
        )  # fmt: skip
        async with self.database.transaction() as tx:
            await endorsements.add(tx, made)

    async def endorse_policy(
        self, policy: SigningPolicy, version: int = 1, by: Person | None = None
    ) -> None:
        approvers = tuple(sorted(policy.approvers))
        terms = policy_terms(snapshot(policy, "", None).fields, approvers, policy.certificate_id)
        await self.endorse(
            EndorsementKind.POLICY, policy.id, terms, version, by=by, approvers=approvers,
            certificate_id=policy.certificate_id,
        )  # fmt: skip

    async def endorse_configuration(
        self, configuration: ArtifactConfiguration, version: int = 1, by: Person | None = None
    ) -> None:
        subject = configuration_subject(configuration.project_id, configuration.slug)
        terms = configuration_terms(configuration)
        await self.endorse(EndorsementKind.CONFIGURATION, subject, terms, version, by=by)

    async def approved(
        self, policy: SigningPolicy, by: Person, **of_request: Any
    ) -> SigningRequest:
        """A request under the policy as it is in the database now, approved by one passkey."""
        frozen = snapshot(policy, self.scene.certificate.sha256, self.scene.configuration)
        fields = {
            "signatures": 1, "snapshot": frozen, "policy_hash": frozen.sha256,
            "input": StoredArtifact("key", "a.exe", 1, "ab" * 32),
        }  # fmt: skip
        request = await add_request(self.database, self.scene, **fields | of_request)
        challenge = approval_challenge(
            request.id, request.content_digest, request.policy_hash, by.user.id
        )
        approval = Approval(
            new_id(), request.id, by.user.id, by.user.name, Verdict.APPROVE, "", utc_now(),
            by.answer(challenge),
        )  # fmt: skip
        async with self.database.transaction() as tx:
            await approvals.add(tx, self.scene.organization.id, approval)
            await projects.update_policy(tx, policy)
        return request


async def trust(database: Database, passkey: Passkey) -> None:
    """Have the signer trust the passkey, by a row: as `sealwright trust add` does."""
    anchor = TrustAnchor(
        passkey.id, passkey.organization_id, passkey.user_id, passkey.credential_id,
        passkey.public_key, utc_now(),
    )  # fmt: skip
    async with database.transaction() as tx:
        await endorsements.add_anchor(tx, anchor)
