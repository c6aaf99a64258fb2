"""Temporary files of one request, counted against a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from sealwright.errors import ArtifactError
from sealwright.signing.streams import digest_of

Key = TypeVar("Key", int, str)


@dataclass
class SpoolFile:
    """A file in the spool.

    Attributes:
        path: where it lies.
        size: bytes.
        users: how many hold it; it is deleted when the last one releases it.
    """

    path: Path
    size: int
    users: int = 1

    def open(self) -> BinaryIO:
        """Open for reading; the caller closes."""
        return self.path.open("rb")


class Spool:
    """Makes and counts temporary files.

    Args:
        folder: exists, belongs to this request alone.
        limit: most bytes that may lie in it at a time.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.used = 0
        self._number = 0

    def create(self, fill: Callable[[BinaryIO], object], expected: int) -> SpoolFile:
        """Make a file with what `fill` writes.

        Args:
            fill: called with the empty file, open for reading and writing.
            expected: bytes that it will have, about.

        Raises:
            ArtifactError: `expected` does not fit into the limit.
        """
        path, file = self.start(expected)
        try:
            with file:
                fill(file)
        except BaseException:
            path.unlink()
            raise
        return self.adopt(path)

    def start(self, expected: int) -> tuple[Path, BinaryIO]:
        """A new file, open for reading and writing; the caller's until `adopt`."""
        if self.used + expected > self.limit:
            message = (
                f"Signing this artifact needs more than {self.limit} bytes of temporary space."
            )
            advice = "Submit a smaller artifact, or have the server's limit raised."
            raise ArtifactError(message, advice=advice)
        self._number += 1
        path = self.folder / f"{self._number:08d}"
        return path, path.open("x+b")

    def adopt(self, path: Path) -> SpoolFile:
        """Count a finished file."""
        file = SpoolFile(path, path.stat().st_size)
        self.used += file.size
        return file

    def release(self, file: SpoolFile) -> None:
        """Give up one use; the last one deletes the file."""
        file.users -= 1
        if not file.users:
            self.used -= file.size
            file.path.unlink()


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


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of the whole file, hexadecimal."""
    return digest_of(file, "sha256").hex()
