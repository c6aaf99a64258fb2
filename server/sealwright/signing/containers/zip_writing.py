"""ZIP's records, written: local headers, packed content, the central directory's records."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from sealwright.signing.artifact import PackedMember
from sealwright.signing.containers.deflate import crc32
from sealwright.signing.containers.zip_packing import compress
from sealwright.signing.containers.zip_records import (
    CENTRAL,
    LOCAL,
    LOCAL_SIGNATURE,
    MAX_32,
    ZIP64_FIELD,
    Record,
    zip64_field,
)
from sealwright.signing.streams import CHUNK

_ZIP64_MARGIN = 16 << 20  # more than deflate can add to 4 GiB
PLAIN_VERSION = 20
ZIP64_VERSION = 45


def without_zip64(extra: bytes) -> bytes:
    """An extra field without its Zip64 part."""
    place = zip64_field(extra)
    return extra if place is None else extra[: place[0] - 4] + extra[place[1] :]


def _zip64(values: list[int]) -> bytes:
    if not values:
        return b""
    return struct.pack(f"<2H{len(values)}Q", ZIP64_FIELD, 8 * len(values), *values)


def write_member(
    target: BinaryIO,
    head: tuple[int, int, int, int, int],
    name: bytes,
    extra: bytes,
    size: int,
    write: Callable[[], PackedMember],
) -> PackedMember:
    """Write local header and, by `write`, the compressed content."""
    version, flags, method, time, date = head
    large = size >= MAX_32 - _ZIP64_MARGIN
    version = max(version, ZIP64_VERSION) if large else version
    at = target.tell()

    def header(crc: int, compressed: int) -> bytes:
        sizes = (MAX_32, MAX_32) if large else (compressed, size)
        field = _zip64([size, compressed]) + extra if large else extra
        fields = (version, flags, method, time, date, crc, *sizes, len(name), len(field))
        return LOCAL.pack(LOCAL_SIGNATURE, *fields) + name + field

    target.write(header(0, 0))
    made = write()
    end = target.tell()
    target.seek(at)
    target.write(header(made.crc, made.stored))
    target.seek(end)
    return made


def pack_content(
    content: BinaryIO,
    target: BinaryIO,
    method: int,
    pack: Callable[[Iterable[bytes], int], Iterator[bytes]] = compress,
) -> PackedMember:
    """Append the content, compressed, to `target`."""
    start = target.tell()
    crc = size = 0
    content.seek(0)

    def read_through() -> Iterator[bytes]:
        nonlocal crc, size
        while piece := content.read(CHUNK):
            crc = crc32(piece, crc)
            size += len(piece)
            yield piece

    target.writelines(pack(read_through(), method))
    return PackedMember(crc, size, target.tell() - start)


def central_record(central: bytes, extra: bytes, made: PackedMember, offset: int) -> bytes:
    """A central record with new sizes and offset; `extra` has no Zip64 field yet."""
    values = (made.size, made.stored, offset)
    field = _zip64([value for value in values if value >= MAX_32]) + extra
    name_length, old_extra = struct.unpack_from("<2H", central, 28)
    record = bytearray(central[: CENTRAL.size + name_length])
    if max(values) >= MAX_32:
        record[6:8] = struct.pack("<H", max(ZIP64_VERSION, record[6]))
    struct.pack_into("<2L", record, 20, min(made.stored, MAX_32), min(made.size, MAX_32))
    struct.pack_into("<H", record, 30, len(field))
    struct.pack_into("<L", record, 42, min(offset, MAX_32))
    return bytes(record) + field + central[CENTRAL.size + name_length + old_extra :]


def _offset_place(record: Record) -> int | None:
    """Where in the central record the Zip64 field holds the offset, or None."""
    compressed, size, offset = struct.unpack(
        "<2L14xL", record.central[20:42] + record.central[42:46]
    )
    place = zip64_field(record.extra)
    if offset != MAX_32 or place is None:
        return None
    before = [size, compressed].count(MAX_32)
    return CENTRAL.size + len(record.name) + place[0] + 8 * before


def moved_central(record: Record, offset: int) -> bytes:
    """The central record of an unchanged member at its new offset."""
    central = bytearray(record.central)
    place = _offset_place(record)
    if place is not None:
        struct.pack_into("<Q", central, place, offset)
    elif offset < MAX_32:
        struct.pack_into("<L", central, 42, offset)
    else:
        extra = without_zip64(record.extra)
        return central_record(
            record.central, extra, PackedMember(record.crc, record.size, record.compressed), offset
        )
    return bytes(central)


def central_without_offset(record: Record) -> bytes:
    return moved_central(record, 0)
