"""Groups and who is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa

from sealwright.db import memberships
from sealwright.db.chunks import chunked
from sealwright.db.conditions import Columns, Several, clause, ordered
from sealwright.db.database import Transaction
from sealwright.db.tables import group_members, groups
from sealwright.model.conditions import Condition, Order
from sealwright.model.user import Group, folded

_MOST_MEMBERS = 20_000  #: of the groups of one page
_COLUMNS = tuple(field.name for field in dataclasses.fields(Group) if field.name != "members")
_GROUPS: Columns = {
    "id": groups.c.id,
    "name": groups.c.name_folded,
    "external_id": groups.c.external_id,
    "created_at": groups.c.created_at,
    "member": Several(group_members.c.user_id, group_members.c.group_id == groups.c.id),
}


def _group(row: sa.RowMapping, members: Iterable[str]) -> Group:
    fields = {name: row[name] for name in _COLUMNS}
    return Group(**fields, members=frozenset(members))


async def add(tx: Transaction, group: Group) -> None:
    """Insert a group with its members."""
    await tx.change(
        groups.insert().values(
            id=group.id,
            organization_id=group.organization_id,
            name=group.name,
            name_folded=folded(group.name),
            external_id=group.external_id,
            created_at=group.created_at,
        )
    )
    await _put_members(tx, group.id, group.members)


async def get(tx: Transaction, organization_id: str, group_id: str) -> Group | None:
    """The group with this id in this organization."""
    return await _one(tx, organization_id, groups.c.id == group_id)


async def by_name(tx: Transaction, organization_id: str, name: str) -> Group | None:
    """The group with exactly this name in this organization."""
    return await _one(tx, organization_id, groups.c.name == name)


async def every(tx: Transaction, organization_id: str, *, with_members: bool = True) -> list[Group]:
    """All groups of the organization, oldest first. `with_members`: see `search`."""
    rows = await tx.all(
        sa.select(groups).where(groups.c.organization_id == organization_id).order_by(groups.c.id)
    )
    return await _with_members(tx, rows) if with_members else [_group(row, ()) for row in rows]


async def some(tx: Transaction, organization_id: str, ids: Collection[str]) -> list[Group]:
    """Those of `ids` that are groups of the organization, oldest first."""
    found: list[sa.RowMapping] = []
    for part in chunked(sorted(ids)):
        chosen = groups.c.id.in_(part)
        own = sa.select(groups).where(groups.c.organization_id == organization_id, chosen)
        found += await tx.all(own.order_by(groups.c.id))
    return await _with_members(tx, found)


async def search(
    tx: Transaction,
    organization_id: str,
    wanted: Condition | None = None,
    order: Order | None = None,
    *,
    skip: int = 0,
    limit: int,
    with_members: bool = True,
) -> list[Group]:
    """A page of the organization's groups, oldest first unless there is an `order`. It ends early
    where its groups have very many members.

    Args:
        wanted: over the fields `id`, `name` (folded), `external_id`, `created_at` and `member`
            (several).
        skip: so many of them are left out.
        with_members: their members are read; otherwise the groups are given without.
    """
    where = _found(tx, organization_id, wanted)
    by = ordered(tx, order, _GROUPS, groups.c.id)
    rows = await tx.all(sa.select(groups).where(*where).order_by(*by).offset(skip).limit(limit))
    if not with_members:
        return [_group(row, ()) for row in rows]
    sizes = await memberships.sizes_of(tx, [row["id"] for row in rows])
    read, some = 0, list[sa.RowMapping]()
    for row in rows:
        read += sizes.get(row["id"], 0)
        if some and read > _MOST_MEMBERS:
            break
        some.append(row)
    return await _with_members(tx, some)


async def _with_members(tx: Transaction, rows: Sequence[sa.RowMapping]) -> list[Group]:
    members = await memberships.members_of(tx, [row["id"] for row in rows])
    return [_group(row, members.get(row["id"], ())) for row in rows]


async def count(tx: Transaction, organization_id: str, wanted: Condition | None = None) -> int:
    """How many groups the organization has that are what is wanted; see `search`."""
    where = _found(tx, organization_id, wanted)
    row = await tx.one(sa.select(sa.func.count().label("groups")).where(*where))
    return int(row["groups"]) if row else 0


def _found(
    tx: Transaction, organization_id: str, wanted: Condition | None
) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [groups.c.organization_id == organization_id]
    return where if wanted is None else [*where, clause(tx, wanted, _GROUPS)]


async def lock(tx: Transaction, organization_id: str, group_id: str) -> None:
    """Let nobody else change the group until the transaction ends; see `users.lock`."""
    await tx.one(
        sa.select(groups.c.id)
        .where(groups.c.id == group_id, groups.c.organization_id == organization_id)
        .with_for_update()
    )


async def update(tx: Transaction, group: Group) -> bool:
    """Write the group's present fields and members; False where there is none."""
    changed = await tx.change(
        groups.update()
        .where(groups.c.id == group.id, groups.c.organization_id == group.organization_id)
        .values(name=group.name, name_folded=folded(group.name), external_id=group.external_id)
    )
    if changed != 1:
        return False
    found = await memberships.members_of(tx, [group.id])
    before = frozenset(found.get(group.id, ()))
    own = group_members.c.group_id == group.id
    for gone in chunked(sorted(before - group.members)):
        some = group_members.c.user_id.in_(gone)
        await tx.change(group_members.delete().where(own, some))
    await _put_members(tx, group.id, group.members - before)
    return True


async def remove(tx: Transaction, group: Group) -> None:
    """Delete the group. Lists that name it name nobody by it from then on."""
    await tx.change(group_members.delete().where(group_members.c.group_id == group.id))
    await tx.change(groups.delete().where(groups.c.id == group.id))


async def people(tx: Transaction, organization_id: str, standing: Iterable[str]) -> frozenset[str]:
    """The ids of the users that a list of users and groups stands for."""
    found = set(standing)
    own: list[str] = []
    for part in chunked(sorted(found)):
        chosen = sa.select(groups.c.id).where(
            groups.c.organization_id == organization_id, groups.c.id.in_(part)
        )
        own += [row["id"] for row in await tx.all(chosen)]
    members = await memberships.members_of(tx, own)
    return frozenset(found.difference(own).union(*members.values()))


async def _one(
    tx: Transaction, organization_id: str, condition: sa.ColumnElement[bool]
) -> Group | None:
    row = await tx.one(
        sa.select(groups).where(groups.c.organization_id == organization_id, condition)
    )
    if row is None:
        return None
    members = await tx.all(
        sa.select(group_members.c.user_id).where(group_members.c.group_id == row["id"])
    )
    return _group(row, (member["user_id"] for member in members))


async def _put_members(tx: Transaction, group_id: str, members: Iterable[str]) -> None:
    rows = [{"group_id": group_id, "user_id": user_id} for user_id in sorted(members)]
    if rows:
        await tx.change(group_members.insert(), rows)
