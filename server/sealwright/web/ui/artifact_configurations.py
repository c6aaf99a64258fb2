"""Artifact configurations: versions, what changed between them, and adding one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator

from starlette.responses import Response

from sealwright.db import projects, proposals
from sealwright.errors import ArtifactConfigurationError, ForbiddenError, SealwrightError
from sealwright.model.identifiers import is_id
from sealwright.model.project import ArtifactConfiguration, Project
from sealwright.model.proposal import Trial
from sealwright.policy.permissions import may_configure
from sealwright.visible import find_project, is_name, missing
from sealwright.web import awaited
from sealwright.web.api.v1.artifact_configurations import add_version
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.projects import ArtifactConfigurationIn
from sealwright.web.ui import artifact_tree
from sealwright.web.ui.forms import Form, StaleFormError, read_form
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.projects import tabs
from sealwright.web.ui.rendering import page, redirect

#: A form carries each character of the XML as up to three bytes, in ASCII.
FORM_BYTES = 2 << 20
_CONTEXT = 3
_MAX_LINES = 2000
STARTING = """\
<?xml version="1.0" encoding="utf-8"?>
<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file>
    <pe-file path="**/*.exe" max-matches="unbounded">
      <authenticode-sign hash-algorithm="sha256"/>
    </pe-file>
  </zip-file>
</artifact-configuration>
"""


def difference(old: str, new: str) -> list[tuple[str, str]]:
    """The lines that differ and those around them: (``added``, ``removed``, ``same`` or ``place``,
    text)."""
    return list(_difference(old, new))[:_MAX_LINES]


def _difference(old: str, new: str) -> Iterator[tuple[str, str]]:
    kinds = {"+": "added", "-": "removed", "@": "place"}
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=_CONTEXT)
    for number, line in enumerate(lines):
        if number >= 2:  # the first two name the files
            yield kinds.get(line[:1], "same"), line[1:] if line[:1] != "@" else line


async def listing(call: Call) -> Response:
    """The newest version of each."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        versions = await projects.configurations(tx, project.organization_id, project.id)
        newest: dict[str, ArtifactConfiguration] = {}
        for one in versions:
            newest.setdefault(one.slug, one)
        waiting = await awaited.configurations(
            tx, project.organization_id, list(newest.values()), call.services.settings.url
        )
    shown = {
        "project": project,
        "tabs": tabs(call, project, "ui.configurations"),
        "configurations": list(newest.values()),
        "waiting": waiting,
        "default": next((one.slug for one in versions if one.is_default), ""),
        **may(call, project),
    }
    return page(call, "configurations/list.html", shown)


def may(call: Call, project: Project) -> dict[str, bool]:
    """Whether the caller changes configurations or proposes changes."""
    configures = may_configure(call.grant.user, project)
    return {
        "may_configure": configures,
        "may_propose": not configures and may_open(call.grant.principal, "ui.proposal_new"),
    }


async def one(call: Call) -> Response:
    """One version, and how it differs from the one before or from the one asked for."""
    name = call.path("configuration")
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = None
        if is_name(name):
            found = await projects.find_configuration(tx, project.organization_id, project.id, name)
        if found is None:
            raise missing(name, "artifact configuration")
        every = await projects.configurations(tx, project.organization_id, project.id)
        url = call.services.settings.url
        waiting = await awaited.configurations(tx, project.organization_id, [found], url)
    versions = [other for other in every if other.slug == found.slug]
    wanted = call.request.query_params.get("compare", "")
    earlier = next((other for other in versions if other.version == found.version - 1), None)
    if wanted:
        earlier = next((other for other in versions if other.id == wanted), None)
        if earlier is None:
            raise missing(wanted, "version")
    shown = {
        "project": project,
        "tabs": tabs(call, project, "ui.configurations"),
        "configuration": found,
        "versions": versions,
        "earlier": earlier,
        "awaited": waiting.get(found.id),
        "difference": difference(earlier.xml, found.xml) if earlier else [],
        **may(call, project),
    }
    return page(call, "configurations/detail.html", shown)


async def new(call: Call) -> Response:
    """The form: empty, with a version that is to be followed, or with what was tried."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        start = call.request.query_params.get("from", "")
        found = newest = None
        if is_id(start):
            found = await projects.find_configuration(
                tx, project.organization_id, project.id, start
            )
        if found:
            newest = await projects.find_configuration(
                tx, project.organization_id, project.id, found.slug
            )
        tried = call.request.query_params.get("trial", "")
        trial = None
        if is_id(tried):
            trial = await proposals.get_trial(tx, project.organization_id, project.id, tried)
    values = {"xml": trial.xml if trial else STARTING}
    if trial:
        lines = (f"{name}={value}" for name, value in trial.parameters.items())
        query = call.request.query_params
        values |= {
            name: query.get(name, "")[:200] for name in ("name", "slug", "is_default", "follows")
        }
        values |= {"parameters": "\n".join(lines)}
    if found:
        values = {"slug": found.slug, "name": found.name, "xml": found.xml}
        values |= {"is_default": "true"} if found.is_default else {}
        values |= {"follows": newest.id} if newest else {}
    return await form_page(call, project, Form(values), trial)


async def create(call: Call) -> Response:
    """Add the version, and go to its page."""
    form = await read_form(call, limit=FORM_BYTES)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    try:
        await _check_newest(call, project, form)
        made = await add_version(call, form.parse(ArtifactConfigurationIn))
    except ForbiddenError:
        raise
    except SealwrightError as error:
        return await form_page(call, project, refused(form, error), status=status_of(error))
    path = f"/projects/{project.slug}/artifact-configurations/{made.id}"
    return redirect(call, path, f"Version {made.version} is added.")


async def _check_newest(call: Call, project: Project, form: Form) -> None:
    """Refuse a version that was begun before somebody else added one.

    Raises:
        StaleFormError: there is a newer one than when the form was opened.
    """
    follows, slug = form.value("follows"), form.value("slug")
    if not is_id(follows) or not is_name(slug):
        return
    async with call.services.database.read() as tx:
        organization = project.organization_id
        begun = await projects.find_configuration(tx, organization, project.id, follows)
        newest = await projects.find_configuration(tx, organization, project.id, slug)
    if begun is None or newest is None or newest.slug != begun.slug or newest.id == begun.id:
        return
    message = f"Somebody else has added version {newest.version} since you opened this."
    path = f"/projects/{project.slug}/artifact-configurations/{newest.id}?compare={begun.id}"
    advice = f"Compare at {path}; to add yours after it nevertheless, send this again."
    again = dataclasses.replace(form, values={**form.values, "follows": newest.id})
    raise StaleFormError(message, advice=advice, form=again)


def refused(form: Form, error: SealwrightError) -> Form:
    """The form to show again; what is wrong with the XML stands beside it, with its place."""
    if not isinstance(error, ArtifactConfigurationError):
        return form.refused(error)
    place = f"{error.where}: " if error.where else ""
    text = " ".join(part for part in (f"{place}{error.message}", error.advice) if part)
    return dataclasses.replace(form, errors={"xml": text})


async def form_page(
    call: Call, project: Project, form: Form, trial: Trial | None = None, status: int = 200
) -> Response:
    """The form of a version, with what its preview on a sample gave."""
    async with call.services.database.read() as tx:
        known = await projects.configurations(tx, project.organization_id, project.id)
    shown = {
        "version": form.value("slug") in {one.slug for one in known},
        "project": project,
        "form": form,
        "tabs": tabs(call, project, "ui.configurations"),
        "trial": trial,
        "tree": await artifact_tree.of_trial(trial) if trial else None,
    }
    return page(call, "configurations/form.html", shown, status)


_PATH = "/projects/{project}/artifact-configurations"

ENDPOINTS = (
    Endpoint("ui.configurations", "GET", _PATH, listing, "", face=Face.UI),
    Endpoint("ui.configuration_new", "GET", f"{_PATH}/new", new, "", face=Face.UI),
    Endpoint("ui.configuration_create", "POST", f"{_PATH}/new", create, "", face=Face.UI),
    Endpoint("ui.configuration", "GET", f"{_PATH}/{{configuration}}", one, "", face=Face.UI),
)
