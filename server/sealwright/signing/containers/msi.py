"""Windows Installer packages and merge modules, opened: their files and the Binary table's streams.

The files are in embedded cabinets, which name them by their keys. Changed ones are replaced there;
sizes and hashes in the database are corrected where they stand, and the package's signature is
taken out. Everything else keeps every byte of its content.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from sealwright.errors import ArtifactError, ClosedMemberError, InternalError
from sealwright.signing.artifact import Entry, PackedMember, ReadPacked
from sealwright.signing.containers.cab import Cabinet
from sealwright.signing.containers.cab_data import MAX_LZX
from sealwright.signing.containers.cab_records import Member
from sealwright.signing.containers.compound_file import CompoundFile, Node, root_class
from sealwright.signing.containers.compound_writer import Content, rewrite
from sealwright.signing.containers.member_paths import folded
from sealwright.signing.containers.msi_database import STRING_POOL, Database, Table, patched
from sealwright.signing.containers.msi_layout import BINARY, FileRow, binary_rows, file_rows
from sealwright.signing.containers.msi_names import SIGNATURE_STREAMS, stream_name, table_name
from sealwright.signing.streams import copy_range, digest_of, read_at, size_of

#: Class identifiers of root storages: of packages and merge modules, and of patches.
PACKAGE = bytes.fromhex("84100c0000000000c000000000000046")
PATCH = bytes.fromhex("86100c0000000000c000000000000046")

_HASH_PARTS = ("HashPart1", "HashPart2", "HashPart3", "HashPart4")
_SIZE = ("FileSize",)
_MD5 = 16  # bytes
_REBUILD = "Build the package again, with one cabinet of its own inside it."


def is_installer(file: BinaryIO) -> bool:
    """Whether it is a compound file whose class is that of a package, merge module or patch."""
    return root_class(file) in (PACKAGE, PATCH)


@dataclass(frozen=True)
class _File:
    """A file of the package.

    Attributes:
        row: in the File table.
        cabinet: index of its cabinet, `member` in it; None if it cannot be opened, see `closed`.
        closed: why.
        hash_row: number of its row in MsiFileHash, or None.
    """

    row: FileRow
    cabinet: int | None
    member: Member | None
    closed: str
    hash_row: int | None

    def place(self) -> tuple[bool, int, int]:
        """Sort key: where its data is, so that reading goes forwards; those without any last."""
        if self.member is None or self.cabinet is None:
            return True, 0, 0
        return False, self.cabinet, self.member.order


@dataclass(frozen=True)
class _Embedded:
    """A cabinet in a stream."""

    node: Node
    cabinet: Cabinet


class MsiContainer:
    """A package or merge module, see `artifact.Container`. A patch has no members.

    Args:
        file: seekable; stays the caller's and must stay open.
        max_members: the most members accepted.

    Raises:
        ArtifactError: malformed, hostile or ambiguous; `where` is the member.
    """

    def __init__(self, file: BinaryIO, max_members: int) -> None:
        self._package = CompoundFile(file)
        self._max_members = self._members_left = max_members
        self._lzx_left = MAX_LZX
        self._files: list[_File] = []
        self._binaries: list[tuple[str, Node]] = []
        self._embedded: list[_Embedded] = []
        self._checks_hashes = True
        root = self._package.root
        if root.entry.class_id == PATCH or root.child(STRING_POOL) is None:
            return
        database = Database(self._package)
        self._file_table = database.table("File")
        self._hash_table = database.table("MsiFileHash")
        rows = file_rows(database, max_members)
        self._add_files(rows)
        taken = {folded(each.path): each for each in rows}
        for name in binary_rows(database, taken, max_members - len(rows)):
            node = root.child(stream_name(f"{BINARY}.{name}"))
            if node is not None and node.is_stream:
                self._binaries.append((name, node))
        names = [each.node.name for each in self._embedded]
        if {node.name for _, node in self._binaries} & set(names) or len(set(names)) < len(names):
            message = "One stream serves as several cabinets, or as one and for the Binary table."
            raise ArtifactError(message, advice=_REBUILD)

    # Reading

    def meter(self, count: Callable[[int], None]) -> None:
        """See `artifact.MeteredContainer`."""
        for embedded in self._embedded:
            embedded.cabinet.meter(count)

    def follow(self, before: MsiContainer) -> None:
        """See `Cabinet.follow`. What the database of `before` says of hashes is not checked any
        more: whoever planned has done so."""
        before._checks_hashes = False
        old = {each.node.name: each.cabinet for each in before._embedded}
        for embedded in self._embedded:
            if embedded.node.name in old:
                embedded.cabinet.follow(old[embedded.node.name])

    def entries(self) -> Iterator[Entry]:
        """Files in the order of their data; then the Binary table's."""
        for order, each in enumerate(self._files):
            size = each.row.size if each.member is None else each.member.size
            yield Entry(each.row.path, max(size, 0), is_directory=False, order=order)
        for order, (name, node) in enumerate(self._binaries, start=len(self._files)):
            yield Entry(f"{BINARY}/{name}", node.entry.size, is_directory=False, order=order)

    def extract(self, entry: Entry, target: BinaryIO) -> None:
        """Write the member's content to `target`.

        Raises:
            ClosedMemberError: the file is not in an embedded cabinet that can be opened.
            ArtifactError: it is damaged, or the database says something else about it.
        """
        if entry.order >= len(self._files):
            for piece in self._package.chunks(self._binary(entry.order)):
                target.write(piece)
            return
        each = self._files[entry.order]
        if each.member is None or each.cabinet is None:
            message = f"The file {each.closed}."
            raise ClosedMemberError(message, advice=_REBUILD, where=entry.path)
        self._check_size(each, each.member.size)
        cabinet = self._embedded[each.cabinet].cabinet
        if each.hash_row is None or not self._checks_hashes:
            cabinet.extract(each.member, target)
            return
        digest = hashlib.md5(usedforsecurity=False)
        for piece in cabinet.read(each.member):
            digest.update(piece)
            target.write(piece)
        if self._hash(each.hash_row) != _parts(digest.digest()):
            message = "The file is not the one whose hash is in the table MsiFileHash."
            raise ArtifactError(message, advice=_REBUILD, where=entry.path)

    def fingerprint(self, entry: Entry | None, *, content: bool = True) -> bytes:
        """SHA-256 of a member's rows, its record in the cabinet, and its content decompressed."""
        if entry is None:
            return self._surroundings()
        if entry.order >= len(self._files):
            node = self._binary(entry.order)
            digest = _metadata(node)
            if content:
                for piece in self._package.chunks(node):
                    digest.update(piece)
            return digest.digest()
        each = self._files[entry.order]
        digest = hashlib.sha256(each.row.path.encode("utf-8", "surrogatepass"))
        digest.update(self._file_table.row_without(each.row.row, _SIZE))
        digest.update(bytes([each.hash_row is not None]))
        if each.member is not None and each.cabinet is not None:
            cabinet = self._embedded[each.cabinet].cabinet
            digest.update(cabinet.attributes_digest(each.member))
            if content:
                digest.update(cabinet.content_digest(each.member))
        if content:
            numbers = (each.row.size, *self._hash(each.hash_row))
            digest.update(struct.pack(f"<{len(numbers)}q", *numbers))
        return digest.digest()

    def added_fingerprint(self, path: str) -> bytes:
        """Nothing can be added.

        Raises:
            ArtifactError: always.
        """
        message = "No file can be added to a Windows Installer package."
        advice = (
            "Sign files in it by directives that need no output file, or put it into an archive."
        )
        raise ArtifactError(message, advice=advice, where=path)

    # Writing

    def pack(self, order: int, content: BinaryIO, target: BinaryIO) -> PackedMember:
        """Append a member's new content to `target` as its cabinet will hold it.

        Before a file of the File table comes its MD5 where the database holds one, zeros otherwise.
        """
        start = target.tell()
        if order >= len(self._files):
            copy_range(content, 0, size_of(content), target)
            return PackedMember(0, target.tell() - start, target.tell() - start)
        each = self._files[order]
        if each.member is None or each.cabinet is None:
            message = "A file that is not in the package was changed."
            raise InternalError(message, where=each.row.path)
        target.write(bytes(_MD5) if each.hash_row is None else digest_of(content, "md5"))
        packed = self._embedded[each.cabinet].cabinet.pack(each.member, content, target)
        return replace(packed, stored=target.tell() - start)

    def rebuild(
        self,
        target: BinaryIO,
        packed: Mapping[int, PackedMember],
        read: ReadPacked,
        added: Mapping[str, BinaryIO],
    ) -> None:
        """Write the package to the empty, seekable `target`, without its signature.

        Raises:
            ArtifactError: a file is to be added, a cabinet cannot be written, or the result would
                be too large.
        """
        for path in added:
            self.added_fingerprint(path)
        contents: dict[bytes, Content] = {}
        for embedded, members in self._changed_cabinets(packed):
            contents[embedded.node.name] = partial(
                _rebuild, embedded.cabinet, packed, read, members
            )
        facts: dict[int, tuple[int, bytes]] = {}
        for order in sorted(packed):
            if order >= len(self._files):
                contents[self._binary(order).name] = partial(_copy, packed, read, order)
                continue
            file, offset = read(order)
            digest = b"" if self._files[order].hash_row is None else read_at(file, offset, _MD5)
            facts[order] = packed[order].size, digest
        if facts:
            contents |= self._patched_tables(facts)
        rewrite(self._package, target, contents, SIGNATURE_STREAMS)
        self._check_rebuilt(MsiContainer(target, self._max_members), facts)

    def _changed_cabinets(
        self, changed: Collection[int]
    ) -> Iterator[tuple[_Embedded, dict[int, int]]]:
        """Cabinets with changed files: the files' order by that in the cabinet."""
        by_cabinet: dict[int, dict[int, int]] = {}
        for order in sorted(changed):
            each = self._files[order] if order < len(self._files) else None
            if each is not None and each.member is not None and each.cabinet is not None:
                by_cabinet.setdefault(each.cabinet, {})[each.member.order] = order
        for index, members in by_cabinet.items():
            yield self._embedded[index], members

    def _patched_tables(self, facts: Mapping[int, tuple[int, bytes]]) -> dict[bytes, Content]:
        sizes: dict[tuple[str, int], int] = {}
        hashes: dict[tuple[str, int], int] = {}
        for order, (size, digest) in facts.items():
            each = self._files[order]
            sizes["FileSize", each.row.row] = size
            if each.hash_row is not None:
                for name, part in zip(_HASH_PARTS, _parts(digest), strict=True):
                    hashes[name, each.hash_row] = part
        tables: dict[bytes, Content] = {table_name("File"): patched(self._file_table, sizes)}
        if hashes:
            tables[table_name("MsiFileHash")] = patched(self._hash_table, hashes)
        return tables

    def _check_rebuilt(self, rebuilt: MsiContainer, facts: Mapping[int, tuple[int, bytes]]) -> None:
        """The database must say of each file what its cabinet says; installers may not notice."""
        for order, (old, new) in enumerate(zip(self._files, rebuilt._files, strict=True)):
            is_right = (old.row.path, old.member is None) == (new.row.path, new.member is None)
            if order in facts:
                size, digest = facts[order]
                is_right &= new.member is not None and size == new.member.size == new.row.size
                hashed = () if old.hash_row is None else _parts(digest)
                is_right &= hashed == rebuilt._hash(new.hash_row)
            else:
                is_right &= old.row.size == new.row.size
                is_right &= self._hash(old.hash_row) == rebuilt._hash(new.hash_row)
            if not is_right:
                message = "The rebuilt package contradicts itself."
                raise InternalError(message, where=old.row.path)

    # Parts

    def _add_files(self, rows: list[FileRow]) -> None:
        hash_rows: dict[str, int] = {}
        if self._hash_table.rows:
            hash_rows = {key: row for row, key in enumerate(self._hash_table.texts("File_"))}
            self._check_hash_table(hash_rows)
        opened: dict[str, tuple[int | None, str]] = {}
        members: list[dict[str, Member]] = []
        for row in rows:
            if row.cabinet not in opened:
                opened[row.cabinet] = self._open(row.cabinet)
                if opened[row.cabinet][0] is not None:
                    members.append(_by_name(self._embedded[-1].cabinet))
            index, closed = opened[row.cabinet]
            member = None if index is None else members[index].get(row.key)
            if index is not None and member is None:
                index, closed = None, f'is missing in the cabinet "{row.cabinet[1:]}"'
            self._files.append(_File(row, index, member, closed, hash_rows.get(row.key)))
        self._files.sort(key=_File.place)

    def _check_hash_table(self, hash_rows: Mapping[str, int]) -> None:
        if len(hash_rows) != self._hash_table.rows:
            message = "Two rows of the table MsiFileHash are about one file."
            raise ArtifactError(message, advice=_REBUILD)
        for name in _HASH_PARTS:
            self._hash_table.column(name)

    def _open(self, name: str) -> tuple[int | None, str]:
        """Index of an embedded cabinet, or why its files cannot be opened."""
        if not name:
            return None, "lies beside the package, not in a cabinet"
        if not name.startswith("#"):
            return None, f'is in the external cabinet "{name}", which is not part of the package'
        node = self._package.root.child(stream_name(name[1:]))
        if node is None or not node.is_stream:
            return None, f'should be in the embedded cabinet "{name[1:]}", which is missing'
        try:
            cabinet = Cabinet(self._package.open(node), self._members_left, self._lzx_left)
        except ArtifactError as error:
            return None, f'is in the cabinet "{name[1:]}", which cannot be opened ({error.message})'
        self._members_left -= len(cabinet.members)
        self._lzx_left -= cabinet.lzx
        self._embedded.append(_Embedded(node, cabinet))
        return len(self._embedded) - 1, ""

    def _binary(self, order: int) -> Node:
        return self._binaries[order - len(self._files)][1]

    def _check_size(self, each: _File, size: int) -> None:
        if each.row.size != size:
            message = f"The File table says {each.row.size} bytes; the cabinet holds {size}."
            raise ArtifactError(message, advice=_REBUILD, where=each.row.path)

    def _hash(self, row: int | None) -> tuple[int, ...]:
        """The four numbers of a row of MsiFileHash."""
        if row is None:
            return ()
        return tuple(_integer(self._hash_table, name, row) for name in _HASH_PARTS)

    def _surroundings(self) -> bytes:
        """Everything but members, what the database says of their content, and the signature."""
        apart: dict[bytes, bytes] = {each.node.name: b"" for each in self._embedded}
        apart |= {node.name: b"" for _, node in self._binaries}
        if self._files:
            apart[table_name("File")] = _blanked(self._file_table, _SIZE)
            if self._hash_table.rows:
                apart[table_name("MsiFileHash")] = _blanked(self._hash_table, _HASH_PARTS)
        digest = hashlib.sha256(_metadata(self._package.root).digest())
        for node in self._package.root.children:
            if node.name in apart:
                digest.update(_metadata(node).digest() + apart[node.name])
            elif node.name not in SIGNATURE_STREAMS:
                self._add_whole(node, digest)
        named = {
            (each.cabinet, each.member.order) for each in self._files if each.member is not None
        }
        for index, embedded in enumerate(self._embedded):
            cabinet = embedded.cabinet
            digest.update(hashlib.sha256(cabinet.kept).digest())
            for member in cabinet.members:
                if (index, member.order) not in named:
                    digest.update(cabinet.attributes_digest(member))
                    digest.update(cabinet.content_digest(member))
        return digest.digest()

    def _add_whole(self, node: Node, digest: hashlib._Hash) -> None:
        digest.update(_metadata(node).digest())
        content = hashlib.sha256()
        if node.is_stream:
            for piece in self._package.chunks(node):
                content.update(piece)
        digest.update(content.digest() + struct.pack("<I", len(node.children)))
        for child in node.children:
            self._add_whole(child, digest)


def _rebuild(
    cabinet: Cabinet,
    packed: Mapping[int, PackedMember],
    read: ReadPacked,
    orders: Mapping[int, int],
    target: BinaryIO,
) -> None:
    def read_member(number: int) -> tuple[BinaryIO, int]:
        file, offset = read(orders[number])
        return file, offset + _MD5

    members = {
        number: replace(packed[order], stored=packed[order].stored - _MD5)
        for number, order in orders.items()
    }
    cabinet.rebuild(target, members, read_member)


def _copy(
    packed: Mapping[int, PackedMember], read: ReadPacked, order: int, target: BinaryIO
) -> None:
    file, offset = read(order)
    copy_range(file, offset, packed[order].stored, target)


def _by_name(cabinet: Cabinet) -> dict[str, Member]:
    return {member.name: member for member in cabinet.members}


def _parts(digest: bytes) -> tuple[int, ...]:
    """An MD5 as four signed numbers."""
    return struct.unpack("<4i", digest)


def _integer(table: Table, name: str, row: int) -> int:
    """The number in a long column."""
    column = table.column(name)
    (stored,) = struct.unpack_from("<I", table.data, column.place(row))
    return int(stored) - (1 << 31)


def _blanked(table: Table, names: tuple[str, ...]) -> bytes:
    """A table's stream with zeros in some columns."""
    data = bytearray(table.data)
    for name in names:
        column = table.column(name)
        data[column.offset : column.place(table.rows)] = bytes(column.width * table.rows)
    return bytes(data)


def _metadata(node: Node) -> hashlib._Hash:
    """SHA-256, begun with what the directory says of a stream or storage besides its content."""
    entry = node.entry
    fields = (len(entry.name), entry.kind, entry.state, entry.class_id, entry.created)
    return hashlib.sha256(struct.pack("<3I16s8s8s", *fields, entry.modified) + entry.name)
