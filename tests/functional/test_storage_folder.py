"""The folder store where the disk is full, damaged, or shared by many processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwright.errors import (
    ConfigurationError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from sealwright.storage import ArtifactStore, StoredArtifact, open_store
from sealwright.storage.folder import _Upload

MIB = 1024 * 1024
KEY = "requests/acme/1/input"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB and a few dozen files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    become_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = f"size=8m,nr_inodes=40,mode=0700,uid={os.geteuid()}"
    mount = [*become_root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        problem = done.stderr if done.returncode else ""
    except FileNotFoundError as error:
        problem = str(error)
    if problem:
        reason = f"a small file system cannot be mounted: {problem}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield folder
    subprocess.run([*become_root, "umount", str(folder)], check=True)


async def stream(store: ArtifactStore, key: str, data: bytes) -> StoredArtifact:
    writer = await store.put_stream(key, limit=len(data))
    try:
        await writer.write(data)
        return await writer.commit()
    finally:
        await writer.abort()


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_a_full_disk_shows_nothing_partial(small_disk: Path, tmp_path: Path) -> None:
    store = open_store(small_disk.as_uri())
    kept = await stream(store, "kept", bytes(3 * MIB))
    with pytest.raises(UnavailableError, match="No space left") as caught:
        await stream(store, KEY, bytes(9 * MIB + 300_000))
    assert "Free space" in caught.value.advice
    source = tmp_path / "source"
    source.write_bytes(bytes(6 * MIB))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(UnavailableError, match="No space left"):
        await store.put(KEY, source, sha256=digest, size=6 * MIB)
    assert [key async for key in store.list()] == ["kept"]
    assert files_in(small_disk) == [kept.sha256]
    await store.delete("kept")
    assert (await store.put(KEY, source, sha256=digest, size=6 * MIB)).sha256 == digest


async def test_the_disk_has_what_waits_for_approval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the last step, which somebody waits for, need not write it."""
    synced = asyncio.Event()
    loop = asyncio.get_running_loop()
    flush = _Upload.flush

    def told(upload: _Upload) -> None:
        flush(upload)
        loop.call_soon_threadsafe(synced.set)

    monkeypatch.setattr(_Upload, "flush", told)
    store = open_store((tmp_path / "store").as_uri())
    source = tmp_path / "source"
    source.write_bytes(bytes(5 * MIB))
    approval: asyncio.Future[None] = loop.create_future()
    putting = asyncio.create_task(store.put(KEY, source, size=5 * MIB, approval=approval))
    async with asyncio.timeout(30):
        await synced.wait()
    assert [key async for key in store.list()] == []
    approval.set_result(None)
    assert (await putting).size == 5 * MIB


async def test_a_disk_without_free_inodes(small_disk: Path) -> None:
    store = open_store(small_disk.as_uri())
    stored: list[str] = []

    async def fill() -> None:
        for i in range(100):
            artifact = await stream(store, f"deep/{i}/er/input", b"x")
            stored.append(artifact.key)

    with pytest.raises(UnavailableError, match="No space left"):
        await fill()
    with contextlib.suppress(OSError):
        for i in range(40):
            (small_disk / f"filler{i}").touch()
    with pytest.raises(UnavailableError, match="No space left"):
        await store.health()
    visible = [key async for key in store.list()]
    assert sorted(visible) == sorted(stored)
    assert len(stored) > 3
    assert all([(await store.stat(key)).size == 1 for key in visible])
    assert list((small_disk / ".incoming").iterdir()) == []


async def test_a_full_disk_fails_a_fetch(small_disk: Path, tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    await stream(store, KEY, bytes(9 * MIB))
    with pytest.raises(UnavailableError, match="No space left"):
        await store.fetch(KEY, small_disk / "copy")
    assert files_in(small_disk) == []


async def test_a_fetch_to_another_file_system(small_disk: Path, tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    content = os.urandom(2 * MIB + 5)
    stored = await stream(store, KEY, content)
    assert await store.fetch(KEY, small_disk / "copy") == stored.sha256
    assert (small_disk / "copy").read_bytes() == content


async def test_a_read_only_disk(small_disk: Path) -> None:
    store = open_store(small_disk.as_uri())
    await store.health()
    become_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    remount = [*become_root, "mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    for call in (store.health(), stream(store, KEY, b"x")):
        with pytest.raises(UnavailableError, match="Read-only"):
            await call


async def test_damage_is_found_when_fetched(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    await stream(store, KEY, bytes(2 * MIB))
    path = store.local_path(KEY)
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(bytes(MIB) + b"\1" + bytes(MIB - 1))
    with pytest.raises(VerificationError, match="damaged"):
        await store.fetch(KEY, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_truncation_and_deletion_while_reading(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    await stream(store, KEY, bytes(3 * MIB))
    path = store.local_path(KEY)
    assert path is not None
    path.chmod(0o600)
    reader = aiter(await store.open_range(KEY))
    await anext(reader)
    os.truncate(path, 2 * MIB)
    await anext(reader)
    with pytest.raises(UnavailableError, match="shorter"):
        await anext(reader)
    late = aiter(await store.open_range(KEY))
    await store.delete(KEY)
    with pytest.raises(NotFoundError):
        await anext(late)


async def test_the_content_can_be_checked_with_sha256sum(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    await stream(store, KEY, b"abc")
    (path,) = (tmp_path / "requests/acme/1/input.artifact").iterdir()
    tool = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    assert tool.stdout.split()[0] == path.name


async def test_delete_and_store_race_on_one_folder(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())

    async def churn(name: str) -> None:
        for _ in range(40):
            await stream(store, f"requests/acme/{name}", name.encode())
            await store.delete(f"requests/acme/{name}")

    await asyncio.gather(*(churn(f"r{i}") for i in range(6)))
    assert [path.name for path in tmp_path.iterdir()] == [".incoming"]
    assert list((tmp_path / ".incoming").iterdir()) == []


async def test_unlocked_uploads_are_swept_once_they_are_old(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    stale = tmp_path / ".incoming" / "stale"
    stale.mkdir()
    (stale / "content").write_bytes(b"x")
    (tmp_path / ".incoming" / "not an upload").touch()
    os.utime(tmp_path / ".incoming" / "not an upload", (0, 0))
    assert await store.sweep() == 0
    two_minutes_ago = time.time() - 120
    os.utime(stale, (two_minutes_ago, two_minutes_ago))
    assert await store.sweep() == 1
    assert not stale.exists()


@pytest.mark.parametrize(
    "url",
    ["", "folder", "/var/lib", "http://x/y", "file:", "file:///", "file://host/x", "s3://",
     "s3:///prefix", "s3://bucket/a?endpoint=", "s3://bucket/a?endpoint=host:9000",
     "s3://bucket/a?secret=x", "s3://key:secret@bucket/a", "s3://bucket/../x",
     "s3://bucket/a?endpoint=https://key:secret@host", "s3://bucket#x"],
)  # fmt: skip
def test_addresses_that_name_no_store(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "secret@" not in str(caught.value)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="could not be opened"):
        open_store((tmp_path / "file" / "store").as_uri())
