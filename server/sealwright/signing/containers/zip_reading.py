"""The content of ZIP members, read with bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.containers.deflate import DeflateError, Inflater, crc32, inflater
from sealwright.signing.containers.deflate_following import Follower
from sealwright.signing.containers.deflate_seams import Seams, seam_inflater
from sealwright.signing.containers.zip_records import STORED, Record
from sealwright.signing.streams import CHUNK, chunks


def inflate_member(
    file: BinaryIO,
    record: Record,
    seams: Seams | None = None,
    following: Follower | None = None,
) -> Iterator[bytes]:
    """A member's content, piece by piece. Where its stream can be cut is in `seams` afterwards.

    Args:
        following: takes from an earlier version what both have in common.

    Raises:
        ArtifactError: it is malformed, or more than was declared.
    """
    pieces = chunks(file, record.data, record.compressed)
    if record.method == STORED:
        yield from pieces
        return
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
            for piece in leap.pieces:
                left -= len(piece)
                yield piece
            if left < 0:
                raise _damaged(record, "it inflates to more than its declared size")
            at, waiting, inflating = leap.offset, b"", leap.inflating
            pieces = chunks(file, record.data + at, record.compressed - at)
    if inflating.unused_data or next(pieces, b""):
        raise _damaged(record, "there is other data behind its compressed data")


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


def _damaged(record: Record, why: str) -> ArtifactError:
    message = f"The member is damaged or was made to deceive: {why}."
    return ArtifactError(message, advice="Pack the archive again.", where=record.path)
