"""Each run's artifact is submitted once to a policy, and each identity token serves one submission.

A repetition of the same submission gives the same request: clients repeat what got no answer.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from dataclasses import dataclass

from sealwright.db import Transaction, request_sets, run_submissions
from sealwright.errors import OriginError
from sealwright.model.identifiers import utc_now
from sealwright.model.origin import Origin, RunFacts

#: tokens are remembered for so long after they expired: more than any clock is off
REMEMBER = dt.timedelta(hours=1)


@dataclass(frozen=True)
class RunSubmission:
    """What must not be submitted twice.

    Attributes:
        key: hex SHA-256 over build system, repository, run, attempt, artifact and policy.
        run_id: with what comes before it, where to look for old requests.
        token_id: hex SHA-256 of the identity token's ``jti``; empty without a token.
    """

    key: str
    build_system_id: str
    organization_id: str
    project_id: str
    policy_id: str
    run_id: str
    token_id: str = ""
    token_expires_at: dt.datetime | None = None


def run_submission(
    origin: Origin,
    facts: RunFacts,
    organization_id: str,
    project_id: str,
    policy_id: str,
    artifact: str,
) -> RunSubmission:
    """The submission of a run's artifact to a policy.

    Args:
        artifact: the CI system's id of it, or its SHA-256 where the build sends it.
    """
    key = _key(origin, organization_id, policy_id, artifact)
    plain = RunSubmission(
        key, origin.build_system_id, organization_id, project_id, policy_id, origin.run_id
    )
    if facts.claims is None:
        return plain
    token_id = hashlib.sha256(facts.claims["jti"].encode()).hexdigest()
    expires = dt.datetime.fromtimestamp(min(int(facts.claims["exp"]), 1 << 37), dt.UTC)
    return dataclasses.replace(plain, token_id=token_id, token_expires_at=expires + REMEMBER)


def _key(origin: Origin, organization_id: str, policy_id: str, artifact: str) -> str:
    named = [
        organization_id,
        origin.build_system_id,
        origin.repository_id,
        origin.run_id,
        origin.run_attempt,
        artifact,
        policy_id,
    ]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


async def earlier_request(tx: Transaction, submission: RunSubmission) -> str | None:
    """The id of the request that the same submission made before.

    Raises:
        OriginError: its identity token served another submission.
    """
    found = await run_submissions.find(tx, submission.key) or await _old(tx, submission)
    if submission.token_expires_at is not None and not await run_submissions.take_token(
        tx,
        submission.build_system_id,
        submission.token_id,
        submission.key,
        submission.token_expires_at,
    ):
        message = "The identity token was used for another submission already."
        raise OriginError(message, advice="Request a fresh identity token for each submission.")
    return found


async def _old(tx: Transaction, submission: RunSubmission) -> str | None:
    """The same from the requests themselves, which outlive the rows that they are found by."""
    before = utc_now() - run_submissions.KEEP + dt.timedelta(days=1)
    for request in await request_sets.of_run(
        tx, submission.organization_id, submission.project_id, submission.run_id, before=before
    ):
        named = [request.origin.artifact_id]
        named += [f"sha256:{request.input.sha256}"] if request.input else []
        policy = request.signing_policy_id
        keys = [_key(request.origin, request.organization_id, policy, one) for one in named]
        if submission.key in keys:
            return request.id
    return None
