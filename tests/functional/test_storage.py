"""What every artifact store promises, against the folder and against a real S3 service."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.s3 import new_bucket, s3_server

from sealwright.errors import (
    ConflictError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)
from sealwright.storage import ArtifactStore, StoredArtifact, open_store

MIB = 1024 * 1024
KEY = "requests/acme/42/input"
# Empty, tiny, around one block of the folder, around one part of S3, several parts.
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 8 * MIB, 8 * MIB + 1, 17 * MIB + 13]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return open_store((tmp_path / "store").as_uri())
    endpoint = request.getfixturevalue("endpoint")
    return open_store(f"s3://{new_bucket(endpoint)}/some/prefix?endpoint={endpoint}")


def content(size: int) -> bytes:
    return (hashlib.sha256(str(size).encode()).digest() * (size // 32 + 1))[:size]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stream(store: ArtifactStore, key: str, data: bytes, step: int = 65536) -> StoredArtifact:
    writer = await store.put_stream(key, limit=len(data))
    for start in range(0, len(data), step):
        await writer.write(memoryview(data)[start : start + step])
    return await writer.commit()


async def read(store: ArtifactStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in await store.open_range(key, start, end)])


async def keys(store: ArtifactStore, prefix: str = "") -> set[str]:
    return {key async for key in store.list(prefix)}


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_streamed_in_comes_out(
    store: ArtifactStore, size: int, tmp_path: Path
) -> None:
    data = content(size)
    stored = await stream(store, KEY, data)
    assert stored == StoredArtifact(KEY, size, sha256(data))
    assert await store.stat(KEY) == stored
    assert await read(store, KEY) == data
    target = tmp_path / "copy"
    assert await store.fetch(KEY, target) == stored.sha256
    assert target.read_bytes() == data


async def test_a_file_is_put_and_put_again(store: ArtifactStore, tmp_path: Path) -> None:
    data = content(3 * MIB)
    source = tmp_path / "source"
    source.write_bytes(data)
    first = await store.put(KEY, source, sha256=sha256(data), size=len(data))
    assert await store.put(KEY, source, sha256=sha256(data), size=len(data)) == first
    assert await stream(store, KEY, data) == first
    assert await keys(store) == {KEY}


async def test_an_open_file_is_put_whatever_it_holds(store: ArtifactStore, tmp_path: Path) -> None:
    """From its start, and whatever its path leads to by then."""
    data = content(3 * MIB)
    source = tmp_path / "source"
    source.write_bytes(data)
    with source.open("rb") as file:
        source.unlink()
        source.write_bytes(b"other")
        file.read(100)
        put = await store.put(KEY, file, size=len(data))
        assert put == StoredArtifact(KEY, len(data), sha256(data))
        with pytest.raises(ConflictError):
            await store.put(KEY, source, size=5)
        with pytest.raises(VerificationError, match="more bytes than"):
            await store.put(f"{KEY}/2", file, size=5)
        with pytest.raises(VerificationError):
            await store.put(f"{KEY}/2", file, size=len(data) + 1)
    assert await read(store, KEY) == data
    assert await keys(store) == {KEY}


async def test_a_file_is_visible_only_once_it_is_approved(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "signed"
    source.write_bytes(b"signed" * 1000)
    digest = hashlib.sha256(b"signed" * 1000).hexdigest()
    loop = asyncio.get_running_loop()
    # it may be smaller than a block
    writer = await store.put_stream("a/c", limit=6000)
    await writer.write(source.read_bytes())
    await writer.sync()
    assert (await writer.commit(sha256=digest, size=6000)).size == 6000
    await store.delete("a/c")

    async def put(approval: asyncio.Future[None]) -> StoredArtifact:
        return await store.put("a/b", source, sha256=digest, size=6000, approval=approval)

    refused: asyncio.Future[None] = loop.create_future()
    putting = asyncio.create_task(put(refused))
    done, _ = await asyncio.wait({putting}, timeout=0.3)
    assert not done
    assert [key async for key in store.list()] == []
    refused.set_exception(VerificationError("Not as planned."))
    with pytest.raises(VerificationError, match="Not as planned"):
        await putting
    assert [key async for key in store.list()] == []
    agreed: asyncio.Future[None] = loop.create_future()
    agreed.set_result(None)
    assert (await put(agreed)).size == 6000
    assert [key async for key in store.list()] == ["a/b"]


async def test_other_content_never_replaces_an_artifact(
    store: ArtifactStore, tmp_path: Path
) -> None:
    await stream(store, KEY, b"first")
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with pytest.raises(ConflictError):
        await store.put(KEY, other, sha256=sha256(b"other"), size=5)
    with pytest.raises(ConflictError):
        await stream(store, KEY, b"other")
    assert await read(store, KEY) == b"first"


async def test_of_many_writers_of_one_key_one_wins(store: ArtifactStore) -> None:
    contents = [bytes([65 + i]) * 1000 for i in range(8)]
    results = await asyncio.gather(
        *(stream(store, KEY, data) for data in contents), return_exceptions=True
    )
    winners = [result for result in results if isinstance(result, StoredArtifact)]
    assert len(winners) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 7
    assert sha256(await read(store, KEY)) == winners[0].sha256


async def test_of_many_writers_of_the_same_content_all_succeed(store: ArtifactStore) -> None:
    results = await asyncio.gather(*(stream(store, KEY, b"same" * 1000) for _ in range(8)))
    assert len(set(results)) == 1


async def test_the_announced_hash_and_size_are_checked(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    for digest, size in [(sha256(b"x"), 3), (sha256(b"abc"), 2), (sha256(b"abc"), 4)]:
        with pytest.raises(VerificationError):
            await store.put(KEY, source, sha256=digest, size=size)
        writer = await store.put_stream(KEY, limit=10)
        await writer.write(b"abc")
        with pytest.raises(VerificationError):
            await writer.commit(sha256=digest, size=size)
        await writer.abort()
    assert await keys(store) == set()


async def test_a_missing_source_is_explained(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="gone"):
        await store.put(KEY, tmp_path / "gone", sha256=sha256(b""), size=0)


async def test_nothing_is_visible_before_commit_and_after_abort(store: ArtifactStore) -> None:
    writer = await store.put_stream(KEY, limit=20 * MIB)
    await writer.write(content(17 * MIB))
    assert await keys(store) == set()
    await writer.sync()
    assert await keys(store) == set()
    with pytest.raises(NotFoundError):
        await store.stat(KEY)
    await writer.abort()
    await writer.abort()
    assert await keys(store) == set()
    with pytest.raises(InternalError):
        await writer.write(b"more")


async def test_the_limit_holds(store: ArtifactStore) -> None:
    writer = await store.put_stream(KEY, limit=1000)
    await writer.write(bytes(1000))
    with pytest.raises(TooLargeError, match="1000"):
        await writer.write(b"x")
    await writer.abort()
    assert await keys(store) == set()


async def test_a_cancelled_upload_leaves_nothing(store: ArtifactStore) -> None:
    async def upload() -> None:
        writer = await store.put_stream(KEY, limit=1024 * MIB)
        try:
            while True:
                await writer.write(bytes(MIB))
        finally:
            await writer.abort()

    task = asyncio.create_task(upload())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(store) == set()


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0), (0, 1), (5, None), (MIB - 1, MIB + 1), (2 * MIB, None), (7, 7)]
)
async def test_ranges(store: ArtifactStore, start: int, end: int | None) -> None:
    data = content(2 * MIB)
    await stream(store, KEY, data)
    assert await read(store, KEY, start, end) == data[start:end]


@pytest.mark.parametrize(("start", "end"), [(-1, None), (0, 4), (3, 2), (4, None)])
async def test_ranges_outside_are_refused(
    store: ArtifactStore, start: int, end: int | None
) -> None:
    await stream(store, KEY, b"abc")
    with pytest.raises(InvalidInputError):
        await store.open_range(KEY, start, end)


async def test_delete_is_final_and_idempotent(store: ArtifactStore) -> None:
    await stream(store, KEY, b"abc")
    await stream(store, KEY + "2", b"abc")
    await store.delete(KEY)
    await store.delete(KEY)
    assert await keys(store) == {KEY + "2"}
    with pytest.raises(NotFoundError):
        await store.open_range(KEY)
    await stream(store, KEY, b"other content is fine now")
    assert await keys(store) == {KEY, KEY + "2"}


async def test_a_failed_fetch_leaves_no_file_and_spares_others(
    store: ArtifactStore, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        await store.fetch(KEY, tmp_path / "copy")
    await stream(store, KEY, b"abc")
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(UnavailableError):
        await store.fetch(KEY, tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["mine"]
    assert (tmp_path / "mine").read_bytes() == b"mine"


async def test_list_by_prefix(store: ArtifactStore) -> None:
    everything = {"a/b/1", "a/b/10", "a/c/1", "a/b", "b", "a-b"}
    for key in everything:
        await stream(store, key, key.encode())
    for prefix in ["", "a", "a/", "a/b", "a/b/", "a/b/1", "a/b/2", "c", "a/b/1/"]:
        assert await keys(store, prefix) == {key for key in everything if key.startswith(prefix)}
    assert await read(store, "a/b") == b"a/b"
    await store.delete("a/b")
    assert await keys(store) == everything - {"a/b"}


@pytest.mark.parametrize(
    "key",
    ["", "/", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/.hidden", ".incoming/x", "a\\b", "a b",
     "a\0", "ä", "a/b.artifact", "a" * 129, "/".join("a" * 17), "a\n", "-/" * 3],
)  # fmt: skip
async def test_keys_that_are_none(store: ArtifactStore, key: str) -> None:
    for call in (store.stat, store.delete, store.open_range):
        with pytest.raises(InvalidInputError):
            await call(key)
    with pytest.raises(InvalidInputError):
        await store.put_stream(key, limit=1)
    with pytest.raises(InvalidInputError):
        store.local_path(key)


async def test_health_and_sweep_of_a_sound_store(store: ArtifactStore) -> None:
    await stream(store, KEY, b"abc")
    writer = await store.put_stream(KEY + "2", limit=10)
    await writer.write(b"abc")
    await store.health()
    assert await store.sweep() == 0
    await writer.commit()
    assert await keys(store) == {KEY, KEY + "2"}


async def test_local_paths_can_be_linked(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    assert store.local_path(KEY) is None
    await stream(store, KEY, b"abc")
    path = store.local_path(KEY)
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o440
    os.link(path, tmp_path / "linked")
    await store.delete(KEY)
    assert (tmp_path / "linked").read_bytes() == b"abc"
