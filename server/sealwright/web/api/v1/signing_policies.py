"""Signing policies of a project."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.responses import Response

from sealwright.db import Transaction, certificates, groups, projects
from sealwright.db.log import NewEntry
from sealwright.errors import ConflictError
from sealwright.model.certificate import Certificate
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.origin import OriginRules
from sealwright.model.project import SigningPolicy, snapshot
from sealwright.policy.decide import check_policy, check_restrictions
from sealwright.reporting.unusual import look_at_approvers
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import check_standing, find_policy, find_project, missing
from sealwright.web import awaited
from sealwright.web.answers import json_answer, page_of
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.projects import (
    OriginRulesIn,
    SigningPoliciesOut,
    SigningPolicyIn,
    SigningPolicyOut,
    SigningPolicyPatch,
)
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.views import policy_out


async def listing(call: Call) -> Response:
    """All policies of a project."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await projects.policies(tx, project.organization_id, project.id)
        page, cursor = page_of(found, query.cursor, query.limit, lambda policy: policy.slug)
        waiting = await awaited.policies(tx, project.organization_id, page, _url(call))
    items = [policy_out(one, waiting.get(one.id)) for one in page]
    return json_answer(SigningPoliciesOut(items=items, next_cursor=cursor))


async def get(call: Call) -> Response:
    """One policy."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        policy = await find_policy(tx, call.grant, project, call.path("policy"))
        return json_answer(await _out(tx, call, policy))


async def create(call: Call) -> Response:
    """Make a policy."""
    policy = await add_policy(call, await call.json(SigningPolicyIn))
    location = f"/api/v1/projects/{call.path('project')}/signing-policies/{policy.slug}"
    async with call.services.database.read() as tx:
        out = await _out(tx, call, policy)
    return json_answer(out, 201, {"Location": f"{_url(call)}{location}"})


async def add_policy(call: Call, given: SigningPolicyIn) -> SigningPolicy:
    """Make the policy that `given` describes in the project of the path.

    Raises:
        NotFoundError: the project or the certificate is missing, or not for the caller.
        ConflictError, InvalidInputError, PolicyViolationError: it cannot be one.
    """
    async with call.services.database.transaction() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        if await projects.find_policy(tx, project.organization_id, project.id, given.slug):
            message = f"The project has a signing policy {given.slug!r} already."
            raise ConflictError(message)
        certificate = await _certificate(tx, project.organization_id, given.certificate)
        policy = SigningPolicy(
            id=new_id(),
            organization_id=project.organization_id,
            project_id=project.id,
            certificate_id=certificate.id,
            created_at=utc_now(),
            **{name: _value(given, name) for name in _SETTABLE | {"slug", "kind"}},
        )
        await _check(tx, policy)
        await projects.add_policy(tx, policy)
        await look_at_approvers(tx, policy, (), utc_now())
        await record(tx, _entry(call, "signing_policy.created", policy, certificate))
    return policy


async def update(call: Call) -> Response:
    """Change a policy. Requests that were submitted keep the one they were submitted under."""
    policy = await change_policy(call, await call.json(SigningPolicyPatch))
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, call, policy))


async def change_policy(call: Call, patch: SigningPolicyPatch) -> SigningPolicy:
    """Change the policy of the path.

    Raises:
        NotFoundError: it or the certificate is missing, or not for the caller.
        InvalidInputError, PolicyViolationError: it cannot be so.
    """
    async with call.services.database.transaction() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        policy = await find_policy(tx, call.grant, project, call.path("policy"))
        certificate = await _certificate(
            tx, project.organization_id, patch.certificate or policy.certificate_id
        )
        changes: dict[str, Any] = {
            name: _value(patch, name) for name in _SETTABLE if getattr(patch, name) is not None
        }
        before = policy
        policy = dataclasses.replace(policy, certificate_id=certificate.id, **changes)
        await _check(tx, policy)
        could = await groups.people(tx, before.organization_id, before.approvers)
        await projects.update_policy(tx, policy)
        await look_at_approvers(tx, policy, could, utc_now())
        await record(tx, _entry(call, "signing_policy.updated", policy, certificate, before))
    return policy


async def _out(tx: Transaction, call: Call, policy: SigningPolicy) -> SigningPolicyOut:
    waiting = await awaited.policies(tx, policy.organization_id, [policy], _url(call))
    return policy_out(policy, waiting.get(policy.id))


def _url(call: Call) -> str:
    return call.services.settings.url


_SETTABLE = frozenset(SigningPolicyPatch.model_fields) - {"certificate"}


def _value(given: SigningPolicyIn | SigningPolicyPatch, name: str) -> Any:
    value = getattr(given, name)
    return OriginRules(**value.model_dump()) if isinstance(value, OriginRulesIn) else value


async def _certificate(tx: Transaction, organization_id: str, id_or_slug: str) -> Certificate:
    found = await certificates.find(tx, organization_id, id_or_slug)
    if found is None:
        raise missing(id_or_slug, "certificate")
    return found


async def _check(tx: Transaction, policy: SigningPolicy) -> None:
    await check_standing(tx, policy.organization_id, policy.submitters)
    check_policy(policy, await check_standing(tx, policy.organization_id, policy.approvers))
    # of the certificate that the policy would use today
    found = await certificates.get_current(tx, policy.organization_id, policy.certificate_id)
    if found is not None:
        check_restrictions(found, policy.quorum)


def _entry(
    call: Call,
    action: str,
    policy: SigningPolicy,
    certificate: Certificate,
    before: SigningPolicy | None = None,
) -> NewEntry:
    facts = {
        "project": policy.project_id,
        "policy": policy.id,
        "certificate": certificate.id,
        "enabled": policy.enabled,
        "quorum": policy.quorum,
        "sha256": snapshot(policy, certificate.sha256, None).sha256,
    }
    return organization_entry(
        policy.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data=facts,
        change=call.change(policy_out(before) if before else None, policy_out(policy)),
    )


_PATH = "/api/v1/projects/{project}/signing-policies"

ENDPOINTS = (
    Endpoint(
        "signing_policies.list",
        "GET",
        _PATH,
        listing,
        "List signing policies",
        (Answer(200, "One page", SigningPoliciesOut),),
        query=PageQuery,
    ),
    Endpoint(
        "signing_policies.create",
        "POST",
        _PATH,
        create,
        "Make a signing policy",
        (Answer(201, "Made", SigningPolicyOut),),
        {"application/json": SigningPolicyIn},
    ),
    Endpoint(
        "signing_policies.get",
        "GET",
        f"{_PATH}/{{policy}}",
        get,
        "Read a signing policy",
        (Answer(200, "The policy", SigningPolicyOut),),
    ),
    Endpoint(
        "signing_policies.update",
        "PATCH",
        f"{_PATH}/{{policy}}",
        update,
        "Change a signing policy",
        (Answer(200, "Changed", SigningPolicyOut),),
        {"application/json": SigningPolicyPatch},
    ),
)
