"""Proposed artifact configurations: the list, one with its difference, proposing and answering."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from sealwright.db import Transaction, projects, proposals
from sealwright.errors import ForbiddenError, NotFoundError, SealwrightError
from sealwright.model.identifiers import is_id
from sealwright.model.project import Project
from sealwright.model.proposal import Trial
from sealwright.visible import find_project
from sealwright.web import awaited, views
from sealwright.web.api.v1.proposals import (
    accept_proposal,
    decline_proposal,
    find_proposal,
    propose,
)
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.proposals import AcceptanceIn, AnswerIn, ProposalIn
from sealwright.web.ui import artifact_tree
from sealwright.web.ui.artifact_configurations import (
    FORM_BYTES,
    STARTING,
    difference,
    may,
    refused,
)
from sealwright.web.ui.forms import Form, read_form
from sealwright.web.ui.projects import tabs
from sealwright.web.ui.rendering import page, redirect


async def listing(call: Call) -> Response:
    """The latest of a project."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await proposals.of_projects(tx, project.organization_id, [project.id])
        people = await views.names(tx, project.organization_id, [one.proposed_by for one in found])
    shown = {
        "project": project,
        "tabs": tabs(call, project, "ui.proposals"),
        "proposals": found,
        "people": people,
    }
    return page(call, "proposals/list.html", shown)


async def one(call: Call) -> Response:
    """One: how it differs from what is there, and what it signed in its sample."""
    return await _detail(call, Form())


async def _detail(call: Call, form: Form, status: int = 200) -> Response:
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        proposal = await find_proposal(tx, call)
        present = await projects.find_configuration(
            tx, project.organization_id, project.id, proposal.slug
        )
        trial = await _trial(tx, project, proposal.trial_id or "")
        involved = [name for name in (proposal.proposed_by, proposal.decided_by) if name]
        people = await views.names(tx, project.organization_id, involved)
        endorsed_by = await awaited.by(tx, project.organization_id)
        became = [present] if present and present.id == proposal.configuration_id else []
        url = call.services.settings.url
        waiting = await awaited.configurations(tx, project.organization_id, became, url)
    # once it is accepted the newest version is the proposal itself
    compared = present if present and present.xml != proposal.xml else None
    shown: dict[str, Any] = {
        "project": project,
        "tabs": tabs(call, project, "ui.proposals"),
        "proposal": proposal,
        "present": present,
        "difference": difference(compared.xml, proposal.xml) if compared else [],
        "trial": trial,
        "tree": await artifact_tree.of_trial(trial) if trial else None,
        "people": people,
        "endorsed_by": endorsed_by,
        "awaited_by": waiting.get(proposal.configuration_id or ""),
        "form": form,
        **may(call, project),
    }
    return page(call, "proposals/detail.html", shown, status)


async def new(call: Call) -> Response:
    """The form: with a version that is to be followed, or with what was tried."""
    query = call.request.query_params
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        trial = await _trial(tx, project, query.get("trial", ""))
        start = query.get("from", "")
        found = None
        if is_id(start):
            found = await projects.find_configuration(
                tx, project.organization_id, project.id, start
            )
    values = {"xml": STARTING}
    if found:
        values = {"slug": found.slug, "name": found.name, "xml": found.xml}
    if trial:
        lines = (f"{name}={value}" for name, value in trial.parameters.items())
        values |= {name: query[name] for name in ("name", "slug", "comment") if query.get(name)}
        values |= {"xml": trial.xml, "trial": trial.id, "parameters": "\n".join(lines)}
    return await form_page(call, project, Form(values), trial)


async def create(call: Call) -> Response:
    """Propose it, and go to its page."""
    form = await read_form(call, limit=FORM_BYTES)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        trial = await _trial(tx, project, form.value("trial"))
    try:
        # what was changed after the trial was not tried
        tried = trial.id if trial and trial.xml == form.value("xml") else None
        made = await propose(call, form.parse(ProposalIn, trial=tried))
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await form_page(call, project, refused(form, error), trial, status_of(error))
    path = f"/projects/{project.slug}/proposals/{made.id}"
    return redirect(call, path, "Proposed. Whoever configures the project sees it.")


async def accept(call: Call) -> Response:
    """Accept it, and go to the version that it became."""
    form = await read_form(call)
    try:
        given = form.parse(AcceptanceIn)
        done = await accept_proposal(call, given.word, is_default=given.is_default)
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _detail(call, form.refused(error), status_of(error))
    path = f"/projects/{call.path('project')}/artifact-configurations/{done.configuration_id}"
    return redirect(call, path, "The proposal is accepted; this is the version that it became.")


async def decline(call: Call) -> Response:
    """Decline it."""
    form = await read_form(call)
    try:
        await decline_proposal(call, form.parse(AnswerIn).word)
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _detail(call, form.refused(error), status_of(error))
    path = f"/projects/{call.path('project')}/proposals/{call.path('proposal')}"
    return redirect(call, path, "The proposal is declined.")


async def _trial(tx: Transaction, project: Project, trial_id: str) -> Trial | None:
    if not is_id(trial_id):
        return None
    return await proposals.get_trial(tx, project.organization_id, project.id, trial_id)


async def form_page(
    call: Call, project: Project, form: Form, trial: Trial | None = None, status: int = 200
) -> Response:
    """The form of a proposal, with what its preview on a sample gave."""
    shown = {
        "project": project,
        "trial": trial,
        "tree": await artifact_tree.of_trial(trial) if trial else None,
        "form": form,
        "tabs": tabs(call, project, "ui.proposals"),
    }
    return page(call, "proposals/form.html", shown, status)


_PATH = "/projects/{project}/proposals"
_ONE = f"{_PATH}/{{proposal}}"

ENDPOINTS = (
    Endpoint("ui.proposals", "GET", _PATH, listing, "", face=Face.UI),
    Endpoint("ui.proposal_new", "GET", f"{_PATH}/new", new, "", face=Face.UI),
    Endpoint("ui.proposal_create", "POST", f"{_PATH}/new", create, "", face=Face.UI),
    Endpoint("ui.proposal", "GET", _ONE, one, "", face=Face.UI),
    Endpoint("ui.proposal_accept", "POST", f"{_ONE}/accept", accept, "", face=Face.UI),
    Endpoint("ui.proposal_decline", "POST", f"{_ONE}/decline", decline, "", face=Face.UI),
)
