"""What a caller may see. Everything else is missing to them, as if it were not there."""

from __future__ import annotations

from collections.abc import Iterable

from sealwright.db import Transaction, build_systems, groups, projects, requests, users
from sealwright.errors import ForbiddenError, InvalidInputError, NotFoundError
from sealwright.model.build_system import TrustedBuildSystem
from sealwright.model.identifiers import is_id, is_slug
from sealwright.model.project import Project, SigningPolicy
from sealwright.model.request import SigningRequest
from sealwright.model.user import Group, User
from sealwright.policy.permissions import (
    Access,
    Grant,
    may_configure,
    participates,
    sees_everything,
)


def missing(name: str, what: str) -> NotFoundError:
    """The error for something that is not there, or not for the caller."""
    message = f"There is no {what} {name[:100]!r}."
    return NotFoundError(message, advice="Check its id or slug, and that you have access to it.")


def is_name(text: str) -> bool:
    """Tell whether `text` can be an id or a slug: nothing else is worth a look-up."""
    return is_id(text) or is_slug(text)


async def find_project(tx: Transaction, grant: Grant, id_or_slug: str) -> Project:
    """The project, by id or slug.

    Raises:
        NotFoundError: missing, foreign, or not for the caller.
    """
    project = None
    if is_name(id_or_slug):
        project = await projects.find(tx, grant.organization_id, id_or_slug)
    if project is None or not await _takes_part(tx, grant, project.id, project):
        raise missing(id_or_slug, "project")
    return project


async def find_policy(
    tx: Transaction, grant: Grant, project: Project | None, id_or_slug: str
) -> SigningPolicy:
    """The signing policy: of `project`, which the caller was found to see, by id or slug; else by
    id.

    Raises:
        NotFoundError: missing, foreign, or not for the caller.
    """
    policy = None
    if is_name(id_or_slug):
        policy = await projects.find_policy(
            tx, grant.organization_id, project.id if project else None, id_or_slug
        )
    if policy is None or not (project or await _takes_part(tx, grant, policy.project_id)):
        raise missing(id_or_slug, "signing policy")
    return policy


async def find_request(
    tx: Transaction, grant: Grant, request_id: str, *, lock: bool = False
) -> SigningRequest:
    """The signing request, locked until `tx` ends where asked for.

    Raises:
        NotFoundError: missing, foreign, or not for the caller.
    """
    request = None
    if is_id(request_id) and grant.principal.request_id in {None, request_id}:
        request = await requests.get(tx, grant.organization_id, request_id, lock=lock)
    if request is None or not (
        (request.submitted_by == grant.user.id and _in_bounds(grant, request.project_id))
        or await _takes_part(tx, grant, request.project_id)
    ):
        raise missing(request_id, "signing request")
    return request


async def find_build_system(tx: Transaction, grant: Grant, id_or_slug: str) -> TrustedBuildSystem:
    """The trusted build system, without credentials.

    Raises:
        NotFoundError: missing or foreign.
    """
    system = None
    if is_name(id_or_slug):
        system = await build_systems.find(tx, grant.organization_id, id_or_slug)
    if system is None:
        raise missing(id_or_slug, "trusted build system")
    return system


async def find_user(tx: Transaction, grant: Grant, user_id: str) -> User:
    """The user; to a participant nobody but themselves.

    Raises:
        NotFoundError: missing, foreign, or not for the caller.
    """
    user = await users.get(tx, grant.organization_id, user_id) if is_id(user_id) else None
    if user is None or (grant.access is not Access.ORGANIZATION and user.id != grant.user.id):
        raise missing(user_id, "user")
    return user


async def find_group(tx: Transaction, grant: Grant, group_id: str) -> Group:
    """The group.

    Raises:
        NotFoundError: missing or foreign.
    """
    group = await groups.get(tx, grant.organization_id, group_id) if is_id(group_id) else None
    if group is None:
        raise missing(group_id, "group")
    return group


async def check_standing(
    tx: Transaction, organization_id: str, ids: Iterable[str]
) -> frozenset[str]:
    """The ids of the users that a list of users and groups stands for.

    Raises:
        InvalidInputError: one is neither a user's nor a group's.
    """
    for one in ids:
        known = is_id(one) and (
            await users.get(tx, organization_id, one) or await groups.get(tx, organization_id, one)
        )
        if not known:
            message = f"There is no user or group {one[:100]!r}."
            raise InvalidInputError(message, advice="Name users and groups by their ids.")
    return await groups.people(tx, organization_id, ids)


async def project_ids(tx: Transaction, grant: Grant) -> list[str] | None:
    """Ids of the projects that the caller may see; None: all of the organization."""
    bound = grant.principal.project_id
    if grant.access is Access.ORGANIZATION:
        return None if bound is None else [bound]
    policies: dict[str, list[SigningPolicy]] = {}
    for policy in await projects.policies(tx, grant.organization_id):
        policies.setdefault(policy.project_id, []).append(policy)
    return sorted(
        project.id
        for project in await projects.every(tx, grant.organization_id)
        if participates(grant.user, project, policies.get(project.id, ()))
        and _in_bounds(grant, project.id)
    )


def _in_bounds(grant: Grant, project_id: str) -> bool:
    return grant.principal.project_id in {None, project_id}


async def _takes_part(
    tx: Transaction, grant: Grant, project_id: str, found: Project | None = None
) -> bool:
    """Whether the project is there for the caller.

    Args:
        found: the project, where it was read already.

    Raises:
        ForbiddenError: it is, but the route is for its configurators.
    """
    if not _in_bounds(grant, project_id):
        return False
    if grant.access is Access.ORGANIZATION:
        return True
    project = found or await projects.find(tx, grant.organization_id, project_id)
    if project is None:
        return False
    if grant.access is Access.CONFIGURATOR and may_configure(grant.user, project):
        return True
    policies = await projects.policies(tx, grant.organization_id, project_id)
    seen = participates(grant.user, project, policies)
    if grant.access is not Access.CONFIGURATOR:
        return seen
    if seen or sees_everything(grant.user):
        message = f"{grant.user.name} is not a configurator of the project {project.slug}."
        raise ForbiddenError(message, advice="Have a project administrator add the user to it.")
    return False
