"""Triggers: what is signed once a run has succeeded, without any step of ours in the build."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, build_systems, projects, users
from sealwright.db.log import NewEntry
from sealwright.errors import InvalidInputError
from sealwright.model.build_system import Trigger
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.user import UserKind
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_policy, find_project, is_name, missing
from sealwright.web.answers import json_answer
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.build_systems import TriggerIn, TriggerOut, TriggerPatch, TriggersOut
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """All of a project."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await build_systems.find_triggers(
            tx, project.organization_id, project_id=project.id
        )
    return json_answer(TriggersOut(items=[_out(one) for one in found]))


async def create(call: Call) -> Response:
    """Make a trigger."""
    return json_answer(_out(await add_trigger(call, await call.json(TriggerIn))), 201)


async def add_trigger(call: Call, given: TriggerIn) -> Trigger:
    """Make the trigger in the project of the path.

    Raises:
        NotFoundError: what it names is missing, or not for the caller.
        InvalidInputError: its CI user may not submit to the policy.
    """
    async with call.services.database.transaction() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        organization = project.organization_id
        link = (
            await build_systems.get_link(tx, organization, given.link)
            if is_id(given.link)
            else None
        )
        if link is None or link.project_id != project.id:
            raise missing(given.link, "repository link")
        policy = await find_policy(tx, call.grant, project, given.signing_policy)
        await _check_submitter(tx, organization, given.submitter, policy.submitters)
        trigger = Trigger(
            id=new_id(),
            organization_id=organization,
            project_id=project.id,
            link_id=link.id,
            signing_policy_id=policy.id,
            artifact_configuration_id=await _configuration(
                tx, organization, project.id, given.artifact_configuration
            ),
            submitter_id=given.submitter,
            definition=given.definition,
            refs=given.refs,
            artifact=given.artifact,
            enabled=given.enabled,
            created_at=utc_now(),
        )
        await build_systems.add_trigger(tx, trigger)
        await record(tx, _entry(call, "trigger.created", trigger))
    return trigger


async def update(call: Call) -> Response:
    """Change or disable a trigger."""
    return json_answer(_out(await change_trigger(call, await call.json(TriggerPatch))))


async def change_trigger(call: Call, patch: TriggerPatch) -> Trigger:
    """Change the trigger of the path.

    Raises:
        NotFoundError: it is missing, or not for the caller.
    """
    async with call.services.database.transaction() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await build_systems.find_triggers(
            tx, project.organization_id, project_id=project.id
        )
        trigger = next((one for one in found if one.id == call.path("trigger")), None)
        if trigger is None:
            raise missing(call.path("trigger"), "trigger")
        before = trigger
        trigger = dataclasses.replace(trigger, **patch.model_dump(exclude_none=True))
        await build_systems.update_trigger(tx, trigger)
        await record(tx, _entry(call, "trigger.updated", trigger, before))
    return trigger


async def _check_submitter(
    tx: Transaction, organization_id: str, user_id: str, submitters: frozenset[str]
) -> None:
    user = await users.get(tx, organization_id, user_id) if is_id(user_id) else None
    if user is None or user.kind is not UserKind.CI or not user.standing & submitters:
        message = f"{user_id[:100]!r} is no CI user that may submit to the signing policy."
        raise InvalidInputError(message, advice="Make one a submitter of the policy, by its id.")


async def _configuration(
    tx: Transaction, organization_id: str, project_id: str, name: str | None
) -> str | None:
    if name is None:
        return None
    found = None
    if is_name(name):
        found = await projects.find_configuration(tx, organization_id, project_id, name)
    if found is None:
        raise missing(name, "artifact configuration")
    return found.id


def _out(trigger: Trigger) -> TriggerOut:
    return TriggerOut.model_validate(fields_of(trigger) | {"refs": list(trigger.refs)})


def _entry(call: Call, action: str, trigger: Trigger, before: Trigger | None = None) -> NewEntry:
    facts = {
        "project": trigger.project_id,
        "trigger": trigger.id,
        "link": trigger.link_id,
        "policy": trigger.signing_policy_id,
        "submitter": trigger.submitter_id,
        "definition": trigger.definition,
        "refs": list(trigger.refs),
        "artifact": trigger.artifact,
        "enabled": trigger.enabled,
    }
    return organization_entry(
        trigger.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data=facts,
        change=call.change(_out(before) if before else None, _out(trigger)),
    )


_PATH = "/api/v1/projects/{project}/triggers"

ENDPOINTS = (
    Endpoint(
        "triggers.list",
        "GET",
        _PATH,
        listing,
        "List triggers",
        (Answer(200, "All of the project", TriggersOut),),
    ),
    Endpoint(
        "triggers.create",
        "POST",
        _PATH,
        create,
        "Make a trigger",
        (Answer(201, "Made", TriggerOut),),
        {"application/json": TriggerIn},
    ),
    Endpoint(
        "triggers.update",
        "PATCH",
        f"{_PATH}/{{trigger}}",
        update,
        "Change or disable a trigger",
        (Answer(200, "Changed", TriggerOut),),
        {"application/json": TriggerPatch},
    ),
)
