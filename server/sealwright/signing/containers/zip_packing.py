"""How members of ZIP archives are compressed, and where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sealwright.signing.containers.deflate import deflate
from sealwright.signing.containers.zip_records import STORED


def compress(pieces: Iterable[bytes], method: int) -> Iterator[bytes]:
    """Compress a stream in the way of the method; the same bytes on every run."""
    return iter(pieces) if method == STORED else deflate(pieces)


class Packing(Protocol):
    """How `ZipContainer.rebuild` compresses what it makes itself; it is told where members lie.

    Members are named by their `order`.
    """

    def compress(self, order: int, pieces: Iterable[bytes], method: int) -> Iterator[bytes]:
        """Compress a member's new content; what inflates it must give the content again."""
        ...

    def placed(self, order: int, header: int, data: int) -> None:
        """Told of each member when it is written: offsets of local header and of its data."""
        ...


class _Plain:
    """New content is compressed as a stream."""

    def compress(self, order: int, pieces: Iterable[bytes], method: int) -> Iterator[bytes]:  # noqa: ARG002
        return compress(pieces, method)

    def placed(self, order: int, header: int, data: int) -> None:
        pass


PLAIN: Packing = _Plain()


@dataclass(frozen=True)
class Extent:
    """Where a member lies in the archive, in bytes.

    Attributes:
        header: offset of its local header.
        data: offset of its data, just behind the local header.
        size: of its data, compressed.
        end: offset behind its record, data descriptor included.
        method: `STORED`, `DEFLATED` or another.
        crc: of its content.
    """

    header: int
    data: int
    size: int
    end: int
    method: int
    crc: int
