"""Scripts that carry their Authenticode signature as text: what all kinds of them share.

Windows has no document about them; what is here follows what its own signer writes. The digest
covers the text as UTF-16LE, whatever the file's encoding, without the signature block and the line
break in front of it. Since nothing in a script's content says what language it is in, the file's
name decides how it is signed, as it does in Windows. A signed script is known by its block.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import algorithms, authenticode, cms, streams
from sealwright.signing.advice import (
    CHANGED,
    DIRECTIVE,
    MAKE_ANEW,
    MAKE_SMALLER,
    SIGN_ANEW,
)
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)
from sealwright.signing.parameters import FILE_NAME

MAX_SIZE = 32 << 20  #: bytes of a script, which is held in memory

_HEAD = 4096
_UTF8_BOM, _UTF16_BOM = b"\xef\xbb\xbf", b"\xff\xfe"
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{1,256}")
#: Windows-1252 as Windows decodes it: bytes without a character stay as they are.
_WINDOWS_1252 = {
    byte: bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


@dataclass(frozen=True)
class Style:
    """How one kind of script holds its signature.

    Attributes:
        extensions: of file names, in small letters.
        begin: line in front of the signature.
        end: line behind it.
        prefix: in front of each line of base64.
        suffix: behind each line of base64.
        width: characters of base64 in a line.
        sip: identifier of the Subject Interface Package that verifies it, 16 bytes.
        sip_version: its version.
        is_ansi: whether Windows reads a file without byte order mark in its code page, rather
            than as UTF-8.
        in_front_of: the block is put in front of the last of these; empty: at the end.
    """

    extensions: tuple[str, ...]
    begin: str
    end: str
    prefix: str
    suffix: str
    width: int
    sip: bytes
    sip_version: int
    is_ansi: bool
    in_front_of: str = ""

    @property
    def sip_info(self) -> bytes:
        """DER of the SpcSipInfo."""
        return authenticode.sip_info(self.sip, self.sip_version)

    def block(self, signature: bytes) -> str:
        """The signature as text, with a line break in front and one behind."""
        encoded = base64.b64encode(signature).decode()
        lines = [
            f"{self.prefix}{encoded[start : start + self.width]}{self.suffix}"
            for start in range(0, len(encoded), self.width)
        ]
        return "\r\n".join(("", self.begin, *lines, self.end, ""))

    def read_block(self, block: str) -> bytes:
        """The signature in a block that is exactly as `block` makes it, but for the width.

        Raises:
            VerificationError: line breaks were changed, or it is something else.
        """
        lines = block.split("\r\n")
        if len(lines) < 5 or lines[:2] != ["", self.begin] or lines[-2:] != [self.end, ""]:
            message = "The signature block is malformed, or its line breaks were changed."
            raise VerificationError(message, advice="Sign the script again, and keep it as it is.")
        encoded = []
        for line in lines[2:-2]:
            middle = line.removeprefix(self.prefix).removesuffix(self.suffix)
            framed = f"{self.prefix}{middle}{self.suffix}" == line
            if not framed or not _BASE64.fullmatch(middle):
                message = "The signature block holds a line that is none of a signature."
                raise VerificationError(message, advice=SIGN_ANEW)
            encoded.append(middle)
        try:
            return base64.b64decode("".join(encoded), validate=True)
        except binascii.Error as error:
            message = "The signature block is not valid base64."
            raise VerificationError(message, advice=SIGN_ANEW) from error


@dataclass(frozen=True)
class Script:
    """A script taken apart.

    Attributes:
        mark: byte order mark, empty without one.
        before: text in front of the signature block, or all of it. Texts are made of UTF-16 units
            or, in other encodings, of bytes.
        after: text behind the signature block.
        block: the signature block with the line breaks around it, empty if there is none.
        style: of the signature block.
    """

    mark: bytes
    before: str
    after: str = ""
    block: str = ""
    style: Style | None = None

    @cached_property
    def is_wide(self) -> bool:
        """Whether it is in UTF-16."""
        return self.mark == _UTF16_BOM

    def encode(self, text: str) -> bytes:
        """Text as it stands in the file."""
        return text.encode("utf-16-le", "surrogatepass") if self.is_wide else text.encode("latin-1")

    def widen(self, text: str, style: Style) -> bytes:
        """Text as it is hashed: in UTF-16LE."""
        if self.is_wide:
            return self.encode(text)
        if style.is_ansi and not self.mark:
            return text.translate(_WINDOWS_1252).encode("utf-16-le")
        try:
            return self.encode(text).decode("utf-8").encode("utf-16-le")
        except UnicodeDecodeError as error:
            message = "The script has characters beyond ASCII that are not in UTF-8."
            advice = "Save it as UTF-8, best with a byte order mark."
            raise ArtifactError(message, advice=advice) from error


class ScriptFormat:
    """A file element for scripts; a `Format`.

    Args:
        name: of the file element.
        styles: of the kinds of scripts it takes.
        hashes_mark: whether the digest covers the byte order mark.
        hashes_position: whether the digest ends with the position of the signature block: 4 bytes,
            little-endian, in UTF-16 units from the start of the text.
    """

    def __init__(
        self, name: str, styles: Sequence[Style], *, hashes_mark: bool, hashes_position: bool
    ) -> None:
        self.name = name
        self._styles = {extension: each for each in styles for extension in each.extensions}
        self._hashes_mark = hashes_mark
        self._hashes_position = hashes_position
        self._lines = {line: each for each in styles for line in (each.begin, each.end)}
        alternatives = "|".join(re.escape(line) for line in self._lines)
        self._limits = re.compile(rf"^(?:{alternatives})(?=\r?$)", re.MULTILINE)

    @property
    def extensions(self) -> tuple[str, ...]:
        """Of the scripts it takes."""
        return tuple(self._styles)

    def recognize(self, file: BinaryIO) -> bool:
        """Whether it is text, and small enough; what text it is cannot be told."""
        size = streams.size_of(file)
        file.seek(0)
        head = file.read(_HEAD)
        is_text = not size % 2 if head.startswith(_UTF16_BOM) else b"\0" not in head
        return 0 < size <= MAX_SIZE and is_text

    def directives(self) -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
        """``authenticode-sign`` and ``authenticode-verify``."""
        return {"authenticode-sign": authenticode.SIGN_OPTIONS, "authenticode-verify": {}}

    def metadata(self, file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG002 - there is none
        """Scripts have no metadata."""
        return {}

    def content_digest(self, file: BinaryIO) -> bytes:
        """SHA-256 of the file's bytes without the signature block."""
        script = self.parse(file)
        return algorithms.digest(
            "sha256", script.mark + script.encode(script.before + script.after)
        )

    def sign(
        self, source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
    ) -> SignGenerator:
        """Sign as the option ``file.name``, which the engine sets, decides."""
        if directive.name == "authenticode-sign":
            return self._sign(source, directive, identity, target)
        message = f"<{self.name}> knows no directive {directive.name}."
        raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)

    def check_signable(self, file: BinaryIO, directive: Directive) -> None:
        """See `artifact.ParticularFormat`."""
        style = self._style_of(directive.options.get(FILE_NAME, ""))
        script = self._prepared(self.parse(file), style)
        script.widen(script.before + script.after, style)
        self._kept_signature(script, style, directive)

    def verify(self, file: BinaryIO) -> list[SignatureFact]:
        """Every signature in the script; its block must be exactly as Windows writes it."""
        script = self.parse(file)
        style = script.style
        if style is None:
            return []
        digests: dict[str, bytes] = {}

        def check(data: cms.SignedData) -> str:
            indirect = authenticode.indirect_data(data, authenticode.SPC_SIP_INFO)
            if indirect.value != style.sip_info:
                message = "The signature is for another kind of script."
                raise VerificationError(message, advice=SIGN_ANEW)
            algorithm = indirect.hash_algorithm
            if algorithm not in digests:
                digests[algorithm] = self._digest(script, style, algorithm)
            if indirect.digest != digests[algorithm]:
                message = "The digest of the script differs from the signed one: it was changed."
                raise VerificationError(message, advice=CHANGED)
            return algorithm

        return authenticode.verify(style.read_block(script.block), check)

    def parse(self, file: BinaryIO) -> Script:
        """Find the signature block.

        Raises:
            ArtifactError: it is no text of a known encoding, too large, or has more or less than
                one whole signature block.
        """
        size = streams.size_of(file)
        if size > MAX_SIZE:
            message = f"The script has {size} bytes, more than {MAX_SIZE}."
            raise ArtifactError(message, advice=MAKE_SMALLER)
        mark, text = _decode(streams.read_at(file, 0, size))
        limits = list(self._limits.finditer(text))
        if not limits:
            return Script(mark, text)
        style = self._lines[limits[0].group()]
        if [each.group() for each in limits] != [style.begin, style.end]:
            message = "The script has more or less than one whole signature block."
            advice = "Remove all lines that belong to signatures, and what is between them."
            raise ArtifactError(message, advice=advice)
        start, end = _with_line_breaks(text, limits[0].start(), limits[1].end())
        before, after = text[:start], text[end:]
        if not style.in_front_of and after:
            message = "The script goes on behind its signature block."
            raise ArtifactError(message, advice="Put what is there in front of it, or remove it.")
        return Script(mark, before, after, text[start:end], style)

    def _sign(
        self, source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
    ) -> SignGenerator:
        style = self._style_of(directive.options.get(FILE_NAME, ""))
        script = self._prepared(self.parse(source), style)
        hash_algorithm = algorithms.hash_algorithm_of(directive)
        primary = self._kept_signature(script, style, directive)
        indirect = authenticode.IndirectData(
            authenticode.SPC_SIP_INFO,
            style.sip_info,
            hash_algorithm,
            self._digest(script, style, hash_algorithm),
        )
        prepared = authenticode.prepare(indirect, directive, identity)
        (result,) = yield [prepared.request]
        signature = prepared.finish(result)
        if primary:
            signature = authenticode.append(primary, signature)
        target.write(script.mark)
        target.write(script.encode(script.before + style.block(signature) + script.after))
        target.flush()
        how = ", appended" if primary else ""
        return Outcome(summary=f"Authenticode, {hash_algorithm}{how}")

    def _kept_signature(self, script: Script, style: Style, directive: Directive) -> bytes:
        """The signature to which another is to be appended; empty if none is."""
        appends = directive.options.get("append") == "true" and script.style is not None
        return style.read_block(script.block) if appends else b""

    def _style_of(self, file_name: str) -> Style:
        _, dot, extension = file_name.lower().rpartition(".")
        style = self._styles.get(dot + extension)
        if style is None:
            message = f'"{file_name}" is not the name of a script that can be signed.'
            known = ", ".join(self._styles)
            raise ArtifactError(message, advice=f"Names end in one of {known}.")
        return style

    def _prepared(self, script: Script, style: Style) -> Script:
        """The script with the place for a signature block of this style."""
        if script.style not in (None, style):
            message = "The script holds the signature block of another kind of script."
            raise ArtifactError(message, advice="Remove it, or give the file its right name.")
        if script.style is None and style.in_front_of:
            place = script.before.rfind(style.in_front_of)
            if place < 0:
                message = f"The script has no {style.in_front_of}, where its signature belongs."
                raise ArtifactError(message, advice="Check that the build has written it whole.")
            return Script(script.mark, script.before[:place], script.before[place:])
        if not script.before:
            message = "The script is empty."
            raise ArtifactError(message, advice="Leave it out of the configuration.")
        return script

    def _digest(self, script: Script, style: Style, hash_algorithm: str) -> bytes:
        before = script.widen(script.before, style)
        text = before + script.widen(script.after, style)
        mark = _UTF16_BOM if script.mark and self._hashes_mark else b""
        units = len(before) // 2
        position = units.to_bytes(4, "little") if self._hashes_position else b""
        return algorithms.digest(hash_algorithm, mark + text + position)


def _decode(content: bytes) -> tuple[bytes, str]:
    """Byte order mark and text, see `Script`."""
    if content.startswith(_UTF16_BOM):
        if len(content) % 2:
            message = "The script is in UTF-16 and has an odd number of bytes."
            raise ArtifactError(message, advice=MAKE_ANEW)
        return _UTF16_BOM, content[2:].decode("utf-16-le", "surrogatepass")
    mark = _UTF8_BOM if content.startswith(_UTF8_BOM) else b""
    if b"\0" in content:
        message = "The file is no text, or is in UTF-16 without byte order mark or big-endian."
        raise ArtifactError(message, advice="Save it as UTF-8 or UTF-16LE with byte order mark.")
    return mark, content[len(mark) :].decode("latin-1")


def _with_line_breaks(text: str, start: int, end: int) -> tuple[int, int]:
    """The span with the line break in front, which must be there, and the one behind."""
    if start == 0:
        message = "The script holds nothing but a signature."
        raise ArtifactError(
            message, advice="Check what the build puts there: the script itself is missing."
        )
    start -= 2 if text[:start].endswith("\r\n") else 1
    for line_break in ("\r\n", "\n"):
        if text.startswith(line_break, end):
            end += len(line_break)
            break
    return start, end
