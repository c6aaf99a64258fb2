"""Parts of a file as files of their own: a stream that lies in pieces, and a region that grows."""

from __future__ import annotations

import io
import os
import sys
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO, cast

from sealwright.signing.streams import read_at

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Extent = tuple[int, int]  #: offset in the file, length


class _View(io.RawIOBase):
    """A seekable file whose bytes are in another one."""

    def __init__(self) -> None:
        self._position = 0

    @property
    def file(self) -> BinaryIO:
        """This object, as what functions that read files take."""
        return cast("BinaryIO", self)

    def _length(self) -> int:
        raise NotImplementedError

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the start of the view."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position. Raises ValueError in front of the start."""
        base = 0
        if whence != os.SEEK_SET:
            base = {os.SEEK_CUR: self._position, os.SEEK_END: self._length()}[whence]
        if base + offset < 0:
            message = f"A view has no position {base + offset}."
            raise ValueError(message)
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """As many bytes as asked for, fewer only at the end."""
        left = max(0, self._length() - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        data = self._read(wanted)
        self._position += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer, less only at the end."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        raise NotImplementedError


class ExtentsReader(_View):
    """Extents of a file, one after another, for reading."""

    def __init__(self, file: BinaryIO, extents: Sequence[Extent]) -> None:
        super().__init__()
        self._file = file
        self._extents = extents
        self._ends = list(accumulate(length for _, length in extents))

    def _length(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _read(self, size: int) -> bytes:
        if len(self._extents) == 1:
            return read_at(self._file, self._extents[0][0] + self._position, size) if size else b""
        pieces = []
        position = self._position
        index = bisect_right(self._ends, position)
        while size:
            offset, length = self._extents[index]
            inside = position - (self._ends[index] - length)
            piece = read_at(self._file, offset + inside, min(size, length - inside))
            pieces.append(piece)
            position += len(piece)
            size -= len(piece)
            index += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Region(_View):
    """The end of a file from an offset on, for reading and writing, with a hole that is left out.

    Args:
        file: open for reading and writing, seekable.
        start: offset of the region.
        hole: (offset in the file, length) of bytes that belong to nobody.
    """

    def __init__(self, file: BinaryIO, start: int, hole: Extent) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._hole = hole
        self.length = 0

    def writable(self) -> bool:
        """True."""
        return True

    def _length(self) -> int:
        return self.length

    def place(self, position: int) -> Extent:
        """Offset in the file of a position, and how many bytes follow it there without a hole."""
        offset = self._start + position
        before = self._hole[0] - offset
        if self._start < self._hole[0] + self._hole[1] and before <= 0:
            return offset + self._hole[1], sys.maxsize
        return offset, before if before > 0 else sys.maxsize

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        """Write all of `data` at the position."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            offset, room = self.place(self._position)
            piece = view[done : done + room]
            self._file.seek(offset)
            self._file.write(piece)
            done += len(piece)
            self._position += len(piece)
        self.length = max(self.length, self._position)
        return done

    def _read(self, size: int) -> bytes:
        pieces = []
        position = self._position
        while size:
            offset, room = self.place(position)
            piece = read_at(self._file, offset, min(size, room))
            pieces.append(piece)
            position += len(piece)
            size -= len(piece)
        return b"".join(pieces)
