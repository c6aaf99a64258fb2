"""Artifact configurations: versions are added, never changed."""

from __future__ import annotations

import hashlib

from starlette.responses import Response

from sealwright.db import Transaction, projects
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.project import ArtifactConfiguration, Project
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_project, is_name, missing
from sealwright.web import awaited
from sealwright.web.answers import json_answer, page_of
from sealwright.web.configuration_check import check_configuration
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.projects import (
    ArtifactConfigurationIn,
    ArtifactConfigurationsOut,
    ArtifactConfigurationXmlOut,
)
from sealwright.web.schemas.queries import PageQuery
from sealwright.web.views import configuration_out, configuration_xml_out


async def listing(call: Call) -> Response:
    """All versions of all configurations of a project."""
    query = call.query(PageQuery)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await projects.configurations(tx, project.organization_id, project.id)
        page, cursor = page_of(found, query.cursor, query.limit, lambda one: one.id)
        url = call.services.settings.url
        waiting = await awaited.configurations(tx, project.organization_id, page, url)
    items = [configuration_out(one, waiting.get(one.id)) for one in page]
    return json_answer(ArtifactConfigurationsOut(items=items, next_cursor=cursor))


async def get(call: Call) -> Response:
    """A version by its id, or the newest by its slug."""
    name = call.path("configuration")
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = None
        if is_name(name):
            found = await projects.find_configuration(tx, project.organization_id, project.id, name)
        if found is None:
            raise missing(name, "artifact configuration")
        return json_answer(await _out(tx, call, found))


async def create(call: Call) -> Response:
    """Add a version. The first configuration of a project is its default."""
    configuration = await add_version(call, await call.json(ArtifactConfigurationIn))
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, call, configuration), 201)


async def _out(
    tx: Transaction, call: Call, one: ArtifactConfiguration
) -> ArtifactConfigurationXmlOut:
    url = call.services.settings.url
    waiting = await awaited.configurations(tx, one.organization_id, [one], url)
    return configuration_xml_out(one, waiting.get(one.id))


async def add_version(call: Call, given: ArtifactConfigurationIn) -> ArtifactConfiguration:
    """Add the version to the project of the path.

    Raises:
        NotFoundError: the project is missing, or not for the caller.
        ArtifactConfigurationError: it is not valid; names line and column.
    """
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    await check_configuration(given.xml)
    async with call.services.database.transaction() as tx:
        return await insert_version(call, tx, project, given)


async def insert_version(
    call: Call, tx: Transaction, project: Project, given: ArtifactConfigurationIn
) -> ArtifactConfiguration:
    """Insert the version, whose XML was checked, in the caller's transaction."""
    earlier = await projects.configurations(tx, project.organization_id, project.id)
    same = [one for one in earlier if one.slug == given.slug]
    configuration = ArtifactConfiguration(
        id=new_id(),
        organization_id=project.organization_id,
        project_id=project.id,
        slug=given.slug,
        name=given.name,
        version=max((one.version for one in same), default=0) + 1,
        xml=given.xml,
        sha256=hashlib.sha256(given.xml.encode()).hexdigest(),
        is_default=given.is_default or not earlier or any(one.is_default for one in same),
        created_at=utc_now(),
    )
    await projects.add_configuration(tx, configuration)
    facts = {
        "project": project.id,
        "configuration": configuration.id,
        "sha256": configuration.sha256,
        "is_default": configuration.is_default,
    }
    entry = organization_entry(
        project.organization_id,
        "artifact_configuration.created",
        actor=call.grant.actor,
        now=configuration.created_at,
        data=facts,
        change=call.change(None, configuration_out(configuration)),
    )
    await record(tx, entry)
    return configuration


_PATH = "/api/v1/projects/{project}/artifact-configurations"

ENDPOINTS = (
    Endpoint(
        "artifact_configurations.list",
        "GET",
        _PATH,
        listing,
        "List artifact configurations",
        (Answer(200, "One page", ArtifactConfigurationsOut),),
        query=PageQuery,
    ),
    Endpoint(
        "artifact_configurations.create",
        "POST",
        _PATH,
        create,
        "Add a version of an artifact configuration",
        (Answer(201, "Added", ArtifactConfigurationXmlOut),),
        {"application/json": ArtifactConfigurationIn},
    ),
    Endpoint(
        "artifact_configurations.get",
        "GET",
        f"{_PATH}/{{configuration}}",
        get,
        "Read an artifact configuration",
        (Answer(200, "The configuration, with its XML", ArtifactConfigurationXmlOut),),
    ),
)
