"""Users and groups to choose from, and their names."""

from __future__ import annotations

from collections.abc import Iterable

from sealwright.db import Transaction, groups, users
from sealwright.model.user import User, UserKind


async def options(tx: Transaction, organization_id: str) -> list[tuple[str, str]]:
    """(id, label) of every active user and every group, by name."""
    named = await _labels(tx, organization_id, await users.every(tx, organization_id))
    return sorted(named.items(), key=lambda one: one[1].casefold())


async def _labels(tx: Transaction, organization_id: str, people: Iterable[User]) -> dict[str, str]:
    """Of the active ones of these people, and of every group."""
    sets = await groups.every(tx, organization_id, with_members=False)
    named = {
        one.id: f"{one.name} (CI user)" if one.kind is UserKind.CI else one.name
        for one in people
        if one.active
    }
    return named | {one.id: f"{one.name} (group)" for one in sets}


async def ci_users(tx: Transaction, organization_id: str) -> list[tuple[str, str]]:
    """(id, name) of the active CI users, by name."""
    found = [
        (one.id, one.name)
        for one in await users.every(tx, organization_id, kind=UserKind.CI)
        if one.active
    ]
    return sorted(found, key=lambda one: one[1].casefold())


async def names(tx: Transaction, organization_id: str, ids: Iterable[str]) -> list[str]:
    """Names of the users and groups, sorted; of those that are gone nothing."""
    wanted = set(ids)
    if not wanted:
        return []
    labels = await _labels(tx, organization_id, await users.some(tx, organization_id, wanted))
    return sorted((labels[one] for one in wanted if one in labels), key=str.casefold)
