"""What one artifact may use, at a time and in all, and what of it has been used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.advice import RAISE_LIMIT, SUBMIT_APART
from sealwright.signing.artifact import Container, Entry, MeteredContainer, NotingContainer
from sealwright.signing.spool import Spool, SpoolFile
from sealwright.signing.streams import NullWriter


@dataclass(frozen=True)
class Limits:
    """What one artifact may use.

    Attributes:
        depth: containers inside containers that are opened, the root included.
        members: members of all opened containers together.
        member_size: bytes of one extracted member.
        extracted: bytes of all extracted members together.
        ratio: extracted bytes for each byte of the artifact.
        ratio_allowance: extracted bytes that are allowed whatever the ratio.
        spool: bytes of temporary files at a time.
    """

    depth: int = 8
    members: int = 100_000
    member_size: int = 16 << 30
    extracted: int = 64 << 30
    ratio: int = 200
    ratio_allowance: int = 64 << 20
    spool: int = 64 << 30


@dataclass(frozen=True)
class Pace:
    """How much may be under way at once.

    Attributes:
        requests: signature requests that wait for an answer.
        spool: bytes of temporary files at which no further leaf is started while others wait.
    """

    requests: int = 256
    spool: int = 4 << 30


def allowance(limits: Limits, size: int) -> int:
    """Bytes that may be extracted from an artifact of `size` bytes."""
    return min(limits.extracted, max(limits.ratio_allowance, size * limits.ratio))


class Budget:
    """Counts what has been used of the limits.

    Args:
        size: bytes of the artifact.
        passes: how often folders of cabinets may be decompressed.
    """

    def __init__(self, limits: Limits, size: int, passes: int = 1) -> None:
        self.limits = limits
        self.members = 0
        self.extracted = 0
        self.decompressed = 0
        self.largest = allowance(limits, size)
        self._passes = passes

    def open_container(self, open_: Callable[[BinaryIO, int], Container], file: BinaryIO,
                       depth: int) -> tuple[Container, list[Entry]]:  # fmt: skip
        """Open a container and count its members."""
        if depth > self.limits.depth:
            message = f"Containers are nested more than {self.limits.depth} deep."
            raise ArtifactError(message, advice=RAISE_LIMIT)
        container = open_(file, self.limits.members - self.members)
        entries = list(container.entries())
        self.members += len(entries)
        self._meter(container)
        return container, entries

    def open_to_read(self, open_: Callable[[BinaryIO, int], Container], file: BinaryIO,
                     depth: int) -> tuple[Container, list[Entry]]:  # fmt: skip
        """`open_container` where nothing will be packed."""
        container, entries = self.open_container(open_, file, depth)
        if isinstance(container, NotingContainer):
            container.only_read()
        return container, entries

    def reopen(self, opened: tuple[Container, list[Entry]]) -> tuple[Container, list[Entry]]:
        """Count the members of a container that was opened before."""
        self.members += len(opened[1])
        self._meter(opened[0])
        return opened

    def decompress(self, size: int) -> None:
        """Count bytes that a container decompresses to read a member, whoever they belong to.

        Raises:
            ArtifactError: there are more than the artifact may use.
        """
        self.decompressed += size
        most = self._passes * self.largest
        if self.decompressed > most:
            message = f"Reading it takes decompressing more than the {most} bytes that are allowed."
            advice = (
                "This looks like an archive bomb; if it is not, make its cabinets with MSZIP, or "
                "submit them one by one."
            )
            raise ArtifactError(message, advice=advice)

    def _meter(self, container: Container) -> None:
        if isinstance(container, MeteredContainer):
            container.meter(self.decompress)

    def extract(self, container: Container, entry: Entry, spool: Spool) -> SpoolFile:
        """Extract a member if the limits allow it."""
        self._take(entry)
        return spool.create(partial(container.extract, entry), entry.size)

    def read(self, container: Container, entry: Entry) -> None:
        """Read a member, as `extract` does, and keep nothing of it."""
        self._take(entry)
        container.extract(entry, NullWriter().file)

    def _take(self, entry: Entry) -> None:
        self.extracted += entry.size
        problem = ""
        if entry.size > self.limits.member_size:
            problem = f"The member has {entry.size} bytes, more than {self.limits.member_size}"
        elif self.extracted > self.largest:
            problem = (
                f"Extracting it would exceed the {self.largest} bytes that this artifact may use"
            )
        if problem:
            message = f"{problem}."
            raise ArtifactError(message, advice=SUBMIT_APART, where=entry.path)
