"""Writes cabinets of any kind, right and wrong, straight from [MS-CAB]; no code of the engine's."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK = 32768
STORED, MSZIP, QUANTUM, LZX = 0, 1, 2, 3
STAMP = (0x58A6, 0x6000)  # 2024-05-06 12:00


@dataclass(frozen=True)
class File:
    """A CFFILE; None: what is right."""

    name: bytes
    content: bytes = b""
    attributes: int = 0x20
    stamp: tuple[int, int] = STAMP
    size: int | None = None
    offset: int | None = None
    folder: int | None = None


@dataclass(frozen=True)
class Folder:
    """A CFFOLDER with its files; None: what is right."""

    files: Sequence[File]
    method: int = MSZIP
    reserve: bytes = b""
    data_reserve: bytes = b""
    blocks: Sequence[tuple[bytes, int]] | None = None  # compressed data and decompressed size
    checksum: int | None = None
    data: int | None = None
    count: int | None = None
    gap: bytes = b""


@dataclass(frozen=True)
class Fields:
    """What the header says besides; None: what is right."""

    reserve: bytes | None = None
    flags: int = 0
    set_id: int = 4711
    number: int = 0
    version: tuple[int, int] = (3, 1)
    size: int | None = None
    files: int | None = None
    file_count: int | None = None
    folder_count: int | None = None
    order: Sequence[int] = field(default_factory=tuple)  # of the list of files


def words_joined(data: bytes) -> int:
    """The checksum, word by word."""
    total = 0
    for at in range(0, len(data) & ~3, 4):
        total ^= struct.unpack_from("<I", data, at)[0]
    for shift, byte in zip(range(0, 24, 8), reversed(data[len(data) & ~3 :]), strict=False):
        total ^= byte << shift
    return total


def compress(content: bytes, method: int) -> list[tuple[bytes, int]]:
    """Blocks of a folder, stored or by MSZIP."""
    blocks, history = [], b""
    for at in range(0, len(content), BLOCK):
        piece = content[at : at + BLOCK]
        data = piece
        if method == MSZIP:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, 0, history)
            data = b"CK" + packer.compress(piece) + packer.flush()
        blocks.append((data, len(piece)))
        history = piece
    return blocks


def build(folders: Sequence[Folder], fields: Fields | None = None) -> bytes:
    """Write it, however wrong."""
    fields = fields or Fields()
    sizes = [len(folders[0].reserve), len(folders[0].data_reserve)] if folders else [0, 0]
    reserved = fields.reserve is not None or any(sizes)
    reserve = fields.reserve or b""
    head = struct.pack("<HBB", len(reserve), *sizes) + reserve if reserved else b""
    rows = []
    for index, folder in enumerate(folders):
        at = 0
        for file in folder.files:
            size = len(file.content) if file.size is None else file.size
            offset = at if file.offset is None else file.offset
            number = index if file.folder is None else file.folder
            row = struct.pack("<IIHHHH", size, offset, number, *file.stamp, file.attributes)
            rows.append(row + file.name + b"\0")
            at += len(file.content)
    rows = [rows[each] for each in fields.order] if fields.order else rows
    files = 36 + len(head) + sum(8 + len(folder.reserve) for folder in folders)
    table, data = b"".join(rows), b""
    start = files + len(table)
    entries = b""
    for folder in folders:
        data += folder.gap
        at = start + len(data) if folder.data is None else folder.data
        blocks = folder.blocks
        if blocks is None:
            blocks = compress(b"".join(file.content for file in folder.files), folder.method)
        for packed, size in blocks:
            tail = struct.pack("<HH", len(packed), size) + folder.data_reserve
            total = words_joined(packed) ^ words_joined(tail)
            total = total if folder.checksum is None else folder.checksum
            data += struct.pack("<I", total) + tail + packed
        count = len(blocks) if folder.count is None else folder.count
        entries += struct.pack("<IHH", at, count, folder.method) + folder.reserve
    header = struct.pack(
        "<4s5I2B5H",
        b"MSCF",
        0,
        start + len(data) if fields.size is None else fields.size,
        0,
        files if fields.files is None else fields.files,
        0,
        *fields.version,
        len(folders) if fields.folder_count is None else fields.folder_count,
        len(rows) if fields.file_count is None else fields.file_count,
        fields.flags | (4 if reserved else 0),
        fields.set_id,
        fields.number,
    )
    return header + head + entries + table + data
