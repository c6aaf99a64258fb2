"""The content of ZIP members, read with bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.containers.deflate import DeflateError, Inflater, crc32, inflater
from sealwright.signing.containers.deflate_following import Follower, InflatedStream, follower
from sealwright.signing.containers.deflate_seams import DeflateStream, Seams, seam_inflater
from sealwright.signing.containers.deflate_splice import SMALLEST
from sealwright.signing.containers.zip_records import STORED, Record
from sealwright.signing.streams import CHUNK, chunks


class MemberReader:
    """Reads the members of one archive, and keeps of what it has inflated what others can use: who
    packs a member anew, or who reads a later version of it.

    Args:
        file: the archive.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._notes_seams = True
        self._seams: dict[int, Seams] = {}  # by order, of members that were read
        self._is_followed = False
        self._last: InflatedStream | None = None  # the member that was read last
        self._before: MemberReader | None = None

    def only_read(self) -> None:
        """Nothing will be packed anew: where streams can be cut need not be noted."""
        self._notes_seams = False

    def follow(self, before: MemberReader) -> None:
        """Take from the earlier version of a member, which `before` has read last, what both have
        in common."""
        before._is_followed = True
        self._before = before

    def read(self, record: Record) -> Iterator[bytes]:
        """A member's content, piece by piece. Its length and CRC are for `write_checked`.

        Raises:
            ArtifactError: it is malformed, or more than was declared.
        """
        if record.method == STORED:
            return chunks(self._file, record.data, record.compressed)
        if self._notes_seams:
            return self._read_noting(record)
        if self._is_followed:
            return self._read_keeping(record)
        return _inflated(self._file, record, following=self._follower(record))

    def stream(self, record: Record) -> DeflateStream:
        """A compressed member's."""
        return DeflateStream(self._file, record.data, record.compressed)

    def seams(self, record: Record) -> Seams:
        """Where that can be cut; it is inflated for that unless the member was read before."""
        if record.order not in self._seams:
            for _ in self._read_noting(record):
                pass
        return self._seams[record.order]

    def _read_noting(self, record: Record) -> Iterator[bytes]:
        seams = Seams()
        yield from _inflated(self._file, record, seams)
        self._seams[record.order] = seams

    def _read_keeping(self, record: Record) -> Iterator[bytes]:
        self._last = None
        if record.size < SMALLEST:
            yield from _inflated(self._file, record)
            return
        last = InflatedStream(self.stream(record))
        for piece in _inflated(self._file, record, last.seams):
            last.keep(piece)
            yield piece
        self._last = last

    def _follower(self, record: Record) -> Follower | None:
        last = self._before._last if self._before else None
        return None if last is None else follower(last, self.stream(record))


def write_checked(record: Record, pieces: Iterable[bytes], target: BinaryIO) -> None:
    """Write a member's content, which must have the declared length and CRC.

    Raises:
        ArtifactError: it has not.
    """
    crc, size = 0, 0
    for piece in pieces:
        crc = crc32(piece, crc)
        size += len(piece)
        target.write(piece)
    if size != record.size or crc != record.crc:
        what = "length" if size != record.size else "checksum"
        raise _damaged(record, f"its content does not have the declared {what}")


def _inflated(
    file: BinaryIO,
    record: Record,
    seams: Seams | None = None,
    following: Follower | None = None,
) -> Iterator[bytes]:
    """A compressed member's content. Where its stream can be cut is in `seams` afterwards.

    Args:
        following: takes from an earlier version what both have in common.
    """
    pieces = chunks(file, record.data, record.compressed)
    inflating: Inflater = inflater() if seams is None else seam_inflater(seams)
    if following is not None:
        inflating = following.inflating
    left = record.size
    waiting = b""
    while not inflating.eof:
        waiting = waiting or next(pieces, b"")
        try:
            # One byte more than is due shows that there is more than was declared.
            out = inflating.decompress(waiting, min(CHUNK, left + 1))
        except DeflateError:
            raise _damaged(record, "its compressed data is malformed") from None
        if not waiting and not out and not inflating.eof:
            raise _damaged(record, "its compressed data breaks off")
        waiting = inflating.unconsumed_tail
        left -= len(out)
        if left < 0:
            raise _damaged(record, "it inflates to more than its declared size")
        yield out
        if following is not None and (leap := following.leap(out)) is not None:
            left -= leap.size
            if left < 0:
                raise _damaged(record, "it inflates to more than its declared size")
            yield from leap.pieces
            at, waiting, inflating = leap.offset, b"", leap.inflating
            pieces = chunks(file, record.data + at, record.compressed - at)
    if inflating.unused_data or next(pieces, b""):
        raise _damaged(record, "there is other data behind its compressed data")


def _damaged(record: Record, why: str) -> ArtifactError:
    message = f"The member is damaged or was made to deceive: {why}."
    return ArtifactError(message, advice="Pack the archive again.", where=record.path)
