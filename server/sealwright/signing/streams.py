"""Bounded reading, hashing and copying of files of any size."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from typing import BinaryIO, cast

from sealwright.errors import ArtifactError

CHUNK = 1 << 20  #: bytes read at a time
_IN_KERNEL = 1 << 18  # bytes below which the extra flush costs more than it saves


def size_of(file: BinaryIO) -> int:
    """Length in bytes; the position is at the end afterwards."""
    return file.seek(0, os.SEEK_END)


def read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    """Exactly `length` bytes from `offset`; ArtifactError if the file ends before."""
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        message = f"The file ends before offset {offset + length}."
        raise ArtifactError(message, advice="Check that the build has written it whole.")
    return data


def chunks(file: BinaryIO, offset: int, length: int) -> Iterator[bytes]:
    """The range, `CHUNK` at a time; ArtifactError if the file ends before. Its position may be used
    in between."""
    while length:
        piece = read_at(file, offset, min(length, CHUNK))
        yield piece
        offset += len(piece)
        length -= len(piece)


def digest_of(file: BinaryIO, hash_algorithm: str) -> bytes:
    """Digest of the whole file."""
    hasher = hashlib.new(hash_algorithm, usedforsecurity=False)
    for data in chunks(file, 0, size_of(file)):
        hasher.update(data)
    return hasher.digest()


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of the whole file, hexadecimal."""
    return digest_of(file, "sha256").hex()


def copy_range(source: BinaryIO, offset: int, length: int, target: BinaryIO) -> None:
    """Append `length` bytes of `source` at `offset` to `target` at its position.

    The kernel copies what it can, and may have both files share their blocks.
    """
    if length >= _IN_KERNEL:
        done = _copy_in_kernel(source, offset, length, target)
        offset += done
        length -= done
    for piece in chunks(source, offset, length):
        target.write(piece)


def _copy_in_kernel(source: BinaryIO, offset: int, length: int, target: BinaryIO) -> int:
    """Copy what the kernel will; 0 where these are not both plain files."""
    try:
        source_descriptor, target_descriptor = source.fileno(), target.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return 0
    target.flush()
    start = target.tell()
    done = 0
    while done < length:
        try:
            copied = os.copy_file_range(
                source_descriptor, target_descriptor, length - done, offset + done, start + done
            )
        except OSError:  # not supported between these file systems
            break
        if not copied:
            break
        done += copied
    target.seek(start + done)
    return done


class NullWriter(io.RawIOBase):
    """A file that keeps nothing of what is written to it."""

    @property
    def file(self) -> BinaryIO:
        """This object, as what functions that write to files take."""
        return cast("BinaryIO", self)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # only ever bytes
        """Forget `data`."""
        return len(data)


class DigestWriter(NullWriter):
    """A file that only digests and counts what is written to it."""

    def __init__(self, hash_algorithm: str) -> None:
        self._hasher = hashlib.new(hash_algorithm, usedforsecurity=False)
        self._size = 0

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # only ever bytes
        """Digest all of `data`."""
        self._hasher.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes written."""
        return self._size

    def digest(self) -> bytes:
        """Digest of what was written."""
        return self._hasher.digest()
