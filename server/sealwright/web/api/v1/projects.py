"""Projects."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import projects
from sealwright.db.log import NewEntry
from sealwright.errors import ConflictError, ForbiddenError
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.project import Project
from sealwright.policy.permissions import Access
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import check_standing, find_project, project_ids
from sealwright.web.answers import json_answer, page_of
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.projects import ProjectIn, ProjectOut, ProjectPatch, ProjectsOut
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.views import project_out


async def listing(call: Call) -> Response:
    """The projects that the caller may see."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        found = await projects.every(tx, call.grant.organization_id)
        visible = await project_ids(tx, call.grant)
    seen = [one for one in found if visible is None or one.id in visible]
    page, cursor = page_of(seen, query.cursor, query.limit, lambda project: project.slug)
    return json_answer(ProjectsOut(items=[project_out(one) for one in page], next_cursor=cursor))


async def get(call: Call) -> Response:
    """One project."""
    async with call.services.database.read() as tx:
        return json_answer(project_out(await find_project(tx, call.grant, call.path("project"))))


async def create(call: Call) -> Response:
    """Make a project."""
    project = await add_project(call, await call.json(ProjectIn))
    location = f"{call.services.settings.url}/api/v1/projects/{project.slug}"
    return json_answer(project_out(project), 201, {"Location": location})


async def add_project(call: Call, given: ProjectIn) -> Project:
    """Make the project that `given` describes.

    Raises:
        ConflictError: there is one of that slug.
        InvalidInputError: a user or group that is named does not exist.
    """
    project = Project(
        new_id(),
        call.grant.organization_id,
        given.slug,
        given.name,
        given.repository_url,
        utc_now(),
        given.readers,
        given.configurators,
    )
    async with call.services.database.transaction() as tx:
        if await projects.find(tx, project.organization_id, project.slug):
            message = f"There is a project {project.slug!r} already."
            raise ConflictError(message)
        await check_standing(tx, project.organization_id, project.readers | project.configurators)
        await projects.add(tx, project)
        await record(tx, _entry(call, "project.created", project))
    return project


async def update(call: Call) -> Response:
    """Change a project."""
    return json_answer(project_out(await change_project(call, await call.json(ProjectPatch))))


async def change_project(call: Call, patch: ProjectPatch) -> Project:
    """Change the project of the path.

    Raises:
        NotFoundError, ForbiddenError: it is not for the caller, or not to that extent.
        InvalidInputError: a user or group that is named does not exist.
    """
    async with call.services.database.transaction() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        named = patch.readers is not None or patch.configurators is not None
        if call.grant.access is Access.CONFIGURATOR and (named or patch.repository_url is not None):
            message = "Only administrators change who takes part in a project, and its repository."
            raise ForbiddenError(message, advice="Ask a project administrator.")
        before = project
        project = dataclasses.replace(project, **patch.model_dump(exclude_none=True))
        await check_standing(tx, project.organization_id, project.readers | project.configurators)
        await projects.update(tx, project)
        await record(tx, _entry(call, "project.updated", project, before))
    return project


def _entry(call: Call, action: str, project: Project, before: Project | None = None) -> NewEntry:
    facts = {
        "project": project.id,
        "slug": project.slug,
        "repository_url": project.repository_url,
    }
    return organization_entry(
        project.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data=facts,
        change=call.change(project_out(before) if before else None, project_out(project)),
    )


ENDPOINTS = (
    Endpoint(
        "projects.list",
        "GET",
        "/api/v1/projects",
        listing,
        "List projects",
        (Answer(200, "One page", ProjectsOut),),
        query=PageQuery,
    ),
    Endpoint(
        "projects.create",
        "POST",
        "/api/v1/projects",
        create,
        "Make a project",
        (Answer(201, "Made", ProjectOut),),
        {"application/json": ProjectIn},
    ),
    Endpoint(
        "projects.get",
        "GET",
        "/api/v1/projects/{project}",
        get,
        "Read a project",
        (Answer(200, "The project", ProjectOut),),
    ),
    Endpoint(
        "projects.update",
        "PATCH",
        "/api/v1/projects/{project}",
        update,
        "Change a project",
        (Answer(200, "Changed", ProjectOut),),
        {"application/json": ProjectPatch},
    ),
)
