"""Finding leaves: whatever way the search takes, it gives what a look at each leaf would."""

from __future__ import annotations

import datetime as dt
import itertools
import random

import pytest

from sealwright.db import Database, log, log_search
from sealwright.db.log_search import About, Filter
from sealwright.model.identifiers import new_id

_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_ACTIONS = (
    *["signature.intended", "signature.made"] * 6,
    *["request.submitted", "request.completed"] * 3,
    *("signature.abandoned", "user.created", "user.updated", "user_identity.created"),
)
_OWN, _OTHER = new_id(), new_id()


def _leaves() -> list[log.NewEntry]:
    chance = random.Random(3)
    made = []
    for number in range(300):
        # times are a little out of the order of ids
        minutes = number * 30 + chance.randrange(-40, 40)
        about = About(f"user:{chance.randrange(3)}", f"project-{chance.randrange(3)}")
        made.append(
            log.NewEntry(
                chance.choice((_OWN, _OWN, _OTHER)), f"request-{number // 20}",
                chance.choice(_ACTIONS), "{}", _START + dt.timedelta(minutes=minutes), about,
            )
        )  # fmt: skip
    return made


def _fits(leaf: log.Entry, wanted: Filter) -> bool:
    action = wanted.action or leaf.action
    begins = action.endswith(".") and leaf.action.startswith(action)
    about = vars(leaf.about) | {"request_id": leaf.request_id}
    named = ("actor", "project_id", "request_id")
    return (
        (begins or leaf.action == action)
        and all(getattr(wanted, one) in {None, about[one]} for one in named)
        and (wanted.since is None or leaf.created_at >= wanted.since)
        and (wanted.until is None or leaf.created_at < wanted.until)
    )


@pytest.mark.parametrize("rare", [0, 15, 1000])
async def test_every_filter(database: Database, monkeypatch: pytest.MonkeyPatch, rare: int) -> None:
    monkeypatch.setattr(log_search, "_RARE", rare)
    async with database.transaction() as tx:
        await log.append(tx, _leaves())
    day = dt.timedelta(days=1)
    spans = ((None, None), (_START + day, None), (_START + 2 * day, _START + 3 * day))
    actions = (None, "user.", "signature.", "nothing.", "user.created", "request.completed",
               "signature.made", "nothing")  # fmt: skip
    abouts = ({}, {"actor": "user:1"}, {"project_id": "project-2"}, {"request_id": "request-7"})
    async with database.read() as tx:
        every = await log.page(tx, _OWN, limit=1000)
        assert every == sorted(every, key=lambda one: -one.id)
        for action, about, (since, until) in itertools.product(actions, abouts, spans):
            wanted = Filter(action=action, since=since, until=until, **about)
            expected = [one for one in every if _fits(one, wanted)]
            first = await log.page(tx, _OWN, wanted=wanted, limit=4)
            assert first == expected[:4], wanted
            if len(first) == 4:
                more = await log.page(tx, _OWN, wanted=wanted, before=first[-1].id, limit=1000)
                assert more == expected[4:], wanted


async def test_an_empty_log(database: Database) -> None:
    wanted = Filter(action="user.", since=_START, until=_START)
    async with database.read() as tx:
        assert await log.page(tx, _OWN, wanted=wanted) == []
