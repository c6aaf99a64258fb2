"""The stage of planning: what is signed in an artifact, the same in every attempt."""

from __future__ import annotations

import asyncio

from sealwright.answer import patiently
from sealwright.db import plans, requests
from sealwright.errors import VerificationError
from sealwright.model.identifiers import utc_now
from sealwright.model.request import SigningRequest, StoredArtifact
from sealwright.queueing import lease
from sealwright.signing.artifact import Identity, TimestampForm
from sealwright.signing.plan import Plan
from sealwright.signing.sandbox import FormatChild
from sealwright.signing.stored_plan import stored_plan
from sealwright.signing.team import Team
from sealwright.workbench import Workbench


async def fetch(bench: Workbench, artifact: StoredArtifact, child: FormatChild) -> None:
    """Copy the artifact to the child's input; its hash must be the one in the record."""
    sha256 = await patiently(
        "fetching the artifact", lambda: bench.store.fetch(artifact.key, child.input)
    )
    if sha256 != artifact.sha256:
        message = "The stored artifact is not the one that was submitted."
        raise VerificationError(message, advice="Submit again; the store may be damaged.")
    child.input_sha256 = sha256


async def plan_and_record(
    bench: Workbench,
    request: SigningRequest,
    team: Team,
    configuration: str,
    identity: Identity,
) -> Plan:
    """Make the plan, and record it before anything is signed by it.

    The signing time is that of the first attempt: a later one finds it in the recorded plan, and
    must come to the same plan. Whoever approved has seen one too: it must do the same.
    """
    async with bench.database.read() as tx:
        recorded = await plans.get(tx, request.id)
        approved = "" if recorded else await plans.effect_ahead(tx, request.id)
    now = utc_now()
    time = Plan.from_json(recorded).signing_time if recorded else int(now.timestamp())
    plan = await make_plan(request, team, configuration, identity, time)
    if recorded is not None:
        if recorded != plan.to_json():
            message = "The artifact gives another plan than in the attempt before."
            raise VerificationError(
                message, advice="The server was upgraded in between: submit the artifact again."
            )
        return plan
    stored = await asyncio.to_thread(stored_plan, plan, team.listing)
    if approved not in {"", stored.effect}:
        message = "The artifact would be signed otherwise than was shown to those who approved."
        raise VerificationError(
            message, advice="The server was upgraded in between: submit the artifact again."
        )
    async with bench.database.transaction() as tx:
        await lease.require(tx, request)
        await plans.put(tx, request.id, stored, now)
        signatures = sum(len(node.signs) for node in plan.root.walk())
        await requests.amend(tx, request, now, plan_hash=stored.sha256, signatures=signatures)
    return plan


async def make_plan(
    request: SigningRequest, team: Team, configuration: str, identity: Identity, signing_time: int
) -> Plan:
    """What is done to the artifact, which the team has, by the request's own terms."""
    assert request.input is not None  # noqa: S101 - checked by the caller
    wants_time = bool(request.snapshot.fields["timestamp_required"])
    return await team.plan(
        configuration.encode(),
        request.parameters,
        artifact_name=request.input.file_name,
        signing_time=signing_time,
        timestamp=TimestampForm.RFC3161 if wants_time else TimestampForm.NONE,
        identity=identity,
    )
