"""Trying an artifact configuration on a sample, or having one made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from sealwright.db import Transaction, projects
from sealwright.errors import ForbiddenError, NotFoundError, SealwrightError
from sealwright.model.identifiers import is_id
from sealwright.model.project import Project
from sealwright.model.proposal import Trial
from sealwright.visible import find_project
from sealwright.web import auth
from sealwright.web.api.v1.trials import await_trial, begin_trial, find_trial
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.ui import artifact_tree
from sealwright.web.ui.artifact_configurations import STARTING, may, refused
from sealwright.web.ui.artifact_configurations import form_page as configuration_form
from sealwright.web.ui.forms import Form
from sealwright.web.ui.projects import tabs
from sealwright.web.ui.proposals import form_page as proposal_form
from sealwright.web.ui.rendering import page, redirect
from sealwright.web.ui.signing_request import LevelQuery, tree_crumbs

#: how long the answer to the form waits for the trial; after it the page says to look again
#: (the page also looks by itself, where there is a script)
_PATIENCE = 5.0


async def new(call: Call) -> Response:
    """The form: with a configuration to be tried."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        start = call.request.query_params.get("from", "")
        xml = await xml_to_start_from(tx, project, start)
    how = call.request.query_params.get("how", "")
    return _form(call, project, Form({"xml": xml or STARTING, "how": how}))


async def xml_to_start_from(tx: Transaction, project: Project, configuration_id: str) -> str:
    """The XML of a version of the project; empty where there is none of that id."""
    if not is_id(configuration_id):
        return ""
    found = await projects.find_configuration(
        tx, project.organization_id, project.id, configuration_id
    )
    return found.xml if found else ""


async def create(call: Call) -> Response:
    """Begin the trial, wait a while for its end, and go to its page."""
    fields: dict[str, str] = {}

    async def check(given: Mapping[str, str]) -> None:
        auth.check_csrf(call.services, call.request, given.get("csrf", ""))
        if given.get("how") == "generate":
            fields["xml"] = ""

    try:
        trial = await begin_trial(call, fields, check)
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        async with call.services.database.read() as tx:
            project = await find_project(tx, call.grant, call.path("project"))
        form = refused(Form(fields), error)
        beside = _EDITORS.get(fields.get("how", ""))
        if beside:
            return await beside.form_page(call, project, form, None, status_of(error))
        return _form(call, project, form, status_of(error))
    await await_trial(call, _PATIENCE, trial.id)
    path = f"/projects/{call.path('project')}"
    beside = _EDITORS.get(fields.get("how", ""))
    if beside:
        kept = {name: fields[name] for name in beside.keeps if fields.get(name)}
        return redirect(call, f"{path}/{beside.noun}/new?{urlencode(kept | {'trial': trial.id})}")
    return redirect(call, f"{path}/trials/{trial.id}")


@dataclass(frozen=True)
class _Editor:
    """A form with a preview, which the result belongs beside.

    Attributes:
        keeps: fields besides the XML and its parameters, which the trial keeps.
    """

    noun: str
    keeps: tuple[str, ...]
    form_page: Callable[[Call, Project, Form, Trial | None, int], Awaitable[Response]]


_EDITORS = {
    "preview": _Editor(
        "artifact-configurations", ("name", "slug", "is_default", "follows"), configuration_form
    ),
    "preview-proposal": _Editor("proposals", ("name", "slug", "comment"), proposal_form),
}


async def one(call: Call) -> Response:
    """What would be signed."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        trial = await find_trial(tx, call)
    shown = {
        "project": project,
        "trial": trial,
        "tree": await artifact_tree.of_trial(trial),
        "tabs": tabs(call, project, "ui.configurations"),
        **may(call, project),
    }
    return page(call, "proposals/trial.html", shown)


async def files(call: Call) -> Response:
    """A part of the sample's tree."""
    query = call.query(LevelQuery)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        trial = await find_trial(tx, call)
    found = await artifact_tree.level_of_trial(trial, query.of, query.start)
    path = f"/projects/{project.slug}"
    base = f"{path}/trials/{trial.id}"
    crumbs = [("Projects", "/projects"), (project.name, path), ("Trial", base)]
    shown = {
        "level": found,
        "base": base,
        "state": artifact_tree.WOULD,
        "signer": "",
        "purpose": "Every member of this part of the sample, and what would be done to it.",
        "crumbs": tree_crumbs(crumbs, base, found),
    }
    return page(call, "requests/files.html", shown)


def _form(call: Call, project: Project, form: Form, status: int = 200) -> Response:
    shown: dict[str, Any] = {
        "project": project,
        "form": form,
        "tabs": tabs(call, project, "ui.configurations"),
    }
    return page(call, "proposals/try.html", shown, status)


_PATH = "/projects/{project}/trials"

ENDPOINTS = (
    Endpoint("ui.trial_new", "GET", f"{_PATH}/new", new, "", face=Face.UI),
    Endpoint("ui.trial_create", "POST", f"{_PATH}/new", create, "", face=Face.UI),
    Endpoint("ui.trial_files", "GET", f"{_PATH}/{{trial}}/files", files, "", face=Face.UI),
    Endpoint("ui.trial", "GET", f"{_PATH}/{{trial}}", one, "", face=Face.UI),
)
