"""Cabinets: Authenticode over the cabinet as a whole ([MS-CAB] section 2).

The signature follows the cabinet. 20 bytes reserved in the header say where it is; a cabinet
without them gets them, and its offsets move by as much. The digest leaves out the reserved field at
the start of the header, the number in a set, and the reserved sizes and offsets.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import algorithms, authenticode, cms, der, streams
from sealwright.signing.advice import CHANGED, DIRECTIVE, FEWER_ISSUERS, MAKE_ANEW
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)

name = "cab-file"

SPC_CAB_DATA = "1.3.6.1.4.1.311.2.1.25"

_SIGNATURE = b"MSCF"
_CFHEADER = struct.Struct("<4s5I2B5H")  # without its optional fields
_RESERVE = struct.Struct("<HBB4sII8s")  # sizes, and what signing keeps there
_CFFOLDER = struct.Struct("<IHH")
_SPANNED, _RESERVE_PRESENT = 0x0003, 0x0004
_RESERVE_MARK = b"\x00\x00\x10\x00"
_MAX_SIGNATURE = 16 << 20
_MAX_CABINET = 0xFFFF_FFFF - _MAX_SIGNATURE


@dataclass(frozen=True)
class Cabinet:
    """A cabinet as it is, or will be, when signed.

    Attributes:
        head: CFHEADER with its reserve, and every CFFOLDER; place and size of the signature are
            zeros.
        body: offset in the file of everything behind them.
        end: offset in the file at which the cabinet ends and the signature begins.
        signature: bytes of the signature, which end the file; 0 without one.
    """

    head: bytes
    body: int
    end: int
    signature: int

    @property
    def size(self) -> int:
        """Bytes of the cabinet without signature, when signed."""
        return len(self.head) + self.end - self.body


def recognize(file: BinaryIO) -> bool:
    """Whether it begins as a cabinet."""
    file.seek(0)
    return file.read(8) == _SIGNATURE + bytes(4)


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``authenticode-sign`` and ``authenticode-verify``."""
    return {"authenticode-sign": authenticode.SIGN_OPTIONS, "authenticode-verify": {}}


def metadata(file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG001 - there is none
    """Cabinets have no metadata."""
    return {}


def is_signed(file: BinaryIO, paths: Collection[str]) -> bool:  # noqa: ARG001 - none is in paths
    """Whether a signature follows the cabinet, which rebuilding it leaves out."""
    (cabinet,) = struct.unpack("<I", streams.read_at(file, 8, 4))
    return bool(cabinet != streams.size_of(file))


def content_digest(file: BinaryIO) -> bytes:
    """The Authenticode digest that the file has or will have."""
    return _digest(file, parse(file), "sha256")


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
    _kept_signature(file, parse(file), directive)


def verify(file: BinaryIO) -> list[SignatureFact]:
    """The signature and those nested in it. Other reserved areas leave no room for one."""
    if _has_other_areas(file):
        return []
    cabinet = parse(file)
    if not cabinet.signature:
        return []

    def check(data: cms.SignedData) -> str:
        indirect = authenticode.indirect_data(data, SPC_CAB_DATA)
        if indirect.digest != _digest(file, cabinet, indirect.hash_algorithm):
            message = "The digest of the cabinet differs from the signed one: it was changed."
            raise VerificationError(message, advice=CHANGED)
        return indirect.hash_algorithm

    return authenticode.verify(_read_signature(file, cabinet), check)


def parse(file: BinaryIO) -> Cabinet:
    """Read the headers.

    Raises:
        ArtifactError: it is no whole cabinet, one of a set, or has other reserved areas.
    """
    size = streams.size_of(file)
    if not recognize(file):
        message = "The file is not a cabinet."
        raise ArtifactError(message, advice=MAKE_ANEW)
    fields = list(_CFHEADER.unpack(streams.read_at(file, 0, _CFHEADER.size)))
    cabinet_size, files, folder_count, flags = fields[2], fields[4], fields[8], fields[10]
    if flags & _SPANNED or fields[12]:
        message = "The cabinet is one of a set that spans several files."
        raise ArtifactError(message, advice="Make a single cabinet.")
    start, place, signature, added = _CFHEADER.size, 0, 0, _RESERVE.size
    if flags & _RESERVE_PRESENT:
        reserve = _RESERVE.unpack(streams.read_at(file, start, _RESERVE.size))
        # The digest leaves out these four bytes, so nothing may be there.
        if reserve[:4] != (20, 0, 0, _RESERVE_MARK) or reserve[6][:4] != bytes(4):
            message = "The cabinet has reserved areas that are not those of a signature."
            raise ArtifactError(message, advice="Make it without them.")
        place, signature, rest = reserve[4:]
        start, added = start + _RESERVE.size, 0
    else:
        rest = bytes(8)
    end = size - signature
    is_placed = place == end if signature else place in (0, end)
    if cabinet_size != end or not is_placed or signature > _MAX_SIGNATURE or end > _MAX_CABINET:
        message = "The cabinet's size, or its signature's place, is not that of the file."
        raise ArtifactError(message, advice="Remove what was appended, or make it anew.")
    body = start + _CFFOLDER.size * folder_count
    if files != body or body > end:
        message = "The cabinet's list of files does not follow its folders."
        raise ArtifactError(message, advice=MAKE_ANEW)
    folders = streams.read_at(file, start, body - start)
    fields[2], fields[4], fields[10] = cabinet_size + added, files + added, flags | _RESERVE_PRESENT
    head = [_CFHEADER.pack(*fields), _RESERVE.pack(20, 0, 0, _RESERVE_MARK, 0, 0, rest)]
    for offset, blocks, compression in _CFFOLDER.iter_unpack(folders):
        if not body <= offset <= end:
            message = "A folder's data is outside of the cabinet."
            raise ArtifactError(message, advice=MAKE_ANEW)
        head.append(_CFFOLDER.pack(offset + added, blocks, compression))
    return Cabinet(b"".join(head), body, end, signature)


def _has_other_areas(file: BinaryIO) -> bool:
    """Whether its reserved areas are not those of a signature, and nothing follows the cabinet."""
    size = streams.size_of(file)
    if size < _CFHEADER.size + _RESERVE.size or not recognize(file):
        return False
    fields = _CFHEADER.unpack(streams.read_at(file, 0, _CFHEADER.size))
    reserve = _RESERVE.unpack(streams.read_at(file, _CFHEADER.size, _RESERVE.size))
    is_other = reserve[0] != 20 or reserve[3] != _RESERVE_MARK
    return bool(fields[10] & _RESERVE_PRESENT) and fields[2] == size and is_other


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    cabinet = parse(source)
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    primary = _kept_signature(source, cabinet, directive)
    indirect = authenticode.IndirectData(
        SPC_CAB_DATA, _obsolete_link(), hash_algorithm, _digest(source, cabinet, hash_algorithm)
    )
    prepared = authenticode.prepare(indirect, directive, identity)
    (result,) = yield [prepared.request]
    signature = prepared.finish(result)
    if primary:
        signature = authenticode.append(primary, signature)
    _write(source, cabinet, signature, target)
    how = ", appended" if primary else ""
    return Outcome(summary=f"Authenticode, {hash_algorithm}{how}")


def _digest(file: BinaryIO, cabinet: Cabinet, hash_algorithm: str) -> bytes:
    hasher = hashlib.new(hash_algorithm, usedforsecurity=False)
    hasher.update(cabinet.head[:4])
    hasher.update(cabinet.head[8:34])
    hasher.update(cabinet.head[56:])
    for data in streams.chunks(file, cabinet.body, cabinet.end - cabinet.body):
        hasher.update(data)
    return hasher.digest()


def _read_signature(file: BinaryIO, cabinet: Cabinet) -> bytes:
    table = streams.read_at(file, cabinet.end, cabinet.signature)
    encoding = der.Reader(table).take(der.SEQUENCE).encoding
    padding = table[len(encoding) :]
    if padding.strip(b"\0") or len(padding) > 7:
        message = "The cabinet hides data behind its signature."
        raise ArtifactError(message, advice="Have it made anew without it.")
    return encoding


def _kept_signature(file: BinaryIO, cabinet: Cabinet, directive: Directive) -> bytes:
    """The signature to which another is to be appended; empty if none is."""
    appends = bool(cabinet.signature) and directive.options.get("append") == "true"
    return _read_signature(file, cabinet) if appends else b""


def _write(source: BinaryIO, cabinet: Cabinet, signature: bytes, target: BinaryIO) -> None:
    padded = signature + bytes(-len(signature) % 8)
    if len(padded) > _MAX_SIGNATURE:
        message = f"The signature would have {len(padded)} bytes, more than {_MAX_SIGNATURE}."
        raise ArtifactError(message, advice=FEWER_ISSUERS)
    place = struct.pack("<II", cabinet.size, len(padded))
    target.write(cabinet.head[:44] + place + cabinet.head[52:])
    for data in streams.chunks(source, cabinet.body, cabinet.end - cabinet.body):
        target.write(data)
    target.write(padded)
    target.flush()


def _obsolete_link() -> bytes:
    """SpcLink with the file name that Windows' signer writes."""
    obsolete = "<<<Obsolete>>>".encode("utf-16-be")
    return der.explicit(2, der.encode(der.context(0, constructed=False), obsolete))
