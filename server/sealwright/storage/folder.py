"""Artifacts in a local folder (or a network file system that every host mounts).

    <root>/requests/acme/1f3c/input.artifact/<sha256>     an artifact: a folder with one file
    <root>/.incoming/<random>/content                     an upload in progress, its file locked

The artifact's hash is the file's name, so that name and content can be compared with ``sha256sum``
alone. rename(2) moves the finished folder to its place: it is atomic, and it refuses to replace a
folder that is not empty, which makes the first writer of a key win without a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sealwright.errors import InternalError, NotFoundError, UnavailableError
from sealwright.storage.store import (
    ARTIFACT_SUFFIX,
    CHUNK_SIZE,
    StoredArtifact,
    StreamWriter,
    check_key,
    check_prefix,
    check_range,
    explained,
    fetch_file,
    put_file,
    require_same,
    write_all,
)

T = TypeVar("T")

_INCOMING = ".incoming"
_GRACE_SECONDS = 60.0
"""An upload's file is locked within moments of its creation; younger ones are never swept."""

_LIST_BATCH = 1000
_SLICE = 8 * CHUNK_SIZE
_NOT_IN_KERNEL = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
"""Why copy_file_range(2) cannot copy between two file systems."""


class FolderStore:
    """An `ArtifactStore` in a folder of this machine.

    Opening it creates the folder and removes what earlier processes left unfinished.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._incoming = self._root / _INCOMING
        with explained("The artifact store could not be opened"):
            self._incoming.mkdir(mode=0o750, parents=True, exist_ok=True)
            _sweep(self._incoming)

    async def put(
        self,
        key: str,
        source: Path | BinaryIO,
        *,
        sha256: str | None = None,
        size: int,
        approval: asyncio.Future[Any] | None = None,
    ) -> StoredArtifact:
        return await put_file(self, key, source, sha256=sha256, size=size, approval=approval)

    async def put_stream(self, key: str, *, limit: int) -> StreamWriter:
        place = self._place(key)
        upload = await asyncio.to_thread(_Upload, self._incoming)
        return StreamWriter(_FolderSink(key, place, upload, self._root), limit=limit)

    async def open_range(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        artifact = await self.stat(key)
        start, stop = check_range(artifact, start, end)
        return _read(self._place(key) / artifact.sha256, key, start, stop)

    async def fetch(self, key: str, target: Path) -> str:
        async def copy(file: FileIO) -> str:
            artifact = await self.stat(key)
            return await _copy(self._place(key) / artifact.sha256, key, file)

        return await fetch_file(self, key, target, copy)

    async def stat(self, key: str) -> StoredArtifact:
        return await asyncio.to_thread(_stat, key, self._place(key))

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(_delete, self._place(key), self._root)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        keys = _walk(self._root, check_prefix(prefix))
        while batch := await asyncio.to_thread(lambda: list(islice(keys, _LIST_BATCH))):
            for key in batch:
                yield key

    async def health(self) -> None:
        await asyncio.to_thread(_probe, self._incoming)

    async def sweep(self) -> int:
        return await asyncio.to_thread(_sweep, self._incoming)

    def local_path(self, key: str) -> Path | None:
        place = self._place(key)
        try:
            return place / _stat(key, place).sha256
        except NotFoundError:
            return None

    def _place(self, key: str) -> Path:
        return self._root / (check_key(key) + ARTIFACT_SUFFIX)


class _Upload:
    """One unfinished upload: a folder with one locked file. Blocking; safe from any thread.

    The kernel drops the lock with the process that holds it, however that ends: an unlocked file is
    nobody's.
    """

    def __init__(self, incoming: Path) -> None:
        self._guard = threading.Lock()
        self.folder = incoming / secrets.token_hex(16)
        with explained("The artifact store cannot take an upload"):
            self.folder.mkdir(mode=0o750)
            self._file: FileIO | None = None
            try:
                self._file = FileIO(self.folder / "content", "xb", opener=_open_read_only)
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except OSError:
                self.discard()
                raise

    def append(self, block: bytes | bytearray) -> None:
        with self._guard, explained("The artifact store could not be written to"):
            write_all(self._require_file(), block)

    def flush(self) -> None:
        """Have the disk confirm what was written."""
        with self._guard, explained("The artifact store could not be written to"):
            os.fsync(self._require_file().fileno())

    def publish(self, place: Path, root: Path, sha256: str) -> None:
        """Move the upload to its place, with everything on disk before anything is visible."""
        with self._guard:
            os.fsync(self._require_file().fileno())
            (self.folder / "content").rename(self.folder / sha256)
            _sync_folder(self.folder)
            _move_into(self.folder, place, root)
            self._close()

    def discard(self) -> None:
        with self._guard:
            self._close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _require_file(self) -> FileIO:
        if self._file is None:
            message = "The upload was already published or discarded."
            raise InternalError(message)
        return self._file


def _open_read_only(path: str, flags: int) -> int:
    """Create with a mode that later opens cannot write through; this descriptor still can."""
    return os.open(path, flags, mode=0o440)


class _FolderSink:
    block_size = CHUNK_SIZE

    def __init__(self, key: str, place: Path, upload: _Upload, root: Path) -> None:
        self._key = key
        self._place = place
        self._upload = upload
        self._root = root

    async def append(self, block: bytes | bytearray) -> None:
        await asyncio.to_thread(self._upload.append, block)

    async def sync(self) -> None:
        await asyncio.to_thread(self._upload.flush)

    async def publish(self, sha256: str, size: int) -> StoredArtifact:
        return await asyncio.to_thread(self._publish, sha256, size)

    async def discard(self) -> None:
        await asyncio.to_thread(self._upload.discard)

    def _publish(self, sha256: str, size: int) -> StoredArtifact:
        with explained("The artifact store could not keep the artifact"):
            try:
                self._upload.publish(self._place, self._root, sha256)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
                self._upload.discard()
                return require_same(_stat(self._key, self._place), sha256, size)
        return StoredArtifact(self._key, size, sha256)


def _move_into(folder: Path, place: Path, root: Path) -> None:
    """Rename `folder` to `place`, making parents; a concurrent `_delete` may remove them again."""
    for attempt in range(10):
        _make_parents(place.parent, root)
        try:
            folder.rename(place)
        except FileNotFoundError:
            if attempt == 9 or not folder.exists():
                raise
        else:
            _sync_folder(place.parent)
            return


def _make_parents(folder: Path, root: Path) -> None:
    if folder == root or folder.is_dir():
        return
    _make_parents(folder.parent, root)
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        folder.mkdir(mode=0o750)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stat(key: str, place: Path) -> StoredArtifact:
    with explained("The artifact store could not be read"):
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    return StoredArtifact(key, entry.stat().st_size, entry.name)
        except FileNotFoundError:
            pass
    message = "The artifact store holds nothing under this key."
    raise NotFoundError(message, where=key)


def _delete(place: Path, root: Path) -> None:
    with explained("The artifact store could not delete an artifact"):
        try:
            for name in os.listdir(place):  # noqa: PTH208
                (place / name).unlink(missing_ok=True)
        except FileNotFoundError:
            return
        _sync_folder(place)
        folder = place
        # Stops at the first folder that is in use, which includes one filled this instant.
        with contextlib.suppress(OSError):
            while folder != root:
                folder.rmdir()
                folder = folder.parent


def _walk(root: Path, prefix: str) -> Iterator[str]:
    start = root / prefix.rpartition("/")[0]
    for folder, names, files in os.walk(start):
        if Path(folder) == root:
            names[:] = [name for name in names if name != _INCOMING]
        if folder.endswith(ARTIFACT_SUFFIX) and files:
            key = Path(folder).relative_to(root).as_posix().removesuffix(ARTIFACT_SUFFIX)
            if key.startswith(prefix):
                yield key


async def _open(path: Path, key: str) -> FileIO:
    try:
        return await asyncio.to_thread(FileIO, path)
    except FileNotFoundError as error:
        message = "The artifact was deleted while it was read."
        raise NotFoundError(message, where=key) from error


async def _copy(path: Path, key: str, target: FileIO) -> str:
    """Copy an artifact to the empty `target`; the SHA-256 of the copy."""
    digest = hashlib.sha256()
    with await _open(path, key) as source, explained("The artifact could not be copied"):
        hashed, copied = 0, await _in_thread(_copy_slice, source, target, 0)
        while copied > hashed:
            # a slice is hashed while the next one is copied; both end, also if one fails
            hashing = asyncio.create_task(_in_thread(_hash_slice, target, hashed, copied, digest))
            try:
                end = copied + await _in_thread(_copy_slice, source, target, copied)
            finally:
                await asyncio.wait({hashing})
            hashing.result()
            hashed, copied = copied, end
    return digest.hexdigest()


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run `work` to its end, even if the caller is canceled: its files are not closed under its
    hands."""
    running = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    finally:
        await asyncio.wait({running})


def _copy_slice(source: FileIO, target: FileIO, start: int) -> int:
    """Copy the slice that begins at `start`, where `target` ends, by way of the kernel where it
    can; how many bytes that are, 0 at the end of `source`."""
    try:
        return os.copy_file_range(source.fileno(), target.fileno(), _SLICE, start, start)
    except OSError as error:
        if error.errno not in _NOT_IN_KERNEL:
            raise
        data = os.pread(source.fileno(), CHUNK_SIZE, start)
        target.seek(start)
        write_all(target, data)
        return len(data)


def _hash_slice(file: FileIO, start: int, end: int, digest: hashlib._Hash) -> None:
    for at in range(start, end, CHUNK_SIZE):
        digest.update(os.pread(file.fileno(), min(CHUNK_SIZE, end - at), at))


async def _read(path: Path, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
    with await _open(path, key) as file:
        while start < stop:
            size = min(CHUNK_SIZE, stop - start)
            with explained("The artifact store could not be read"):
                chunk = await asyncio.to_thread(os.pread, file.fileno(), size, start)
            if not chunk:
                message = "The stored artifact is shorter than it was."
                raise UnavailableError(message, advice="Restore it from a backup.", where=key)
            start += len(chunk)
            yield chunk


def _probe(incoming: Path) -> None:
    upload = _Upload(incoming)
    try:
        upload.append(b"\0" * 4096)
        upload.flush()
    finally:
        upload.discard()


def _sweep(incoming: Path) -> int:
    return sum(_sweep_one(folder) for folder in incoming.iterdir())


def _sweep_one(folder: Path) -> bool:
    """Remove one upload's folder if nobody holds its lock and it is not just being made."""
    try:
        if time.time() - folder.stat().st_mtime < _GRACE_SECONDS:
            return False
        if any(_is_locked(file) for file in folder.iterdir()):
            return False
    except OSError:
        return False  # published or discarded this instant, or nothing of ours
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _is_locked(file: Path) -> bool:
    with file.open("rb") as opened:
        try:
            # A shared lock needs no more than a descriptor for reading, on NFS as well.
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
