"""Portable Executables: Windows programs, libraries, drivers and EFI binaries.

PE Format (Microsoft), and "Windows Authenticode Portable Executable Signature Format". The digest
covers the whole file in its order, without checksum, the certificate table's directory entry and
the table itself. Gaps between headers and sections, unpadded sections and overlays are so covered
as well. A file is judged by its PE header, never by "MZ" or its name.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import algorithms, authenticode, cms, der, streams, version_info
from sealwright.signing.advice import CHANGED, DIRECTIVE
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)

name = "pe-file"

SPC_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15"

_HEADERS = streams.CHUNK  # the PE header lies within the first chunk, or the file is refused
_PE32, _PE32_PLUS = 0x10B, 0x20B
_SECURITY_DIRECTORY = 4
_RESOURCE_DIRECTORY = 2
_MAX_DIRECTORIES = 16
_MAX_TABLE = 16 << 20
_MAX_CONTENT = 0xFFFF_FFFF - _MAX_TABLE  # offsets of the certificate table have 32 bits
_MAX_CERTIFICATES = 16
_EFI_SUBSYSTEMS = range(10, 14)
_SLICE = 1 << 16
_WIN_CERTIFICATE = struct.Struct("<IHH")
_REVISION_2 = 0x0200
_PKCS_SIGNED_DATA = 0x0002
_REBUILD = "Check that the build has written it whole, or leave it out of the configuration."
_REMOVE_TABLE = "Remove its signatures before it is submitted."


@dataclass(frozen=True)
class Image:
    """Where the parts of a PE file are; offsets and sizes in bytes.

    Attributes:
        size: of the file.
        checksum: offset of CheckSum in the optional header.
        security: offset of the certificate table's data directory entry.
        content: length of what is before the certificate table (the whole file without one).
        table: size of the certificate table, which ends the file.
        resources: address and size of the resource directory, zeros without one.
        sections: (virtual address, virtual size, file offset, file size) of each section.
        headers: SizeOfHeaders, how much of the file the header claims.
        alignment: FileAlignment, to which sections are padded.
        is_efi: whether UEFI firmware runs it.
    """

    size: int
    checksum: int
    security: int
    content: int
    table: int
    resources: tuple[int, int]
    sections: tuple[tuple[int, int, int, int], ...]
    headers: int
    alignment: int
    is_efi: bool

    @property
    def missing(self) -> int:
        """Bytes of sections that would lie behind the content.

        Some linkers do not write the padding of the last section, which Windows does not map.
        Firmware hashes sections with their padding, and so would hash what follows.
        """
        ends = [
            offset + (size if self.is_efi else min(size, used or size))
            for _, used, offset, size in self.sections
            if size
        ]
        return max(0, max(ends, default=0) - self.content)

    @property
    def has_gaps(self) -> bool:
        """Whether bytes lie between the headers and a section, or between two sections."""
        position = self.headers
        for offset, size in sorted((offset, size) for _, _, offset, size in self.sections if size):
            if offset != position:
                return True
            position += size
        return False


def recognize(file: BinaryIO) -> bool:
    """Whether there is a PE header of a 32-bit or 64-bit image."""
    file.seek(0)
    headers = file.read(_HEADERS)
    offset = _optional_header(headers)
    return offset is not None


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``authenticode-sign`` and ``authenticode-verify``."""
    return {"authenticode-sign": authenticode.SIGN_OPTIONS, "authenticode-verify": {}}


def metadata(file: BinaryIO) -> Mapping[str, str]:
    """Strings of the VS_VERSIONINFO resource by the names of the metadata restrictions."""
    image = parse(file)
    return version_info.read(file, image.resources, image.sections)


def content_digest(file: BinaryIO) -> bytes:
    """The Authenticode digest: all but checksum and certificate table."""
    return _digest(file, parse(file), "sha256")


def same_content(before: BinaryIO, after: BinaryIO) -> bool:
    """Whether both have the same Authenticode digest; compared byte for byte, which is faster."""
    old, new = parse(before), parse(after)
    if (old.checksum, old.security) != (new.checksum, new.security):
        return False
    if _aligned(old.content) != _aligned(new.content):
        return False
    length = min(old.content, new.content)
    both = zip(_covered(before, old, length), _covered(after, new, length), strict=True)
    if any(ours != theirs for ours, theirs in both):
        return False
    padding = [
        streams.read_at(file, length, image.content - length)
        for file, image in ((before, old), (after, new))
    ]
    return not b"".join(padding).strip(b"\0")


def sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    """See `artifact.Format`."""
    if directive.name == "authenticode-sign":
        return _sign(source, directive, identity, target)
    message = f"<{name}> knows no directive {directive.name}."
    raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)


def check_signable(file: BinaryIO, directive: Directive) -> None:
    """See `artifact.ParticularFormat`."""
    image = parse(file)
    if image.content > _MAX_CONTENT:
        message = "The file is too large: what is signed must stay below 4 GiB."
        raise ArtifactError(message, advice="Keep its data in files of their own.")
    _check_whole(image)
    _kept_certificates(file, image, directive)
    if image.is_efi and image.has_gaps:
        # Firmware hashes section by section and not the file in its order.
        message = "The EFI image has gaps between its sections: firmware would refuse a signature."
        raise ArtifactError(message, advice="Link it so that the sections follow one another.")


def verify(file: BinaryIO) -> list[SignatureFact]:
    """Every signature, nested ones included, of every WIN_CERTIFICATE."""
    image = parse(file)
    digests: dict[str, bytes] = {}

    def check(data: cms.SignedData) -> str:
        indirect = authenticode.indirect_data(data, SPC_PE_IMAGE_DATA)
        if indirect.hash_algorithm not in digests:
            digests[indirect.hash_algorithm] = _digest(file, image, indirect.hash_algorithm)
        if indirect.digest != digests[indirect.hash_algorithm]:
            message = "The digest of the file differs from the signed one: it has been changed."
            raise VerificationError(message, advice=CHANGED)
        return indirect.hash_algorithm

    facts: list[SignatureFact] = []
    for encoding in _certificates(file, image):
        facts += authenticode.verify(encoding, check, index=len(facts))
    return facts


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    check_signable(source, directive)
    image = parse(source)
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    existing = _kept_certificates(source, image, directive)
    words = _WordSum()
    digest = _digest(source, image, hash_algorithm, words)
    indirect = authenticode.IndirectData(
        SPC_PE_IMAGE_DATA, _pe_image_data(), hash_algorithm, digest
    )
    prepared = authenticode.prepare(indirect, directive, identity)
    (result,) = yield [prepared.request]
    signature = prepared.finish(result)
    if existing:
        existing[0] = authenticode.append(existing[0], signature)
    _write(source, image, existing or [signature], words, target)
    what = "appended" if existing else "signed"
    return Outcome(summary=f"Authenticode, {hash_algorithm}, {what}")


def _kept_certificates(file: BinaryIO, image: Image, directive: Directive) -> list[bytes]:
    """The certificate table's entries, if a signature is to be appended to them."""
    existing: list[bytes] = []
    if directive.options.get("append") == "true":
        existing += _certificates(file, image)
    if existing and image.content % 8:
        message = "The certificate table is not aligned to 8 bytes, so nothing can be appended."
        raise ArtifactError(message, advice="Sign the file anew, without append.")
    return existing


def _check_whole(image: Image) -> None:
    """Refuse what no loader runs, but signers would sign: files that were cut off."""
    if image.alignment.bit_count() != 1 or image.headers > image.content:
        message = (
            f"The header is malformed: FileAlignment is {image.alignment}, and SizeOfHeaders is "
            f"{image.headers} in {image.content} bytes."
        )
        raise ArtifactError(message, advice=_REBUILD)
    if image.missing:
        message = f"The file is cut off: {image.missing} bytes of its sections are missing."
        raise ArtifactError(message, advice=_REBUILD)


# --- layout -------------------------------------------------------------------------------------


def parse(file: BinaryIO) -> Image:
    """Read the headers.

    Raises:
        ArtifactError: it is not a PE file, or its certificate table is not where it can be signed.
    """
    size = streams.size_of(file)
    file.seek(0)
    headers = file.read(_HEADERS)
    optional = _optional_header(headers)
    if optional is None:
        message = "The file has no PE header: it is not a Windows or EFI executable."
        raise ArtifactError(message, advice="Use the file element that fits, or leave it out.")
    section_count, optional_size = struct.unpack_from("<2x H 12x H", headers, optional - 20)
    wide = struct.unpack_from("<H", headers, optional)[0] == _PE32_PLUS
    directories = optional + (112 if wide else 96)
    entries = struct.unpack_from("<I", headers, directories - 4)[0]
    security = directories + 8 * _SECURITY_DIRECTORY
    sections = optional + optional_size
    if (
        not _SECURITY_DIRECTORY < entries <= _MAX_DIRECTORIES
        or directories + 8 * entries > sections
        or sections + 40 * section_count > len(headers)
    ):
        message = "The optional header has no room for a certificate table, or is malformed."
        raise ArtifactError(message, advice=_REBUILD)
    end_of_headers = sections + 40 * section_count
    table_offset, table_size = struct.unpack_from("<II", headers, security)
    if table_offset == table_size == 0:
        table_offset = size
    elif table_offset < end_of_headers or table_offset + table_size != size or not table_size:
        message = "The certificate table is not at the end of the file."
        raise ArtifactError(message, advice="Remove what was appended after it was signed.")
    _check_table(table_size)
    return Image(
        size=size,
        checksum=optional + 64,
        security=security,
        content=table_offset,
        table=table_size,
        resources=struct.unpack_from("<II", headers, directories + 8 * _RESOURCE_DIRECTORY),
        sections=tuple(_sections(headers, sections, section_count)),
        headers=struct.unpack_from("<I", headers, optional + 60)[0],
        alignment=struct.unpack_from("<I", headers, optional + 36)[0],
        is_efi=struct.unpack_from("<H", headers, optional + 68)[0] in _EFI_SUBSYSTEMS,
    )


def _check_table(size: int) -> None:
    if size > _MAX_TABLE:
        message = f"The certificate table has {size} bytes, more than {_MAX_TABLE}."
        raise ArtifactError(message, advice=_REMOVE_TABLE)


def _optional_header(headers: bytes) -> int | None:
    """Offset of the optional header if this is a PE32 or PE32+ image, else None."""
    if len(headers) < 64 or headers[:2] != b"MZ":
        return None
    start = struct.unpack_from("<I", headers, 0x3C)[0]
    optional: int = start + 24
    if headers[start : start + 4] != b"PE\0\0" or optional + 112 > len(headers):
        return None
    magic = struct.unpack_from("<H", headers, optional)[0]
    return optional if magic in (_PE32, _PE32_PLUS) else None


def _sections(headers: bytes, start: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    for offset in range(start, start + 40 * count, 40):
        virtual_size, address, raw_size, raw_offset = struct.unpack_from(
            "<IIII", headers, offset + 8
        )
        yield address, virtual_size, raw_offset, raw_size


def _certificates(file: BinaryIO, image: Image) -> Iterator[bytes]:
    """The DER of each WIN_CERTIFICATE; nothing but zeros may be around it."""
    table = streams.read_at(file, image.content, image.table)
    position = count = 0
    while position < len(table):
        count += 1
        if len(table) - position < _WIN_CERTIFICATE.size or count > _MAX_CERTIFICATES:
            message = "The certificate table is cut off or has too many entries."
            raise ArtifactError(message, advice=_REMOVE_TABLE)
        length, revision, kind = _WIN_CERTIFICATE.unpack_from(table, position)
        if revision != _REVISION_2 or kind != _PKCS_SIGNED_DATA:
            message = f"A certificate table entry has revision {revision:#x} and type {kind:#x}."
            raise ArtifactError(message, advice=_REMOVE_TABLE)
        end = position + length
        following = position + _aligned(length)
        if length <= _WIN_CERTIFICATE.size or end > len(table):
            message = "A certificate table entry has an impossible length."
            raise ArtifactError(message, advice=_REMOVE_TABLE)
        entry = table[position + _WIN_CERTIFICATE.size : end]
        encoding = der.Reader(entry).take(der.SEQUENCE).encoding
        padding = entry[len(encoding) :] + table[end:following]
        if padding.strip(b"\0") or len(padding) > 7:
            message = "The certificate table hides data beside the signature."
            raise ArtifactError(message, advice="Have the file made anew without it.")
        yield encoding
        position = following


def _aligned(length: int) -> int:
    return -(-length // 8) * 8


# --- digest and writing -------------------------------------------------------------------------


def _covered(file: BinaryIO, image: Image, end: int) -> Iterator[bytes]:
    """The content up to `end` without its excluded fields."""
    for number, data in enumerate(streams.chunks(file, 0, end)):
        if number == 0:
            yield data[: image.checksum]
            yield data[image.checksum + 4 : image.security]
            yield data[image.security + 8 :]
        else:
            yield data


def _digest(
    file: BinaryIO, image: Image, hash_algorithm: str, words: _WordSum | None = None
) -> bytes:
    """Authenticode digest: the content without its excluded fields, padded with zeros to 8 bytes.

    All of the content, excluded fields included, goes into `words` in the same pass.
    """
    hasher = hashlib.new(hash_algorithm, usedforsecurity=False)
    for number, data in enumerate(streams.chunks(file, 0, image.content)):
        if number == 0:
            hasher.update(data[: image.checksum])
            hasher.update(data[image.checksum + 4 : image.security])
            hasher.update(data[image.security + 8 :])
        else:
            hasher.update(data)
        if words is not None:
            words.add(data, at=0)
    hasher.update(bytes(_aligned(image.content) - image.content))
    return hasher.digest()


class _WordSum:
    """Sum of a file's little-endian 16-bit words modulo 65535, which the checksum is made of.

    A number is congruent to the sum of its digits in base 65536, so that slices may be added as the
    long numbers they are, which is much faster than adding words.
    """

    def __init__(self) -> None:
        self._total = 0

    def add(self, data: bytes, *, at: int, sign: int = 1) -> None:
        """Add (or with ``sign=-1`` take away) data at an offset of which only the parity counts."""
        total = 0
        for start in range(0, len(data), _SLICE):
            total += int.from_bytes(data[start : start + _SLICE], "little")
        self._total += sign * (total << 8 * (at % 2))

    def checksum(self, size: int) -> int:
        """CheckSum of a file of `size` bytes: carries folded into 16 bits, plus the size."""
        return ((self._total - 1) % 0xFFFF + 1 + size) & 0xFFFF_FFFF


def _write(
    source: BinaryIO, image: Image, signatures: list[bytes], words: _WordSum, target: BinaryIO
) -> None:
    table = b"".join(
        _WIN_CERTIFICATE.pack(
            _WIN_CERTIFICATE.size + _aligned(len(signature)), _REVISION_2, _PKCS_SIGNED_DATA
        )
        + signature.ljust(_aligned(len(signature)), b"\0")
        for signature in signatures
    )
    _check_table(len(table))
    start = _aligned(image.content)
    entry = struct.pack("<II", start, len(table))
    words.add(streams.read_at(source, image.checksum, 4), at=image.checksum, sign=-1)
    words.add(streams.read_at(source, image.security, 8), at=image.security, sign=-1)
    words.add(entry, at=image.security)
    words.add(table, at=start)
    streams.copy_range(source, 0, image.content, target)
    target.write(bytes(start - image.content) + table)
    target.seek(image.security)
    target.write(entry)
    target.seek(image.checksum)
    target.write(struct.pack("<I", words.checksum(start + len(table))))
    target.flush()


def _pe_image_data() -> bytes:
    """SpcPeImageData with the values that Windows' signer writes: no flags, an obsolete link."""
    obsolete = "<<<Obsolete>>>".encode("utf-16-be")
    spc_string = der.encode(der.context(0, constructed=False), obsolete)
    return der.sequence(
        der.encode(der.BIT_STRING, b"\0"), der.explicit(0, der.explicit(2, spc_string))
    )
