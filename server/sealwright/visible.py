"""What a caller may see. Everything else is missing to them, as if it were not there."""

from __future__ import annotations

from sealwright.db import Transaction, build_systems, projects, requests, users
from sealwright.errors import NotFoundError
from sealwright.model.build_system import TrustedBuildSystem
from sealwright.model.identifiers import is_id, is_slug
from sealwright.model.project import Project, SigningPolicy
from sealwright.model.request import SigningRequest
from sealwright.model.user import User
from sealwright.policy.permissions import Access, Grant, participates


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
    if project is None or not await _takes_part(tx, grant, project.id):
        raise missing(id_or_slug, "project")
    return project


async def find_policy(
    tx: Transaction, grant: Grant, project: Project | None, id_or_slug: str
) -> SigningPolicy:
    """The signing policy: of `project` by id or slug, else by id.

    Raises:
        NotFoundError: missing, foreign, or not for the caller.
    """
    policy = None
    if is_name(id_or_slug):
        policy = await projects.find_policy(
            tx, grant.organization_id, project.id if project else None, id_or_slug
        )
    if policy is None or not await _takes_part(tx, grant, policy.project_id):
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
        request.submitted_by == grant.user.id or await _takes_part(tx, grant, request.project_id)
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


async def project_ids(tx: Transaction, grant: Grant) -> list[str] | None:
    """Ids of the projects that the caller may see; None: all of the organization."""
    if grant.access is Access.ORGANIZATION:
        return None
    found = await projects.policies(tx, grant.organization_id)
    return sorted({p.project_id for p in found if participates(grant.user, [p])})


async def _takes_part(tx: Transaction, grant: Grant, project_id: str) -> bool:
    if grant.access is Access.ORGANIZATION:
        return True
    found = await projects.policies(tx, grant.organization_id, project_id)
    return participates(grant.user, found)
