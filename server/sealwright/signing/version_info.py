"""VS_VERSIONINFO of a PE file (Microsoft, "Version Information" and "The .rsrc Section").

Read within bounds: every table, name and value must lie inside the resource section, and the tree
is followed to its three levels only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing import streams
from sealwright.signing.advice import MAKE_ANEW

_RT_VERSION = 16
_MAX_ENTRIES = 4096
_MAX_LANGUAGES = 64
_MAX_BLOCK = 1 << 16
_MAX_RESOURCES = 1 << 30

#: String of the version resource -> attribute of a metadata restriction.
_NAMES = {
    "ProductName": "product-name",
    "ProductVersion": "product-version",
    "FileVersion": "file-version",
    "CompanyName": "company-name",
    "LegalCopyright": "copyright",
    "OriginalFilename": "original-filename",
}

Section = tuple[int, int, int, int]  # virtual address, virtual size, file offset, file size


def read(
    file: BinaryIO, resources: tuple[int, int], sections: Sequence[Section]
) -> Mapping[str, str]:
    """Metadata values by restriction name; absent strings are left out.

    A string that differs between languages is left out too: which of them Windows shows depends on
    the reader's language, so that nothing could be relied on.

    Args:
        file: the PE file.
        resources: virtual address and size of the resource directory; zeros without one.
        sections: as the section table has them.

    Raises:
        ArtifactError: the resources are malformed.
    """
    address, size = resources
    if not address or not size:
        return {}
    tree = _ResourceTree(file, address, sections)
    found: dict[str, set[str]] = {}
    for block in tree.versions():
        for key, value in _strings(block):
            if key in _NAMES:
                found.setdefault(_NAMES[key], set()).add(value)
    return {key: values.pop() for key, values in found.items() if len(values) == 1}


class _ResourceTree:
    """Reads from the section that holds the resource directory."""

    def __init__(self, file: BinaryIO, address: int, sections: Sequence[Section]) -> None:
        self._file = file
        for start, virtual_size, offset, raw_size in sections:
            if start <= address < start + max(virtual_size, raw_size):
                self._root = offset + address - start
                self._shift = offset - start
                self._end = offset + min(raw_size, _MAX_RESOURCES)
                return
        message = "The resource directory lies outside of all sections."
        raise ArtifactError(message, advice=MAKE_ANEW)

    def versions(self) -> Iterator[bytes]:
        """The data of each version resource, one for each name and language."""
        count = 0
        for kind, types in self._directory(0):
            if kind != _RT_VERSION:
                continue
            for _, names in self._directory(self._below(types)):
                for _, data_entry in self._directory(self._below(names)):
                    count += 1
                    if count > _MAX_LANGUAGES:
                        message = "There are too many version resources."
                        raise ArtifactError(message, advice=MAKE_ANEW)
                    yield self._data(data_entry)

    def _directory(self, offset: int) -> Iterator[tuple[int, int]]:
        """(identifier, offset with its flag) of each entry in a directory."""
        named, numbered = struct.unpack("<HH", self._read(self._root + offset + 12, 4))
        if named + numbered > _MAX_ENTRIES:
            message = "A resource directory has too many entries."
            raise ArtifactError(message, advice=MAKE_ANEW)
        entries = self._read(self._root + offset + 16, 8 * (named + numbered))
        yield from struct.iter_unpack("<II", entries)

    @staticmethod
    def _below(child: int) -> int:
        if not child & 0x8000_0000:
            message = "A resource directory is missing where one belongs."
            raise ArtifactError(message, advice=MAKE_ANEW)
        return child & 0x7FFF_FFFF

    def _data(self, entry: int) -> bytes:
        if entry & 0x8000_0000:
            message = "A version resource is nested too deeply."
            raise ArtifactError(message, advice=MAKE_ANEW)
        address, size = struct.unpack("<II", self._read(self._root + entry, 8))
        if size > _MAX_BLOCK:
            message = "A version resource is too large."
            raise ArtifactError(message, advice=MAKE_ANEW)
        return self._read(address + self._shift, size)

    def _read(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self._end:
            message = "A resource reaches beyond its section."
            raise ArtifactError(message, advice=MAKE_ANEW)
        return streams.read_at(self._file, offset, length)


def _strings(block: bytes) -> Iterator[tuple[str, str]]:
    """Name and value of each string in VS_VERSIONINFO > StringFileInfo > StringTable > String."""
    for root_key, _, root in _blocks(block):
        if root_key != "VS_VERSION_INFO":
            continue
        for info_key, _, info in _blocks(root):
            if info_key != "StringFileInfo":
                continue
            for _, _, table in _blocks(info):
                for key, value, _ in _blocks(table):
                    yield key, value.decode("utf-16-le", "replace").partition("\0")[0].strip()


def _blocks(data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Key, value and children of each block: lengths, type, key, padding, value, children.

    Values of text count in 16-bit units, others in bytes; each block begins at a multiple of 4.
    """
    position = 0
    while len(data) - position >= 6:
        length, value_length, kind = struct.unpack_from("<HHH", data, position)
        if length == 0:
            return
        if length < 6 or position + length > len(data):
            message = "A block of the version resource reaches beyond its end."
            raise ArtifactError(message, advice=MAKE_ANEW)
        block = data[position : position + length]
        end_of_key = _end_of_text(block, 6)
        key = block[6:end_of_key].decode("utf-16-le", "replace")
        start = _aligned(end_of_key + 2)
        size = 2 * value_length if kind == 1 else value_length
        yield key, block[start : start + size], block[_aligned(start + size) :]
        position += _aligned(length)


def _end_of_text(block: bytes, start: int) -> int:
    for position in range(start, len(block) - 1, 2):
        if block[position : position + 2] == b"\0\0":
            return position
    message = "A key of the version resource has no end."
    raise ArtifactError(message, advice=MAKE_ANEW)


def _aligned(offset: int) -> int:
    return -(-offset // 4) * 4
