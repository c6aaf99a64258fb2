"""The stream SummaryInformation of a Windows Installer file: a property set ([MS-OLEPS])."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sealwright.errors import ArtifactError
from sealwright.signing.code_pages import codec_of

#: Name of the stream, UTF-16LE.
STREAM_NAME = "\x05SummaryInformation".encode("utf-16-le")
MAX_SIZE = 1 << 20  #: bytes of the stream

#: Property identifiers ([MS-OLEPS] section 3.1) of the metadata restrictions.
_NAMES = {3: "subject", 4: "author"}

_FORMAT_ID = bytes.fromhex("e0859ff2f94f6810ab9108002b27b3d9")
_CODE_PAGE = 1
_VT_I2, _VT_LPSTR, _VT_LPWSTR = 2, 30, 31
_MAX_PROPERTIES = 1000


def read(stream: bytes) -> dict[str, str]:
    """Subject and author, as far as they are there, by the names of the metadata restrictions.

    Raises:
        ArtifactError: the stream is malformed.
    """
    properties = dict(_properties(stream))
    code_page = properties.pop(_CODE_PAGE, b"")
    codec = codec_of(struct.unpack_from("<H", code_page, 4)[0] if len(code_page) >= 6 else 0)
    return {
        name: _text(properties[number], codec)
        for number, name in _NAMES.items()
        if number in properties
    }


def _properties(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Identifier and value, from its type on to the end of the stream (2.20, 2.21)."""
    if len(stream) < 48 or stream[:2] != b"\xfe\xff" or stream[28:44] != _FORMAT_ID:
        raise _malformed()
    start = struct.unpack_from("<I", stream, 44)[0]
    if start + 8 > len(stream):
        raise _malformed()
    size, count = struct.unpack_from("<II", stream, start)
    section = stream[start : start + size]
    if count > _MAX_PROPERTIES or 8 + 8 * count > len(section):
        raise _malformed()
    for index in range(count):
        number, offset = struct.unpack_from("<II", section, 8 + 8 * index)
        if offset + 4 > len(section):
            raise _malformed()
        yield number, section[offset:]


def _text(value: bytes, codec: str) -> str:
    """A string's value up to its first NUL (2.5, 2.7)."""
    kind = struct.unpack_from("<I", value)[0]
    if kind not in (_VT_LPSTR, _VT_LPWSTR) or len(value) < 8:
        raise _malformed()
    length = struct.unpack_from("<I", value, 4)[0]
    if kind == _VT_LPWSTR:
        length, codec = 2 * length, "utf-16-le"
    if 8 + length > len(value):
        raise _malformed()
    text = value[8 : 8 + length].decode(codec, "replace")
    return text.partition("\0")[0]


def _malformed() -> ArtifactError:
    message = "The summary information is malformed."
    return ArtifactError(message, advice="Build the package again.")
