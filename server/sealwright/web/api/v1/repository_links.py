"""A project's repositories on trusted build systems."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, build_systems, outbox, users
from sealwright.db.log import NewEntry
from sealwright.errors import ConflictError, InvalidInputError
from sealwright.model.build_system import LinkStanding, RepositoryLink
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.user import UserKind
from sealwright.origin.linking import LinkProof, find_repository
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import find_build_system, find_project, missing
from sealwright.web.answers import json_answer, no_content
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.build_systems import (
    RepositoryLinkIn,
    RepositoryLinkOut,
    RepositoryLinkPatch,
    RepositoryLinksOut,
)
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """All of a project."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        found = await build_systems.links(tx, project.organization_id, project_id=project.id)
    return json_answer(RepositoryLinksOut(items=[_out(one) for one in found]))


async def create(call: Call) -> Response:
    """Link a repository that the caller proves to administer."""
    link, is_new = await add_link(call, await call.json(RepositoryLinkIn))
    return json_answer(_out(link), 201 if is_new else 200)


async def add_link(call: Call, given: RepositoryLinkIn) -> tuple[RepositoryLink, bool]:
    """Link the repository to the project of the path, and tell whether the link is new.

    Raises:
        NotFoundError: project, build system or repository is missing, or not for the caller.
        ForbiddenError, InvalidInputError, ConflictError: it is not proven, or linked already.
        UnavailableError: the build system does not answer.
    """
    services = call.services
    async with services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        system = await find_build_system(tx, call.grant, given.build_system)
        await _check_submitter(tx, project.organization_id, given.submitter)
    connector = await services.systems.connector(system)
    found = await services.systems.ask(
        find_repository,
        connector,
        system,
        given.repository,
        LinkProof(**given.proof.model_dump()),
    )
    link = RepositoryLink(
        id=new_id(),
        organization_id=project.organization_id,
        project_id=project.id,
        build_system_id=system.id,
        created_at=utc_now(),
        submitter_id=given.submitter,
        **fields_of(found),
    )
    async with services.database.transaction() as tx:
        earlier = await build_systems.links(
            tx,
            link.organization_id,
            project_id=project.id,
            build_system_id=system.id,
            repository_id=link.repository_id,
        )
        if earlier:
            again = _proven_again(earlier[0], link)
            await build_systems.update_link(tx, again)
            await record(tx, _entry(call, "repository_link.updated", earlier[0], again))
            return again, False
        await build_systems.add_link(tx, link)
        await record(tx, _entry(call, "repository_link.created", None, link))
    return link, True


def _proven_again(earlier: RepositoryLink, found: RepositoryLink) -> RepositoryLink:
    """The link with what the new proof found: the App was installed anew, or the owner changed.

    Raises:
        ConflictError: it found nothing new.
    """
    proven = (found.owner_id, found.path, found.installation_id)
    known = (earlier.owner_id, earlier.path, earlier.installation_id)
    if proven == known and earlier.standing is LinkStanding.ACTIVE:
        message = f"The repository {found.path} is linked to the project already."
        raise ConflictError(message)
    return dataclasses.replace(
        earlier,
        owner_id=found.owner_id,
        path=found.path,
        installation_id=found.installation_id,
        submitter_id=found.submitter_id or earlier.submitter_id,
        standing=LinkStanding.ACTIVE,
        standing_at=utc_now(),
    )


async def update(call: Call) -> Response:
    """Change the CI user of a link."""
    return json_answer(_out(await change_link(call, await call.json(RepositoryLinkPatch))))


async def change_link(call: Call, patch: RepositoryLinkPatch) -> RepositoryLink:
    """Change the CI user of the path's link.

    Raises:
        NotFoundError: it is missing, or not for the caller.
        InvalidInputError: it is no CI user.
    """
    async with call.services.database.transaction() as tx:
        link = await _find(call, tx)
        await _check_submitter(tx, link.organization_id, patch.submitter)
        before = link
        link = dataclasses.replace(link, submitter_id=patch.submitter)
        await build_systems.update_link(tx, link)
        await record(tx, _entry(call, "repository_link.updated", before, link))
    return link


async def delete(call: Call) -> Response:
    """Unlink a repository: nothing from it is signed any more."""
    await remove_link(call)
    return no_content()


async def remove_link(call: Call) -> None:
    """Remove the link of the path.

    Raises:
        NotFoundError: it is missing, or not for the caller.
        ConflictError: triggers use it.
    """
    async with call.services.database.transaction() as tx:
        link = await _find(call, tx)
        if await build_systems.find_triggers(tx, link.organization_id, link_id=link.id):
            message = "Triggers use this link."
            raise ConflictError(message, advice="Disable the build system or the triggers instead.")
        await outbox.remove_of_link(tx, link.id)
        await build_systems.delete_link(tx, link)
        await record(tx, _entry(call, "repository_link.deleted", link, None))


async def _find(call: Call, tx: Transaction) -> RepositoryLink:
    project = await find_project(tx, call.grant, call.path("project"))
    name = call.path("link")
    link = await build_systems.get_link(tx, project.organization_id, name) if is_id(name) else None
    if link is None or link.project_id != project.id:
        raise missing(name, "repository link")
    return link


async def _check_submitter(tx: Transaction, organization_id: str, user_id: str | None) -> None:
    if user_id is None:
        return
    user = await users.get(tx, organization_id, user_id) if is_id(user_id) else None
    if user is None or user.kind is not UserKind.CI:
        message = f"There is no CI user {user_id[:100]!r}."
        raise InvalidInputError(message, advice="Name a CI user by its id.")


def _out(link: RepositoryLink) -> RepositoryLinkOut:
    return RepositoryLinkOut.model_validate(fields_of(link))


def _entry(
    call: Call, action: str, before: RepositoryLink | None, after: RepositoryLink | None
) -> NewEntry:
    link = after or before
    assert link is not None  # noqa: S101 - something was changed
    facts = {
        "project": link.project_id,
        "build_system": link.build_system_id,
        "repository": link.repository_id,
        "owner": link.owner_id,
        "path": link.path,
        "submitter": link.submitter_id,
    }
    return organization_entry(
        link.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data=facts,
        change=call.change(_out(before) if before else None, _out(after) if after else None),
    )


_PATH = "/api/v1/projects/{project}/repository-links"
_ONE = f"{_PATH}/{{link}}"
_JSON = "application/json"

ENDPOINTS = (
    Endpoint(
        "repository_links.list",
        "GET",
        _PATH,
        listing,
        "List linked repositories",
        (Answer(200, "All of the project", RepositoryLinksOut),),
    ),
    Endpoint(
        "repository_links.create",
        "POST",
        _PATH,
        create,
        "Link a repository",
        (
            Answer(201, "Linked", RepositoryLinkOut),
            Answer(200, "Linked before; brought up to date by the new proof", RepositoryLinkOut),
        ),
        {_JSON: RepositoryLinkIn},
    ),
    Endpoint(
        "repository_links.update",
        "PATCH",
        _ONE,
        update,
        "Change the CI user of a linked repository",
        (Answer(200, "Changed", RepositoryLinkOut),),
        {_JSON: RepositoryLinkPatch},
    ),
    Endpoint(
        "repository_links.delete",
        "DELETE",
        _ONE,
        delete,
        "Unlink a repository",
        (Answer(204, "Unlinked"),),
    ),
)
