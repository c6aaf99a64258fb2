"""Distinguished Encoding Rules (ITU-T X.690, section 10), strictly read, deterministically written.

Only what CMS, Authenticode and RFC 3161 need: single-byte identifiers, definite, minimal lengths.
The reader walks one level at a time and never recurses, so that hostile nesting costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NoReturn

from sealwright.errors import ArtifactError
from sealwright.signing.advice import DAMAGED_ENCODING

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
BMP_STRING = 0x1E
SEQUENCE = 0x30
SET = 0x31

_CONSTRUCTED = 0x20
_CONTEXT = 0x80
_MAX_LENGTH_OCTETS = 4
_MAX_OID_OCTETS = 64


def context(number: int, *, constructed: bool = True) -> int:
    """The identifier octet of the context-specific tag ``[number]``, 0 <= number <= 30."""
    return _CONTEXT | (_CONSTRUCTED if constructed else 0) | number


@dataclass(frozen=True, slots=True)
class Element:
    """One encoded value.

    Attributes:
        tag: the identifier octet.
        content: the contents octets.
        encoding: identifier, length and contents octets.
    """

    tag: int
    content: bytes
    encoding: bytes

    def children(self) -> Reader:
        """A reader over the contents of a constructed value."""
        if not self.tag & _CONSTRUCTED:
            _refuse(f"0x{self.tag:02x} is primitive where a constructed value belongs")
        return Reader(self.content)


class Reader:
    """Reads one value after the other; whatever is not strict DER raises ArtifactError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def peek(self) -> int | None:
        """The next value's identifier octet, or None at the end."""
        return self._data[self._position] if self._position < len(self._data) else None

    def take(self, *tags: int) -> Element:
        """The next value, whose tag must be one of `tags` (any, if none is given)."""
        start = self._position
        tag = self.peek()
        if tag is None:
            _refuse("a value is missing")
        if tags and tag not in tags:
            expected = " or ".join(f"0x{expected:02x}" for expected in tags)
            _refuse(f"tag 0x{tag:02x} where {expected} belongs")
        if tag & 0x1F == 0x1F:
            _refuse("a tag of more than one octet")
        body, end = self._span(start + 1)
        self._position = end
        return Element(tag, self._data[body:end], self._data[start:end])

    def maybe(self, *tags: int) -> Element | None:
        """The next value if its tag is one of `tags`, else None and nothing is consumed."""
        return self.take(*tags) if self.peek() in tags else None

    def rest(self, *tags: int) -> list[Element]:
        """All remaining values, each with one of `tags`."""
        values = []
        while self._position < len(self._data):
            values.append(self.take(*tags))
        return values

    def finish(self) -> None:
        """Refuse anything after the last expected value."""
        if self._position != len(self._data):
            _refuse(f"{len(self._data) - self._position} bytes too many")

    def _span(self, position: int) -> tuple[int, int]:
        """Start and end of the contents whose length octets begin at `position` (X.690, 10.1)."""
        if position >= len(self._data):
            _refuse("a length is missing")
        length = self._data[position]
        position += 1
        if length >= 0x80:
            octets = length & 0x7F
            encoded = self._data[position : position + octets]
            length = int.from_bytes(encoded, "big")
            minimal = encoded[:1] != b"\0" and length >= 0x80
            if not 0 < octets <= _MAX_LENGTH_OCTETS or len(encoded) != octets or not minimal:
                _refuse("an indefinite, oversized or non-minimal length")
            position += octets
        if length > len(self._data) - position:
            _refuse("a value reaches beyond its end")
        return position, position + length


def single(data: bytes, *tags: int) -> Element:
    """The one value that `data` consists of."""
    reader = Reader(data)
    element = reader.take(*tags)
    reader.finish()
    return element


def read_oid(element: Element) -> str:
    """Dotted decimal form of an OBJECT IDENTIFIER (X.690, 8.19)."""
    content = element.content
    if element.tag != OBJECT_IDENTIFIER or not 0 < len(content) <= _MAX_OID_OCTETS:
        _refuse("an object identifier is expected")
    return _dotted(bytes(content))


@lru_cache(maxsize=1024)  # signatures use the same few over and over
def _dotted(content: bytes) -> str:
    if content[-1] & 0x80:
        _refuse("an object identifier is cut off")
    arcs: list[int] = []
    value = 0
    for octet in content:
        if value == 0 and octet == 0x80:
            _refuse("a non-minimal object identifier")
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def read_integer(element: Element, *, tag: int = INTEGER) -> int:
    """Value of an INTEGER (or of an implicitly tagged one), at most 64 octets (X.690, 8.3)."""
    content = element.content
    if element.tag != tag or not 0 < len(content) <= 64:
        _refuse("an integer is expected")
    if len(content) > 1 and content[0] in (0, 0xFF) and content[0] >> 7 == content[1] >> 7:
        _refuse("a non-minimal integer")
    return int.from_bytes(content, "big", signed=True)


def read_boolean(element: Element) -> bool:
    """Value of a BOOLEAN: 0x00 or 0xFF (X.690, 11.1)."""
    if element.tag != BOOLEAN or element.content not in (b"\x00", b"\xff"):
        _refuse("a boolean is expected")
    return element.content == b"\xff"


def read_time(element: Element) -> int:
    """POSIX seconds of a UTCTime or GeneralizedTime in UTC (X.690, 11.7 and 11.8).

    Fractions of a second, which RFC 3161 allows, are cut off.
    """
    try:
        text = element.content.decode("ascii")
    except UnicodeDecodeError:
        _refuse("a time that is not ASCII")
    if element.tag == GENERALIZED_TIME:
        whole, dot, fraction = text.removesuffix("Z").partition(".")
        if dot and (not fraction.isdigit() or fraction.endswith("0") or len(fraction) > 9):
            _refuse("a time with an invalid fraction")
    elif element.tag == UTC_TIME:
        whole = ("19" if text[:2] >= "50" else "20") + text.removesuffix("Z")
    else:
        _refuse("a time is expected")
    if not text.endswith("Z") or len(whole) != 14 or not whole.isdigit():
        _refuse("a time is not in UTC with seconds")
    try:
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        _refuse("a time does not exist")
    return int(moment.timestamp())


def encode(tag: int, *contents: bytes) -> bytes:
    """One value with the given identifier octet around the concatenated `contents`."""
    content = b"".join(contents)
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def sequence(*contents: bytes) -> bytes:
    """SEQUENCE of already encoded values."""
    return encode(SEQUENCE, *contents)


def set_of(encodings: Iterable[bytes], *, tag: int = SET) -> bytes:
    """SET OF already encoded values, in DER's order; `tag` where it is implicitly tagged."""
    return encode(tag, *sorted(encodings))


def explicit(number: int, *contents: bytes) -> bytes:
    """``[number]`` around already encoded values."""
    return encode(context(number), *contents)


@lru_cache(maxsize=256)
def object_identifier(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted decimal form."""
    first, second, *others = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *others):
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.append(0x80 | arc & 0x7F)
        content += bytes(reversed(octets))
    return encode(OBJECT_IDENTIFIER, bytes(content))


def integer(value: int) -> bytes:
    """INTEGER in the fewest octets."""
    magnitude = value if value >= 0 else ~value
    return encode(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def octet_string(content: bytes) -> bytes:
    """OCTET STRING."""
    return encode(OCTET_STRING, content)


def boolean(value: bool) -> bytes:  # noqa: FBT001 - the value itself, not a switch
    """BOOLEAN."""
    return encode(BOOLEAN, b"\xff" if value else b"\x00")


def null() -> bytes:
    """NULL."""
    return encode(NULL)


def time(posix: int) -> bytes:
    """UTCTime up to 2049, GeneralizedTime from 2050 on (RFC 5652, 11.3)."""
    moment = datetime.fromtimestamp(posix, UTC)
    if 1950 <= moment.year < 2050:
        return encode(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return generalized_time(posix)


def generalized_time(posix: int) -> bytes:
    """GeneralizedTime in UTC with seconds."""
    moment = datetime.fromtimestamp(posix, UTC)
    return encode(GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _refuse(problem: str) -> NoReturn:
    message = f"Malformed DER: {problem}."
    raise ArtifactError(message, advice=DAMAGED_ENCODING)
