"""Writes Windows Installer packages of any kind, right and wrong; no code of the engine's."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.fakes import cabinets, compound_files

Row = Sequence["str | int | None"]
Table = tuple[Sequence[str], Sequence[Row]]  # columns such as ``File s72``, the first is the key

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
_NO_PROPERTIES = struct.pack(
    "<HHI16xI16sIII",
    0xFFFE,
    0,
    0,
    1,
    bytes.fromhex("e0859ff2f94f6810ab9108002b27b3d9"),
    48,
    8,
    0,
)
DIRECTORIES: Sequence[Row] = (
    ("TARGETDIR", None, "SourceDir"),
    ("ProgramFilesFolder", "TARGETDIR", "."),
    ("INSTALLDIR", "ProgramFilesFolder", "EXAMPL~1|Example App:source"),
    ("BIN", "INSTALLDIR", "bin"),
    ("SAME", "INSTALLDIR", ".:other"),
)


@dataclass(frozen=True)
class Installed:
    """A row of the File table with its content.

    Attributes:
        cabinet: Media.Cabinet, ``#name`` for an embedded one; None without.
        hashed: whether MsiFileHash has a row.
        size: FileSize, if it is not the right one.
        digest: in MsiFileHash, if it is not the right one.
    """

    key: str
    name: str
    content: bytes = b""
    folder: str = "INSTALLDIR"
    cabinet: str | None = "#files.cab"
    hashed: bool = False
    attributes: int = 512
    size: int | None = None
    digest: bytes | None = None


@dataclass(frozen=True)
class Options:
    """What else a package has.

    Attributes:
        long: whether references to strings have 3 bytes.
        replaced: streams and storages by their names in the compound file; None takes one out.
        tables: besides, or instead of, those that are made.
        left_out: files that are in the table but not in their cabinet.
    """

    version: int = 3
    seed: int | None = None
    long: bool = False
    code_page: int = 1252
    is_module: bool = False
    class_id: bytes = compound_files.PACKAGE
    directories: Sequence[Row] = DIRECTORIES
    binaries: Mapping[str, bytes] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    replaced: Mapping[str, bytes | compound_files.Tree | None] = field(default_factory=dict)
    left_out: Sequence[str] = ()


def stream(name: str, *, is_table: bool = False) -> str:
    """The name in the compound file."""
    made, at = chr(0x4840) if is_table else "", 0
    while at < len(name):
        pair = [_ALPHABET.find(character) for character in name[at : at + 2]]
        if pair[0] < 0:
            made += name[at]
        elif len(pair) == 2 and pair[1] >= 0:
            made += chr(0x3800 + pair[0] + 64 * pair[1])
            at += 1
        else:
            made += chr(0x4800 + pair[0])
        at += 1
    return made


def build(files: Sequence[Installed], options: Options = Options()) -> bytes:
    """A package with these files, in this order of sequence numbers."""
    names = list(dict.fromkeys(file.cabinet for file in files))
    folders = list(dict.fromkeys(file.folder for file in files))
    tables: dict[str, Table] = {
        "Directory": (
            ("Directory s72", "Directory_Parent S72", "DefaultDir l255"),
            options.directories,
        ),
        "Component": (
            ("Component s72", "ComponentId S38", "Directory_ s72"),
            [(f"in {folder}", None, folder) for folder in folders],
        ),
        "File": (
            (
                "File s72",
                "Component_ s72",
                "FileName l255",
                "FileSize i4",
                "Attributes I2",
                "Sequence i4",
            ),
            [
                (
                    file.key,
                    f"in {file.folder}",
                    file.name,
                    len(file.content) if file.size is None else file.size,
                    file.attributes,
                    number,
                )
                for number, file in enumerate(files, start=1)
            ],
        ),
        "MsiFileHash": (
            ("File_ s72", "Options i2", *(f"HashPart{part} i4" for part in range(1, 5))),
            [
                (file.key, 0, *struct.unpack("<4i", file.digest or _md5(file.content)))
                for file in files
                if file.hashed
            ],
        ),
        "Binary": (("Name s72", "Data v0"), [(name, 1) for name in options.binaries]),
    }
    if not options.is_module:
        last = {file.cabinet: number for number, file in enumerate(files, start=1)}
        # all columns, as in real packages: msiextract finds Cabinet by its place
        tables["Media"] = (
            (
                "DiskId i2",
                "LastSequence i4",
                "DiskPrompt L64",
                "Cabinet S255",
                "VolumeLabel S32",
                "Source S72",
            ),
            [
                (number, last[name], None, name, None, None)
                for number, name in enumerate(names, start=1)
            ],
        )
    tables |= options.tables
    tree: dict[str, bytes | compound_files.Tree] = dict(_database(tables, options))
    for name in names:
        if name is not None and name.startswith("#"):
            inside = [
                cabinets.File(file.key.encode(), file.content)
                for file in files
                if file.cabinet == name and file.key not in options.left_out
            ]
            place = "MergeModule.CABinet" if options.is_module else name[1:]
            tree[stream(place)] = cabinets.build([cabinets.Folder(inside)])
    for name, content in options.binaries.items():
        tree[stream(f"Binary.{name}")] = content
    tree["\5SummaryInformation"] = _NO_PROPERTIES
    for name, value in options.replaced.items():
        tree.pop(name, None)
        if value is not None:
            tree[name] = value
    layout = compound_files.build(
        tree, options.version, class_id=options.class_id, seed=options.seed
    )
    return layout.content


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _database(tables: Mapping[str, Table], options: Options) -> dict[str, bytes]:
    pool: dict[str, int] = {}
    described = [
        (table, number, column.split()[0], _type(column.split()[1], number))
        for table, (columns, _) in tables.items()
        for number, column in enumerate(columns, start=1)
    ]
    streams = {
        stream(name, is_table=True): _table(columns, rows, pool, options)
        for name, (columns, rows) in {
            "_Tables": (("Name s64",), [(name,) for name in tables]),
            "_Columns": (("Table s64", "Number i2", "Name s64", "Type i2"), described),
            **tables,
        }.items()
    }
    head = options.code_page | (0x80000000 if options.long else 0)
    entries, data = struct.pack("<I", head), b""
    for text in pool:
        raw = text.encode("cp1252" if options.code_page == 1252 else "utf-8")
        if len(raw) > 0xFFFF:
            entries += struct.pack("<HHI", 0, 1, len(raw))
        else:
            entries += struct.pack("<HH", len(raw), 1)
        data += raw
    streams[stream("_StringPool", is_table=True)] = entries
    streams[stream("_StringData", is_table=True)] = data
    return {name: content for name, content in streams.items() if content}


def _type(spec: str, number: int) -> int:
    kind = {"s": 0x0D00, "l": 0x0F00, "i": 0x0100, "v": 0x0900}[spec[0].lower()] | int(spec[1:])
    kind |= 0x1000 if spec[0].isupper() else 0
    kind |= 0x2000 if number == 1 else 0
    return kind


def _table(columns: Sequence[str], rows: Sequence[Row], pool: dict[str, int], o: Options) -> bytes:
    made = b""
    for index, column in enumerate(columns):
        spec = column.split()[1].lower()
        for row in rows:
            value = row[index]
            if spec == "v0":
                made += struct.pack("<H", 1)
            elif spec[0] in "sl":
                number = 0 if value is None else pool.setdefault(str(value), len(pool) + 1)
                made += number.to_bytes(3 if o.long else 2, "little")
            else:
                width = 4 if spec == "i4" else 2
                half = 1 << 8 * width - 1
                stored = 0 if value is None else int(value) + half
                made += stored.to_bytes(width, "little")
    return made
