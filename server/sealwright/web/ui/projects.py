"""Projects: the list, one with what its builds have to say, making and changing them."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from sealwright.db import Transaction, projects, requests
from sealwright.db.request_search import RequestFilter
from sealwright.errors import ForbiddenError, NotFoundError, SealwrightError
from sealwright.model.project import Project
from sealwright.policy.permissions import Access, may_configure
from sealwright.visible import find_project, project_ids
from sealwright.web import views
from sealwright.web.api.v1.projects import add_project, change_project
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.projects import ProjectIn, ProjectPatch
from sealwright.web.ui import people
from sealwright.web.ui.forms import Form, check_unchanged, read_form, stamped
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.parts import part_of
from sealwright.web.ui.rendering import page, redirect
from sealwright.web.ui.snippets import Place, snippets

_LATEST = 8
_LISTS = ("readers", "configurators")

#: Parts of a project's pages: label, end of the path, route.
_TABS = (
    ("Overview", "", "ui.project"),
    ("Artifact configurations", "/artifact-configurations", "ui.configurations"),
    ("Signing policies", "/signing-policies", "ui.policies"),
    ("Builds", "/builds", "ui.project_builds"),
    ("Webhooks", "/webhooks", "ui.outgoing_webhooks"),
    ("Proposals", "/proposals", "ui.proposals"),
)


def tabs(call: Call, project: Project, route: str) -> list[tuple[str, str, bool]]:
    """The parts that the caller may open: label, path, and whether it is this one."""
    return [
        (label, f"/projects/{project.slug}{path}", name == route)
        for label, path, name in _TABS
        if may_open(call.grant.principal, name)
    ]


async def listing(call: Call) -> Response:
    """The projects that the caller may see."""
    grant = call.grant
    async with call.services.database.read() as tx:
        visible = await project_ids(tx, grant)
        found = [
            one
            for one in await projects.every(tx, grant.organization_id)
            if visible is None or one.id in visible
        ]
        policies: dict[str, int] = {}
        for policy in await projects.policies(tx, grant.organization_id):
            policies[policy.project_id] = policies.get(policy.project_id, 0) + 1
    found.sort(key=lambda one: one.name.casefold())
    shown = {
        "part": part_of(
            call, found, lambda one: f"{one.name} {one.slug} {one.repository_url or ''}"
        ),
        "policies": policies,
        "may_create": may_open(grant.principal, "ui.project_new"),
    }
    return page(call, "projects/list.html", shown)


async def overview(call: Call) -> Response:
    """One project."""
    grant = call.grant
    async with call.services.database.read() as tx:
        project = await find_project(tx, grant, call.path("project"))
        wanted = RequestFilter([project.id])
        latest, _ = await requests.search(tx, grant.organization_id, wanted, limit=_LATEST)
        policies = await projects.policies(tx, grant.organization_id, project.id)
        configurations = await projects.configurations(tx, grant.organization_id, project.id)
        shown: dict[str, Any] = {
            "readers": await people.names(tx, grant.organization_id, project.readers),
            "configurators": await people.names(tx, grant.organization_id, project.configurators),
            "people": await views.names(
                tx, grant.organization_id, [one.submitted_by for one in latest]
            ),
        }
    default = next((one.slug for one in configurations if one.is_default), "")
    place = Place(
        call.services.settings.url,
        grant.organization_id,
        project.slug,
        policies[0].slug if policies else "your-policy",
        default or "your-configuration",
    )
    shown |= {
        "project": project,
        "tabs": tabs(call, project, "ui.project"),
        "latest": latest,
        "snippets": snippets(place),
        "ready": bool(policies and configurations),
        "may_edit": may_open(grant.principal, "ui.project_edit")
        and may_configure(grant.user, project),
    }
    return page(call, "projects/overview.html", shown)


async def new(call: Call) -> Response:
    """The empty form."""
    return await _form(call, None, Form())


async def create(call: Call) -> Response:
    """Make a project, and go to its page."""
    form = await read_form(call, _LISTS)
    try:
        project = await add_project(call, form.parse(ProjectIn))
    except SealwrightError as error:
        return await _form(call, None, form.refused(error), status_of(error))
    message = "The project is made. Next: an artifact configuration and a signing policy."
    return redirect(call, f"/projects/{project.slug}", message)


async def edit(call: Call) -> Response:
    """The form with what is there."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    return await _form(call, project, _filled(project))


async def update(call: Call) -> Response:
    """Change it, and back to its page."""
    form = await read_form(call, _LISTS)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    try:
        check_unchanged(form, _filled(project))
        form.require("name")
        given: dict[str, Any] = {"repository_url": form.value("repository_url")}
        given |= {name: frozenset(form.chosen(name)) for name in _LISTS}
        if call.grant.access is Access.CONFIGURATOR:
            given = dict.fromkeys(given)  # not theirs to change, and not in their form
        project = await change_project(call, form.parse(ProjectPatch, **given))
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _form(call, project, form.refused(error), status_of(error))
    return redirect(call, f"/projects/{project.slug}", "The project is changed.")


def _filled(project: Project) -> Form:
    values = {"name": project.name, "repository_url": project.repository_url}
    lists = {"readers": sorted(project.readers), "configurators": sorted(project.configurators)}
    return stamped(Form(values, lists))


async def _form(call: Call, project: Project | None, form: Form, status: int = 200) -> Response:
    async with call.services.database.read() as tx:
        shown = {
            "project": project,
            "form": form,
            "people": await _people(tx, call),
            "whole": call.grant.access is Access.ORGANIZATION,
        }
    return page(call, "projects/form.html", shown, status)


async def _people(tx: Transaction, call: Call) -> list[tuple[str, str]]:
    if call.grant.access is not Access.ORGANIZATION:
        return []
    return await people.options(tx, call.grant.organization_id)


_ONE = "/projects/{project}"

ENDPOINTS = (
    Endpoint("ui.projects", "GET", "/projects", listing, "", face=Face.UI),
    Endpoint("ui.project_new", "GET", "/projects/new", new, "", face=Face.UI),
    Endpoint("ui.project_create", "POST", "/projects/new", create, "", face=Face.UI),
    Endpoint("ui.project", "GET", _ONE, overview, "", face=Face.UI),
    Endpoint("ui.project_edit", "GET", f"{_ONE}/edit", edit, "", face=Face.UI),
    Endpoint("ui.project_update", "POST", f"{_ONE}/edit", update, "", face=Face.UI),
)
