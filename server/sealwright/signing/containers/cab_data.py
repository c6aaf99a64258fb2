"""The data of a cabinet's folders: CFDATA blocks in and out ([MS-CAB] section 2.4)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from sealwright.errors import ArtifactError, ClosedMemberError
from sealwright.signing.advice import MAKE_ANEW
from sealwright.signing.containers import mszip
from sealwright.signing.containers.cab_blocks import KeptBlocks, LastBlocks, NotedBlocks
from sealwright.signing.containers.cab_records import (
    BLOCK,
    CFDATA,
    LZX,
    MSZIP,
    QUANTUM,
    STORED,
    Folder,
    Header,
    checksum,
)
from sealwright.signing.containers.lzx import Lzx
from sealwright.signing.streams import chunks, read_at

Decode = Callable[[bytes, int], bytes]

_WINDOW = 1 << 18  # bytes of compressed data that are read at a time
MAX_LZX = 1 << 30  #: bytes of a cabinet or package: a minute or two each time they are read
_MSZIP_SHARE = 16  # bytes that are decompressed in the time of one by LZX


def why_closed(folders: Sequence[Folder], max_lzx: int) -> list[str]:
    """Why the files of each folder cannot be read; empty if they can.

    Args:
        max_lzx: bytes of folders by LZX that are read: of the first that fit.
    """
    found = []
    for folder in folders:
        reason = "is compressed by Quantum" if folder.kind == QUANTUM else ""
        if folder.kind == LZX and folder.size > max_lzx:
            reason = f"is in a folder of {folder.size} bytes by LZX; {max_lzx} more are read"
        elif folder.kind == LZX:
            max_lzx -= folder.size
        found.append(reason)
    return found


def same_data(file: BinaryIO, folder: Folder, other_file: BinaryIO, other: Folder) -> bool:
    """Whether folders of two cabinets are compressed by one method to the same bytes."""
    length = folder.end - folder.data
    if (folder.method, folder.blocks, length) != (
        other.method,
        other.blocks,
        other.end - other.data,
    ):
        return False
    pieces = zip(
        chunks(file, folder.data, length), chunks(other_file, other.data, length), strict=True
    )
    return all(one == two for one, two in pieces)


class FolderReader:
    """Reads one folder's decompressed data, forwards.

    Args:
        file: the cabinet, seekable.
        header: of it.
        folder: one of its folders; `closed` is what `why_closed` says of it.
        noted: gets the blocks that it does not have yet.
        last: gets those of the file that is read, for a later version of the cabinet.
        before: those of an earlier version, which need not be decompressed again.
        count: is told what is decompressed, see `artifact.MeteredContainer`: bytes by LZX, and
            those by MSZIP as so many that take as long.
    """

    def __init__(
        self,
        file: BinaryIO,
        header: Header,
        folder: Folder,
        closed: str,
        noted: NotedBlocks,
        last: LastBlocks | None = None,
        before: LastBlocks | None = None,
        count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._file = file
        self._header = header
        self._folder = folder
        self._noted = noted
        self._last = last
        self._before = before
        self._count = count
        self._inflater = _Inflater()
        self._decode = _decoder(folder, self._inflater, closed)
        self._at = folder.data
        self._window = b""  # what was read of the data
        self._window_at = folder.data
        self._file_at = 0  # where the file that is read begins
        self._number = 0  # of the next block
        self._block = b""
        self._start = 0  # of the block, in the folder

    @property
    def position(self) -> int:
        """The first offset that can be read."""
        return self._start

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield the bytes of a file from `offset` on, which is not before `position`.

        Raises:
            ArtifactError: a block is damaged.
        """
        self._file_at = offset
        if self._last is not None:
            self._last.clear()
        while length:
            while self._start + len(self._block) <= offset:
                following = self._start + len(self._block) + BLOCK
                self._next_block(is_read=following > offset)
            first = offset - self._start
            piece = self._block[first : first + length]
            yield piece
            offset += len(piece)
            length -= len(piece)

    def pass_over(self) -> None:
        """Decompress all that is left, for the sake of the notes."""
        while self._number < self._folder.blocks:
            self._next_block(is_read=False)

    def _next_block(self, *, is_read: bool) -> None:
        """Decompress a block; its checksum is a matter of who reads what is in it."""
        if self._number >= self._folder.blocks:
            message = "A folder's data ends early."
            raise ArtifactError(message, advice=MAKE_ANEW)
        at = self._at
        record = self._record()
        self._start += len(self._block)
        self._block = self._content(record, is_read=is_read)
        if not self._number and self._block[: self._folder.lead].strip(b"\0"):
            message = "There is data in front of a folder's first file."
            raise ArtifactError(message, advice=MAKE_ANEW)
        if self._number == len(self._noted):
            self._noted.note(at, len(record), self._block)
        self._number += 1

    def _record(self) -> bytes:
        """The next CFDATA, whole."""
        _, compressed, _ = CFDATA.unpack(self._ahead(CFDATA.size))
        record = self._ahead(CFDATA.size + self._header.data_reserve + compressed)
        self._at += len(record)
        return record

    def _ahead(self, length: int) -> bytes:
        begin = self._at - self._window_at
        if begin + length > len(self._window):
            room = max(length, min(_WINDOW, self._folder.end - self._at))
            self._window, self._window_at = read_at(self._file, self._at, room), self._at
            begin = 0
        return self._window[begin : begin + length]

    def _content(self, record: bytes, *, is_read: bool) -> bytes:
        """What a block holds."""
        if self._folder.kind != MSZIP:
            return self._decoded(record, is_checked=is_read)
        history, place = self._inflater.history, self._start - self._file_at
        known = self._before.find(place, record, history) if self._before is not None else None
        if known is None:
            content = self._decoded(record, is_checked=is_read)
        else:
            content = self._inflater.history = known
        if self._last is not None and is_read:
            self._last.keep(place, record, history, content)
        return content

    def _decoded(self, record: bytes, *, is_checked: bool) -> bytes:
        expected, _, size = CFDATA.unpack_from(record)
        begin = CFDATA.size + self._header.data_reserve
        reserve, data = record[CFDATA.size : begin], record[begin:]
        # Zero stands for none. Some writers leave the reserved area out.
        if (
            is_checked
            and expected
            and expected != block_checksum(data, size, reserve)
            and not (reserve and expected == block_checksum(data, size, b""))
        ):
            message = "A block of data does not match its checksum."
            raise ArtifactError(message, advice=MAKE_ANEW)
        if self._folder.kind != STORED:
            self._count(size if self._folder.kind == LZX else -(-size // _MSZIP_SHARE))
        return self._decode(data, size)


class FolderWriter:
    """Writes one folder's data.

    Args:
        target: receives the blocks at its position.
        kind: `STORED` or `MSZIP`.
        reserve: the reserved area of each block.
        kept: blocks of an old folder that are taken over where they hold the same; theirs are the
            old reserved areas.
    """

    def __init__(
        self, target: BinaryIO, kind: int, reserve: bytes, kept: KeptBlocks | None = None
    ) -> None:
        self._target = target
        self._kind = kind
        self._reserve = reserve
        self._kept = kept
        self._is_kept = kept is not None and kept.begins_folder  # what a next block may refer to
        self._waiting = bytearray()
        self._history = b""
        self.blocks = 0
        self.size = 0  # decompressed bytes so far

    def write(self, data: bytes) -> None:
        """Add to the folder's content."""
        self.size += len(data)
        at = 0
        if self._waiting:
            at = min(BLOCK - len(self._waiting), len(data))
            self._waiting += data[:at]
            if len(self._waiting) < BLOCK:
                return
            self._write_block(bytes(self._waiting))
            self._waiting.clear()
        while len(data) - at >= BLOCK:
            self._write_block(data[at : at + BLOCK])
            at += BLOCK
        self._waiting += data[at:]

    def finish(self) -> None:
        """Write what is left as the last, shorter block."""
        if self._waiting:
            self._write_block(bytes(self._waiting))
            self._waiting.clear()

    def _write_block(self, content: bytes) -> None:
        self._target.write(self._taken_over(content) or self._made(content))
        self._history = content
        self.blocks += 1

    def _taken_over(self, content: bytes) -> bytes:
        """The old CFDATA if it serves; empty if it does not."""
        if self._kept is None:
            return b""
        follows_kept = self._is_kept
        self._is_kept = self._kept.holds(self.blocks, content)
        return self._kept.record(self.blocks) if follows_kept and self._is_kept else b""

    def _made(self, content: bytes) -> bytes:
        data = content
        if self._kind == MSZIP:
            data = mszip.compress_block(content, self._history)
        sum_ = block_checksum(data, len(content), self._reserve)
        return CFDATA.pack(sum_, len(data), len(content)) + self._reserve + data


def block_checksum(data: bytes, size: int, reserve: bytes) -> int:
    """CFDATA.csum: of the data, joined to that of the fields and the reserved area before it."""
    return checksum(struct.pack("<HH", len(data), size) + reserve, checksum(data))


def _decoder(folder: Folder, inflater: _Inflater, closed: str) -> Decode:
    if closed:
        message = f"The member {closed}, so it cannot be signed or checked."
        advice = "Leave it out of the configuration, or make the cabinet with MSZIP."
        raise ClosedMemberError(message, advice=advice)
    if folder.kind == STORED:
        return _copy
    if folder.kind == MSZIP:
        return inflater.block
    return Lzx(folder.window_bits).block


def _copy(data: bytes, size: int) -> bytes:
    if len(data) != size:
        message = "A stored block has two sizes."
        raise ArtifactError(message, advice=MAKE_ANEW)
    return data


class _Inflater:
    """Decompresses blocks of MSZIP.

    Attributes:
        history: the content of the block before, to which the next one may refer.
    """

    history = b""

    def block(self, data: bytes, size: int) -> bytes:
        content = mszip.decompress_block(data, size, self.history)
        # Only a folder's last block is shorter than the history.
        self.history = content
        return content
