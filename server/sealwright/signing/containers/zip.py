"""ZIP archives: members read with bounds, rebuilt with everything else left byte for byte."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from sealwright.errors import ArtifactError, ClosedMemberError
from sealwright.signing.advice import SHORTEN_NAMES
from sealwright.signing.artifact import Entry, PackedMember, ReadPacked
from sealwright.signing.containers.deflate_splice import SMALLEST, splice
from sealwright.signing.containers.member_paths import check_added
from sealwright.signing.containers.zip_packing import PLAIN, Extent, Packing
from sealwright.signing.containers.zip_reading import MemberReader, write_checked
from sealwright.signing.containers.zip_records import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DEFLATED,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    HAS_DESCRIPTOR,
    LOCAL,
    LOCAL_SIGNATURE,
    LOCATOR64,
    LOCATOR64_SIGNATURE,
    MAX_16,
    MAX_32,
    UTF8,
    Record,
    read_end,
    read_records,
)
from sealwright.signing.containers.zip_writing import (
    PLAIN_VERSION,
    ZIP64_VERSION,
    central_record,
    central_without_offset,
    moved_central,
    pack_content,
    without_zip64,
    write_member,
)
from sealwright.signing.streams import chunks, copy_range, read_at, size_of

_UNIX = 3 << 8  # made by
_ADDED_MODE = 0o100644
_CONTENT_FLAGS = HAS_DESCRIPTOR | 1 << 1 | 1 << 2  # the others tell how hard deflate tried


def is_zip(file: BinaryIO) -> bool:
    """Tell by the first four bytes, so not for an archive behind a stub."""
    file.seek(0)
    return file.read(4) in (LOCAL_SIGNATURE, END_SIGNATURE)


def has_end_record(file: BinaryIO) -> bool:
    """Whether an end record may be near the end, as in an archive behind a stub."""
    size = file.seek(0, 2)
    length = min(size, END.size + MAX_16)
    return END_SIGNATURE in read_at(file, size - length, length)


@dataclass(frozen=True)
class NewMember:
    """A small member that `ZipContainer.rewrite` adds.

    Attributes:
        path: inside the archive.
        content: of the member.
        method: `STORED` or `DEFLATED`.
        mode: type and permissions as on Unix, or 0 for a member without attributes.
    """

    path: str
    content: bytes
    method: int = DEFLATED
    mode: int = 0


class ZipContainer:
    """A ZIP archive.

    Args:
        file: seekable; stays the caller's and must stay open.
        max_members: the most members accepted.

    Raises:
        ArtifactError: malformed, hostile or ambiguous; `where` is the member.
    """

    def __init__(self, file: BinaryIO, max_members: int) -> None:
        self._file = file
        self._end = read_end(file)
        self._records = read_records(file, self._end, max_members)
        self._by_offset = sorted(self._records, key=lambda record: record.offset)
        times = [struct.unpack_from("<2H", each.central, 12)[::-1] for each in self._records]
        self._newest = max(times, default=(0x21, 0))  # date and time; 0x21 is 1980-01-01
        self._prefix = self._by_offset[0].offset if self._by_offset else self._end.start
        self._reader = MemberReader(file)

    def only_read(self) -> None:
        """See `artifact.NotingContainer`."""
        self._reader.only_read()

    def follow(self, before: ZipContainer) -> None:
        """See `artifact.FollowingContainer`."""
        self._reader.follow(before._reader)

    def entries(self) -> Iterator[Entry]:
        """Members in the central directory's order."""
        for record in self._records:
            path = record.path.removesuffix("/")
            yield Entry(path, record.size, record.is_directory, record.order)

    def extract(self, entry: Entry, target: BinaryIO) -> None:
        """Write the member's content to `target`.

        Raises:
            ClosedMemberError: it is a link, encrypted, or compressed in an unsupported way.
            ArtifactError: its content has another length than declared, or another CRC.
        """
        record = self._records[entry.order]
        if reason := record.why_closed:
            message = f"The member {reason}, so it cannot be signed or checked."
            raise ClosedMemberError(
                message,
                advice="Exclude it from the configuration, or pack it as an ordinary file.",
                where=record.path,
            )
        write_checked(record, self._reader.read(record), target)

    def read(self, entry: Entry) -> bytes:
        """The member's content, see `extract`; for members whose size the caller has checked."""
        content = io.BytesIO()
        self.extract(entry, content)
        return content.getvalue()

    def raw_name(self, entry: Entry) -> bytes:
        """The member's name as it is stored, without the slash that ends a directory's."""
        return self._records[entry.order].name.removesuffix(b"/")

    def extent(self, entry: Entry) -> Extent:
        """Where the member lies."""
        record = self._records[entry.order]
        return Extent(
            record.offset,
            record.data,
            record.compressed,
            record.end,
            record.method,
            record.crc,
        )

    @property
    def directory_start(self) -> int:
        """Offset of the central directory."""
        return self._end.start

    @property
    def has_zip64(self) -> bool:
        """Whether the archive has a Zip64 end record."""
        return bool(self._end.end64)

    def is_plain(self, entry: Entry) -> bool:
        """Whether a member is stored, without flags, attributes, extra fields or comment."""
        record = self._records[entry.order]
        local = read_at(self._file, record.offset, LOCAL.size)
        # Flags and method; lengths of extra fields and comment, disk, and attributes.
        fields = local[6:10] + record.central[8:12] + local[28:30] + record.central[30:42]
        return not any(fields)

    def fingerprint(self, entry: Entry | None, *, content: bool = True) -> bytes:
        """SHA-256 of what makes up a member besides its position.

        Args:
            entry: the member, or None for what belongs to no member (comment, stub in front).
            content: include the stored bytes and sizes; otherwise only name and attributes.
        """
        digest = hashlib.sha256()
        if entry is None:
            digest.update(self._end.comment)
            for piece in chunks(self._file, 0, self._prefix):
                digest.update(piece)
            return digest.digest()
        record = self._records[entry.order]
        if content:
            digest.update(central_without_offset(record))
            for piece in chunks(self._file, record.offset, record.end - record.offset):
                digest.update(piece)
            return digest.digest()
        tail = record.central[CENTRAL.size + len(record.name) + len(record.extra) :]
        local = read_at(self._file, record.offset, LOCAL.size)
        for part in (
            record.name,
            without_zip64(record.extra),
            self._local_extra(record),
            tail,
            record.central[4:6],  # version made by
            record.central[36:42],  # attributes
            _kept_fields(record.central[6:16]),
            _kept_fields(local[4:14]),
        ):
            digest.update(struct.pack("<L", len(part)) + part)
        return digest.digest()

    def added_fingerprint(self, path: str) -> bytes:
        """What `fingerprint` gives, without content, for a member that `rebuild` adds at `path`."""
        alone = io.BytesIO()
        row = self._write_added(NewMember(path, b"", mode=_ADDED_MODE), io.BytesIO(), alone)
        self._write_end([row], alone)
        container = ZipContainer(alone, 1)
        return container.fingerprint(next(container.entries()), content=False)

    def pack(self, order: int, content: BinaryIO, target: BinaryIO) -> PackedMember:
        """Append a member's new content to `target`, compressed in the member's way."""
        record = self._records[order]
        return self._splice(record, content, target) or pack_content(content, target, record.method)

    def _splice(self, record: Record, content: BinaryIO, target: BinaryIO) -> PackedMember | None:
        """Pack with what the member has compressed already, if that is worth while."""
        size = size_of(content)
        if record.method != DEFLATED or min(size, record.size) < SMALLEST:
            return None
        start = target.tell()
        crc = splice(self._reader.stream(record), self._reader.seams(record), content, target)
        return None if crc is None else PackedMember(crc, size, target.tell() - start)

    def rebuild(
        self,
        target: BinaryIO,
        packed: Mapping[int, PackedMember],
        read: ReadPacked,
        added: Mapping[str, BinaryIO],
        made: Mapping[int, Callable[[], bytes]] | None = None,
        packing: Packing = PLAIN,
    ) -> None:
        """Write the archive to the empty, seekable `target`.

        Members not in `packed` or `made` are copied as they are, in their places; changed ones keep
        name, attributes, times, extra fields and method. Added ones come last, sorted by path, with
        the time of the archive's newest member. Members are written in the order in which they lie.

        Args:
            read: see `artifact.Container.rebuild`.
            made: makes, when their turn comes, the content of members that follow from others.

        Raises:
            ArtifactError: an added path exists already.
        """
        made = made or {}
        changed = packed.keys() | made.keys()
        self._check_added(added)
        copy_range(self._file, 0, self._prefix, target)
        directory: dict[int, bytes] = {}
        at = 0
        while at < len(self._by_offset):
            record = self._by_offset[at]
            if record.order in changed:
                if record.order in made:
                    row = self._write_made(record, made[record.order](), target, packing)
                else:
                    row = self._write_packed(record, packed[record.order], read, target, packing)
                directory[record.order] = row
                at += 1
                continue
            until = at
            while until < len(self._by_offset) and self._by_offset[until].order not in changed:
                until += 1
            unchanged = self._by_offset[at:until]
            moved = target.tell() - record.offset
            for each in unchanged:
                directory[each.order] = moved_central(each, each.offset + moved)
                packing.placed(each.order, each.offset + moved, each.data + moved)
            copy_range(self._file, record.offset, unchanged[-1].end - record.offset, target)
            at = until
        rows = [directory[order] for order in range(len(self._records))]
        rows += [
            self._write_added(NewMember(path, b"", mode=_ADDED_MODE), added[path], target)
            for path in sorted(added)
        ]
        self._write_end(rows, target)

    def rewrite(
        self,
        target: BinaryIO,
        removed: Collection[int],
        *,
        first: Sequence[NewMember] = (),
        last: Sequence[NewMember] = (),
        leading: int | None = None,
    ) -> None:
        """Write the archive to the empty `target` with other members at its start or end.

        All others are copied as they are, in their places; new ones get the time of the archive's
        newest member. `target` must be seekable only if there are new ones.

        Args:
            removed: `order` of members that are left out.
            first: new members in front of all others,
            last: and behind them.
            leading: `order` of the member that stays in front of `first`.

        Raises:
            ArtifactError: a new path exists already.
        """
        new = {member.path: io.BytesIO(member.content) for member in (*first, *last)}
        self._check_added(new, removed)
        copy_range(self._file, 0, self._prefix, target)
        rows: dict[int, bytes] = {}

        def copy(record: Record) -> None:
            rows[record.order] = moved_central(record, target.tell())
            copy_range(self._file, record.offset, record.end - record.offset, target)

        def add(members: Sequence[NewMember]) -> list[bytes]:
            return [self._write_added(each, new[each.path], target) for each in members]

        if leading is not None:
            copy(self._records[leading])
        added_first = add(first)
        for record in self._by_offset:
            if record.order not in removed and record.order != leading:
                copy(record)
        added_last = add(last)
        ahead = [] if leading is None else [rows.pop(leading)]
        others = [rows[order] for order in sorted(rows)]
        self._write_end([*ahead, *added_first, *others, *added_last], target)

    def append(self, member: NewMember) -> None:
        """Add a member behind all others of this very archive, whose file must be writable.

        Its end record numbers disks from 0, even where that was left to the Zip64 record.
        """
        self._check_added([member.path])
        self._file.seek(self._end.start)
        self._file.truncate()
        row = self._write_added(member, io.BytesIO(member.content), self._file)
        rows = [*(record.central for record in self._records), row]
        self._file.write(self._directory(rows, self._file.tell(), numbers_disks=True))

    def directory_without(self, last: Entry | None) -> bytes:
        """Central directory and end records as they were before `last` was appended (see `append`).

        Without a member, as they are, but for the numbers of disks.
        """
        start = self._end.start if last is None else self._records[last.order].offset
        rows = [each.central for each in self._records if last is None or each.order != last.order]
        return self._directory(rows, start, numbers_disks=True)

    def _check_added(self, added: Iterable[str], removed: Collection[int] = ()) -> None:
        kept = (record for record in self._records if record.order not in removed)
        check_added(added, (record.path.removesuffix("/") for record in kept))

    def _local_extra(self, record: Record) -> bytes:
        start = record.offset + LOCAL.size + len(record.name)
        return without_zip64(read_at(self._file, start, record.data - start))

    def _write_made(
        self, record: Record, content: bytes, target: BinaryIO, packing: Packing
    ) -> bytes:
        def pack(pieces: Iterable[bytes], method: int) -> Iterator[bytes]:
            return packing.compress(record.order, pieces, method)

        def write() -> PackedMember:
            return pack_content(io.BytesIO(content), target, record.method, pack)

        return self._write_record(record, len(content), write, target, packing)

    def _write_packed(
        self,
        record: Record,
        member: PackedMember,
        read: ReadPacked,
        target: BinaryIO,
        packing: Packing,
    ) -> bytes:
        def copy() -> PackedMember:
            file, offset = read(record.order)
            copy_range(file, offset, member.stored, target)
            return member

        return self._write_record(record, member.size, copy, target, packing)

    def _write_record(
        self,
        record: Record,
        size: int,
        write: Callable[[], PackedMember],
        target: BinaryIO,
        packing: Packing,
    ) -> bytes:
        local = LOCAL.unpack(read_at(self._file, record.offset, LOCAL.size))
        version, flags, method, time, date = local[1:6]
        head = (version, flags & ~_CONTENT_FLAGS, method, time, date)
        extra = self._local_extra(record)
        offset = target.tell()
        made = write_member(target, head, record.name, extra, size, write)
        packing.placed(record.order, offset, target.tell() - made.stored)
        central = bytearray(record.central)
        struct.pack_into("<H", central, 8, record.flags & ~_CONTENT_FLAGS)
        struct.pack_into("<L", central, 16, made.crc)
        return central_record(bytes(central), without_zip64(record.extra), made, offset)

    def _write_added(self, member: NewMember, content: BinaryIO, target: BinaryIO) -> bytes:
        name = member.path.encode("utf-8")
        if len(name) > MAX_16:
            message = "An output's path is too long."
            raise ArtifactError(message, where=member.path[:120], advice=SHORTEN_NAMES)
        flags = 0 if name.isascii() else UTF8
        date, time = self._newest
        offset = target.tell()
        head = (PLAIN_VERSION, flags, member.method, time, date)

        def write() -> PackedMember:
            return pack_content(content, target, member.method)

        made = write_member(target, head, name, b"", size_of(content), write)
        central = CENTRAL.pack(
            CENTRAL_SIGNATURE,
            (_UNIX if member.mode else 0) | PLAIN_VERSION,
            *head,
            made.crc,
            0,
            0,
            len(name),
            0,
            0,
            0,
            0,
            member.mode << 16,
            0,
        )
        return central_record(central + name, b"", made, offset)

    def _write_end(self, rows: list[bytes], target: BinaryIO) -> None:
        target.write(self._directory(rows, target.tell()))

    def _directory(self, rows: list[bytes], start: int, *, numbers_disks: bool = False) -> bytes:
        """Central directory with these records at offset `start`, and the end records."""
        directory = b"".join(rows)
        size, count = len(directory), len(rows)
        original = END.unpack(self._end.raw)
        numbers = [0, 0, count, count, size, start]
        limits = [MAX_16] * 4 + [MAX_32] * 2
        # A field that was left to the Zip64 record stays there, so that nothing changed is nothing
        # changed; one that has grown too large joins it.
        short = [
            limit if number >= limit or old == limit else number
            for number, limit, old in zip(numbers, limits, original[1:7], strict=True)
        ]
        if self._end.end64 or short != numbers:
            made, needed = (
                END64.unpack(self._end.end64)[2:4] if self._end.end64 else (ZIP64_VERSION,) * 2
            )
            fields = (END64.size - 12, made, needed, 0, 0, count, count, size, start)
            directory += END64.pack(END64_SIGNATURE, *fields)
            directory += LOCATOR64.pack(LOCATOR64_SIGNATURE, 0, start + size, 1)
        if numbers_disks:
            short[:2] = [0, 0]
        end = END.pack(END_SIGNATURE, *short, len(self._end.comment))
        return directory + end + self._end.comment


def _kept_fields(fields: bytes) -> bytes:
    """Version needed, flags, method, time and date, less what new content may change in them."""
    version, flags, method, time, date = struct.unpack("<5H", fields)
    version = PLAIN_VERSION if version == ZIP64_VERSION else version
    return struct.pack("<5H", version, flags & ~_CONTENT_FLAGS, method, time, date)
