"""Header and directory entries of compound files, as [MS-CFB] lays them out."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

#: Values in the FAT that are no sector numbers (section 2.1).
FREE, END_OF_CHAIN, FAT_SECTOR, DIFAT_SECTOR = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
MAX_SECTOR = 0xFFFFFFFA
NO_ENTRY = 0xFFFFFFFF

STORAGE, STREAM, ROOT = 1, 2, 5
RED, BLACK = 0, 1

MINI_SECTOR = 64
MINI_CUTOFF = 4096  #: streams below are in the mini stream
HEADER_FAT_SECTORS = 109
SECTOR_SIZES = {3: 512, 4: 4096}  #: by major version
ENTRY_SIZE = 128
MAX_NAME = 62  #: bytes of UTF-16LE, without the NUL
RANGE_LOCK = 0x7FFFFF00  #: the sector at this offset holds no data (section 2.7)

_HEADER = struct.Struct("<8s16s5H6x9I")
_ENTRY = struct.Struct("<64sHBBIII16sI8s8sIQ")
_MINOR_VERSION = 0x3E
_LITTLE_ENDIAN = 0xFFFE

_ADVICE = "Build the package again."


def refuse(what: str, where: str = "") -> NoReturn:
    """Raise the ArtifactError for a file that is not as the specification demands."""
    message = f"The compound file is malformed: {what}."
    raise ArtifactError(message, advice=_ADVICE, where=where)


@dataclass(frozen=True)
class Header:
    """The header (section 2.2).

    Attributes:
        version: 3 (sectors of 512 bytes) or 4 (4,096 bytes).
        directory: first sector of the directory.
        fat_sectors: number of sectors of the FAT.
        mini_fat: first sector of the mini FAT, `mini_fat_sectors` of them.
        difat: first sector of the DIFAT behind the header, `difat_sectors` of them.
    """

    version: int
    directory_sectors: int
    fat_sectors: int
    directory: int
    mini_fat: int
    mini_fat_sectors: int
    difat: int
    difat_sectors: int

    @property
    def sector_size(self) -> int:
        """Bytes of a sector."""
        return SECTOR_SIZES[self.version]

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Read the first 76 bytes of a file.

        Raises:
            ArtifactError: it is not a compound file, or of an unknown version.
        """
        if len(data) < _HEADER.size or not data.startswith(SIGNATURE):
            message = "The file is not a compound file, as Windows Installer packages are."
            raise ArtifactError(message, advice=MAKE_ANEW)
        fields = _HEADER.unpack_from(data)
        version, order, shift, mini_shift = fields[3:7]
        if order != _LITTLE_ENDIAN or 1 << shift != SECTOR_SIZES.get(version, 0):
            what = f"version {version} with sectors of 2^{shift} bytes is not defined"
            refuse(what)
        directory_sectors, fat_sectors, directory, _transaction, cutoff = fields[7:12]
        if 1 << mini_shift != MINI_SECTOR or cutoff != MINI_CUTOFF:
            refuse("its mini stream has other sizes than are defined")
        return cls(version, directory_sectors, fat_sectors, directory, *fields[12:16])

    def encode(self) -> bytes:
        """The first 76 bytes of a file."""
        return _HEADER.pack(
            SIGNATURE,
            bytes(16),
            _MINOR_VERSION,
            self.version,
            _LITTLE_ENDIAN,
            self.sector_size.bit_length() - 1,
            MINI_SECTOR.bit_length() - 1,
            self.directory_sectors if self.version > 3 else 0,
            self.fat_sectors,
            self.directory,
            0,
            MINI_CUTOFF,
            self.mini_fat,
            self.mini_fat_sectors,
            self.difat,
            self.difat_sectors,
        )


@dataclass(frozen=True)
class DirectoryEntry:
    """A directory entry (section 2.6).

    Attributes:
        name: UTF-16LE without the NUL.
        kind: `STORAGE`, `STREAM`, `ROOT`, or 0 for an unused entry.
        class_id, state, created, modified: as stored; meaningful for storages.
        start: first sector of a stream, or of the mini stream for the root.
        size: bytes of it.
        left, right, child: numbers of other entries or `NO_ENTRY`.
    """

    name: bytes
    kind: int
    class_id: bytes = bytes(16)
    state: int = 0
    created: bytes = bytes(8)
    modified: bytes = bytes(8)
    start: int = 0
    size: int = 0
    color: int = BLACK
    left: int = NO_ENTRY
    right: int = NO_ENTRY
    child: int = NO_ENTRY

    @classmethod
    def parse(cls, data: bytes, version: int) -> DirectoryEntry:
        """Read one entry of 128 bytes; of unused ones nothing counts."""
        fields = _ENTRY.unpack(data)
        name, length, kind, color, left, right, child = fields[:7]
        class_id, state, created, modified, start, size = fields[7:]
        if kind == 0:
            return cls(b"", 0)
        if kind not in (STORAGE, STREAM, ROOT):
            refuse(f"a directory entry has type {kind}")
        if not 4 <= length <= MAX_NAME + 2 or length % 2 or name[length - 2 : length] != b"\0\0":
            refuse("a directory entry's name has an impossible length")
        if version == 3:
            size &= 0xFFFFFFFF
        return cls(
            name[: length - 2],
            kind,
            class_id,
            state,
            created,
            modified,
            start,
            size,
            color,
            left,
            right,
            child,
        )

    def encode(self) -> bytes:
        """The entry's 128 bytes."""
        return _ENTRY.pack(
            self.name,
            len(self.name) + 2 if self.kind else 0,
            self.kind,
            self.color,
            self.left,
            self.right,
            self.child,
            self.class_id,
            self.state,
            self.created,
            self.modified,
            self.start,
            self.size,
        )


def text_of(name: bytes) -> str:
    """A name for people."""
    return name.decode("utf-16-le", "replace")


def order_of(name: bytes) -> tuple[int, ...]:
    """Sort key of the directory: shorter names first, then by upper case (section 2.6.4)."""
    units = struct.unpack(f"<{len(name) // 2}H", name)
    return len(units), *map(_upper, units)


def _upper(unit: int) -> int:
    """Simple upper case of one UTF-16 code unit."""
    upper = chr(unit).upper()
    return ord(upper) if len(upper) == 1 and ord(upper) <= 0xFFFF else unit
