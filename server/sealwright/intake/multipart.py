"""Streaming reception of ``multipart/form-data`` (RFC 7578).

Text fields are collected under strict bounds; a file part goes straight into the artifact store,
hashed while it arrives, and becomes visible only after the whole body was well-formed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sealwright.errors import InvalidInputError, TooLargeError
from sealwright.intake.upload import IDLE_SECONDS, ReceivedFile, clean_file_name, paced
from sealwright.storage.store import ArtifactWriter

OpenFile = Callable[[str, str], Awaitable[ArtifactWriter]]
"""Field name and cleaned file name -> writer. Raises `InvalidInputError` for a field that takes no
file."""

OnField = Callable[[str, str], None]
"""Text field name and its value."""

_BOUNDARY = re.compile(
    rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]"
)  # RFC 2046, 5.1.1
_IDENTITY_ENCODINGS = {b"", b"7bit", b"8bit", b"binary"}
_MAX_NAME_BYTES = 256
_MAX_EPILOGUE_BYTES = 4096


@dataclass(frozen=True)
class FormLimits:
    """What one form may hold. The size of files is bounded by their writers.

    Attributes:
        fields: number of text fields.
        field_bytes: bytes of one text field.
        text_bytes: bytes of all text fields together.
        files: number of files.
        headers: header lines of one part.
        header_bytes: bytes of one header line.
        idle_seconds: longest wait for the next bytes.
        repeatable: text fields that may occur more than once; names in lower case.
    """

    fields: int = 100
    field_bytes: int = 64 * 1024
    text_bytes: int = 1024 * 1024
    files: int = 1
    headers: int = 8
    header_bytes: int = 4096
    idle_seconds: float = IDLE_SECONDS
    repeatable: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FormData:
    """A form that arrived whole.

    Attributes:
        fields: text field name -> its values in order; one value unless the field is repeatable.
        files: file field name -> the stored file.
    """

    fields: Mapping[str, tuple[str, ...]]
    files: Mapping[str, ReceivedFile]

    def text(self, name: str) -> str | None:
        """The first value of a text field, None without one."""
        values = self.fields.get(name)
        return values[0] if values else None


async def receive(
    body: AsyncIterator[bytes],
    content_type: str,
    *,
    open_file: OpenFile,
    on_field: OnField | None = None,
    limits: FormLimits = FormLimits(),
) -> FormData:
    """Receive a form. If this raises, cancellation included, every writer was aborted.

    Files are committed after the last byte was read, in the order of their parts. Only if there are
    several and a later commit fails can an earlier one stay visible; its key belongs to the caller,
    who deletes it with the request.

    Args:
        body: the chunks as they arrive.
        content_type: the request's header, with the boundary.
        open_file: called at the beginning of each file part.
        on_field: called at the end of each text field, so that `open_file` can decide by those
            that came before the file.
        limits: bounds on everything else.

    Raises:
        InvalidInputError: not a well-formed form, cut short, or a field occurs twice.
        TooLargeError: a limit is exceeded.
        UnavailableError, ConflictError: from the writers.
    """
    reception = _Reception(open_file, limits, on_field)
    parser = _Parser(_boundary(content_type), limits)
    try:
        async for chunk in paced(body, limits.idle_seconds):
            for event in parser.feed(chunk):
                await reception.handle(event)
        parser.require_complete()
        return await reception.finish()
    finally:
        await asyncio.shield(reception.abort())


@dataclass(frozen=True)
class _PartBegin:
    name: str
    file_name: str | None


@dataclass(frozen=True)
class _PartData:
    data: memoryview


@dataclass(frozen=True)
class _PartEnd:
    pass


_Event = _PartBegin | _PartData | _PartEnd


class _Parser:
    """Bytes in, events out. The library's parser calls back for every token it finds."""

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self._limits = limits
        self._events: list[_Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._parts = 0
        self._epilogue = 0
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=limits.headers,
            max_header_size=limits.header_bytes,
        )

    def feed(self, chunk: bytes) -> list[_Event]:
        if self._complete:
            self._epilogue += len(chunk)
            if self._epilogue > _MAX_EPILOGUE_BYTES:
                _refuse("data follow the last part")
            return []
        try:
            self._parser.write(chunk)
        except FormParserError:
            _refuse("a part or its headers cannot be read")
        events, self._events = self._events, []
        return events

    def require_complete(self) -> None:
        if not self._complete:
            message = "The upload was cut: the form's last boundary never arrived."
            raise InvalidInputError(message, advice="Send the request again.")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._limits.fields + self._limits.files:
            message = f"The form has more than {self._limits.fields} fields."
            raise TooLargeError(message, advice="Send only the fields that the API names.")
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        name = bytes(self._header_name).lower()
        if name in self._headers:
            _refuse("a part has the same header twice")
        self._headers[name] = bytes(self._header_value).strip()
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        encoding = self._headers.get(b"content-transfer-encoding", b"").lower()
        if encoding not in _IDENTITY_ENCODINGS:
            # RFC 7578, 4.7 deprecates these; decoding would change what is hashed.
            _refuse("a part has a content transfer encoding")
        self._events.append(_part_begin(self._headers.get(b"content-disposition", b"")))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(_PartData(memoryview(data)[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(_PartEnd())

    def _on_end(self) -> None:
        self._complete = True


@dataclass
class _File:
    name: str
    file_name: str
    writer: ArtifactWriter


@dataclass
class _Reception:
    """Collects text, hands files to their writers, and remembers what must be undone."""

    open_file: OpenFile
    limits: FormLimits
    on_field: OnField | None = None
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[_File] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    part: _PartBegin = _PartBegin("", None)
    text: bytearray = field(default_factory=bytearray)
    text_bytes: int = 0

    async def handle(self, event: _Event) -> None:
        match event:
            case _PartBegin():
                await self._begin(event)
            case _PartData(data):
                await self._receive(data)
            case _PartEnd():
                self._end()

    async def finish(self) -> FormData:
        files = {
            file.name: ReceivedFile(file.file_name, await file.writer.commit())
            for file in self.files
        }
        return FormData({name: tuple(values) for name, values in self.fields.items()}, files)

    async def abort(self) -> None:
        for file in self.files:
            await file.writer.abort()

    async def _begin(self, part: _PartBegin) -> None:
        self.part = part
        self.text.clear()
        # Folded, because two spellings of one name would let two readers disagree on its value.
        folded = part.name.casefold()
        repeatable = part.file_name is None and folded in self.limits.repeatable
        if folded in self.names and not repeatable:
            message = f"The form has the field {part.name!r} twice."
            raise InvalidInputError(message, advice="Send it once.")
        self.names.add(folded)
        if part.file_name:
            if len(self.files) == self.limits.files:
                message = f"The form has more than {self.limits.files} file."
                raise InvalidInputError(message, advice="Submit one artifact with each request.")
            file_name = clean_file_name(part.file_name)
            writer = await self.open_file(part.name, file_name)
            self.files.append(_File(part.name, file_name, writer))

    async def _receive(self, data: memoryview) -> None:
        if self.part.file_name:
            await self.files[-1].writer.write(data)
            return
        self.text_bytes += len(data)
        self.text += data
        if len(self.text) > self.limits.field_bytes or self.text_bytes > self.limits.text_bytes:
            message = f"The text field {self.part.name!r} is too long."
            advice = (
                f"A field may have {self.limits.field_bytes} bytes, all together "
                f"{self.limits.text_bytes}. An artifact needs a file name in its part."
            )
            raise TooLargeError(message, advice=advice)

    def _end(self) -> None:
        if self.part.file_name:
            return
        if self.part.file_name == "":
            self._end_unchosen()
            return
        try:
            value = self.text.decode()
        except UnicodeDecodeError as error:
            message = f"The field {self.part.name!r} is not UTF-8."
            raise InvalidInputError(message, advice="Encode the form as UTF-8.") from error
        self.fields.setdefault(self.part.name, []).append(value)
        if self.on_field:
            self.on_field(self.part.name, value)

    def _end_unchosen(self) -> None:
        """A browser sends an empty name and no content for a file input that was left empty."""
        if self.text:
            message = f"The file in field {self.part.name!r} has no name."
            raise InvalidInputError(message, advice="Give the part a file name.")


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type[:1024].encode("latin-1", "replace"))
    if kind != b"multipart/form-data":
        message = "The request is not a multipart/form-data form."
        raise InvalidInputError(message, advice="Send Content-Type: multipart/form-data.")
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        message = "The form's Content-Type has no valid boundary."
        raise InvalidInputError(message, advice="Let the HTTP library build the header.")
    return boundary


def _part_begin(disposition: bytes) -> _PartBegin:
    kind, options = parse_options_header(disposition)
    name = options.get(b"name", b"")
    if kind != b"form-data" or not 0 < len(name) <= _MAX_NAME_BYTES:
        _refuse("a part has no usable name")
    file_name = options.get(b"filename")
    try:
        return _PartBegin(name.decode(), None if file_name is None else _file_name(file_name))
    except UnicodeDecodeError:
        _refuse("a name is not UTF-8")


def _file_name(raw: bytes) -> str:
    """.NET's HttpClient writes names outside ASCII as an encoded word (RFC 2047), not as UTF-8."""
    if raw.startswith(b"=?") and raw.endswith(b"?="):
        try:
            return str(make_header(decode_header(raw.decode("ascii"))))
        except (HeaderParseError, UnicodeError, LookupError):
            _refuse("a file name cannot be decoded")
    return raw.decode()


def _refuse(what: str) -> NoReturn:
    message = f"The form is malformed: {what}."
    raise InvalidInputError(message, advice="Let the HTTP library build the form.")
