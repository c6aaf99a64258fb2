"""ZIP's records, read strictly (PKWARE APPNOTE 6.3.10, section 4).

Different ZIP readers look at different records, so whatever two records say about the same thing
must agree here, and every byte of the file must belong to exactly one record: what one reader shows
is what all show.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.advice import RAISE_LIMIT
from sealwright.signing.containers.member_paths import REPACK, check_distinct, check_path
from sealwright.signing.streams import read_at

STORED = 0
DEFLATED = 8
MAX_16 = 0xFFFF
MAX_32 = 0xFFFFFFFF
MAX_CENTRAL_DIRECTORY = 64 << 20

LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR64 = struct.Struct("<4sLQL")

LOCAL_SIGNATURE = b"PK\x03\x04"
CENTRAL_SIGNATURE = b"PK\x01\x02"
END_SIGNATURE = b"PK\x05\x06"
END64_SIGNATURE = b"PK\x06\x06"
LOCATOR64_SIGNATURE = b"PK\x06\x07"
DESCRIPTOR_SIGNATURE = b"PK\x07\x08"

ZIP64_FIELD = 0x0001
UNICODE_PATH_FIELD = 0x7075

ENCRYPTED = 1 << 0
HAS_DESCRIPTOR = 1 << 3
UTF8 = 1 << 11
MASKED_HEADERS = 1 << 13
_COMPARED_FLAGS = ENCRYPTED | HAS_DESCRIPTOR | 1 << 5 | 1 << 6 | UTF8 | MASKED_HEADERS


@dataclass(frozen=True)
class End:
    """What the end of the archive says.

    Attributes:
        count: members.
        start: offset of the central directory.
        size: bytes of the central directory.
        comment: the archive's comment.
        end64: the raw Zip64 end record (without locator), or empty.
        raw: the raw end record without comment.
    """

    count: int
    start: int
    size: int
    comment: bytes
    end64: bytes
    raw: bytes


@dataclass(slots=True)
class Record:
    """One member: its central directory record, and where its local record lies.

    Attributes:
        order: position in the central directory.
        central: the raw central directory record.
        name: raw name.
        path: decoded name.
        flags, method, crc, compressed, size: as in the record, Zip64 applied.
        offset: of the local header.
        data: offset of the compressed data.
        end: end of the local record, data descriptor included.
    """

    order: int
    central: bytes
    name: bytes
    path: str
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    data: int = 0
    end: int = 0

    @property
    def extra(self) -> bytes:
        """The central extra field."""
        start = CENTRAL.size + len(self.name)
        return self.central[start : start + int.from_bytes(self.central[30:32], "little")]

    @property
    def is_directory(self) -> bool:
        return self.name.endswith(b"/")

    @property
    def why_closed(self) -> str:
        """Why the content cannot be read, as a clause; empty if it can."""
        mode = int.from_bytes(self.central[40:42], "little")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            return "is a symbolic link or a special file, not a regular one"
        if self.is_directory:
            return "is a directory"
        if self.flags & ENCRYPTED:
            return "is encrypted"
        if self.method not in (STORED, DEFLATED):
            return (
                f"is compressed with method {self.method}; stored (0) and deflate (8) can be opened"
            )
        return ""


def read_end(file: BinaryIO) -> End:
    """Find and check the end of central directory record and its Zip64 form (4.3.14 to 4.3.16).

    Raises:
        ArtifactError: there is none, more than one fits, or they disagree.
    """
    size = file.seek(0, 2)
    tail = read_at(file, max(0, size - END.size - MAX_16), min(size, END.size + MAX_16))
    base = size - len(tail)
    at = base + _end_position(tail)
    raw = tail[at - base : at - base + END.size]
    _, disk, first_disk, here, count, directory_size, start, _ = END.unpack(raw)
    end64, directory_end = b"", at
    if at >= LOCATOR64.size:
        locator = read_at(file, at - LOCATOR64.size, LOCATOR64.size)
        if locator.startswith(LOCATOR64_SIGNATURE):
            end64, directory_end = _read_end64(file, locator, at - LOCATOR64.size)
    if not end64 and (MAX_16 in (here, count) or MAX_32 in (directory_size, start)):
        message = "The end record points to a Zip64 record that is not there."
        raise _fail(message)
    if end64:
        _, _, _, _, disk, first_disk, *large = _agree(raw, end64)
        here, count, directory_size, start = large
    if disk or first_disk or here != count:
        message = "The archive is split over several files."
        raise _fail(message, "Submit it as one file.")
    if start + directory_size != directory_end:
        message = (
            "The central directory does not lie where the end record says: something was put in "
            "front of the archive, or changed, without adjusting its offsets."
        )
        raise _fail(
            message,
            'Submit the plain archive, or adjust the offsets (for example with "zip -A").',
        )
    return End(count, start, directory_size, tail[at - base + END.size :], end64, raw)


def read_records(file: BinaryIO, end: End, max_members: int) -> list[Record]:
    """Read the central directory and check every local record against it.

    Raises:
        ArtifactError: malformed, hostile, or more than `max_members`.
    """
    if end.count > max_members:
        message = f"The archive has {end.count} members; at most {max_members} are accepted."
        raise _fail(message, RAISE_LIMIT)
    if end.size > MAX_CENTRAL_DIRECTORY:
        message = f"The central directory has {end.size} bytes, which is too many."
        raise _fail(message)
    directory = read_at(file, end.start, end.size)
    records = list(_parse_directory(directory, end.count))
    check_distinct([record.path for record in records])
    _check_locals(file, records, end.start)
    return records


def split_extra(extra: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (field id, start, end of its payload) of an extra field (4.5.1).

    Padding that is no field, as alignment tools leave it, ends the walk.
    """
    at = 0
    while at + 4 <= len(extra):
        identifier, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra):
            return
        yield identifier, at + 4, at + 4 + length
        at += 4 + length


def zip64_field(extra: bytes) -> tuple[int, int] | None:
    """Where the Zip64 payload lies in an extra field, or None."""
    found = [(start, end) for i, start, end in split_extra(extra) if i == ZIP64_FIELD]
    if len(found) > 1:
        message = "A member has two Zip64 fields."
        raise _fail(message)
    return found[0] if found else None


def _fail(message: str, advice: str = REPACK, where: str = "") -> ArtifactError:
    return ArtifactError(message, advice=advice, where=where)


def _end_position(tail: bytes) -> int:
    found = []
    at = tail.rfind(END_SIGNATURE)
    any_signature = at >= 0
    while at >= 0:
        comment = tail[at + 20 : at + END.size]
        if len(comment) == 2 and at + END.size + int.from_bytes(comment, "little") == len(tail):
            found.append(at)
        at = tail.rfind(END_SIGNATURE, 0, at)
    if len(found) > 1:
        message = "The archive has several end records, so tools disagree about its content."
        raise _fail(message)
    if found:
        return found[0]
    if any_signature:
        message = "There is other data after the end of the archive."
        raise _fail(message, "Remove it, or pack again.")
    message = "The file is not a ZIP archive: it has no end of central directory record."
    raise _fail(message)


def _read_end64(file: BinaryIO, locator: bytes, locator_at: int) -> tuple[bytes, int]:
    _, disk, at, disks = LOCATOR64.unpack(locator)
    if disk or disks > 1 or at + END64.size != locator_at:
        message = "The Zip64 locator does not point to a plain Zip64 end record before it."
        raise _fail(message)
    raw = read_at(file, at, END64.size)
    if not raw.startswith(END64_SIGNATURE) or END64.unpack(raw)[1] != END64.size - 12:
        message = "The Zip64 end record is malformed or has fields that are not supported."
        raise _fail(message)
    return raw, at


def _agree(raw: bytes, end64: bytes) -> tuple[int, ...]:
    """The Zip64 end record's fields, which the end record must repeat or leave saturated."""
    fields = END64.unpack(end64)
    for value, large, limit in zip(
        END.unpack(raw)[1:7], fields[4:10], [MAX_16] * 4 + [MAX_32] * 2, strict=True
    ):
        if value not in (limit, large):
            message = "The end record and the Zip64 end record contradict each other."
            raise _fail(message)
    return fields


def _parse_directory(directory: bytes, count: int) -> Iterator[Record]:
    at = 0
    for order in range(count):
        if directory[at : at + 4] != CENTRAL_SIGNATURE or at + CENTRAL.size > len(directory):
            message = f"The central directory ends or breaks off at member {order + 1}."
            raise _fail(message)
        lengths = struct.unpack_from("<3H", directory, at + 28)
        length = CENTRAL.size + sum(lengths)
        if at + length > len(directory):
            message = f"The central directory breaks off inside member {order + 1}."
            raise _fail(message)
        yield _parse_central(directory[at : at + length], order, lengths[0])
        at += length
    if at != len(directory):
        message = "The central directory holds more than its members."
        raise _fail(message)


def _parse_central(central: bytes, order: int, name_length: int) -> Record:
    fields = CENTRAL.unpack_from(central)
    flags, method, crc, compressed, size = fields[3], fields[4], *fields[7:10]
    disk, offset = fields[13], fields[16]
    name = central[CENTRAL.size : CENTRAL.size + name_length]
    record = Record(order, central, name, "", flags, method, crc, compressed, size, offset)
    record.path = _decode_path(name, flags, record.extra)
    wanted = [record.size == MAX_32, compressed == MAX_32, offset == MAX_32]
    values = iter(_zip64_values(record.extra, sum(wanted), record.path))
    record.size = next(values) if wanted[0] else size
    record.compressed = next(values) if wanted[1] else compressed
    record.offset = next(values) if wanted[2] else offset
    problem = ""
    if disk not in (0, MAX_16):
        problem = "lies in another file of a split archive"
    elif flags & MASKED_HEADERS:
        problem = "has encrypted headers"
    elif method == STORED and not flags & ENCRYPTED and record.size != record.compressed:
        problem = "is stored, but its two sizes differ"
    elif record.is_directory and record.size:
        problem = "is a directory with content"
    if problem:
        message = f"The member {problem}."
        raise _fail(message, where=record.path)
    return record


def _zip64_values(extra: bytes, count: int, path: str) -> tuple[int, ...]:
    if not count:
        return ()
    place = zip64_field(extra)
    if place is None or place[1] - place[0] < 8 * count:
        message = "The member's Zip64 sizes are missing."
        raise _fail(message, where=path)
    return struct.unpack_from(f"<{count}Q", extra, place[0])


def _decode_path(name: bytes, flags: int, extra: bytes) -> str:
    """Decode a name (4.4.4, Appendix D; 4.6.9: most tools prefer the Unicode path field)."""
    try:
        path = name.decode("utf-8" if flags & UTF8 else "cp437")
        check_path(path)
        for identifier, start, end in split_extra(extra):
            if identifier != UNICODE_PATH_FIELD or end - start < 5 or extra[start] != 1:
                continue
            if int.from_bytes(extra[start + 1 : start + 5], "little") == zlib.crc32(name):
                path = extra[start + 5 : end].decode("utf-8")
                check_path(path)
    except UnicodeDecodeError:
        shown = name[:80].decode("utf-8", "backslashreplace")
        message = "A member's name is not valid UTF-8."
        raise _fail(message, where=shown) from None
    if path.endswith("/") != name.endswith(b"/"):
        message = "A member's two names disagree."
        raise _fail(message, where=path)
    return path


def _check_locals(file: BinaryIO, records: list[Record], directory_start: int) -> None:
    by_offset = sorted(records, key=lambda record: record.offset)
    limits = [*(record.offset for record in by_offset), directory_start][1:]
    for record, limit in zip(by_offset, limits, strict=True):
        if record.offset + LOCAL.size + len(record.name) > limit:
            message = "The member overlaps another record."
            raise _fail(message, where=record.path)
        _check_local(file, record, limit)
        record.end = limit


def _check_local(file: BinaryIO, record: Record, limit: int) -> None:
    head = read_at(file, record.offset, LOCAL.size + len(record.name))
    fields = LOCAL.unpack_from(head)
    signature, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = fields
    if signature != LOCAL_SIGNATURE or name_length != len(record.name):
        raise _contradiction(record, "header" if signature != LOCAL_SIGNATURE else "name")
    extra = read_at(file, record.offset + len(head), extra_length)
    if head[LOCAL.size :] != record.name or record.path != _decode_path(record.name, flags, extra):
        raise _contradiction(record, "name")
    if method != record.method or (flags ^ record.flags) & _COMPARED_FLAGS:
        raise _contradiction(record, "method or flags")
    values = iter(_zip64_values(extra, (size == MAX_32) + (compressed == MAX_32), record.path))
    size = next(values) if size == MAX_32 else size
    compressed = next(values) if compressed == MAX_32 else compressed
    expected = (record.crc, record.compressed, record.size)
    for found, value in zip((crc, compressed, size), expected, strict=True):
        if found != value and (found or not flags & HAS_DESCRIPTOR):
            raise _contradiction(record, "checksum or sizes")
    record.data = record.offset + len(head) + extra_length
    after = limit - record.data - record.compressed
    if after < 0:
        message = "The member overlaps another record."
        raise _fail(message, where=record.path)
    descriptor = read_at(file, limit - after, min(after, 25))
    if flags & HAS_DESCRIPTOR:
        if not _is_descriptor(descriptor, expected):
            message = "The member's data descriptor is missing or contradicts its headers."
            raise _fail(message, where=record.path)
    elif after:
        message = f"{after} bytes after the member belong to no record."
        raise _fail(message, where=record.path)


def _contradiction(record: Record, what: str) -> ArtifactError:
    message = f"The member's local {what} contradicts the central directory."
    return _fail(message, where=record.path)


def _is_descriptor(data: bytes, expected: tuple[int, int, int]) -> bool:
    """Whether `data` is a data descriptor (4.3.9), with or without signature, 32 or 64 bit."""
    data = data.removeprefix(DESCRIPTOR_SIGNATURE) if len(data) in (16, 24) else data
    form = {12: "<3L", 20: "<L2Q"}.get(len(data))
    return form is not None and struct.unpack(form, data) == expected
