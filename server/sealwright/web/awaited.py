"""For whose endorsement something waits: what its own page and answer say of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sealwright.db import Transaction, endorsements, projects
from sealwright.model.certificate import CertificateOrder, OrderState
from sealwright.model.passkey import relying_party
from sealwright.model.project import ArtifactConfiguration, SigningPolicy
from sealwright.model.request import SigningRequest
from sealwright.reporting.objections import find_objection
from sealwright.web.endorsements import (
    Waiting,
    describe_configuration,
    describe_order,
    describe_policy,
    endorsers,
    unendorsed,
)

#: Id of what waits -> names of those for whose endorsement it waits.
Awaited = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class NeededEndorsement:
    """Why a request that is not at its end would not be signed now.

    Attributes:
        by: names of those who can endorse; see `policy.endorsements.objection` for the rest.
    """

    message: str
    advice: str
    by: tuple[str, ...]


async def by(tx: Transaction, organization_id: str) -> tuple[str, ...] | None:
    """Names of those who can endorse; None where nothing needs an endorsement."""
    anchors = await endorsements.anchors(tx, organization_id)
    return await endorsers(tx, organization_id, anchors) if anchors else None


async def policies(
    tx: Transaction, organization_id: str, found: Sequence[SigningPolicy], url: str
) -> Awaited:
    """Those of the policies that wait.

    Args:
        url: the server's address.
    """

    async def described() -> dict[str, Waiting]:
        return {one.id: await describe_policy(tx, one) for one in found}

    return await _awaited(tx, organization_id, url, described)


async def configurations(
    tx: Transaction, organization_id: str, found: Sequence[ArtifactConfiguration], url: str
) -> Awaited:
    """Those of the versions that wait: none of which there is a newer one."""

    async def described() -> dict[str, Waiting]:
        newest = {one.id for one in await projects.newest_configurations(tx, organization_id)}
        return {one.id: describe_configuration(one) for one in found if one.id in newest}

    return await _awaited(tx, organization_id, url, described)


async def orders(
    tx: Transaction, organization_id: str, found: Sequence[CertificateOrder], url: str
) -> Awaited:
    """Those of the orders that wait."""

    async def described() -> dict[str, Waiting]:
        return {
            one.id: describe_order(one)
            for one in found
            if one.state is OrderState.QUEUED and one.requested_by is not None
        }

    return await _awaited(tx, organization_id, url, described)


async def request(tx: Transaction, one: SigningRequest, url: str) -> NeededEndorsement | None:
    """What the signer would have against the request now; None: nothing, or it is at its end."""
    found = await find_objection(tx, one, relying_party(url))
    if found is None:
        return None
    who = await by(tx, one.organization_id)
    return NeededEndorsement(found.message, found.advice, who or ())


async def _awaited(
    tx: Transaction,
    organization_id: str,
    url: str,
    describe: Callable[[], Awaitable[Mapping[str, Waiting]]],
) -> Awaited:
    anchors = await endorsements.anchors(tx, organization_id)
    if not anchors:
        return {}
    described = await describe()
    left = await unendorsed(
        tx, organization_id, list(described.values()), anchors, relying_party(url)
    )
    waiting = {(one.kind, one.subject_id) for one in left}
    who = await endorsers(tx, organization_id, anchors) if waiting else ()
    return {name: who for name, one in described.items() if (one.kind, one.subject_id) in waiting}
