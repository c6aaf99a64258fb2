"""Bounded reading, hashing and copying of files of any size."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from typing import BinaryIO, cast

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW

CHUNK = 1 << 20  #: bytes read at a time


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


def chunks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end`, `CHUNK` at a time; ArtifactError if they end early."""
    file.seek(start)
    remaining = end - start
    while remaining:
        data = file.read(min(CHUNK, remaining))
        if not data:
            message = "The file ended while it was read."
            raise ArtifactError(message, advice=MAKE_ANEW)
        remaining -= len(data)
        yield data


def digest_of(file: BinaryIO, hash_algorithm: str) -> bytes:
    """Digest of the whole file."""
    hasher = hashlib.new(hash_algorithm, usedforsecurity=False)
    for data in chunks(file, 0, size_of(file)):
        hasher.update(data)
    return hasher.digest()


def copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    """Copy the first `length` bytes of `source` to the start of `target`, which is empty.

    Real files are copied by the kernel, which may share their blocks. `target` is positioned behind
    the copy afterwards.
    """
    copied = _copy_in_kernel(source, target, length)
    target.seek(copied)
    for data in chunks(source, copied, length):
        target.write(data)


def _copy_in_kernel(source: BinaryIO, target: BinaryIO, length: int) -> int:
    """Bytes copied by copy_file_range: 0 where there is no file or no support for it."""
    copied = 0
    try:
        target.flush()
        into, out_of = target.fileno(), source.fileno()
        while copied < length:
            count = os.copy_file_range(out_of, into, length - copied, copied, copied)
            if not count:
                break
            copied += count
    except (OSError, io.UnsupportedOperation):
        pass
    return copied


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
