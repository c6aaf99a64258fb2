"""Where a Windows Installer package keeps its files, and where it would install them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from sealwright.errors import ArtifactError
from sealwright.signing.advice import RAISE_LIMIT
from sealwright.signing.containers.member_paths import check_distinct, check_path, folded
from sealwright.signing.containers.msi_database import Database, Table

BINARY = "Binary"  #: folder of the streams of the Binary table
MODULE_CABINET = "MergeModule.CABinet"  #: stream of a merge module's files

_MAX_DEPTH = 200  # folders in folders
_MAX_PATH = 1000  # characters of a folder's path
_MAX_NAME = 255
_LOOSE = 0x2000  # attribute of a file that lies beside the package, whatever its Media row says


@dataclass(frozen=True)
class FileRow:
    """A row of the File table.

    Attributes:
        key: its primary key, which is the file's name in its cabinet.
        row: number of the row.
        size: FileSize.
        path: where it is installed, with its key where that alone is not distinct.
        cabinet: Media.Cabinet: ``#name`` for an embedded one, the name of another file, or empty
            if the file lies beside the package.
    """

    key: str
    row: int
    size: int
    path: str
    cabinet: str


def file_rows(database: Database, most: int) -> list[FileRow]:
    """The files of a package in the order of their sequence numbers.

    Args:
        most: rows that are accepted.

    Raises:
        ArtifactError: tables are malformed or contradict each other, or two paths are equal.
    """
    table = database.table("File")
    if not table.rows:
        return []
    _check_count(table, most)
    keys, sequences = table.texts("File"), table.integers("Sequence")
    sizes, attributes = table.integers("FileSize"), table.integers("Attributes")
    if len(set(keys)) != len(keys):
        _refuse("two rows of the File table have one key")
    paths = _paths(database)
    media = _Media(database)
    order = sorted(range(table.rows), key=lambda row: (sequences[row], keys[row]))
    return [
        FileRow(
            keys[row],
            row,
            sizes[row],
            paths[row],
            "" if attributes[row] & _LOOSE else media.cabinet(sequences[row]),
        )
        for row in order
    ]


class _Media:
    """Which cabinet holds which sequence numbers."""

    def __init__(self, database: Database) -> None:
        table = database.table("Media")
        self._is_module = "Media" not in database
        self._ranges = (
            sorted(zip(table.integers("LastSequence"), table.texts("Cabinet"), strict=True))
            if table.rows
            else []
        )

    def cabinet(self, sequence: int) -> str:
        if self._is_module:
            return f"#{MODULE_CABINET}"
        index = bisect_left(self._ranges, (sequence, ""))
        return self._ranges[index][1] if index < len(self._ranges) else ""


def _paths(database: Database) -> list[str]:
    """The path of each row of the File table: folders' target names, long ones where there are.

    Files that would come to lie in one place (of components that exclude each other) get a folder
    of their own each, named after their keys.
    """
    table = database.table("File")
    folders = _Folders(database)
    components = database.table("Component")
    folder_of = dict(
        zip(components.texts("Component"), components.texts("Directory_"), strict=True)
        if components.rows
        else ()
    )
    places = []
    rows = zip(table.texts("Component_"), table.texts("FileName"), table.texts("File"), strict=True)
    for component, file_name, key in rows:
        if component not in folder_of:
            _refuse(f'the component of the file "{key}" is missing')
        places.append((folders.path(folder_of[component]), _long_name(file_name), key))
    counts = Counter(folded(folder + name) for folder, name, _ in places)
    paths = [
        f"{folder}{name}" if counts[folded(folder + name)] == 1 else f"{folder}@{key}/{name}"
        for folder, name, key in places
    ]
    for path in paths:
        check_path(path)
    check_distinct(paths)
    return paths


class _Folders:
    """The Directory table."""

    def __init__(self, database: Database) -> None:
        table = database.table("Directory")
        rows: Iterator[tuple[str, str, str]] = iter(())
        if table.rows:
            columns = ("Directory", "Directory_Parent", "DefaultDir")
            rows = zip(*map(table.texts, columns), strict=True)
        self._rows = {key: (parent, name) for key, parent, name in rows}
        self._paths: dict[str, str] = {}

    def path(self, key: str) -> str:
        """A folder's path with a slash at its end; empty for the root."""
        names: list[str] = []
        at = key
        while at not in self._paths:
            if at not in self._rows or len(names) > _MAX_DEPTH:
                _refuse(f'the folder "{at}" is missing, or inside of itself')
            parent, name = self._rows[at]
            if parent in ("", at):
                break
            names.append(_long_name(name.partition(":")[0]))
            at = parent
        path = self._paths.get(at, "")
        path += "".join(f"{name}/" for name in reversed(names) if name != ".")
        if len(path) > _MAX_PATH:
            _refuse(f'the path of the folder "{key[:120]}" is too long')
        self._paths[key] = path
        return path


def _long_name(name: str) -> str:
    """The long form of ``short|long``."""
    long = name.rpartition("|")[2]
    if not 0 < len(long) <= _MAX_NAME or "/" in long:
        _refuse(f'"{name[:120]}" is no name of a file or folder')
    return long


def binary_rows(database: Database, taken: Mapping[str, object], most: int) -> list[str]:
    """Names of the rows of the Binary table, sorted.

    Args:
        taken: folded paths of files, which theirs must not be.
        most: rows that are accepted.
    """
    table = database.table(BINARY)
    if not table.rows:
        return []
    _check_count(table, most)
    names = sorted(table.texts("Name"))
    for name in names:
        if "/" in name or folded(f"{BINARY}/{name}") in taken:
            _refuse(f'the row "{name[:120]}" of the Binary table has no path')
    paths = [f"{BINARY}/{name}" for name in names]
    for path in paths:
        check_path(path)
    check_distinct(paths)
    return names


def _check_count(table: Table, most: int) -> None:
    if table.rows > most:
        message = f"The package has more than {most} members."
        raise ArtifactError(message, advice=RAISE_LIMIT)


def _refuse(what: str) -> NoReturn:
    message = f"The installer database contradicts itself: {what}."
    raise ArtifactError(message, advice="Build the package again.")
