"""What was done to a file, and what the one who did it tells of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Self

from sealwright.signing.streams import sha256_of, size_of

REPACK = "repack"  #: the directive of a container that was rebuilt


@dataclass(frozen=True)
class FileDigest:
    """What a file holds.

    Attributes:
        sha256: hexadecimal.
        size: bytes.
    """

    sha256: str
    size: int

    @classmethod
    def of(cls, file: BinaryIO) -> Self:
        """Read the whole file."""
        return cls(sha256_of(file), size_of(file))


@dataclass(frozen=True)
class StageReport:
    """What the signing side tells of one directive on one file.

    Attributes:
        path: as in the plan.
        directive: its name, or ``repack`` for a container that was rebuilt around changed members.
        summary: a short phrase for people.
        digests: signed digests, hexadecimal, in the order of their requests.
        hash_algorithm: of those digests; empty without any.
        passing: of the content that it made, where a later directive changes that again, so that
            nobody sees it afterwards. None otherwise: who judges the result tells it.
    """

    path: str
    directive: str
    summary: str
    digests: tuple[str, ...] = ()
    hash_algorithm: str = ""
    passing: FileDigest | None = None


@dataclass(frozen=True)
class FileResult:
    """What was done to one file by one directive.

    Attributes:
        path: as in the plan.
        element: ``pe-file``, ...
        directive: its name, or ``repack`` for a container that was rebuilt around changed members.
        sha256_before: of the content before, hexadecimal.
        sha256_after: of the content after; the same if only a side file was made.
        size: bytes after.
        summary: a short phrase for people.
        digests: signed digests, hexadecimal, in the order of their requests.
        hash_algorithm: of those digests; empty without any.
        outputs: paths of created side files, as in the plan's form.
    """

    path: str
    element: str
    directive: str
    sha256_before: str
    sha256_after: str
    size: int
    summary: str
    digests: tuple[str, ...] = ()
    hash_algorithm: str = ""
    outputs: tuple[str, ...] = ()
