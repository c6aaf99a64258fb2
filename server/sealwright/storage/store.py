"""What every artifact store promises, and the streaming writer that the stores share.

An artifact is a sequence of bytes under a key that its caller chose, such as
``requests/acme/1f3c/input``. It appears whole or not at all, never changes afterwards, and is known
by its SHA-256. All methods are safe to call from many tasks and from many processes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from sealwright.errors import (
    ConflictError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)

CHUNK_SIZE = 1024 * 1024
"""Bytes that readers are handed at a time."""

ARTIFACT_SUFFIX = ".artifact"
"""Ends the name of the place that holds one artifact, in folders and buckets. No key ends so."""

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,15}}")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/){{0,15}}(?:{_SEGMENT})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredArtifact:
    """One artifact as the store knows it.

    Attributes:
        key: the caller's name for it.
        size: bytes.
        sha256: lower-case hexadecimal.
    """

    key: str
    size: int
    sha256: str


class ArtifactWriter(Protocol):
    """An upload in progress. Exactly one of `commit` and `abort` ends it."""

    async def write(self, data: bytes | memoryview) -> None:
        """Append `data`; it may be reused by the caller once this returns.

        Raises:
            TooLargeError: more bytes than the limit given to `put_stream`.
            UnavailableError: the store cannot take more (full, away).
        """
        ...

    async def sync(self) -> None:
        """Everything has been written: have it stored, so that `commit` takes less time.

        Raises:
            UnavailableError: the store cannot take more (full, away).
        """
        ...

    async def commit(self, *, sha256: str | None = None, size: int | None = None) -> StoredArtifact:
        """Make everything written visible under the key, durably, in one step.

        Args:
            sha256: what the content is expected to hash to; None accepts any.
            size: the expected number of bytes; None accepts any.

        Raises:
            VerificationError: the content is not the expected one; nothing became visible.
            ConflictError: the key already holds different content.
            UnavailableError: the store did not confirm; a repetition is harmless.
        """
        ...

    async def abort(self) -> None:
        """Forget everything written. Never raises; does nothing after `commit` or `abort`."""
        ...


class ArtifactStore(Protocol):
    """Immutable bytes under keys. Every method may raise `UnavailableError`.

    A key is 1 to 16 segments joined by ``/``, each 1 to 128 of ``A-Z a-z 0-9 . _ -``, not beginning
    with a dot; anything else raises `InvalidInputError`.
    """

    async def put(
        self,
        key: str,
        source: Path | BinaryIO,
        *,
        sha256: str | None = None,
        size: int,
        approval: asyncio.Future[Any] | None = None,
    ) -> StoredArtifact:
        """Store a copy of the file `source`, which must have this SHA-256 and size.

        The same content under the same key again is accepted and changes nothing.

        Args:
            source: a path, or an open file, which is read from its start and stays open.
            sha256: None accepts any.
            approval: the copy is made meanwhile, but becomes visible only once this is done; what
                it raises is raised here, and nothing becomes visible.

        Raises:
            VerificationError: `source` does not have this hash or size.
            ConflictError: the key already holds different content.
        """
        ...

    async def put_stream(self, key: str, *, limit: int) -> ArtifactWriter:
        """Begin to store bytes as they arrive, at most `limit` of them."""
        ...

    async def open_range(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Read bytes `start` up to, not including, `end` (None: the end of the artifact).

        Raises:
            NotFoundError: no such artifact; raised before the first chunk is asked for.
            InvalidInputError: not ``0 <= start <= end <= size``.
        """
        ...

    async def fetch(self, key: str, target: Path) -> str:
        """Copy the artifact to the new file `target` and give the SHA-256 of what was written.

        Raises:
            NotFoundError: no such artifact.
            VerificationError: the bytes are not those that were stored; `target` is removed.
        """
        ...

    async def stat(self, key: str) -> StoredArtifact:
        """Size and hash as they were stored, without reading the content.

        Raises:
            NotFoundError: no such artifact.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove the artifact. A missing one is no error."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix`, in no particular order."""
        ...

    async def health(self) -> None:
        """Return if the store can be reached and written to.

        Raises:
            UnavailableError: it cannot; the message says why.
        """
        ...

    async def sweep(self) -> int:
        """Remove what processes that died in the middle of an upload left; give how many.

        Uploads in progress, in this or another process, are not touched.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """The artifact as a read-only file of this machine, None where there is none.

        For ``sendfile`` and hard links. The content is not verified, and must not be modified
        through the path.
        """
        ...


class Sink(Protocol):
    """The part of a writer that differs between stores. Calls never overlap."""

    block_size: int  #: bytes of every block but the last

    async def append(self, block: bytes | bytearray) -> None:
        """Add a block. The last one is shorter; an empty artifact has none."""
        ...

    async def sync(self) -> None:
        """After the last block: do of `publish` what can be done before."""
        ...

    async def publish(self, sha256: str, size: int) -> StoredArtifact:
        """Make the whole visible in one step."""
        ...

    async def discard(self) -> None:
        """Remove every trace. May find that there is nothing to remove."""
        ...


class StreamWriter:
    """An `ArtifactWriter` that cuts the stream into blocks, hashes them and bounds their sum.

    One block is hashed and stored in threads while the next one arrives, so that memory stays at
    two blocks whatever the size of the upload.
    """

    def __init__(self, sink: Sink, *, limit: int) -> None:
        self._sink = sink
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._in_flight: asyncio.Task[None] | None = None
        self._open = True

    async def write(self, data: bytes | memoryview) -> None:
        self._require_open()
        self._size += len(data)
        if self._size > self._limit:
            message = f"The upload is larger than the {self._limit} bytes allowed."
            raise TooLargeError(message, advice="Sign a smaller artifact or have the limit raised.")
        view = memoryview(data)
        while view:
            room = self._sink.block_size - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == self._sink.block_size:
                await self._flush()

    async def sync(self) -> None:
        self._require_open()
        if self._buffer:
            await self._flush()
        await self._settle()
        await self._sink.sync()

    async def commit(self, *, sha256: str | None = None, size: int | None = None) -> StoredArtifact:
        self._require_open()
        if self._buffer:
            await self._flush()
        await self._settle()
        actual = self._digest.hexdigest()
        check_content(actual, self._size, sha256=sha256, size=size)
        stored = await self._sink.publish(actual, self._size)
        self._open = False
        return stored

    async def abort(self) -> None:
        if not self._open:
            return
        self._open = False
        # A thread cannot be interrupted: wait for the block it is storing before it is removed.
        if self._in_flight is not None:
            await asyncio.wait({self._in_flight})
            if not self._in_flight.cancelled():
                self._in_flight.exception()  # seen: nobody else will ask for it
        await self._sink.discard()

    async def _flush(self) -> None:
        await self._settle()
        block, self._buffer = self._buffer, bytearray()
        self._in_flight = asyncio.create_task(self._store(block))

    async def _settle(self) -> None:
        if self._in_flight is not None:
            # asyncio.wait, unlike awaiting the task, leaves it running if this task is cancelled.
            await asyncio.wait({self._in_flight})
            self._in_flight.result()

    async def _store(self, block: bytearray) -> None:
        await asyncio.gather(
            asyncio.to_thread(self._digest.update, block), self._sink.append(block)
        )

    def _require_open(self) -> None:
        if not self._open:
            message = "The artifact writer was already committed or aborted."
            raise InternalError(message)


def check_key(key: str) -> str:
    """Give `key` back if it is well-formed.

    Raises:
        InvalidInputError: it is not.
    """
    segments_end_well = not any(part.endswith(ARTIFACT_SUFFIX) for part in key.split("/"))
    if _KEY.fullmatch(key) and segments_end_well:
        return key
    message = f"{key[:200]!r} is not a key of the artifact store."
    raise InvalidInputError(message)


def check_prefix(prefix: str) -> str:
    """Give `prefix` back if a well-formed key can begin with it; else raise InvalidInputError."""
    if _PREFIX.fullmatch(prefix):
        return prefix
    message = f"{prefix[:200]!r} is not the beginning of a key of the artifact store."
    raise InvalidInputError(message)


def check_sha256(value: str) -> str:
    """Give the digest in lower case; raise InvalidInputError if it is not 64 hexadecimal digits."""
    lowered = value.lower()
    if _SHA256.fullmatch(lowered):
        return lowered
    message = f"{value[:80]!r} is not a SHA-256 digest."
    raise InvalidInputError(message, advice="Give 64 hexadecimal digits.")


def check_content(
    actual_sha256: str, actual_size: int, *, sha256: str | None, size: int | None
) -> None:
    """Raise VerificationError unless the content is the expected one. None expects nothing."""
    if size is not None and actual_size != size:
        message = f"The artifact has {actual_size} bytes, not the {size} announced."
        raise VerificationError(message, advice="Send the file again; it was cut or changed.")
    if sha256 is not None and actual_sha256 != check_sha256(sha256):
        message = f"The artifact's SHA-256 is {actual_sha256}, not {sha256.lower()}."
        raise VerificationError(message, advice="Send the file again; it was damaged or replaced.")


def check_range(artifact: StoredArtifact, start: int, end: int | None) -> tuple[int, int]:
    """Give `start` and `end` in bytes; raise InvalidInputError if they are outside the artifact."""
    stop = artifact.size if end is None else end
    if 0 <= start <= stop <= artifact.size:
        return start, stop
    message = f"Bytes {start} to {stop} are outside the artifact of {artifact.size} bytes."
    raise InvalidInputError(message, where=artifact.key)


def require_same(existing: StoredArtifact, sha256: str, size: int) -> StoredArtifact:
    """Give `existing` back if it has this content.

    Raises:
        ConflictError: it has other content, which is never overwritten.
    """
    if (existing.sha256, existing.size) == (sha256, size):
        return existing
    message = "The artifact store already holds different content under this key."
    raise ConflictError(message, advice="Use a new signing request.", where=existing.key)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of the operating system into `UnavailableError` with advice."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        advice = (
            "Free space on its file system or enlarge it, then try again."
            if full
            else "Check the folder, its permissions and its disk, then try again."
        )
        message = f"{what}: {os.strerror(error.errno or errno.EIO)}."
        raise UnavailableError(message, advice=advice) from error


async def put_file(
    store: ArtifactStore,
    key: str,
    source: Path | BinaryIO,
    *,
    sha256: str | None,
    size: int,
    approval: asyncio.Future[Any] | None = None,
) -> StoredArtifact:
    """`ArtifactStore.put` by way of `stat` and `put_stream`."""
    if sha256 is not None:
        with contextlib.suppress(NotFoundError):
            return require_same(await store.stat(key), sha256, size)
    writer = await store.put_stream(key, limit=size)
    try:
        async with _opened(source) as file:
            while chunk := await _next_chunk(file):
                await writer.write(chunk)
        if approval is not None:
            await writer.sync()
            await asyncio.wait({approval})
            approval.result()
        return await writer.commit(sha256=sha256, size=size)
    except TooLargeError as error:
        message = f"{source.name} has more bytes than the {size} announced."
        advice = "It was written while it was stored: sign again, and report it if it recurs."
        raise VerificationError(message, where=key, advice=advice) from error
    finally:
        await asyncio.shield(writer.abort())


async def fetch_file(
    store: ArtifactStore,
    key: str,
    target: Path,
    copy: Callable[[FileIO], Awaitable[str]] | None = None,
) -> str:
    """`ArtifactStore.fetch` by way of `stat` and `copy`, or else of `open_range`.

    Args:
        copy: writes the content to the empty file and gives the SHA-256 of what is there then.
    """
    expected = await store.stat(key)
    copy = copy or partial(_copy, await store.open_range(key))
    with explained(f"{target.name} could not be created"):
        file = await asyncio.to_thread(FileIO, target, "x+")
    try:
        with file:
            actual = await copy(file)
        if actual != expected.sha256:
            message = "The stored artifact is damaged: its SHA-256 is no longer the recorded one."
            raise VerificationError(message, advice="Restore it from a backup.", where=key)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(target.unlink, missing_ok=True))
        raise
    return actual


@contextlib.asynccontextmanager
async def _opened(source: Path | BinaryIO) -> AsyncIterator[RawIOBase | BinaryIO]:
    if isinstance(source, Path):
        with explained(f"{source.name} could not be read"):
            file = await asyncio.to_thread(source.open, "rb", buffering=0)
        with file:
            yield file
    else:
        await asyncio.to_thread(source.seek, 0)
        yield source


async def _next_chunk(file: RawIOBase | BinaryIO) -> bytes:
    with explained("The file could not be read"):
        return await asyncio.to_thread(file.read, CHUNK_SIZE) or b""


async def _copy(chunks: AsyncIterator[bytes], file: RawIOBase) -> str:
    digest = hashlib.sha256()
    async for chunk in chunks:
        with explained("The artifact could not be copied"):
            await asyncio.gather(
                asyncio.to_thread(digest.update, chunk), asyncio.to_thread(write_all, file, chunk)
            )
    return digest.hexdigest()


def write_all(file: RawIOBase, data: bytes | bytearray) -> None:
    """Write every byte: an unbuffered file may take fewer than it is given."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]
