"""Cabinets: members read with bounds, rebuilt with everything else left as it is.

Files of a folder are compressed together. A folder whose files are unchanged is copied byte for
byte; one with a changed file is written anew, stored if it was and by MSZIP otherwise. Its large
changed files get a folder of their own each: they can be packed one by one, by several processes,
and begin in it where they did in a block of the old one. So whatever they share with their old
version keeps its compressed blocks. Names are any bytes here: those in installers are keys.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.advice import SHORTEN_NAMES
from sealwright.signing.artifact import PackedMember, ReadPacked
from sealwright.signing.containers.cab_blocks import KeptBlocks, LastBlocks, NotedBlocks
from sealwright.signing.containers.cab_data import (
    MAX_LZX,
    FolderReader,
    FolderWriter,
    same_data,
    why_closed,
)
from sealwright.signing.containers.cab_layout import (
    OWN_FOLDER,
    NewFolder,
    NewMember,
    lead_of,
    runs_of,
    split,
)
from sealwright.signing.containers.cab_records import (
    BLOCK,
    CFFILE,
    CFFOLDER,
    CFHEADER,
    CFRESERVE,
    LZX,
    MAX_FOLDERS,
    MAX_NAME,
    MAX_SIZE,
    MSZIP,
    RESERVE_PRESENT,
    SIGNATURE,
    STORED,
    Folder,
    Member,
    encode_name,
    read_records,
)
from sealwright.signing.containers.deflate import crc32
from sealwright.signing.streams import chunks, copy_range, size_of

_ARCHIVE = 0x0020  # attribute of an ordinary file


@dataclass(frozen=True)
class _Contents:
    """New content, as `Cabinet.rebuild` got it.

    Attributes:
        packed: what `Cabinet.pack` has made of that of changed members, by order; `read` tells
            where it is.
        added: content by path.
    """

    packed: Mapping[int, PackedMember]
    read: ReadPacked
    added: Mapping[str, BinaryIO]


class Cabinet:
    """A cabinet.

    Args:
        file: seekable; stays the caller's and must stay open.
        max_members: the most members accepted.
        max_lzx: bytes of folders by LZX that are read; the files of others are closed.

    Attributes:
        members: in the order of their data, in which reading them is cheapest.
        lzx: bytes of folders by LZX that are read.

    Raises:
        ArtifactError: malformed, hostile, ambiguous, or one of a set.
    """

    def __init__(self, file: BinaryIO, max_members: int, max_lzx: int | None = None) -> None:
        self._file = file
        self._header, self._folders, self.members = read_records(file, max_members)
        most = MAX_LZX if max_lzx is None else max_lzx
        self._closed = why_closed(self._folders, most)
        self.lzx = sum(
            folder.size
            for folder, closed in zip(self._folders, self._closed, strict=True)
            if folder.kind == LZX and not closed
        )
        self._reader: tuple[int, FolderReader] | None = None
        self._digests: dict[int, bytes] = {}  # of members' content, by order
        self._noted = [NotedBlocks() for _ in self._folders]
        self._last: LastBlocks | None = None  # for a later version of the cabinet
        self._before: LastBlocks | None = None  # of an earlier version
        self._equal: set[int] = set()  # folders whose data is the same in it
        self._count: Callable[[int], None] = lambda _: None

    @property
    def is_signed(self) -> bool:
        """Whether a signature follows the cabinet."""
        return bool(self._header.signature)

    def meter(self, count: Callable[[int], None]) -> None:
        """See `artifact.MeteredContainer`."""
        self._count = count

    def follow(self, before: Cabinet) -> None:
        """What both have in common need not be decompressed twice.

        Args:
            before: the version that this is compared with. Each of its files is read before that of
                this one.
        """
        before._last = self._before = LastBlocks()
        old = {_files_of(each): index for index, each in enumerate(before._by_folder())}
        for index, members in enumerate(self._by_folder()):
            twin = old.get(_files_of(members))
            if twin is not None and same_data(
                self._file, self._folders[index], before._file, before._folders[twin]
            ):
                self._equal.add(index)
                before._equal.add(twin)

    def extract(self, member: Member, target: BinaryIO) -> None:
        """Write the member's content to `target`.

        Raises:
            ArtifactError: it is compressed in an unsupported way, or damaged.
        """
        for piece in self.read(member):
            target.write(piece)

    def read(self, member: Member) -> Iterator[bytes]:
        """The member's content in pieces, see `extract`; one member at a time."""
        if not member.size:
            return
        try:
            index, reader = self._reader or (-1, None)
            if reader is None or index != member.folder or reader.position > member.offset:
                reader = self._open(member.folder)
                self._reader = (member.folder, reader)
            yield from reader.read(member.offset, member.size)
        except ArtifactError as error:
            error.where = error.where or member.name
            raise

    def content_digest(self, member: Member) -> bytes:
        """SHA-256 of the member's content.

        Asked for in the order of the data, digests cost one pass, which `read` shares. Otherwise
        all files of the folder are digested in a pass of its own, and the digests kept. Where a
        folder cannot be decompressed, or is the same in the version that it is compared with, they
        are of its compressed data.
        """
        if member.order not in self._digests:
            if self._is_ahead(member):
                content = hashlib.sha256()
                for piece in self.read(member):
                    content.update(piece)
                self._digests[member.order] = content.digest()
            else:
                self._digest_folder(member.folder)
        return self._digests[member.order]

    def _is_ahead(self, member: Member) -> bool:
        """Whether reading has come to the member's folder, and not past it."""
        index, reader = self._reader or (member.folder - 1, None)
        if self._is_digested_compressed(member.folder):
            return False
        if reader is None or index < member.folder:
            return True
        return index == member.folder and reader.position <= member.offset

    def _is_digested_compressed(self, index: int) -> bool:
        return index in self._equal or bool(self._closed[index])

    def attributes_digest(self, member: Member) -> bytes:
        """SHA-256 of everything else that `rebuild` keeps about a member."""
        folder = self._folders[member.folder]
        fields = _attributes(member.raw_name, member.attributes, member.stamp)
        return hashlib.sha256(fields + _kind(folder) + folder.reserve).digest()

    @property
    def kept(self) -> bytes:
        """What belongs neither to a member nor to the cabinet's signature."""
        return self._header.kept

    def added_attributes_digest(self, path: str) -> bytes:
        """What `attributes_digest` gives for a member that `rebuild` adds at `path`."""
        raw, attributes = _added_name(path)
        fields = _attributes(raw, attributes | _ARCHIVE, self._newest)
        return hashlib.sha256(fields + b"\1" + bytes(self._header.folder_reserve)).digest()

    def pack(self, member: Member, content: BinaryIO, target: BinaryIO) -> PackedMember:
        """Append a member's new content to `target` as a folder of its own holds it.

        Short content, which will share a folder, is left as it is.
        """
        start = target.tell()
        crc = size = 0
        is_long = size_of(content) >= OWN_FOLDER
        lead = self._lead(member, size_of(content))
        writer = self._writer(target, member.folder, member.offset - lead if is_long else None)
        writer.write(bytes(lead))
        for piece in chunks(content, 0, size_of(content)):
            crc = crc32(piece, crc)
            size += len(piece)
            if is_long:
                writer.write(piece)
            else:
                target.write(piece)
        writer.finish()
        return PackedMember(crc, size, target.tell() - start)

    def rebuild(
        self,
        target: BinaryIO,
        packed: Mapping[int, PackedMember],
        read: ReadPacked,
        added: Mapping[str, BinaryIO] | None = None,
    ) -> None:
        """Write the cabinet to the empty, seekable `target`, without its signature.

        Every member keeps its name, date, attributes and place among the others. Each stream in
        `added` is looked up twice, for its size and for its content.

        Args:
            packed: what `pack` has made of new content, by `Member.order`.
            read: see `artifact.Container.rebuild`.
            added: content by path; these come last, sorted, in a folder of their own, with the
                date of the cabinet's newest member.

        Raises:
            ArtifactError: a changed folder cannot be decompressed, the cabinet would grow too
                large, or an added path cannot be stored.
        """
        contents = _Contents(packed, read, added or {})
        folders = self._new_folders(contents)
        if len(folders) > MAX_FOLDERS or len(self.members) + len(contents.added) > 0xFFFF:
            message = "The cabinet would have too many files or folders."
            raise ArtifactError(message, advice="Spread the files over several cabinets.")
        target.write(self._head(folders, 0))
        for folder in folders:
            folder.data = target.tell()
            if folder.is_copied:
                assert folder.source is not None  # noqa: S101 - only an old one can be copied
                old = self._folders[folder.source]
                folder.blocks = old.blocks
                copy_range(self._file, old.data, old.end - old.data, target)
            elif folder.has_one:
                self._copy_packed(folder, contents, target)
            else:
                self._write_folder(folder, contents, target)
            _check_size(target.tell())
        size = target.tell()
        target.seek(0)
        target.write(self._head(folders, size))
        target.seek(size)

    @property
    def _newest(self) -> tuple[int, int]:
        return max((member.stamp for member in self.members), default=(0x21, 0))

    def _open(self, index: int) -> FolderReader:
        return FolderReader(
            self._file,
            self._header,
            self._folders[index],
            self._closed[index],
            self._noted[index],
            self._last,
            self._before,
            self._decompressing,
        )

    def _decompressing(self, size: int) -> None:
        self._count(size)  # which may be another one than when the folder was opened

    def _note(self, index: int, number: int) -> None:
        """Have a folder's block noted; where it is not yet, all are, so that this is done once."""
        if number >= len(self._noted[index]):
            self._open(index).pass_over()

    def _digest_folder(self, index: int) -> None:
        folder = self._folders[index]
        members = [member for member in self.members if member.folder == index]
        if self._is_digested_compressed(index):
            digest = hashlib.sha256()
            for piece in chunks(self._file, folder.data, folder.end - folder.data):
                digest.update(piece)
            for member in members:
                place = struct.pack("<LL", member.offset, member.size)
                self._digests[member.order] = hashlib.sha256(digest.digest() + place).digest()
            return
        reader = self._open(index)
        for member in members:
            content = hashlib.sha256()
            for piece in reader.read(member.offset, member.size):
                content.update(piece)
            self._digests[member.order] = content.digest()

    def _by_folder(self) -> list[list[Member]]:
        """Members of each folder."""
        found: list[list[Member]] = [[] for _ in self._folders]
        for member in self.members:
            found[member.folder].append(member)
        return found

    def _new_folders(self, contents: _Contents) -> list[NewFolder]:
        folders: list[NewFolder] = []
        for index, members in enumerate(self._by_folder()):
            is_copied = not any(member.order in contents.packed for member in members)
            news = [
                NewMember(
                    member,
                    member.name,
                    contents.packed.get(member.order, member).size,
                    member.order in contents.packed,
                )
                for member in members
            ]
            runs = [news] if is_copied else runs_of(news)
            keeps = self._folders[index].kind == MSZIP
            for run in runs:
                folders += split(index, run, is_copied=is_copied, keeps_blocks=keeps)
        if contents.added:
            paths = sorted(contents.added)
            folders += split(
                None,
                [NewMember(None, path, size_of(contents.added[path])) for path in paths],
            )
        return folders

    def _copy_packed(self, folder: NewFolder, contents: _Contents, target: BinaryIO) -> None:
        [order] = [each.old.order for each in folder.members if each.old and each.size]
        file, offset = contents.read(order)
        member = contents.packed[order]
        copy_range(file, offset, member.stored, target)
        folder.blocks = -(-(folder.lead + member.size) // BLOCK)

    def _write_folder(self, folder: NewFolder, contents: _Contents, target: BinaryIO) -> None:
        first = folder.members[0].old
        begin = first.offset - folder.lead if first and folder.keeps_blocks else None
        writer = self._writer(target, folder.source, begin)
        writer.write(bytes(folder.lead))
        for member in folder.members:
            start = writer.size
            for piece in self._pieces(member, contents):
                writer.write(piece)
                _check_size(target.tell())
            if writer.size - start != member.size:
                message = "A member's content changed while it was read."
                raise ArtifactError(
                    message,
                    where=member.path,
                    advice="Submit the artifact again, and report it if that does not help.",
                )
        writer.finish()
        folder.blocks = writer.blocks

    def _pieces(self, member: NewMember, contents: _Contents) -> Iterator[bytes]:
        """What a member of a folder that is written anew holds then."""
        if member.old is None:
            content = contents.added[member.path]
            return chunks(content, 0, size_of(content))
        order = member.old.order
        if order in contents.packed:
            file, offset = contents.read(order)
            return chunks(file, offset, contents.packed[order].stored)
        return self.read(member.old)

    def _source_of(self, folder: NewFolder) -> Folder | None:
        return None if folder.source is None else self._folders[folder.source]

    def _lead(self, member: Member, size: int) -> int:
        """What leads the folder of a changed file that has one to itself."""
        is_kept = self._folders[member.folder].kind == MSZIP
        return lead_of(member.offset, size) if is_kept else 0

    def _writer(self, target: BinaryIO, index: int | None, begin: int | None) -> FolderWriter:
        """Writes a folder's data, in the way of an old one, of which it is a part.

        Args:
            index: of the old folder; None: it has none.
            begin: where its data begins in that folder's; None: no block of it is kept.
        """
        reserve = bytes(self._header.data_reserve)
        if index is None:
            return FolderWriter(target, MSZIP, reserve)
        old = self._folders[index]
        if old.kind == STORED:
            return FolderWriter(target, STORED, reserve)
        kept = None
        if old.kind == MSZIP and begin is not None and not begin % BLOCK:
            note = partial(self._note, index)
            kept = KeptBlocks(self._file, self._noted[index], old.blocks, begin // BLOCK, note)
        return FolderWriter(target, MSZIP, reserve, kept)

    def _head(self, folders: Sequence[NewFolder], size: int) -> bytes:
        """Everything before the data."""
        header = self._header
        reserve = header.unsigned_reserve
        middle = b""
        if reserve is not None:
            sizes = (len(reserve), header.folder_reserve, header.data_reserve)
            middle = CFRESERVE.pack(*sizes) + reserve
        for folder in folders:
            old = self._source_of(folder)
            middle += CFFOLDER.pack(folder.data, folder.blocks, self._method(folder, old))
            middle += old.reserve if old else bytes(header.folder_reserve)
        rows: dict[int, bytes] = {}
        for index, folder in enumerate(folders):
            for member in folder.members:
                position = len(rows) if member.old is None else member.old.position
                rows[position] = self._row(member, index)
        flags = header.flags | (RESERVE_PRESENT if reserve is not None else 0)
        files = CFHEADER.size + len(middle)
        numbers = (len(folders), len(rows), flags, header.set_id, 0)
        fields = (SIGNATURE, 0, size, 0, files, 0, *header.version, *numbers)
        return CFHEADER.pack(*fields) + middle + b"".join(rows[each] for each in sorted(rows))

    def _method(self, folder: NewFolder, old: Folder | None) -> int:
        if old is None:
            return MSZIP
        if folder.is_copied:
            return old.method
        return STORED if old.kind == STORED else MSZIP

    def _row(self, member: NewMember, folder: int) -> bytes:
        if member.old is None:
            raw, attributes = _added_name(member.path)
            attributes, stamp = attributes | _ARCHIVE, self._newest
        else:
            raw, attributes, stamp = member.old.raw_name, member.old.attributes, member.old.stamp
        fields = (member.size, member.offset, folder, *stamp, attributes)
        return CFFILE.pack(*fields) + raw + b"\0"


def _files_of(members: Sequence[Member]) -> tuple[tuple[bytes, int, int], ...]:
    """What a folder holds, and where in it."""
    return tuple((each.raw_name, each.offset, each.size) for each in members)


def _added_name(path: str) -> tuple[bytes, int]:
    raw, attributes = encode_name(path.replace("/", "\\"))
    if len(raw) > MAX_NAME:
        message = "An output's path is too long for a cabinet."
        raise ArtifactError(message, where=path[:120], advice=SHORTEN_NAMES)
    return raw, attributes


def _attributes(raw_name: bytes, attributes: int, stamp: tuple[int, int]) -> bytes:
    return struct.pack("<3H", attributes, *stamp) + raw_name + b"\0"


def _kind(folder: Folder) -> bytes:
    """Whether a folder is compressed, which stays so; how may change."""
    return bytes([folder.kind != STORED])


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        message = "The cabinet would become larger than 4 GiB."
        raise ArtifactError(message, advice="Make several cabinets.")
