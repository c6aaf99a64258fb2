"""The log's sequencer and its copy in a second location, on both databases."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from sealwright.db import Database
from sealwright.db import log as db_log
from sealwright.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from sealwright.model.identifiers import utc_now
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.leaf import LeafEntry
from sealwright.transparency.note import SigningKey
from sealwright.transparency.proof import verify_logged
from sealwright.transparency.publish import proof_for, publish, read_tile
from sealwright.transparency.record import organization_entry, record
from sealwright.transparency.sequence import (
    BATCH,
    MALFORMED,
    Sequencer,
    open_log,
    sequence,
)
from sealwright.transparency.tiles import Tile, read_leaves, tile_at
from sealwright.transparency.verify import verify_log

ORIGIN = "test.example.com/log"
ORGANIZATION = "0199a000-0000-7000-8000-000000000001"


@pytest.fixture
async def key(database: Database, tmp_path: Path) -> SigningKey:
    return await open_log(database, tmp_path / "log.key", ORIGIN)


async def leave(database: Database, count: int, start: int = 0) -> None:
    async with database.transaction() as tx:
        entries = [
            organization_entry(
                ORGANIZATION, "test.done", actor="system", now=utc_now(), data={"n": start + n}
            )
            for n in range(count)
        ]
        await record(tx, *entries)


async def entries(database: Database) -> list[db_log.Entry]:
    async with database.read() as tx:
        rows = await tx.all(sa.text("SELECT id FROM log_entries ORDER BY id"))
        found = [await db_log.get(tx, row["id"]) for row in rows]
    return [entry for entry in found if entry]


async def test_the_head_covers_every_committed_leaf(database: Database, key: SigningKey) -> None:
    assert (await sequence(database, key)).size == 0
    await leave(database, 3)
    head = await sequence(database, key)
    assert head.size == 3
    assert [entry.sequence for entry in await entries(database)] == [0, 1, 2]
    assert await sequence(database, key) == head, "idle: nothing is signed anew"


async def test_many_leaves_over_several_batches_verify_offline(
    database: Database, key: SigningKey, tmp_path: Path
) -> None:
    await leave(database, 2 * BATCH + 77)
    assert (await sequence(database, key)).size == 2 * BATCH + 77
    await leave(database, 300)
    head = await sequence(database, key)
    store = FolderTiles(tmp_path / "copy")
    assert await publish(database, store) == head.size
    report = verify_log(store, head.checkpoint, key.verifier.encode())
    assert report.checkpoint.size == 2 * BATCH + 377


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_leaf_committed_late_with_a_smaller_id_comes_later(
    database: Database, key: SigningKey
) -> None:
    """On PostgreSQL ids are given before the commit, so commits may come in another order.

    SQLite has one writer.
    """
    async with database.transaction() as late:
        entry = organization_entry(ORGANIZATION, "test.late", actor="system", now=utc_now())
        await record(late, entry)
        await leave(database, 2)
        assert (await sequence(database, key)).size == 2
    assert (await sequence(database, key)).size == 3
    assert [entry.sequence for entry in await entries(database)] == [2, 0, 1]


async def test_concurrent_sequencers_make_one_tree(
    database: Database, key: SigningKey, tmp_path: Path
) -> None:
    async def write(start: int) -> None:
        for n in range(5):
            await leave(database, 7, start + 7 * n)
            await sequence(database, key)

    await asyncio.gather(*(write(1000 * n) for n in range(4)))
    head = await sequence(database, key)
    assert head.size == 140
    store = FolderTiles(tmp_path / "copy")
    seen: list[object] = []
    await publish(database, store)
    verify_log(
        store,
        head.checkpoint,
        key.verifier.encode(),
        on_leaf=lambda leaf: seen.append(leaf.event.data["n"]),
    )
    assert len(set(seen)) == 140


async def test_callers_that_wait_share_a_run(database: Database, key: SigningKey) -> None:
    sequencer = Sequencer(database, key)
    sizes = []

    async def one(n: int) -> None:
        await leave(database, 1, n)
        sizes.append((await sequencer.sequence()).size)

    await asyncio.gather(*(one(n) for n in range(30)))
    assert max(sizes) == 30
    async with database.read() as tx:
        assert await db_log.pending(tx, 1) == []


async def test_only_full_tiles_are_stored(database: Database, key: SigningKey) -> None:
    for n in range(20):
        await leave(database, 29, 29 * n)
        await sequence(database, key)
    async with database.read() as tx:
        rows = await tx.all(sa.text("SELECT path FROM log_tiles ORDER BY path"))
    assert {row["path"] for row in rows} == {
        "tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001",
    }  # fmt: skip


async def test_a_sequencer_that_others_overtake_reads_the_log_again(
    database: Database, key: SigningKey, tmp_path: Path
) -> None:
    ours, theirs = Sequencer(database, key), Sequencer(database, key)
    for n in range(6):
        await leave(database, 90, 90 * n)
        head = await (ours if n % 3 else theirs).sequence()
    store = FolderTiles(tmp_path / "copy")
    assert await publish(database, store) == head.size == 540
    verify_log(store, head.checkpoint, key.verifier.encode())


async def test_partial_tiles_of_earlier_checkpoints_can_still_be_read(
    database: Database, key: SigningKey
) -> None:
    """Every tile that any earlier checkpoint needs is there, as it was then."""
    saved: dict[str, bytes] = {}
    for n in range(12):
        await leave(database, 61, 61 * n)
        size = (await sequence(database, key)).size
        for level in (-1, 0):
            path = tile_at(level, (size - 1) // 256, size).path
            content = await read_tile(database, path)
            assert content
            saved[path] = content
    assert len(saved) > 20
    for path, content in saved.items():
        assert await read_tile(database, path) == content
    assert await read_tile(database, "tile/0/900") is None
    assert await read_tile(database, "tile/0/002.p/255") is None
    with pytest.raises(InvalidInputError):
        await read_tile(database, "tile/0/../000")


async def test_whatever_a_body_holds_the_log_goes_on(
    database: Database, key: SigningKey, tmp_path: Path
) -> None:
    good = organization_entry(ORGANIZATION, "test.done", actor="system", now=utc_now())
    bodies = [
        "", "{}", "[" * 30_000, "x" * 70_000, '{"sequence":5}', good.body.replace(":", ": "),
        '{"a":1e400}', good.body,
    ]  # fmt: skip
    async with database.transaction() as tx:
        await db_log.append(
            tx,
            [db_log.NewEntry(ORGANIZATION, None, "test.done", body, utc_now()) for body in bodies]
            # an event that says something else than its row
            + [db_log.NewEntry("", None, "test.done", good.body, utc_now())]
            + [db_log.NewEntry(ORGANIZATION, None, "signature.made", good.body, utc_now())],
        )
    head = await sequence(database, key)
    store = FolderTiles(tmp_path / "copy")
    await publish(database, store)
    leaves: list[LeafEntry] = []
    verify_log(store, head.checkpoint, key.verifier.encode(), on_leaf=leaves.append)
    actions = [leaf.event.action for leaf in leaves]
    assert actions == [MALFORMED] * 7 + ["test.done"] + [MALFORMED] * 2
    assert leaves[0].event.data == {"body_sha256": hashlib.sha256(b"").hexdigest()}
    for entry in await entries(database):
        await proof_for(database, entry.id)


async def test_proofs(database: Database, key: SigningKey) -> None:
    await leave(database, 600)
    ids = [entry.id for entry in await entries(database)]
    with pytest.raises(UnavailableError, match="not in the tree"):
        await proof_for(database, ids[0])
    await sequence(database, key)
    for n in (0, 1, 255, 256, 511, 512, 598, 599):
        bundle = await proof_for(database, ids[n], organization_id=ORGANIZATION)
        entry, checkpoint = verify_logged(bundle, key.verifier.encode())
        assert (entry.sequence, entry.event.data["n"], checkpoint.size) == (n, n, 600)
    with pytest.raises(NotFoundError):
        await proof_for(database, ids[0], organization_id="another")
    with pytest.raises(NotFoundError):
        await proof_for(database, ids[-1] + 1)


async def test_a_changed_entry_has_no_proof(database: Database, key: SigningKey) -> None:
    await leave(database, 5)
    await sequence(database, key)
    first = (await entries(database))[0]
    async with database.transaction() as tx:
        changed = first.body.replace('"n":0', '"n":9')
        await tx.change(
            sa.text("UPDATE log_entries SET body = :body WHERE id = :id").bindparams(
                body=changed, id=first.id
            )
        )
    with pytest.raises(VerificationError):
        await proof_for(database, first.id)


async def test_the_copy_grows_and_survives_repetition(
    database: Database, key: SigningKey, tmp_path: Path
) -> None:
    store = FolderTiles(tmp_path / "copy")
    saved = None
    for n in range(9):
        await leave(database, 97, 97 * n)
        head = await sequence(database, key)
        assert await publish(database, store) == await publish(database, store) == head.size
        checkpoint = (tmp_path / "copy" / "checkpoint").read_text()
        assert checkpoint == head.checkpoint
        verify_log(store, checkpoint, key.verifier.encode(), saved_checkpoint=saved)
        saved = checkpoint
    assert not (tmp_path / "copy/tile/0/000.p").exists()


async def test_a_copy_cut_off_anywhere_is_completed(
    database: Database, key: SigningKey, tmp_path: Path
) -> None:
    class Cut(FolderTiles):
        left = 0

        def write(self, path: str, content: bytes) -> None:
            if self.left == 0:
                raise UnavailableError("the second location is gone")
            self.left -= 1
            super().write(path, content)

    store = Cut(tmp_path / "copy")
    await leave(database, 10)
    await sequence(database, key)
    store.left = 100
    await publish(database, store)
    saved = (tmp_path / "copy" / "checkpoint").read_bytes()
    await leave(database, 600)
    head = await sequence(database, key)
    for left in range(9):
        store.left = left
        try:
            await publish(database, store)
        except UnavailableError:
            verify_log(store, saved, key.verifier.encode())
        else:
            break
    else:
        pytest.fail("never complete")
    verify_log(store, head.checkpoint, key.verifier.encode(), saved_checkpoint=saved)


async def set_back(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.change(sa.text("UPDATE log_entries SET sequence = NULL"))
        await tx.change(sa.text("DELETE FROM log_head"))
        await tx.change(sa.text("DELETE FROM log_tiles"))


@pytest.mark.parametrize("leaves_again", [3, 10, 40])
async def test_a_log_that_was_set_back_is_not_copied(
    database: Database, key: SigningKey, tmp_path: Path, leaves_again: int
) -> None:
    store = FolderTiles(tmp_path / "copy")
    await leave(database, 10)
    await sequence(database, key)
    await publish(database, store)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "copy").rglob("*"))
    await set_back(database)
    async with database.transaction() as tx:
        await tx.change(sa.text("DELETE FROM log_entries"))
    await leave(database, leaves_again, start=500)
    await open_log(database, tmp_path / "log.key", ORIGIN)
    await sequence(database, key)
    with pytest.raises(ConflictError, match="does not continue"):
        await publish(database, store)
    after = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "copy").rglob("*"))
    assert after == before


Damage = Callable[[db_log.HeadRow], str]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_head SET size = size + 1",
        "UPDATE log_head SET size = size - 1",
        "UPDATE log_head SET checkpoint = replace(checkpoint, 'test', 'tost')",
        "UPDATE log_head SET head = replace(head, 'AAAAAA', 'AAAAAB')",
        "UPDATE log_head SET head = 'é'",
        "UPDATE log_entries SET body = replace(body, 'done', 'gone')",
        "UPDATE log_entries SET sequence = sequence + 1 WHERE sequence = 4",
        "DELETE FROM log_entries WHERE sequence = 2",
    ],
)
async def test_a_changed_head_or_leaf_stops_the_log(
    database: Database, key: SigningKey, statement: str
) -> None:
    await leave(database, 5)
    await sequence(database, key)
    async with database.transaction() as tx:
        assert await tx.change(sa.text(statement)) > 0
    await leave(database, 1)
    with pytest.raises((VerificationError, InvalidInputError)):
        await sequence(database, key)
    async with database.read() as tx:
        assert len(await db_log.pending(tx, 10)) == 1


async def test_another_key_is_refused(database: Database, key: SigningKey, tmp_path: Path) -> None:
    other = SigningKey.generate(ORIGIN)
    await leave(database, 1)
    with pytest.raises(ConfigurationError, match="another key"):
        await sequence(database, other)
    (tmp_path / "log.key").write_text(other.encode())
    with pytest.raises(ConfigurationError, match="another key"):
        await open_log(database, tmp_path / "log.key", ORIGIN)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        await open_log(database, tmp_path / "lost.key", ORIGIN)
    assert not (tmp_path / "lost.key").exists(), "a key that is lost is not replaced silently"
    with pytest.raises(ConfigurationError, match="LOG_ORIGIN"):
        await open_log(database, tmp_path / "log.key", "another.example.com/log")


async def test_the_key_file_is_private(
    database: Database, key: SigningKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "log.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="by others") as refused:
        await open_log(database, file, ORIGIN)
    file.chmod(0o600)
    file.write_text(file.read_text()[:-5])
    with pytest.raises(ConfigurationError) as malformed:
        await open_log(database, file, ORIGIN)
    secret = base64.b64encode(b"\x01" + key.seed).decode()[:20]
    assert secret in key.encode()
    for error in (refused, malformed):
        assert secret not in str(error.value)
    assert [path.name for path in tmp_path.iterdir() if "log.key" in path.name] == ["log.key"]


async def test_two_signers_found_one_log(database: Database, tmp_path: Path) -> None:
    keys = await asyncio.gather(
        *(open_log(database, tmp_path / "log.key", ORIGIN) for _ in range(5))
    )
    assert len({key.seed for key in keys}) == 1
    results = await asyncio.gather(
        *(open_log(database, tmp_path / f"{n}" / "log.key", ORIGIN) for n in range(3)),
        return_exceptions=True,
    )
    assert all(isinstance(result, ConfigurationError) for result in results)


async def test_leaves_are_those_that_were_recorded(database: Database, key: SigningKey) -> None:
    await leave(database, 2)
    await sequence(database, key)
    content = await read_tile(database, "tile/entries/000.p/2")
    assert content
    stored = [entry.body.encode() for entry in await entries(database)]

    class One:
        def read(self, path: str) -> bytes | None:
            return content

    leaves = read_leaves(One(), Tile(-1, 0, 2))  # type: ignore[arg-type]
    assert [LeafEntry.parse(leaf).event.encode() for leaf in leaves] == stored
