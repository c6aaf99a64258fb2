"""Copying long ranges of bytes between files without carrying them through Python."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO

from sealwright.signing.streams import read_at

BUFFER = 1 << 20
_IN_KERNEL = 1 << 18  # below this, the extra flush costs more than it saves


def chunks(file: BinaryIO, offset: int, length: int) -> Iterator[bytes]:
    """Yield the range in pieces of at most 1 MiB. The file's position may be used in between."""
    while length:
        piece = read_at(file, offset, min(length, BUFFER))
        yield piece
        offset += len(piece)
        length -= len(piece)


def copy_range(source: BinaryIO, offset: int, length: int, target: BinaryIO) -> None:
    """Append `length` bytes of `source` at `offset` to `target` at its position."""
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
