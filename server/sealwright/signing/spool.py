"""Temporary files of one request, counted against a limit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from sealwright.errors import ArtifactError
from sealwright.signing.artifact import Container, Entry

if TYPE_CHECKING:
    from typing_extensions import Buffer

Key = TypeVar("Key", int, str)


_SMALL = 16 << 20  # bytes up to which a file stays in memory
_MEMORY = 96 << 20  # bytes of all files in memory
KEPT = 1 << 30  #: bytes of planned files that are kept until they are signed


@dataclass
class SpoolFile:
    """A file in the spool.

    Attributes:
        content: where it lies, or what it holds if it is small.
        size: bytes.
        users: how many hold it; it is deleted when the last one releases it.
    """

    content: Path | bytes
    size: int
    users: int = 1

    def open(self) -> BinaryIO:
        """Open for reading; the caller closes."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        return self.content.open("rb")


class _InMemory(io.BytesIO):
    """A small file that is being written. What it holds counts from its first byte on: many wait
    for a signature before anything is written to them.

    Args:
        count: told of each byte more.
    """

    def __init__(self, count: Callable[[int], None]) -> None:
        super().__init__()
        self._count = count
        self.counted = 0

    def write(self, data: Buffer, /) -> int:
        """See `io.BytesIO`."""
        written = super().write(data)
        grown = self.tell() - self.counted
        if grown > 0:
            self.counted += grown
            self._count(grown)
        return written

    def writelines(self, lines: Iterable[Buffer], /) -> None:
        """See `io.BytesIO`."""
        for each in lines:
            self.write(each)


class Spool:
    """Makes and counts temporary files. Small ones stay in memory: there can be many thousands.

    Args:
        folder: exists, belongs to this request alone.
        limit: most bytes that may lie in it at a time.

    Attributes:
        used: bytes of all files, in memory or not; of those that are being written on the disk,
            what is expected of them.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.used = 0
        self._in_memory = 0
        self._expected: dict[str, int] = {}  # of files on the disk that are being written
        self._number = 0

    def create(self, fill: Callable[[BinaryIO], object], expected: int) -> SpoolFile:
        """Make a file with what `fill` writes.

        Args:
            fill: called with the empty file, open for reading and writing.
            expected: bytes that it will have, about.

        Raises:
            ArtifactError: `expected` does not fit into the limit.
        """
        file = self.start(expected)
        try:
            fill(file)
        except BaseException:
            self.abandon(file)
            raise
        return self.adopt(file)

    def start(self, expected: int) -> BinaryIO:
        """A new file, open for reading and writing; the caller's until `adopt` or `abandon`."""
        if self.used + expected > self.limit:
            message = (
                f"Signing this artifact needs more than {self.limit} bytes of temporary space."
            )
            advice = "Submit a smaller artifact, or have the server's limit raised."
            raise ArtifactError(message, advice=advice)
        if expected <= _SMALL and self._in_memory + expected <= _MEMORY:
            return _InMemory(self._count)
        return self._on_disk(expected)

    def adopt(self, file: BinaryIO) -> SpoolFile:
        """Close a finished file and count it."""
        if isinstance(file, _InMemory):
            data = file.getvalue()
            self._in_memory += len(data) - file.counted
            if self._in_memory <= _MEMORY:
                made = SpoolFile(data, len(data))
            else:  # others have grown since it was started
                self._in_memory -= len(data)
                made = self._adopt_on_disk(self._on_disk(len(data), data))
        else:
            made = self._adopt_on_disk(file)
        file.close()
        self.used += made.size
        return made

    def abandon(self, file: BinaryIO) -> None:
        """Close and delete a file that nobody needs."""
        file.close()
        if isinstance(file, _InMemory):
            self._in_memory -= file.counted
        else:
            self.used -= self._expected.pop(file.name)
            Path(file.name).unlink()

    def _on_disk(self, expected: int, content: bytes = b"") -> BinaryIO:
        self._number += 1
        file = (self.folder / f"{self._number:08d}").open("x+b")
        self._expected[file.name] = expected
        self.used += expected
        file.write(content)
        return file

    def _adopt_on_disk(self, file: BinaryIO) -> SpoolFile:
        with file:
            self.used -= self._expected.pop(file.name)
            return SpoolFile(Path(file.name), file.seek(0, 2))

    def _count(self, size: int) -> None:
        self._in_memory += size

    def release(self, file: SpoolFile) -> None:
        """Give up one use; the last one deletes the file."""
        file.users -= 1
        if not file.users:
            self.used -= file.size
            if isinstance(file.content, bytes):
                self._in_memory -= file.size
            else:
                file.content.unlink()


class KeptFiles:
    """What planning has made that signing needs again: extracted files, so that they need not be
    extracted twice, and the artifact as a container.

    Args:
        limit: bytes of all files.

    Attributes:
        opened: the artifact, if it is a container, and its members. Its file must stay open.
    """

    opened: tuple[Container, list[Entry]] | None = None

    def __init__(self, spool: Spool, limit: int) -> None:
        self._spool = spool
        self._left = limit
        self._files: dict[tuple[str, str], SpoolFile] = {}

    def keep(self, path: str, sha256: str, file: SpoolFile) -> None:
        """Keep the file with this content, or release it where there is no room."""
        if file.size > self._left or (path, sha256) in self._files:
            self._spool.release(file)
            return
        self._left -= file.size
        self._files[path, sha256] = file

    def take(self, path: str, sha256: str) -> SpoolFile | None:
        """The file, now the caller's, or None where it was not kept."""
        return self._files.pop((path, sha256), None)

    def close(self) -> None:
        """Release what was not taken."""
        while self._files:
            self._spool.release(self._files.popitem()[1])


class OneAtATime(Mapping[Key, BinaryIO]):
    """Spooled files by key, of which only the one looked up last is open."""

    def __init__(self, files: Mapping[Key, SpoolFile]) -> None:
        self._files: Mapping[Key, SpoolFile] = files
        self._open: BinaryIO | None = None

    def __getitem__(self, key: Key) -> BinaryIO:
        file = self._files[key]
        self.close()
        self._open = file.open()
        return self._open

    def __contains__(self, key: object) -> bool:
        return key in self._files

    def __iter__(self) -> Iterator[Key]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None
