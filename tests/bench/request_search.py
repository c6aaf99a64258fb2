"""How fast the list of signing requests is when there are very many. Not part of the suite.

    python -m tests.bench.request_search [--requests 1000000] [--database postgresql://...]

Makes a database (SQLite in a temporary folder, or the given, empty one of PostgreSQL), fills it,
and prints how long each kind of page takes: half of the runs, 95 of 100, and the longest.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime as dt
import hashlib
import json
import random
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa

from sealwright.db import Database, projects, requests
from sealwright.db.migrate import migrate
from sealwright.db.request_search import RequestFilter, words_of
from sealwright.model.origin import Origin
from sealwright.model.request import SigningRequest, State, StoredArtifact
from tests import database as rows
from tests.database import Scene
from tests.web import signing_certificate

_BATCH = 5000
_PROJECTS = 200
_RUNS = 40
_START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
_STATES = [State.COMPLETED] * 930 + [State.FAILED] * 50 + [State.DENIED] * 10 + [State.CANCELED] * 9
_STATES += [State.WAITING_FOR_APPROVAL]
_NAMES = ("setup", "driver", "agent", "service", "portal", "firmware", "tools", "client")


def identifier(number: int, chance: random.Random, start: dt.datetime = _START) -> str:
    """A UUID version 7 of a time of its own."""
    milliseconds = int(start.timestamp() * 1000) + number * 60_000
    value = milliseconds << 80 | chance.getrandbits(80)
    return str(uuid.UUID(int=value & ~(0xF << 76) | 0x7 << 76))


async def scenes(database: Database) -> list[Scene]:
    """One organization with many projects, of very different sizes."""
    first = await rows.seed(database, signing_certificate("rsa-3072"))
    made = [first]
    async with database.transaction() as tx:
        for number in range(1, _PROJECTS):
            project = rows.project(first.organization.id, slug=f"product-{number}")
            files = rows.configuration(project)
            policy = rows.policy(project, first.certificate.id)
            await projects.add(tx, project)
            await projects.add_configuration(tx, files)
            await projects.add_policy(tx, policy)
            submitter = first.approvers[number % 3]
            made.append(dataclasses.replace(
                first, project=project, configuration=files, policy=policy, submitter=submitter
            ))  # fmt: skip
    return made


def request(
    number: int, places: Sequence[Scene], chance: random.Random, start: dt.datetime = _START
) -> SigningRequest:
    """One that ended long ago."""
    scene = places[min(int(chance.expovariate(0.05)), len(places) - 1)]
    state = chance.choice(_STATES)
    name = f"{chance.choice(_NAMES)}-{number % 90}.{number % 17}.exe"
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    submitted = start + dt.timedelta(minutes=number)
    return rows.request(
        scene,
        id=identifier(number, chance, start),
        state=state,
        description=f"Build {number} of {scene.project.slug} nightly",
        origin=Origin(commit=hashlib.sha1(str(number).encode()).hexdigest()),
        input=StoredArtifact(f"requests/x/{number}/input", name, 1000, digest),
        submitted_at=submitted,
        updated_at=submitted,
        finished_at=submitted if state.is_final else None,
        lease_until=None,
    )


def batches(
    count: int, places: Sequence[Scene], end: dt.datetime | None = None, size: int = _BATCH
) -> Iterator[list[SigningRequest]]:
    """All of them, newest last: one a minute, up to `end` where that is given."""
    chance = random.Random(7)
    start = end - dt.timedelta(minutes=count) if end else _START
    for first in range(0, count, size):
        numbers = range(first, min(first + size, count))
        yield [request(number, places, chance, start) for number in numbers]


def columns(one: SigningRequest, *, as_text: bool) -> dict[str, Any]:
    """What of a request goes into its table, for a driver that knows nothing of ours."""
    values = {
        name: requests._column_value(value)
        for name, value in {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}.items()
        if name not in requests._JOINED
    }
    for name in ("parameters", "origin", "input", "output", "retrieval", "hash"):
        values[name] = json.dumps(values[name]) if values[name] is not None else None
    if as_text:
        values = {name: as_plain(value) for name, value in values.items()}
    return values


def as_plain(value: Any) -> Any:
    """A value as SQLite keeps it."""
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, dt.datetime) else value


def words(made: Sequence[SigningRequest]) -> list[tuple[str, str, str]]:
    """Rows of the index of words."""
    return [(one.organization_id, word, one.id) for one in made for word in words_of(one)]


def fill_sqlite(file: str, count: int, places: Sequence[Scene]) -> None:
    """Fill the file."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for made in batches(count, places):
            values = [columns(one, as_text=True) for one in made]
            names = list(values[0])
            marks = ",".join("?" * len(names))
            connection.executemany(
                f"INSERT INTO signing_requests ({','.join(names)}) VALUES ({marks})",
                [tuple(one.values()) for one in values],
            )
            connection.executemany("INSERT INTO request_words VALUES (?,?,?)", words(made))
        connection.execute("ANALYZE")


async def fill_postgresql(url: str, count: int, places: Sequence[Scene]) -> None:
    """Fill the database."""
    connection = await asyncpg.connect(url)
    for made in batches(count, places):
        values = [columns(one, as_text=False) for one in made]
        await connection.copy_records_to_table(
            "signing_requests",
            records=[tuple(one.values()) for one in values],
            columns=list(values[0]),
        )
        await connection.copy_records_to_table("request_words", records=words(made))
    await connection.execute("ANALYZE")
    await connection.close()


def kinds(places: Sequence[Scene], count: int) -> dict[str, RequestFilter]:
    """The pages that are measured."""
    big, small = places[0], places[-1]
    ids = [one.project.id for one in places]
    digest = hashlib.sha256(str(count // 3).encode()).hexdigest()
    return {
        "all": RequestFilter(),
        "a large project": RequestFilter(project_ids=[big.project.id]),
        "a small project": RequestFilter(project_ids=[small.project.id]),
        "12 projects of a developer": RequestFilter(project_ids=ids[-12:]),
        "a policy": RequestFilter(signing_policy_id=big.policy.id),
        "waiting for approval": RequestFilter(state=State.WAITING_FOR_APPROVAL),
        "failed": RequestFilter(state=State.FAILED),
        "failed, of one project": RequestFilter([big.project.id], state=State.FAILED),
        "of one submitter": RequestFilter(submitted_by=big.submitter.id),
        "failed, of one submitter": RequestFilter(
            state=State.FAILED, submitted_by=big.submitter.id
        ),
        "of one week": RequestFilter(
            submitted_from=_START + dt.timedelta(days=90),
            submitted_before=_START + dt.timedelta(days=97),
        ),
        "by SHA-256": RequestFilter(text=digest),
        "by the beginning of a commit": RequestFilter(text=hashlib.sha1(b"777").hexdigest()[:9]),
        "a common word": RequestFilter(text="setup"),
        "the beginning of a common word": RequestFilter(text="set"),
        "a common word, in a small project": RequestFilter([small.project.id], text="setup"),
        "a common word, waiting for approval": RequestFilter(
            text="setup", state=State.WAITING_FOR_APPROVAL
        ),
        "two words, one rare": RequestFilter(text=f"nightly {count // 5}"),
        "a word that is nowhere": RequestFilter(text="zzzz"),
    }


async def measure(database: Database, places: Sequence[Scene], count: int) -> None:
    """Ask for each kind of page, from the start and from places in between."""
    chance = random.Random(1)
    tenant = places[0].organization.id
    print(f"{'page':40} {'rows':>4} {'p50 ms':>8} {'p95 ms':>8} {'most ms':>8}")
    for name, wanted in kinds(places, count).items():
        times, found = [], 0
        for run in range(_RUNS):
            before = identifier(chance.randrange(count), chance) if run % 2 else None
            started = time.perf_counter()
            async with database.read() as tx:
                page, _ = await requests.search(tx, tenant, wanted, before=before, limit=25)
            times.append((time.perf_counter() - started) * 1000)
            found = max(found, len(page))
        times.sort()
        half, most = statistics.median(times), times[-1]
        print(f"{name:40} {found:4} {half:8.1f} {times[int(_RUNS * 0.95)]:8.1f} {most:8.1f}")


async def run(url: str, count: int) -> None:
    """Make, fill, measure."""
    await migrate(url)
    database = Database(url)
    places = await scenes(database)
    started = time.perf_counter()
    if url.startswith("sqlite"):
        fill_sqlite(url.removeprefix("sqlite:///"), count, places)
    else:
        await fill_postgresql(url, count, places)
    async with database.read() as tx:
        row = await tx.one(sa.text("SELECT count(*) AS n FROM request_words"))
    assert row
    print(f"{count} requests, {row['n']} words, made in {time.perf_counter() - started:.0f} s")
    await measure(database, places, count)
    await database.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--database", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealwright-bench-") as folder:
        url = given.database or f"sqlite:///{Path(folder) / 'sealwright.sqlite3'}"
        asyncio.run(run(url, given.requests))


if __name__ == "__main__":
    main()
