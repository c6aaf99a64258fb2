"""The database in a Windows Installer file: string pool and tables.

Microsoft does not document how it is stored; this follows from files. A table's stream holds its
columns one after another. Strings are numbers in the pool; integers are stored with their highest
bit turned over, so that 0 is left for null.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_SMALLER
from sealwright.signing.code_pages import codec_of
from sealwright.signing.containers.compound_file import CompoundFile
from sealwright.signing.containers.msi_names import table_name

STRING_POOL = table_name("_StringPool")

Value = str | int | None

_MAX_TABLE = 64 << 20
_MAX_ROWS = 1_000_000
_LONG_REFERENCES = 0x80000000
_STRING, _WIDTH = 0x0800, 0xFF
_NULLABLE, _BINARY = 0x1000, 0x0900
_TABLES = (("Name", _STRING),)
_COLUMNS = (("Table", _STRING), ("Number", 2), ("Name", _STRING), ("Type", 2))


@dataclass(frozen=True)
class Column:
    """Where a column lies in its table's stream.

    Attributes:
        name: of the column.
        kind: ``string``, ``integer`` or ``binary``, which only says whether there is a stream.
        offset: of the first row's value.
        width: bytes of each value.
    """

    name: str
    kind: str
    offset: int
    width: int

    def place(self, row: int) -> int:
        """Offset of a row's value."""
        return self.offset + row * self.width


class Table:
    """A table.

    Attributes:
        name: of the table.
        data: its stream.
        rows: their number.
        columns: by name, in their order.
    """

    def __init__(
        self, name: str, data: bytes, columns: Sequence[tuple[str, int]], strings: Strings
    ) -> None:
        self.name = name
        self.data = data
        self._strings = strings
        widths = [_width(kind, strings) for _, kind in columns]
        self.rows, rest = divmod(len(data), sum(widths) or 1)
        if rest or self.rows > _MAX_ROWS:
            _refuse(f'the table "{name}" has an impossible size')
        self.columns: dict[str, Column] = {}
        offset = 0
        for (column, kind), width in zip(columns, widths, strict=True):
            self.columns[column] = Column(column, _kind(kind), offset, width)
            offset += width * self.rows

    def values(self, name: str) -> list[Value]:
        """A column's values, of all rows.

        Raises:
            ArtifactError: there is no such column, or a string is missing in the pool.
        """
        column = self.column(name)
        numbers = _numbers(self.data[column.offset : column.place(self.rows)], column.width)
        if column.kind == "string":
            return [self._strings[number] for number in numbers]
        half = 1 << 8 * column.width - 1
        return [number - half if number else None for number in numbers]

    def texts(self, name: str) -> list[str]:
        """`values` of a column of strings, null as empty text."""
        return [value if isinstance(value, str) else "" for value in self.values(name)]

    def integers(self, name: str) -> list[int]:
        """`values` of a column of numbers, null as 0."""
        return [value if isinstance(value, int) else 0 for value in self.values(name)]

    def column(self, name: str) -> Column:
        """Where a column lies. Raises ArtifactError without it."""
        if name not in self.columns:
            _refuse(f'the table "{self.name}" has no column "{name}"')
        return self.columns[name]

    def row_without(self, row: int, left_out: Sequence[str] = ()) -> bytes:
        """What is stored in a row, less some columns."""
        return b"".join(
            self.data[column.place(row) : column.place(row + 1)]
            for column in self.columns.values()
            if column.name not in left_out
        )


class Strings:
    """The string pool.

    Attributes:
        reference: bytes of a reference to a string, 2 or 3.
    """

    def __init__(self, pool: bytes, data: bytes) -> None:
        if len(pool) < 4 or len(pool) % 4:
            _refuse("its string pool has an impossible size")
        head = struct.unpack_from("<I", pool)[0]
        self.reference = 3 if head & _LONG_REFERENCES else 2
        self._codec = codec_of(head & ~_LONG_REFERENCES)
        self._data = data
        self._ends = array("Q", [0])
        self._fill(pool)
        self._decoded: dict[int, str] = {}

    def _fill(self, pool: bytes) -> None:
        end, long = 0, False
        for length, references in struct.iter_unpack("<HH", pool[4:]):
            if long:
                # A string of 64 KiB and more: the entry behind its own is the length.
                end, long = end + (length | references << 16), False
            elif not length and references:
                long = True
                continue
            else:
                end += length
            self._ends.append(end)
        if long or end != len(self._data):
            _refuse("its string pool does not fit to its strings")

    def __getitem__(self, number: int) -> str | None:
        """The string of that number; None for 0."""
        if not number:
            return None
        if number >= len(self._ends):
            _refuse("a string is missing in its pool")
        if number not in self._decoded:
            text = self._data[self._ends[number - 1] : self._ends[number]]
            self._decoded[number] = text.decode(self._codec, "replace")
        return self._decoded[number]


class Database:
    """The tables of a Windows Installer file.

    Raises:
        ArtifactError: the string pool, or the table of tables, is malformed.
    """

    def __init__(self, package: CompoundFile) -> None:
        self._package = package
        self._strings = Strings(self._stream("_StringPool"), self._stream("_StringData"))
        self._columns: dict[str, list[tuple[str, int]]] = {
            name: [] for name in self._table("_Tables", _TABLES).texts("Name")
        }
        described = self._table("_Columns", _COLUMNS)
        rows = zip(
            described.texts("Table"),
            described.integers("Number"),
            described.texts("Name"),
            described.integers("Type"),
            strict=True,
        )
        for table, number, name, kind in sorted(rows):
            columns = self._columns.setdefault(table, [])
            if number != len(columns) + 1:
                _refuse(f'the columns of the table "{table}" are not numbered')
            columns.append((name, kind & 0xFFFF))

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def table(self, name: str) -> Table:
        """A table; one that is not there has neither rows nor columns."""
        return self._table(name, self._columns.get(name, ()))

    def _table(self, name: str, columns: Sequence[tuple[str, int]]) -> Table:
        return Table(name, self._stream(name), columns, self._strings)

    def _stream(self, name: str) -> bytes:
        node = self._package.root.child(table_name(name))
        if node is None:
            return b""
        if not node.is_stream:
            _refuse(f'the table "{name}" is a storage')
        return self._package.read(node, _MAX_TABLE)


def patched(table: Table, changes: Mapping[tuple[str, int], int]) -> bytes:
    """A table's stream with other integers, by column and row.

    Raises:
        ArtifactError: a column does not have 4 bytes, or a number does not fit.
    """
    data = bytearray(table.data)
    for (name, row), value in changes.items():
        column = table.column(name)
        if column.kind != "integer" or column.width != 4:
            _refuse(f'the column "{name}" of the table "{table.name}" is no long number')
        if not -(1 << 31) <= value < 1 << 31:
            message = f'{value} is too large for the column "{name}" of the table "{table.name}".'
            raise ArtifactError(message, advice=MAKE_SMALLER)
        struct.pack_into("<I", data, column.place(row), value + (1 << 31))
    return bytes(data)


def _width(kind: int, strings: Strings) -> int:
    if kind & ~_NULLABLE & 0x0FFF == _BINARY:
        return 2
    if kind & _STRING:
        return strings.reference
    if kind & _WIDTH not in (1, 2, 4):
        _refuse(f"a column has the impossible type {kind:#x}")
    return 4 if kind & _WIDTH == 4 else 2


def _kind(kind: int) -> str:
    if kind & ~_NULLABLE & 0x0FFF == _BINARY:
        return "binary"
    return "string" if kind & _STRING else "integer"


def _numbers(data: bytes, width: int) -> Sequence[int]:
    if width == 3:
        return [int.from_bytes(data[at : at + 3], "little") for at in range(0, len(data), 3)]
    numbers = array("H" if width == 2 else "I", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _refuse(what: str) -> NoReturn:
    message = f"The installer database is malformed: {what}."
    raise ArtifactError(message, advice="Build the package again.")
