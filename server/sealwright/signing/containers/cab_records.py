"""A cabinet's records, read strictly ([MS-CAB] section 2).

Every byte of the file must belong to exactly one record, and every byte of a folder's data to
exactly one file: what one reader shows is what all show. A folder may begin with less than a block
of zeros that belong to none, which readers pass over (see decision 18).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW, RAISE_LIMIT
from sealwright.signing.streams import read_at, size_of

CFHEADER = struct.Struct("<4s5I2B5H")  # without its optional fields
CFRESERVE = struct.Struct("<HBB")  # sizes of the reserved areas
CFFOLDER = struct.Struct("<IHH")
CFFILE = struct.Struct("<IIHHHH")
CFDATA = struct.Struct("<IHH")

SIGNATURE = b"MSCF"
SPANNED, RESERVE_PRESENT = 0x0003, 0x0004
STORED, MSZIP, QUANTUM, LZX = 0, 1, 2, 3
NAME_IS_UTF8 = 0x0080
BLOCK = 32768  # uncompressed bytes of every CFDATA but a folder's last
MAX_BLOCKS = 0xFFFF  # of a folder
MAX_FOLDERS = 0xFFFD  # indices above mean files that span cabinets
MAX_COMPRESSED = BLOCK + 6144
MAX_NAME = 255  # bytes without the final zero
MAX_SIZE = 0xFFFF_FFFF
_MAX_ALL_BLOCKS = 1 << 20
_MAX_FILE_TABLE = 0x1_0000 * (CFFILE.size + MAX_NAME + 1)
_SIGNATURE_RESERVE = struct.Struct("<4sII8s")
_SIGNATURE_MARK = b"\x00\x00\x10\x00"
_REPACK = "Make the cabinet again with a common tool."
_WALK = 1 << 12


@dataclass(frozen=True)
class Header:
    """CFHEADER and its reserved area.

    Attributes:
        version: minor and major.
        flags: without those that say which optional fields there are.
        set_id: of the set.
        reserve: the area reserved in the header, None without reserved areas at all.
        folder_reserve: bytes reserved in each CFFOLDER,
        data_reserve: and in each CFDATA.
        size: bytes of the cabinet; its signature follows.
        signature: bytes of the signature, 0 without one.
    """

    version: tuple[int, int]
    flags: int
    set_id: int
    reserve: bytes | None
    folder_reserve: int
    data_reserve: int
    size: int
    signature: int

    @property
    def has_signature_reserve(self) -> bool:
        """Whether the reserved area is the one that says where a signature is."""
        reserve = self.reserve or b""
        return len(reserve) == _SIGNATURE_RESERVE.size and reserve.startswith(_SIGNATURE_MARK)

    @property
    def unsigned_reserve(self) -> bytes | None:
        """The reserved area without the place of a signature."""
        if self.reserve is None or not self.has_signature_reserve:
            return self.reserve
        return self.reserve[:4] + bytes(8) + self.reserve[12:]

    @property
    def kept(self) -> bytes:
        """What neither members nor signing change."""
        reserve = self.reserve or b""
        if self.has_signature_reserve or not reserve.strip(b"\0"):
            reserve = reserve[12:].rstrip(b"\0")
        fields = (*self.version, self.flags, self.set_id, self.folder_reserve, self.data_reserve)
        return struct.pack("<2B2H2B", *fields) + reserve


@dataclass(frozen=True)
class Folder:
    """A CFFOLDER: files that are compressed together.

    Attributes:
        data: offset of its first CFDATA,
        end: and of what follows its last one.
        blocks: number of CFDATA.
        method: typeCompress: `kind` and the compressor's parameters.
        reserve: its reserved area.
        size: bytes when decompressed.
        lead: of them in front of the first file, all of them zeros.
    """

    data: int
    end: int
    blocks: int
    method: int
    reserve: bytes
    size: int
    lead: int = 0

    @property
    def kind(self) -> int:
        """`STORED`, `MSZIP`, `QUANTUM` or `LZX`."""
        return self.method & 0x0F

    @property
    def window_bits(self) -> int:
        """For LZX, the size of the window as a power of two."""
        return self.method >> 8 & 0x1F


@dataclass(frozen=True)
class Member:
    """A CFFILE.

    Attributes:
        name: as decoded, with the separators that are stored.
        raw_name: as stored.
        size: bytes.
        folder: index of its folder.
        offset: in the folder's decompressed data.
        stamp: date and time as MS-DOS writes them.
        attributes: of the file.
        position: in the cabinet's list of files.
        order: in the order of the data, which is the handle to pass back.
    """

    name: str
    raw_name: bytes
    size: int
    folder: int
    offset: int
    stamp: tuple[int, int]
    attributes: int
    position: int
    order: int


class Records(NamedTuple):
    """All of a cabinet's records; `members` are in the order of their data."""

    header: Header
    folders: tuple[Folder, ...]
    members: tuple[Member, ...]


def is_cabinet(file: BinaryIO) -> bool:
    """Whether it begins as a cabinet."""
    file.seek(0)
    return file.read(8) == SIGNATURE + bytes(4)


def read_records(file: BinaryIO, max_members: int) -> Records:
    """Read and check everything but the data itself.

    Raises:
        ArtifactError: malformed, hostile, one of a set, or with more than `max_members` files.
    """
    if not is_cabinet(file):
        message = "The file is not a cabinet."
        raise ArtifactError(message, advice=MAKE_ANEW)
    fields = CFHEADER.unpack(read_at(file, 0, CFHEADER.size))
    _, _, size, _, files, _, minor, major, folder_count, count, flags, set_id, number = fields
    if flags & SPANNED or number:
        message = "The cabinet is one of a set that spans several files."
        raise ArtifactError(message, advice="Make a single cabinet.")
    if count > max_members:
        message = f"The cabinet has {count} files, more than {max_members}."
        raise ArtifactError(message, advice=RAISE_LIMIT)
    at, reserve, sizes = CFHEADER.size, None, (0, 0, 0)
    if flags & RESERVE_PRESENT:
        sizes = CFRESERVE.unpack(read_at(file, at, CFRESERVE.size))
        at += CFRESERVE.size
        reserve = read_at(file, at, sizes[0])
        at += sizes[0]
    header = Header(
        (minor, major),
        flags & ~RESERVE_PRESENT,
        set_id,
        reserve,
        sizes[1],
        sizes[2],
        size,
        size_of(file) - size,
    )
    _check_end(header)
    folders_end = at + folder_count * (CFFOLDER.size + header.folder_reserve)
    if files != folders_end or files > size:
        message = "The cabinet's list of files does not follow its folders."
        raise _fail(message)
    folders = _read_folders(file, header, at, folder_count)
    data = min((folder.data for folder in folders if folder.blocks), default=size)
    if not 0 <= data - files <= _MAX_FILE_TABLE:
        message = "The cabinet's list of files is cut off, or too long."
        raise _fail(message)
    members = _read_members(read_at(file, files, data - files), count)
    _check_layout(folders, data, size)
    ordered, leads = _in_data_order(members, folders)
    folders = tuple(replace(folder, lead=lead) for folder, lead in zip(folders, leads, strict=True))
    return Records(header, folders, ordered)


def checksum(data: bytes, seed: int = 0) -> int:
    """The checksum of a CFDATA's parts (section 3.1): words joined by exclusive or."""
    whole = len(data) & ~3
    number, words = int.from_bytes(data[:whole], "little"), whole // 4
    while words > 1:
        half = (words + 1) // 2
        number = (number >> 32 * half) ^ (number & ((1 << 32 * half) - 1))
        words = half
    return seed ^ number ^ int.from_bytes(data[whole:], "big")


def decode_name(raw: bytes, attributes: int) -> str:
    """A member's name: UTF-8 if its attributes say so, else of the Western code page."""
    try:
        return raw.decode("utf-8" if attributes & NAME_IS_UTF8 else "cp1252")
    except UnicodeDecodeError:
        message = "A file's name is not valid in its encoding."
        raise _fail(message, raw[:80].decode("ascii", "backslashreplace")) from None


def encode_name(name: str) -> tuple[bytes, int]:
    """A name as it is stored, and the attributes that say how."""
    return name.encode("utf-8"), 0 if name.isascii() else NAME_IS_UTF8


def _fail(message: str, where: str = "") -> ArtifactError:
    return ArtifactError(message, advice=_REPACK, where=where)


def _check_end(header: Header) -> None:
    """Nothing but a signature may follow, where the reserved area says that it is."""
    place = length = 0
    if header.has_signature_reserve:
        _, place, length, _ = _SIGNATURE_RESERVE.unpack(header.reserve or b"")
    is_placed = place == header.size if length else place in (0, header.size)
    if header.signature != length or not is_placed:
        message = "The cabinet's size, or its signature's place, is not that of the file."
        advice = "Remove what was appended, or make it anew."
        raise ArtifactError(message, advice=advice)


def _read_folders(file: BinaryIO, header: Header, at: int, count: int) -> tuple[Folder, ...]:
    length = CFFOLDER.size + header.folder_reserve
    table = read_at(file, at, count * length)
    folders, left = [], min(_MAX_ALL_BLOCKS, header.size // CFDATA.size)
    for start in range(0, len(table), length):
        data, blocks, method = CFFOLDER.unpack_from(table, start)
        left -= blocks
        if left < 0:
            message = "The cabinet has more blocks of data than fit, or than are accepted."
            raise _fail(message)
        if method & 0x0F > LZX:
            message = f"A folder of the cabinet has an unknown compression ({method:#06x})."
            raise _fail(message)
        end, size = _walk(file, header, data, blocks)
        reserve = table[start + CFFOLDER.size : start + length]
        folders.append(Folder(data, end, blocks, method, reserve, size))
    return tuple(folders)


def _walk(file: BinaryIO, header: Header, at: int, blocks: int) -> tuple[int, int]:
    """Offset behind a folder's last block, and bytes of all blocks when decompressed."""
    total, window, start = 0, b"", at
    for number in range(blocks):
        if not start <= at <= start + len(window) - CFDATA.size:
            file.seek(at)
            window, start = file.read(_WALK), at
        if len(window) - (at - start) < CFDATA.size:
            message = "A folder's data is outside of the cabinet."
            raise _fail(message)
        _, compressed, size = CFDATA.unpack_from(window, at - start)
        is_last = number == blocks - 1
        if not 0 < size <= BLOCK or not 0 < compressed <= MAX_COMPRESSED:
            message = "A block of data has an impossible size."
            raise _fail(message)
        if size < BLOCK and not is_last:
            message = "A block of data that is not a folder's last is too short."
            raise _fail(message)
        total += size
        at += CFDATA.size + header.data_reserve + compressed
    if at > header.size:
        message = "A folder's data is outside of the cabinet."
        raise _fail(message)
    return at, total


def _read_members(table: bytes, count: int) -> list[Member]:
    members, at = [], 0
    for position in range(count):
        name = at + CFFILE.size
        end = table.find(b"\0", name, name + MAX_NAME + 1)
        if end < 0:
            message = "The cabinet's list of files is cut off, or a name is too long."
            raise _fail(message)
        size, offset, folder, date, time, attributes = CFFILE.unpack_from(table, at)
        raw = table[name:end]
        members.append(
            Member(
                decode_name(raw, attributes),
                raw,
                size,
                folder,
                offset,
                (date, time),
                attributes,
                position,
                position,
            )
        )
        at = end + 1
    if at != len(table):
        message = "The cabinet has bytes between its list of files and its data."
        raise _fail(message)
    return members


def _check_layout(folders: Sequence[Folder], start: int, end: int) -> None:
    """Folders' data must follow one another, without gap or overlap."""
    at = start
    for folder in sorted((f for f in folders if f.blocks), key=lambda each: each.data):
        if folder.data != at:
            what = "overlap" if folder.data < at else "have other bytes between them"
            message = f"The cabinet's folders {what}."
            raise _fail(message)
        at = folder.end
    if at != end:
        message = "The cabinet has bytes that belong to no folder."
        raise _fail(message)


def _in_data_order(
    members: list[Member], folders: Sequence[Folder]
) -> tuple[tuple[Member, ...], list[int]]:
    """Files must cover their folders' data, each byte once; and what leads it in each folder."""
    leads: list[int | None] = [None] * len(folders)
    at = [0] * len(folders)
    names: set[bytes] = set()
    ordered: list[Member] = []
    for member in sorted(members, key=lambda each: (each.folder, each.offset, each.size)):
        if member.folder >= len(folders):
            message = "A file is in a folder that is not there, or spans several cabinets."
            raise _fail(message, member.name)
        if leads[member.folder] is None:
            may_lead = member.offset < BLOCK and folders[member.folder].kind != QUANTUM
            leads[member.folder] = at[member.folder] = member.offset if may_lead else 0
        if member.offset != at[member.folder]:
            message = "A file's data overlaps another's, or leaves bytes that belong to none."
            raise _fail(message, member.name)
        if member.raw_name in names:
            message = "Two files of the cabinet have this name."
            raise _fail(message, member.name)
        names.add(member.raw_name)
        at[member.folder] += member.size
        ordered.append(replace(member, order=len(ordered)))
    for folder, covered, lead in zip(folders, at, leads, strict=True):
        if covered != folder.size or (lead and covered == lead):
            message = "A folder's data is longer or shorter than its files."
            raise _fail(message)
    return tuple(ordered), [lead or 0 for lead in leads]
