"""Proposed artifact configurations: whoever takes part proposes, whoever configures answers."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, groups, proposals, users
from sealwright.db.log import NewEntry
from sealwright.errors import ConflictError
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.project import Project
from sealwright.model.proposal import Proposal, ProposalState
from sealwright.model.user import Role
from sealwright.reporting.notify import Letter, tell
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_project, missing
from sealwright.web import views
from sealwright.web.answers import json_answer
from sealwright.web.api.v1.artifact_configurations import insert_version
from sealwright.web.configuration_check import check_configuration
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.projects import ArtifactConfigurationIn
from sealwright.web.schemas.proposals import (
    AcceptanceIn,
    AnswerIn,
    ProposalIn,
    ProposalOut,
    ProposalsOut,
)
from sealwright.web.throttle import Rate
from sealwright.web.views import fields_of

_RATE = Rate(20, 20)


async def listing(call: Call) -> Response:
    """The latest of a project."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await proposals.of_projects(tx, project.organization_id, [project.id])
        items = [await _out(tx, one) for one in found]
    return json_answer(ProposalsOut(items=items))


async def get(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, await find_proposal(tx, call)))


async def create(call: Call) -> Response:
    """Propose a version."""
    proposal = await propose(call, await call.json(ProposalIn))
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, proposal), 201)


async def accept(call: Call) -> Response:
    """Make it a version."""
    given = await call.json(AcceptanceIn)
    proposal = await accept_proposal(call, given.word, is_default=given.is_default)
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, proposal))


async def decline(call: Call) -> Response:
    """Say no, and why."""
    proposal = await decline_proposal(call, (await call.json(AnswerIn)).word)
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, proposal))


async def propose(call: Call, given: ProposalIn) -> Proposal:
    """Propose the version in the project of the path.

    Raises:
        NotFoundError: project or trial is missing, or not for the caller.
        ArtifactConfigurationError: it is not valid; names line and column.
        ConflictError: the trial was of another configuration.
        TooManyRequestsError: too often.
    """
    await call.services.throttle.take(f"proposals-of/{call.grant.user.id}", _RATE)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    await check_configuration(given.xml)
    async with call.services.database.transaction() as tx:
        trial_id = given.trial if given.trial and is_id(given.trial) else None
        if given.trial:
            trial = await proposals.get_trial(tx, project.organization_id, project.id, given.trial)
            if trial is None:
                raise missing(given.trial, "trial")
            if trial.xml != given.xml:
                message = "The trial was of another artifact configuration."
                raise ConflictError(message, advice="Try this one, or propose it untried.")
        proposal = Proposal(
            id=new_id(),
            organization_id=project.organization_id,
            project_id=project.id,
            slug=given.slug,
            name=given.name,
            xml=given.xml,
            comment=given.comment,
            trial_id=trial_id,
            proposed_by=call.grant.user.id,
            created_at=utc_now(),
        )
        await proposals.add(tx, proposal)
        await record(tx, _entry(call, "proposal.created", proposal))
        await _tell_configurators(tx, project, proposal, call.grant.user.name)
    return proposal


async def accept_proposal(call: Call, word: str, *, is_default: bool) -> Proposal:
    """Add the proposed version to its project, and note by whom.

    Raises:
        NotFoundError: it is missing, or not for the caller.
        ConflictError: it was answered already.
        ArtifactConfigurationError: it is not valid any more.
    """
    async with call.services.database.read() as tx:
        proposal = await find_proposal(tx, call)
    _check_open(proposal)
    version = ArtifactConfigurationIn(
        slug=proposal.slug, name=proposal.name, xml=proposal.xml, is_default=is_default
    )
    await check_configuration(proposal.xml)
    async with call.services.database.transaction() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        made = await insert_version(call, tx, project, version)
        return await _decide(call, tx, proposal, ProposalState.ACCEPTED, word, made.id)


async def decline_proposal(call: Call, word: str) -> Proposal:
    """Decline it.

    Raises:
        NotFoundError: it is missing, or not for the caller.
        ConflictError: it was answered already.
    """
    async with call.services.database.read() as tx:
        proposal = await find_proposal(tx, call)
    _check_open(proposal)
    async with call.services.database.transaction() as tx:
        return await _decide(call, tx, proposal, ProposalState.DECLINED, word, None)


async def _decide(
    call: Call,
    tx: Transaction,
    proposal: Proposal,
    state: ProposalState,
    word: str,
    configuration_id: str | None,
) -> Proposal:
    decided = dataclasses.replace(
        proposal,
        state=state,
        word=word,
        decided_by=call.grant.user.id,
        decided_at=utc_now(),
        configuration_id=configuration_id,
    )
    if not await proposals.decide(tx, decided):
        raise _answered()
    await record(tx, _entry(call, f"proposal.{state.value}", decided))
    letter = Letter(
        f"Proposal {state.value}: {proposal.name}",
        f"{call.grant.user.name} has {state.value} the artifact configuration that you proposed.",
        (("Answer", word),) if word else (),
        f"/projects/{proposal.project_id}/proposals/{proposal.id}",
        "See the proposal",
        "Who proposed something is told of the answer.",
    )
    await tell(tx, proposal.organization_id, {proposal.proposed_by}, letter, utc_now())
    return decided


async def _tell_configurators(
    tx: Transaction, project: Project, proposal: Proposal, proposer: str
) -> None:
    """Tell whoever configures the project; where nobody is named, its administrators."""
    organization = project.organization_id
    wanted = await groups.people(tx, organization, project.configurators)
    if not wanted:
        wanted = frozenset(
            one.id for one in await users.with_roles(tx, organization, {Role.PROJECT_ADMINISTRATOR})
        )
    letter = Letter(
        f"Proposal for {project.name}: {proposal.name}",
        f"{proposer} proposes an artifact configuration. It waits for your answer.",
        (("Comment", proposal.comment),) if proposal.comment else (),
        f"/projects/{project.slug}/proposals/{proposal.id}",
        "See what would change",
        "Who configures a project is told of proposals for it.",
    )
    await tell(tx, organization, wanted - {proposal.proposed_by}, letter, utc_now())


def _check_open(proposal: Proposal) -> None:
    if proposal.state is not ProposalState.OPEN:
        raise _answered()


def _answered() -> ConflictError:
    message = "The proposal was answered already."
    return ConflictError(message, advice="Read it again.")


async def find_proposal(tx: Transaction, call: Call) -> Proposal:
    """The proposal that the path names.

    Raises:
        NotFoundError: it is missing, or not for the caller.
    """
    project = await find_project(tx, call.grant, call.path("project"))
    name = call.path("proposal")
    found = None
    if is_id(name):
        found = await proposals.get(tx, project.organization_id, project.id, name)
    if found is None:
        raise missing(name, "proposal")
    return found


async def _out(tx: Transaction, proposal: Proposal) -> ProposalOut:
    people = [one for one in (proposal.proposed_by, proposal.decided_by) if one]
    names = await views.names(tx, proposal.organization_id, people)
    decider = proposal.decided_by
    return ProposalOut.model_validate(
        fields_of(proposal)
        | {
            "proposed_by": {"id": proposal.proposed_by, "name": names[proposal.proposed_by]},
            "decided_by": {"id": decider, "name": names[decider]} if decider else None,
        }
    )


def _entry(call: Call, action: str, proposal: Proposal) -> NewEntry:
    facts = {
        "project": proposal.project_id,
        "proposal": proposal.id,
        "configuration": proposal.configuration_id,
        "trial": proposal.trial_id,
    }
    return organization_entry(
        proposal.organization_id, action, actor=call.grant.actor, now=utc_now(), data=facts
    )


_PATH = "/api/v1/projects/{project}/proposals"
_ONE = f"{_PATH}/{{proposal}}"
_JSON = "application/json"

ENDPOINTS = (
    Endpoint(
        "proposals.list",
        "GET",
        _PATH,
        listing,
        "List proposed artifact configurations",
        (Answer(200, "The latest", ProposalsOut),),
    ),
    Endpoint(
        "proposals.create",
        "POST",
        _PATH,
        create,
        "Propose an artifact configuration",
        (Answer(201, "Proposed", ProposalOut),),
        {_JSON: ProposalIn},
    ),
    Endpoint(
        "proposals.get",
        "GET",
        _ONE,
        get,
        "Read a proposed artifact configuration",
        (Answer(200, "The proposal", ProposalOut),),
    ),
    Endpoint(
        "proposals.accept",
        "POST",
        f"{_ONE}/accept",
        accept,
        "Accept a proposed artifact configuration",
        (Answer(200, "Accepted", ProposalOut),),
        {_JSON: AcceptanceIn},
    ),
    Endpoint(
        "proposals.decline",
        "POST",
        f"{_ONE}/decline",
        decline,
        "Decline a proposed artifact configuration",
        (Answer(200, "Declined", ProposalOut),),
        {_JSON: AnswerIn},
    ),
)
