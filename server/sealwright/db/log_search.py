"""Finding leaves among millions: what they are about, their action, their time; pages by key.

What a leaf is about has indexes of its own, in the order of the list. Actions have one but for
those of single signatures, which are most leaves. A time is a range of ids: those grow with it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.loose_scan import values_of
from sealwright.db.tables import COMMON_LEAVES, NO_COMMON_LEAF, log_entries

_T = log_entries
#: as many leaves of an action are named one by one
_RARE = 1000
_MOST_ACTIONS = 500
#: how far a leaf's time may be out of the order of ids: clocks differ, transactions last
_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True)
class About:
    """What a leaf is found by: who acted (as in the leaf), and the ids of what it concerns."""

    actor: str | None = None
    project_id: str | None = None
    signing_policy_id: str | None = None
    certificate_id: str | None = None
    user_id: str | None = None


ABOUT = tuple(field.name for field in dataclasses.fields(About))


@dataclass(frozen=True)
class Filter:
    """Which leaves are wanted; None: whichever.

    Attributes:
        action: the whole name, or its beginning with a dot at the end (``user.``).
        since, until: from the one on, to before the other.
    """

    action: str | None = None
    actor: str | None = None
    request_id: str | None = None
    project_id: str | None = None
    signing_policy_id: str | None = None
    certificate_id: str | None = None
    user_id: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


async def newest(
    tx: Transaction, organization_id: str, wanted: Filter, before: int | None, limit: int
) -> sa.Select[tuple[int]] | None:
    """The statement for the ids of the leaves that `wanted` describes, newest first, older than
    the leaf `before`; None: there are none."""
    where = [_T.c.organization_id == organization_id, *_conditions(wanted, before)]
    where += await _span(tx, wanted)
    if wanted.action is None:
        return _select(where, limit)
    if wanted.request_id is not None:
        return _select([*where, _action(wanted.action)], limit)
    names = await _names(tx, organization_id, wanted.action)
    if not set(names) & COMMON_LEAVES:
        rare = await _rare(tx, organization_id, names)
        if rare is not None:
            return _select([*where, _T.c.id.in_(rare)], limit) if rare else None
        if not any(getattr(wanted, name) for name in ABOUT):
            return _newest_of_each(where, names, limit)
    return _select([*where, _T.c.action.in_(names)], limit)


def _select(where: Sequence[sa.ColumnElement[bool]], limit: int) -> sa.Select[tuple[int]]:
    return sa.select(_T.c.id).where(*where).order_by(_T.c.id.desc()).limit(limit)


def _newest_of_each(
    where: Sequence[sa.ColumnElement[bool]], names: Sequence[str], limit: int
) -> sa.Select[tuple[int]]:
    """The newest of each action's newest, since no index holds those of several in order."""
    branches = [
        sa.select(
            _select([*where, sa.and_(_T.c.action == name, sa.text(NO_COMMON_LEAF))], limit)
            .subquery()
            .c.id
        )
        for name in names
    ]
    found = sa.union_all(*branches).subquery() if len(branches) > 1 else branches[0].subquery()
    return sa.select(found.c.id).order_by(found.c.id.desc()).limit(limit)


def _conditions(wanted: Filter, before: int | None) -> Iterator[sa.ColumnElement[bool]]:
    for name in ("request_id", *ABOUT):
        value = getattr(wanted, name)
        if value is not None:
            yield _T.c[name] == value
    if before is not None:
        yield _T.c.id < before


def _action(action: str) -> sa.ColumnElement[bool]:
    if action.endswith("."):
        return _T.c.action.startswith(action, autoescape=True)
    return _T.c.action == action


async def _span(tx: Transaction, wanted: Filter) -> list[sa.ColumnElement[bool]]:
    """Conditions on the time, and what they say of ids."""
    found: list[sa.ColumnElement[bool]] = []
    if wanted.since is not None:
        found.append(_T.c.created_at >= wanted.since)
        found.append(_T.c.id >= await _first_id(tx, wanted.since - _SKEW))
    if wanted.until is not None:
        found.append(_T.c.created_at < wanted.until)
        found.append(_T.c.id < await _first_id(tx, wanted.until + _SKEW))
    return found


async def _first_id(tx: Transaction, time: dt.datetime) -> int:
    """An id by which leaves of that time begin, give or take the skew: found by halving."""
    row = await tx.one(sa.select(sa.func.max(_T.c.id).label("last")))
    low, high = 0, int(row["last"] or 0) + 1 if row else 1
    while low < high:
        middle = (low + high) // 2
        some = sa.select(_T.c.id, _T.c.created_at).where(_T.c.id >= middle)
        at = await tx.one(some.order_by(_T.c.id).limit(1))
        if at is not None and at["created_at"] < time:
            low = int(at["id"]) + 1
        else:
            high = middle
    return low


async def _names(tx: Transaction, organization_id: str, action: str) -> list[str]:
    """The actions that it stands for: for a beginning those that there are."""
    if not action.endswith("."):
        return [action]
    names = set(await _known_actions(tx, organization_id)) | COMMON_LEAVES
    return sorted(one for one in names if one.startswith(action))


async def _known_actions(tx: Transaction, organization_id: str) -> list[str]:
    """Every action of the organization's leaves but the common ones."""
    own = sa.and_(_T.c.organization_id == organization_id, sa.text(NO_COMMON_LEAF))
    found = values_of(_T.c.action, own, "actions")
    rows = await tx.all(sa.select(found.c.value).limit(_MOST_ACTIONS))
    return [row["value"] for row in rows if row["value"] is not None]


async def _rare(tx: Transaction, organization_id: str, names: Sequence[str]) -> list[int] | None:
    """The ids of all leaves of these actions, where they are few."""
    rows = await tx.all(
        sa.select(_T.c.id)
        .where(
            _T.c.organization_id == organization_id,
            _T.c.action.in_(names),
            sa.text(NO_COMMON_LEAF),
        )
        .limit(_RARE + 1)
    )
    return [row["id"] for row in rows] if len(rows) <= _RARE else None
