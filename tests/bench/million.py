"""The web application over very many requests and leaves: how long each page takes.

    python -m tests.bench.million [--requests 1000000] [--database postgresql://...] [--keep FOLDER]

Makes a database (SQLite, or the given, empty one of PostgreSQL), fills it with requests, five
leaves for each, messages, users and groups, and asks a web process of its own for each page.
With `--keep` the database stays in that folder and is used again. `make bench BENCH=h` runs it as
a case.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime as dt
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import sqlalchemy as sa

from sealwright.db import Database, groups, users
from sealwright.db.migrate import migrate
from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.request import SigningRequest
from sealwright.model.user import Group, Role
from sealwright.transparency.record import body
from tests import database as rows
from tests.bench import request_search as search
from tests.database import Scene
from tests.valkey import Valkey
from tests.web import PASSWORD, running

Figures = dict[str, Any]

_BATCH = 20_000
_USERS, _GROUPS = 500, 30
_RUNS = 20
_ACTIONS = ("request.submitted", "signature.intended", "signature.made", "artifact.released",
            "request.completed")  # fmt: skip
_RARE = 250_000  #: of so many requests one comes with an unusual activity
_LEAF = ("organization_id", "request_id", "action", "body", "sequence", "created_at", "actor",
         "project_id", "signing_policy_id", "certificate_id")  # fmt: skip
_MESSAGE = ("organization_id", "channel", "target_id", "event", "request_id", "payload",
            "created_at", "attempts", "done_at", "error", "status")  # fmt: skip


async def seed(url: str, count: int) -> None:
    """Fill the empty database, and note in it whom to log in as."""
    await migrate(url)
    database = Database(url)
    places = await search.scenes(database)
    await _people(database, places[0])
    await database.close()
    fill = _Sqlite(url) if url.startswith("sqlite") else _Postgresql(url)
    await fill.open()
    sequence = 0
    for made in search.batches(count, places, utc_now(), size=_BATCH):
        leaves = list(_leaves(made, sequence))
        sequence += len(leaves)
        values = [search.columns(one, as_text=fill.as_text) for one in made]
        await fill.insert("signing_requests", list(values[0]), [(*one.values(),) for one in values])
        words = ["organization_id", "word", "request_id"]
        await fill.insert("request_words", words, sorted(search.words(made)))
        await fill.insert("log_entries", _LEAF, leaves)
        await fill.insert("notifications", _MESSAGE, [_message(one) for one in made])
    await fill.close()


async def _people(database: Database, scene: Scene) -> None:
    tenant = scene.organization.id
    secret = await hash_password(PASSWORD)
    async with database.transaction() as tx:
        everyone = [rows.user(tenant) for _ in range(_USERS)]
        admin = rows.user(tenant, email="admin@example.com", role=Role.GLOBAL_ADMINISTRATOR,
                          password_hash=secret)  # fmt: skip
        approver = scene.approvers[0]
        await users.update(
            tx, dataclasses.replace(approver, email="approver@example.com", password_hash=secret)
        )
        for one in (*everyone, admin):
            await users.add(tx, one)
        for number in range(_GROUPS):
            await groups.add(tx, Group(new_id(), tenant, f"Group {number}", utc_now()))


def _leaves(made: Sequence[SigningRequest], sequence: int) -> Iterator[tuple[Any, ...]]:
    """Five for each request, and now and then one of an unusual activity. Their bodies differ in
    the request alone: they are looked at, not verified."""
    first = made[0]
    bodies = {
        action: body(
            action, actor="worker" if number else f"user:{first.submitted_by}",
            organization=first.organization_id, now=first.submitted_at, request=first.id,
            policy_hash=first.policy_hash, data={},
        )
        for number, action in enumerate(_ACTIONS)
    }  # fmt: skip
    for request in made:
        about = (request.project_id, request.signing_policy_id, request.certificate_id)
        for number, action in enumerate(_ACTIONS):
            text = bodies[action].replace(first.id, request.id)
            found_by: tuple[Any, ...] = (None,) * 4
            if not action.startswith("signature."):
                found_by = ("worker" if number else f"user:{request.submitted_by}", *about)
            yield (
                request.organization_id, request.id, action, text, sequence, request.submitted_at,
                *found_by,
            )  # fmt: skip
            sequence += 1
    if sequence // 5 % _RARE <= len(made):
        data = {"kind": "submission-rate", "project": first.project_id}
        text = body("activity.unusual", actor="system", organization=first.organization_id,
                    now=first.submitted_at, data=data)  # fmt: skip
        yield (
            first.organization_id, None, "activity.unusual", text, sequence, first.submitted_at,
            "system", first.project_id, None, None,
        )  # fmt: skip


def _message(request: SigningRequest) -> tuple[Any, ...]:
    at = request.submitted_at
    target = request.project_id  # as many webhooks as projects
    return (request.organization_id, "webhook", target, "request.completed", request.id, "{}", at,
            1, at, "", 204)  # fmt: skip


class _Sqlite:
    as_text = True

    def __init__(self, url: str) -> None:
        self._connection = sqlite3.connect(url.removeprefix("sqlite:///"))

    async def open(self) -> None:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000",
                       "foreign_keys = OFF"):  # fmt: skip
            self._connection.execute(f"PRAGMA {pragma}")
        # indexes are made afterwards: sorting is faster than inserting
        found = self._connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND tbl_name IN ('signing_requests', 'log_entries', 'notifications')"
        ).fetchall()
        self._indexes = [statement for _, statement in found]
        for name, _ in found:
            self._connection.execute(f"DROP INDEX {name}")

    async def insert(
        self, table: str, columns: Sequence[str], values: Sequence[tuple[Any, ...]]
    ) -> None:
        marks = ",".join("?" * len(columns))
        self._connection.executemany(
            f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})",
            [tuple(map(search.as_plain, one)) for one in values],
        )

    async def close(self) -> None:
        for statement in self._indexes:
            self._connection.execute(statement)
        self._connection.commit()
        self._connection.execute("ANALYZE")
        self._connection.close()


class _Postgresql:
    as_text = False

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._connection = await asyncpg.connect(self._url)

    async def insert(
        self, table: str, columns: Sequence[str], values: Sequence[tuple[Any, ...]]
    ) -> None:
        await self._connection.copy_records_to_table(table, records=values, columns=list(columns))

    async def close(self) -> None:
        await self._connection.execute("VACUUM ANALYZE")
        await self._connection.close()


async def _paths(url: str) -> dict[str, str]:
    """What is asked for: name -> path. Entities are those of the large project and a small one."""
    database = Database(url)
    async with database.read() as tx:
        found = await tx.all(sa.text(
            "SELECT p.id, p.slug, s.id AS policy, s.certificate_id FROM projects p "
            "JOIN signing_policies s ON s.project_id = p.id ORDER BY p.id"
        ))  # fmt: skip
        request = await tx.one(sa.text(
            "SELECT id, submitted_by FROM signing_requests ORDER BY id DESC LIMIT 1"
        ))  # fmt: skip
    await database.close()
    assert request
    large, small = found[0], found[-1]
    year, week = ((utc_now() - dt.timedelta(days=one)).date().isoformat() for one in (365, 358))
    return {
        "dashboard": "/",
        "requests": "/signing-requests",
        "requests, failed": "/signing-requests?state=Failed",
        "requests, waiting": "/signing-requests?state=WaitingForApproval",
        "requests of the largest project": f"/signing-requests?project={large['slug']}",
        "requests of a small project": f"/signing-requests?project={small['slug']}",
        "requests of one submitter": f"/signing-requests?submitter={request['submitted_by']}",
        "requests of a week a year ago": "/signing-requests?"
            f"submitted_from={year}&submitted_to={week}",
        "search, a common word": "/signing-requests?text=setup",
        "search, two words, one rare": "/signing-requests?text=nightly+200001",
        "search, a word that is nowhere": "/signing-requests?text=zzzz",
        "a request": f"/signing-requests/{request['id']}",
        "audit": "/audit",
        "audit, a rare action": "/audit?action=activity.unusual",
        "audit, a beginning without a hit": "/audit?action=retention.",
        "audit, a beginning": "/audit?action=user.",
        "audit of a week a year ago": f"/audit?from={year}&to={week}",
        "audit of the largest project": f"/audit?project={large['id']}",
        "audit of the largest project, a rare action":
            f"/audit?project={large['id']}&action=activity.unusual",
        "audit of a policy": f"/audit?signing_policy={small['policy']}",
        "audit of a certificate": f"/audit?certificate={large['certificate_id']}",
        "audit of a user": f"/audit?actor={request['submitted_by']}",
        "audit of a request": f"/audit?request={request['id']}",
        "projects": "/projects",
        "a project": f"/projects/{large['slug']}",
        "users": "/users",
        "a user": f"/users/{request['submitted_by']}",
        "groups": "/groups",
        "certificates": "/certificates",
    }  # fmt: skip


def measure(url: str, *, runs: int = _RUNS) -> Figures:
    """Ask for every page, as an administrator and the dashboard as an approver."""
    paths = asyncio.run(_paths(url))
    pages: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        valkey = Valkey(Path(folder))
        valkey.start()
        stack.callback(valkey.stop)
        server = stack.enter_context(running(valkey, url))
        for who, asked in (
            ("admin", paths),
            ("approver", {"dashboard of an approver": "/", "requests an approver may see":
                          "/signing-requests"}),
        ):  # fmt: skip
            with httpx.Client(base_url=server.url, timeout=120) as client:
                form = {"email": f"{who}@example.com", "password": PASSWORD}
                assert client.post("/login", data=form).status_code == 303
                pages += [_page(client, server.process.pid, name, path, runs)
                          for name, path in asked.items()]  # fmt: skip
    return {"pages": pages}


def _page(client: httpx.Client, pid: int, name: str, path: str, runs: int) -> Figures:
    times = []
    busy = _busy(pid)
    for _ in range(runs):
        started = time.perf_counter()
        answer = client.get(path)
        times.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, (path, answer.status_code)
    times.sort()
    return {
        "page": name,
        "p50_ms": round(statistics.median(times), 1),
        "p95_ms": round(times[int(runs * 0.95) - 1], 1),
        "processor_ms": round((_busy(pid) - busy) * 1000 / runs, 1),
        "kib": round(len(answer.content) / 1024),
    }


def _busy(pid: int) -> float:
    """Processor seconds of a process (proc(5), stat: utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--database", default="")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--runs", type=int, default=_RUNS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealwright-bench-") as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        done = folder / "seeded"
        url = given.database or f"sqlite:///{folder / 'sealwright.sqlite3'}"
        if not done.exists():
            started = time.perf_counter()
            asyncio.run(seed(url, given.requests))
            done.write_text(url)
            print(f"seeded in {time.perf_counter() - started:.0f} s", flush=True)
        else:
            asyncio.run(migrate(url))
        for page in measure(url, runs=given.runs)["pages"]:
            print(json.dumps(page), flush=True)


if __name__ == "__main__":
    main()
