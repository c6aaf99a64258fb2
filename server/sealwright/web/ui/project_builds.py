"""A project's builds: its repositories on trusted build systems, and triggers."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from sealwright.db import build_systems, projects
from sealwright.errors import ForbiddenError, NotFoundError, SealwrightError
from sealwright.model.build_system import Trigger
from sealwright.model.project import Project
from sealwright.policy.permissions import may_configure
from sealwright.visible import find_project, missing
from sealwright.web.api.v1.repository_links import add_link, change_link, remove_link
from sealwright.web.api.v1.triggers import add_trigger, change_trigger
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.build_systems import (
    LinkProofIn,
    RepositoryLinkIn,
    RepositoryLinkPatch,
    TriggerIn,
    TriggerPatch,
)
from sealwright.web.ui import people
from sealwright.web.ui.forms import Form, check_unchanged, read_form, stamped
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.projects import tabs
from sealwright.web.ui.rendering import page, redirect


async def builds(call: Call) -> Response:
    """Links and triggers."""
    return await _page(call, Form(), Form())


async def _page(call: Call, link: Form, trigger: Form, status: int = 200) -> Response:
    grant = call.grant
    async with call.services.database.read(frozen=True) as tx:
        project = await find_project(tx, grant, call.path("project"))
        organization = grant.organization_id
        systems = await build_systems.every(tx, organization)
        links = await build_systems.links(tx, organization, project_id=project.id)
        policies = await projects.policies(tx, organization, project.id)
        configurations: dict[str, str] = {}
        versions = await projects.configurations(tx, organization, project.id)
        for one in versions:
            configurations.setdefault(one.slug, one.name)
        shown: dict[str, Any] = {
            "triggers": await build_systems.find_triggers(tx, organization, project_id=project.id),
            "robots": await people.ci_users(tx, organization),
        }
    by_id = {one.id: one for one in systems}
    named = {one.id: f"{one.path} ({by_id[one.build_system_id].name})" for one in links}
    shown |= {
        "project": project,
        "tabs": tabs(call, project, "ui.project_builds"),
        "links": links,
        "link_names": named,
        "system_names": {one.id: one for one in systems},
        "systems": [(one.slug, one.name) for one in systems if one.enabled],
        "flows": [one for one in systems if one.enabled and one.settings.get("client_id")],
        "policies": [(one.id, one.name) for one in policies],
        "policy_names": {one.id: one.name for one in policies},
        "configurations": list(configurations.items()),
        "link_form": link,
        "trigger_form": trigger,
        "may_trust": may_open(grant.principal, "ui.build_system_new"),
        "may_configure": may_configure(grant.user, project),
    }
    return page(call, "projects/builds.html", shown, status)


async def link(call: Call) -> Response:
    """Link a repository."""
    form = await read_form(call)
    try:
        proof = form.parse(LinkProofIn)
        given = form.parse(RepositoryLinkIn, proof=proof)
        await add_link(call, given)
    except SealwrightError as error:
        return await _again(call, error, link=form)
    return _back(call, "The repository is linked.")


async def update_link(call: Call) -> Response:
    """Say in whose name builds of the repository submit."""
    form = await read_form(call)
    try:
        await change_link(call, RepositoryLinkPatch(submitter=form.value("submitter") or None))
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _again(call, error, link=Form())
    return _back(call, "From now on builds of the repository submit in that name.")


async def unlink(call: Call) -> Response:
    """Remove a link."""
    await read_form(call)
    await remove_link(call)
    return _back(call, "The repository is linked no more: nothing from it is signed.")


async def create_trigger(call: Call) -> Response:
    """Make a trigger."""
    form = await read_form(call)
    refs = tuple(line.strip() for line in form.value("refs").splitlines() if line.strip())
    try:
        await add_trigger(call, form.parse(TriggerIn, refs=refs))
    except SealwrightError as error:
        return await _again(call, error, trigger=form)
    return _back(call, "The trigger is made.")


async def update_trigger(call: Call) -> Response:
    """Enable or disable a trigger."""
    form = await read_form(call)
    trigger = await change_trigger(call, TriggerPatch(enabled=form.checked("enabled")))
    return _back(call, f"The trigger is {'enabled' if trigger.enabled else 'disabled'}.")


async def edit_trigger(call: Call) -> Response:
    """The form with what is there."""
    project, trigger = await _trigger(call)
    return _trigger_form(call, project, trigger, _filled(trigger))


def _filled(trigger: Trigger) -> Form:
    values = {
        "definition": trigger.definition,
        "refs": "\n".join(trigger.refs),
        "artifact": trigger.artifact,
    }
    return stamped(Form(values))


async def save_trigger(call: Call) -> Response:
    """Change what it waits for and what it fetches."""
    form = await read_form(call)
    project, trigger = await _trigger(call)
    refs = tuple(line.strip() for line in form.value("refs").splitlines() if line.strip())
    try:
        check_unchanged(form, _filled(trigger))
        patch = form.parse(TriggerPatch, refs=refs, definition=form.value("definition"))
        form.require("artifact")
        await change_trigger(call, patch)
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return _trigger_form(call, project, trigger, form.refused(error), status_of(error))
    return _back(call, "The trigger is changed.")


async def _trigger(call: Call) -> tuple[Project, Trigger]:
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await build_systems.find_triggers(
            tx, project.organization_id, project_id=project.id
        )
    wanted = call.path("trigger")
    trigger = next((one for one in found if one.id == wanted), None)
    if trigger is None:
        raise missing(wanted, "trigger")
    return project, trigger


def _trigger_form(
    call: Call, project: Project, trigger: Trigger, form: Form, status: int = 200
) -> Response:
    shown = {"project": project, "trigger": trigger, "form": form}
    return page(call, "projects/trigger.html", shown, status)


async def _again(
    call: Call, error: SealwrightError, *, link: Form | None = None, trigger: Form | None = None
) -> Response:
    """The page with the fault; what the caller may not do at all is an error of its own."""
    if isinstance(error, ForbiddenError) and link is None:
        raise error
    forms = (
        link.refused(error) if link else Form(),
        trigger.refused(error) if trigger else Form(),
    )
    return await _page(call, *forms, status=status_of(error))


def _back(call: Call, message: str) -> Response:
    return redirect(call, f"/projects/{call.path('project')}/builds", message)


_PATH = "/projects/{project}/builds"


def _action(name: str, path: str, handler: Any) -> Endpoint:
    return Endpoint(f"ui.{name}", "POST", f"{_PATH}{path}", handler, "", face=Face.UI)


ENDPOINTS = (
    Endpoint("ui.project_builds", "GET", _PATH, builds, "", face=Face.UI),
    _action("link_create", "/links", link),
    _action("link_update", "/links/{link}", update_link),
    _action("link_delete", "/links/{link}/delete", unlink),
    _action("trigger_create", "/triggers", create_trigger),
    Endpoint(
        "ui.trigger_edit",
        "GET",
        f"{_PATH}/triggers/{{trigger}}/edit",
        edit_trigger,
        "",
        face=Face.UI,
    ),
    _action("trigger_save", "/triggers/{trigger}/edit", save_trigger),
    _action("trigger_update", "/triggers/{trigger}", update_trigger),
)
