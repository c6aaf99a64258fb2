"""Users and API tokens."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from sealwright.db import memberships
from sealwright.db.chunks import chunked
from sealwright.db.conditions import Columns, Fallback, Several, clause, ordered
from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import api_tokens, group_members, users
from sealwright.model.conditions import Always, Both, Condition, Either, Operator, Order, Term
from sealwright.model.user import ApiToken, Role, TokenKind, TokenScope, User, UserKind, folded

_COLUMNS = tuple(field.name for field in dataclasses.fields(User) if field.name != "groups")


def _user(row: sa.RowMapping, groups: Iterable[str]) -> User:
    fields = {name: row[name] for name in _COLUMNS}
    kinds = {"kind": UserKind(row["kind"]), "role": Role(row["role"])}
    return User(**fields | kinds, groups=frozenset(groups))


def _values(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in _COLUMNS} | {"name_folded": folded(user.name)}


_PEOPLE: Columns = {
    "id": users.c.id,
    "email": users.c.email,
    "user_name": Fallback(users.c.user_name, users.c.email),
    "name": users.c.name_folded,
    "external_id": users.c.external_id,
    "active": users.c.active,
    "created_at": users.c.created_at,
    "group": Several(group_members.c.group_id, group_members.c.user_id == users.c.id),
}
_BY_ID = Prepared(
    sa.select(users).where(
        users.c.id == sa.bindparam("user"), users.c.organization_id == sa.bindparam("organization")
    )
)
_NAMES = (
    sa.select(users.c.id, users.c.name)
    .where(users.c.organization_id == sa.bindparam("organization"))
    .order_by(users.c.id)
)
_SOME_NAMES = _NAMES.where(users.c.id.in_(sa.bindparam("ids", expanding=True)))
_ONE_NAME = Prepared(_NAMES.where(users.c.id == sa.bindparam("id")))
_GROUPS = Prepared(
    sa.select(group_members.c.group_id).where(group_members.c.user_id == sa.bindparam("user"))
)
_USABLE_TOKEN = Prepared(
    sa.select(api_tokens).where(
        api_tokens.c.sha256 == sa.bindparam("sha256"),
        api_tokens.c.revoked_at.is_(None),
        sa.or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > sa.bindparam("now")),
    )
)


async def _groups_of(tx: Transaction, user_id: str) -> list[str]:
    rows = await tx.all(_GROUPS, user=user_id)
    return [row["group_id"] for row in rows]


def _token(row: sa.RowMapping) -> ApiToken:
    fields = {field.name: row[field.name] for field in dataclasses.fields(ApiToken)}
    kinds = {"kind": TokenKind(row["kind"]), "scope": TokenScope(row["scope"])}
    return ApiToken(**fields | kinds)


async def add(tx: Transaction, user: User) -> None:
    """Insert a user."""
    await tx.change(users.insert().values(**_values(user)))


async def get(tx: Transaction, organization_id: str, user_id: str) -> User | None:
    """The user with this id in this organization."""
    row = await tx.one(_BY_ID, user=user_id, organization=organization_id)
    return _user(row, await _groups_of(tx, user_id)) if row else None


async def any_by_id(tx: Transaction, user_id: str) -> User | None:
    """The user with this id whatever their organization: for links that name nothing else."""
    row = await tx.one(sa.select(users).where(users.c.id == user_id))
    return _user(row, await _groups_of(tx, user_id)) if row else None


async def authority(tx: Transaction, user_id: str) -> tuple[str, Role] | None:
    """Organization and role of an active user: all that the signer may know of one."""
    row = await tx.one(
        sa.select(users.c.organization_id, users.c.role).where(
            users.c.id == user_id, users.c.active
        )
    )
    return (row["organization_id"], Role(row["role"])) if row else None


async def by_email(tx: Transaction, email: str) -> User | None:
    """The interactive user with this address, compared without case."""
    row = await tx.one(sa.select(users).where(users.c.email == email.strip().lower()))
    return _user(row, await _groups_of(tx, row["id"])) if row else None


async def every(
    tx: Transaction,
    organization_id: str,
    limit: int | None = None,
    *,
    after: str = "",
    kind: UserKind | None = None,
) -> list[User]:
    """All users of the organization, oldest first; of very many perhaps the first `limit`.

    Args:
        after: an id; those before it and it are left out.
        kind: the others are left out.
    """
    found = sa.select(users).where(users.c.organization_id == organization_id, users.c.id > after)
    if kind is not None:
        found = found.where(users.c.kind == kind.value)
    rows = await tx.all(found.order_by(users.c.id).limit(limit))
    return await _with_groups(tx, rows)


async def people(
    tx: Transaction,
    organization_id: str,
    wanted: Condition | None = None,
    order: Order | None = None,
    *,
    skip: int = 0,
    limit: int,
) -> list[User]:
    """A page of the organization's interactive users whom no directory has deleted, oldest first
    unless there is an `order`.

    Args:
        wanted: over the fields `id`, `email`, `user_name`, `name` (folded), `external_id`,
            `active`, `created_at` and `group` (several).
        skip: so many of them are left out.
    """
    chosen = sa.select(users).where(*_people(tx, organization_id, wanted))
    by = ordered(tx, order, _PEOPLE, users.c.id)
    rows = await tx.all(chosen.order_by(*by).offset(skip).limit(limit))
    return await _with_groups(tx, rows)


async def listed(
    tx: Transaction, organization_id: str, words: Sequence[str], *, skip: int, limit: int
) -> tuple[int, list[User]]:
    """How many users have each of the words in their name or address, in whatever case; and a page
    of them: first the active, by kind and name.

    Args:
        skip: so many of them are left out.
    """
    of_words = (
        Either((Term("name", Operator.CO, word), Term("email", Operator.CO, word)))
        for word in map(folded, words)
    )
    where = (
        users.c.organization_id == organization_id,
        clause(tx, Both((Always(holds=True), *of_words)), _PEOPLE),
    )
    counted = await tx.one(sa.select(sa.func.count().label("users")).where(*where))
    by_name = ordered(tx, Order("name"), _PEOPLE, users.c.id)
    page = sa.select(users).where(*where).order_by(users.c.active.desc(), users.c.kind, *by_name)
    rows = await tx.all(page.offset(skip).limit(limit))
    return int(counted["users"]) if counted else 0, await _with_groups(tx, rows)


async def _with_groups(tx: Transaction, rows: Sequence[sa.RowMapping]) -> list[User]:
    groups = await memberships.groups_of(tx, [row["id"] for row in rows])
    return [_user(row, groups.get(row["id"], ())) for row in rows]


async def count_people(
    tx: Transaction, organization_id: str, wanted: Condition | None = None
) -> int:
    """How many interactive users the organization has that are what is wanted; see `people`."""
    where = _people(tx, organization_id, wanted)
    row = await tx.one(sa.select(sa.func.count().label("people")).where(*where))
    return int(row["people"]) if row else 0


def _people(
    tx: Transaction, organization_id: str, wanted: Condition | None
) -> list[sa.ColumnElement[bool]]:
    where = [
        users.c.organization_id == organization_id,
        users.c.kind == UserKind.INTERACTIVE.value,
        users.c.deprovisioned_at.is_(None),
    ]
    return where if wanted is None else [*where, clause(tx, wanted, _PEOPLE)]


async def has_user_name(tx: Transaction, organization_id: str, name: str, *, but: str) -> bool:
    """Whether another user of the organization than `but` is called so by the directory, or has
    that address and no other name."""
    named = clause(tx, Term("user_name", Operator.EQ, name), _PEOPLE)
    row = await tx.one(
        sa.select(users.c.id)
        .where(users.c.organization_id == organization_id, users.c.id != but, named)
        .limit(1)
    )
    return row is not None


async def known(tx: Transaction, organization_id: str, ids: Collection[str]) -> frozenset[str]:
    """Those of `ids` that are users' of the organization."""
    found: set[str] = set()
    for part in chunked(sorted(ids)):
        chosen = users.c.id.in_(part)
        of_them = sa.select(users.c.id).where(users.c.organization_id == organization_id, chosen)
        found |= {row["id"] for row in await tx.all(of_them)}
    return frozenset(found)


async def some(tx: Transaction, organization_id: str, ids: Collection[str]) -> list[User]:
    """Those of `ids` that are users of the organization, oldest first."""
    found: list[sa.RowMapping] = []
    for part in chunked(sorted(ids)):
        chosen = users.c.id.in_(part)
        own = sa.select(users).where(users.c.organization_id == organization_id, chosen)
        found += await tx.all(own.order_by(users.c.id))
    return await _with_groups(tx, found)


async def names(
    tx: Transaction, organization_id: str, ids: Collection[str] | None = None
) -> dict[str, str]:
    """Id -> name of the organization's users: of all, or of those among `ids`."""
    if ids is None:
        rows = await tx.all(_NAMES, organization=organization_id)
        return {row["id"]: row["name"] for row in rows}
    found: dict[str, str] = {}
    for part in chunked(sorted(ids)):
        if len(part) == 1:
            rows = await tx.all(_ONE_NAME, organization=organization_id, id=part[0])
        else:
            rows = await tx.all(_SOME_NAMES, organization=organization_id, ids=part)
        found |= {row["id"]: row["name"] for row in rows}
    return found


async def with_roles(tx: Transaction, organization_id: str, roles: Collection[Role]) -> list[User]:
    """The organization's active users of one of the roles, oldest first."""
    rows = await tx.all(
        sa.select(users)
        .where(
            users.c.organization_id == organization_id,
            users.c.active,
            users.c.role.in_(sorted(role.value for role in roles)),
        )
        .order_by(users.c.id)
    )
    return await _with_groups(tx, rows)


async def lock(tx: Transaction, organization_id: str, user_id: str) -> None:
    """Let nobody else change the user until the transaction ends, so that what is read from now on
    is what is changed. Writers to SQLite wait for each other anyway."""
    await tx.one(
        sa.select(users.c.id)
        .where(users.c.id == user_id, users.c.organization_id == organization_id)
        .with_for_update()
    )


async def update(tx: Transaction, user: User) -> bool:
    """Write the user's present fields, but not their groups; False where there is none."""
    return (
        await tx.change(
            users.update()
            .where(users.c.id == user.id, users.c.organization_id == user.organization_id)
            .values(**_values(user))
        )
        == 1
    )


async def add_token(tx: Transaction, token: ApiToken) -> None:
    """Insert a token's hash."""
    await tx.change(api_tokens.insert().values(**dataclasses.asdict(token)))


async def by_token(tx: Transaction, sha256: str, now: dt.datetime) -> tuple[User, ApiToken] | None:
    """The active user whose unexpired, unrevoked token, not idle for too long, has this hash."""
    row = await tx.one(_USABLE_TOKEN, sha256=sha256, now=now)
    if row is None:
        return None
    token = _token(row)
    if token.idle_seconds is not None:
        used = token.last_used_at or token.created_at
        if now - used > dt.timedelta(seconds=token.idle_seconds):
            return None
    user = await get(tx, token.organization_id, token.user_id)
    return (user, token) if user and user.active else None


async def tokens(tx: Transaction, organization_id: str, user_id: str) -> list[ApiToken]:
    """All tokens of one user that somebody made or logged in with, oldest first."""
    rows = await tx.all(
        sa.select(api_tokens)
        .where(
            api_tokens.c.organization_id == organization_id,
            api_tokens.c.user_id == user_id,
            api_tokens.c.kind != TokenKind.REQUEST.value,
        )
        .order_by(api_tokens.c.id)
    )
    return [_token(row) for row in rows]


async def tokens_of_kind(tx: Transaction, organization_id: str, kind: TokenKind) -> list[ApiToken]:
    """All tokens of this kind in the organization, oldest first."""
    rows = await tx.all(
        sa.select(api_tokens)
        .where(api_tokens.c.organization_id == organization_id, api_tokens.c.kind == kind.value)
        .order_by(api_tokens.c.id)
    )
    return [_token(row) for row in rows]


async def touch_token(tx: Transaction, token_id: str, now: dt.datetime) -> None:
    """Note when a token was last used."""
    await tx.change(api_tokens.update().where(api_tokens.c.id == token_id).values(last_used_at=now))


async def revoke_token(
    tx: Transaction, organization_id: str, token_id: str, now: dt.datetime
) -> bool:
    """Revoke a token for good; False where there is none that is still valid."""
    return (
        await tx.change(
            api_tokens.update()
            .where(
                api_tokens.c.id == token_id,
                api_tokens.c.organization_id == organization_id,
                api_tokens.c.revoked_at.is_(None),
            )
            .values(revoked_at=now)
        )
        == 1
    )


async def revoke_sessions(
    tx: Transaction, organization_id: str, user_id: str, now: dt.datetime, *, but: str | None = None
) -> int:
    """Revoke every session of the user `but` one (a token's id); how many."""
    statement = api_tokens.update().where(
        api_tokens.c.organization_id == organization_id,
        api_tokens.c.user_id == user_id,
        api_tokens.c.kind == TokenKind.SESSION.value,
        api_tokens.c.revoked_at.is_(None),
    )
    if but is not None:
        statement = statement.where(api_tokens.c.id != but)
    return await tx.change(statement.values(revoked_at=now))


async def authenticated_again(tx: Transaction, token_id: str, now: dt.datetime) -> None:
    """Note that a session's user has proved anew who they are."""
    await tx.change(
        api_tokens.update().where(api_tokens.c.id == token_id).values(authenticated_at=now)
    )
