"""Small Windows executables, built from nothing, with whatever shape a test wants."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

ALIGNMENT = 512
_RESOURCES = 0x2000


def image(
    *,
    wide: bool = True,
    gap: int = 0,
    text: bytes = b"\xc3".ljust(ALIGNMENT, b"\x90"),
    resources: bytes = b"",
    overlay: bytes = b"",
    start: int = 0x80,
    subsystem: int = 3,
) -> bytes:
    """A PE32+ (or PE32) file with one or two sections.

    Args:
        wide: PE32+ instead of PE32.
        gap: bytes between the headers and the first section.
        text: content of the first section, unpadded as it is.
        resources: content of a resource section at virtual address 0x2000.
        overlay: what follows the last section.
        start: offset of the PE header.
        subsystem: 3 is the Windows console, 10 an EFI application.
    """
    sections = [(b".text", 0x1000, text, 0x60000020)]
    if resources:
        sections.append((b".rsrc", _RESOURCES, resources, 0x40000040))
    optional_size = (112 if wide else 96) + 16 * 8
    headers = start + 24 + optional_size + 40 * len(sections)
    size_of_headers = -(-headers // ALIGNMENT) * ALIGNMENT
    offset = size_of_headers + gap
    table = b""
    body = bytes(offset - headers)
    for name, address, content, flags in sections:
        table += struct.pack("<8sIIIIIIHHI", name, len(content), address, len(content), offset,
                             0, 0, 0, 0, flags)  # fmt: skip
        body += content
        offset += len(content)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", start)
    coff = struct.pack("<HHIIIHH", 0x8664 if wide else 0x14C, len(sections), 0, 0, 0,
                       optional_size, 0x22 if wide else 0x102)  # fmt: skip
    directories = [(0, 0)] * 16
    if resources:
        directories[2] = (_RESOURCES, len(resources))
    return b"".join(
        (
            dos.ljust(start, b"\0"),
            b"PE\0\0",
            coff,
            _optional_header(wide, size_of_headers, subsystem),
            *(struct.pack("<II", *entry) for entry in directories),
            table,
            body,
            overlay,
        )
    )


def _optional_header(wide: bool, size_of_headers: int, subsystem: int) -> bytes:
    sizes = "QQQQ" if wide else "IIII"
    base = b"" if wide else struct.pack("<I", 0x2000)
    return b"".join(
        (
            struct.pack("<HBBIIIII", 0x20B if wide else 0x10B, 1, 0, 512, 0, 0, 0x1000, 0x1000),
            base,
            struct.pack("<QII" if wide else "<III", 0x400000, 0x1000, ALIGNMENT),
            struct.pack("<HHHHHHIIII", 6, 0, 0, 0, 6, 0, 0, 0x3000, size_of_headers, 0),
            struct.pack("<HH", subsystem, 0),
            struct.pack(f"<{sizes}II", 0x100000, 0x1000, 0x100000, 0x1000, 0, 16),
        )
    )


def version_resources(*languages: Mapping[str, str]) -> bytes:
    """A resource section with one VS_VERSIONINFO for each language's strings."""
    blocks = [_version_info(strings) for strings in languages]
    count = len(blocks)
    root = _directory([(16, 0x8000_0000 | 24)])
    types = _directory([(1, 0x8000_0000 | 48)])
    entries_at = 48 + 16 + 8 * count
    leaves = _directory([(0x409 + index, entries_at + 16 * index) for index in range(count)])
    data_at = entries_at + 16 * count
    entries, data = b"", b""
    for block in blocks:
        entries += struct.pack("<IIII", _RESOURCES + data_at + len(data), len(block), 0, 0)
        data += block.ljust(-(-len(block) // 4) * 4, b"\0")
    return root + types + leaves + entries + data


def _directory(entries: Sequence[tuple[int, int]]) -> bytes:
    head = struct.pack("<IIHHHH", 0, 0, 0, 0, 0, len(entries))
    return head + b"".join(struct.pack("<II", *entry) for entry in entries)


def _version_info(strings: Mapping[str, str]) -> bytes:
    table = b"".join(
        _block(key, (value + "\0").encode("utf-16-le"), text=True) for key, value in strings.items()
    )
    info = _block("StringFileInfo", b"", _block("040904B0", b"", table, text=True), text=True)
    return _block("VS_VERSION_INFO", bytes(52), info)


def _block(key: str, value: bytes, children: bytes = b"", *, text: bool = False) -> bytes:
    head = _padded(bytes(6) + (key + "\0").encode("utf-16-le"))
    body = (_padded(head + value) if children else head + value) + children
    length = len(value) // 2 if text else len(value)
    return _padded(struct.pack("<HHH", len(body), length, int(text)) + body[6:])


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4) * 4, b"\0")
