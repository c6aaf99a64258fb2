"""Users and groups: making and changing them, whoever asks (API, pages, SCIM, single sign-on).

Every change is one transaction with its leaf in the log. Who loses a password, a role or their
place loses every session with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sealwright.db import Transaction, groups, projects, users
from sealwright.errors import ConflictError, ForbiddenError, InvalidInputError
from sealwright.model.identifiers import is_id, utc_now
from sealwright.model.user import MAX_MEMBERS, Group, Role, User, UserKind
from sealwright.policy.permissions import Grant
from sealwright.reporting.unusual import look_at_approvers
from sealwright.transparency.details import Change
from sealwright.transparency.record import organization_entry, record

_LOGGED_MEMBERS = 700  #: a leaf has 64 KiB


class TakenError(ConflictError):
    """Another one has the name or address, and it may be only one's."""


@dataclass(frozen=True)
class Actor:
    """Who makes a change: by their name in the log, from which network address."""

    name: str
    address: str = ""


def actor_of(grant: Grant) -> Actor:
    """The caller."""
    return Actor(grant.actor, grant.principal.address)


async def add_user(tx: Transaction, user: User, by: Actor) -> None:
    """Insert a user.

    Raises:
        TakenError: another user of this server has the address.
    """
    await _check_address(tx, user)
    await _check_user_name(tx, user)
    await users.add(tx, user)
    await _log(tx, user.organization_id, "user.created", by, _facts(user), None, user)


async def change_user(tx: Transaction, before: User, after: User, by: Actor) -> None:
    """Write a user's new fields. Sessions end with the password, the role or the place. Who is
    active again is seen by the directory again.

    Raises:
        TakenError: another user of this server has the address.
        ConflictError: this is the last global administrator, who would be none any more.
    """
    if after.active:
        after = dataclasses.replace(after, deprovisioned_at=None)
    if after == before:
        return
    if after.user_name != before.user_name:
        await _check_user_name(tx, after)
    if after.email != before.email:
        await _check_address(tx, after)
    await _keep_an_administrator(tx, before, after)
    now = utc_now()
    await users.update(tx, after)
    ended = 0
    if (
        after.password_hash != before.password_hash
        or after.role is not before.role
        or not after.active
    ):
        ended = await users.revoke_sessions(tx, after.organization_id, after.id, now)
    facts = _facts(after) | {
        "before": {"role": before.role.value, "active": before.active},
        "password_changed": after.password_hash != before.password_hash,
        "ended_sessions": ended,
    }
    await _log(tx, after.organization_id, "user.updated", by, facts, before, after)


async def _check_address(tx: Transaction, user: User) -> None:
    if user.email and await users.by_email(tx, user.email):
        message = "There is a user with this address already."
        raise TakenError(message, advice="Addresses are unique on the whole server.")


async def _check_user_name(tx: Transaction, user: User) -> None:
    name = user.user_name
    if name and await users.has_user_name(tx, user.organization_id, name, but=user.id):
        message = "There is a user with this userName already."
        raise TakenError(message)


async def add_group(tx: Transaction, group: Group, by: Actor) -> None:
    """Insert a group.

    Raises:
        TakenError: another one of the organization has the name.
        InvalidInputError: a member is no user of the organization.
    """
    await _check_name(tx, group)
    await _check_members(tx, group)
    await groups.add(tx, group)
    await _log(
        tx, group.organization_id, "group.created", by, _group_facts(group, None), None, group
    )


async def change_group(tx: Transaction, before: Group, after: Group, by: Actor) -> None:
    """Write a group's new fields and members.

    Raises:
        TakenError: another one of the organization has the name.
        InvalidInputError: a member is no user of the organization.
    """
    if after == before:
        return
    if after.name != before.name:
        await _check_name(tx, after)
    await _check_members(tx, after)
    could = [
        (policy, await groups.people(tx, after.organization_id, policy.approvers))
        for policy in await projects.policies_naming(tx, after.organization_id, after.id)
        if after.id in policy.approvers
    ]
    await groups.update(tx, after)
    for policy, people in could:
        await look_at_approvers(tx, policy, people, utc_now())
    await _log(
        tx, after.organization_id, "group.updated", by, _group_facts(after, before), before, after
    )


async def remove_group(tx: Transaction, group: Group, by: Actor) -> None:
    """Delete a group.

    Raises:
        ConflictError: a project or a policy names it.
    """
    for project in await projects.naming(tx, group.organization_id, group.id):
        message = f"The project {project.slug} names the group."
        raise ConflictError(message, advice="Take it out there first.")
    for policy in await projects.policies_naming(tx, group.organization_id, group.id):
        message = f"The signing policy {policy.slug} names the group."
        raise ConflictError(message, advice="Take it out there first.")
    await groups.remove(tx, group)
    await _log(
        tx, group.organization_id, "group.deleted", by, _group_facts(group, None), group, None
    )


def check_may_change_members(user: User, before: frozenset[str], after: frozenset[str]) -> None:
    """Let nobody give themselves what a group may do.

    Raises:
        ForbiddenError: the user would join, and is no global administrator.
    """
    if user.id in after - before and user.role is not Role.GLOBAL_ADMINISTRATOR:
        message = "Nobody adds themselves to a group."
        raise ForbiddenError(message, advice="Ask another administrator.")


async def _keep_an_administrator(tx: Transaction, before: User, after: User) -> None:
    def administers(user: User) -> bool:
        return user.active and user.role is Role.GLOBAL_ADMINISTRATOR

    if not administers(before) or administers(after):
        return
    others = await users.with_roles(tx, before.organization_id, {Role.GLOBAL_ADMINISTRATOR})
    if not any(one.id != before.id and one.kind is UserKind.INTERACTIVE for one in others):
        message = "This is the organization's last global administrator."
        raise ConflictError(message, advice="Make another one first.")


async def _check_name(tx: Transaction, group: Group) -> None:
    if await groups.by_name(tx, group.organization_id, group.name):
        message = f"There is a group {group.name!r} already."
        raise TakenError(message)


async def _check_members(tx: Transaction, group: Group) -> None:
    if len(group.members) > MAX_MEMBERS:
        message = f"A group has at most {MAX_MEMBERS} members."
        raise InvalidInputError(message)
    if not group.members:
        return
    strangers = sorted(group.members - await users.known(tx, group.organization_id, group.members))
    if strangers:
        message = f"There is no user {strangers[0][:100]!r}."
        advice = "Members are users, named by their ids." if is_id(strangers[0]) else ""
        raise InvalidInputError(message, advice=advice or "Name users by their ids.")


def _facts(user: User) -> dict[str, Any]:
    return {
        "user": user.id,
        "kind": user.kind.value,
        "role": user.role.value,
        "active": user.active,
    }


def _group_facts(group: Group, before: Group | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"group": group.id, "members": len(group.members)}
    if before is not None:
        facts |= {
            "added": sorted(group.members - before.members)[:_LOGGED_MEMBERS],
            "removed": sorted(before.members - group.members)[:_LOGGED_MEMBERS],
        }
    else:
        facts |= {"added": sorted(group.members)[:_LOGGED_MEMBERS]}
    return facts


async def _log(
    tx: Transaction,
    organization_id: str,
    action: str,
    by: Actor,
    facts: Mapping[str, Any],
    before: User | Group | None,
    after: User | Group | None,
) -> None:
    change = Change(by.address, _shown(before), _shown(after))
    await record(
        tx,
        organization_entry(
            organization_id, action, actor=by.name, now=utc_now(), data=facts, change=change
        ),
    )


def _shown(one: User | Group | None) -> dict[str, Any] | None:
    """What the audit shows of a user or group."""
    match one:
        case User():
            return {
                "name": one.name,
                "email": one.email,
                "role": one.role.value,
                "active": one.active,
                "external_id": one.external_id,
                "user_name": one.user_name,
            }
        case Group():
            members = sorted(one.members)[:_LOGGED_MEMBERS]
            return {"name": one.name, "external_id": one.external_id, "members": members}
        case None:
            return None


def renamed(group: Group, name: str | None, members: frozenset[str] | None) -> Group:
    """The group with another name or other members, where given."""
    return dataclasses.replace(
        group,
        name=group.name if name is None else name,
        members=group.members if members is None else members,
    )
