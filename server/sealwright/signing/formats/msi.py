"""Windows Installer packages, merge modules and patches: Authenticode over compound files.

The signature is the stream ``\\x05DigitalSignature`` of the root storage. Its digest covers the
content of all other streams, sorted by the bytes of their names, and the class identifiers of the
storages. Names, sizes and times are covered only with ``\\x05MsiDigitalSignatureEx``, which holds
their digest and comes first in the other one. Microsoft documents neither; both follow from what
its signer makes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import algorithms, authenticode, cms, der, summary_information
from sealwright.signing.advice import CHANGED, DIRECTIVE, FEWER_ISSUERS, SIGN_ANEW
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)
from sealwright.signing.containers.compound_file import CompoundFile, Node
from sealwright.signing.containers.compound_records import STREAM
from sealwright.signing.containers.compound_writer import rewrite
from sealwright.signing.containers.msi import is_installer
from sealwright.signing.containers.msi_names import SIGNATURE, SIGNATURE_EX, SIGNATURE_STREAMS

name = "msi-file"

EX_OPTION = "msi-digital-signature-ex"

_SIP = bytes.fromhex("f1100c0000000000c000000000000046")
_SIP_INFO = authenticode.sip_info(_SIP, 2)
_SIP_INFOS = (_SIP_INFO, authenticode.sip_info(_SIP, 1))  # what Windows writes, and others
_MAX_SIGNATURE = 16 << 20
_HASHES_BY_SIZE = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


def recognize(file: BinaryIO) -> bool:
    """Whether it is a compound file whose class is that of a package, merge module or patch."""
    return is_installer(file)


def is_signed(file: BinaryIO, paths: Collection[str]) -> bool:  # noqa: ARG001 - none is in paths
    """Whether there is a signature, which rebuilding the package leaves out."""
    return recognize(file) and CompoundFile(file).root.child(SIGNATURE) is not None


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``authenticode-sign``, with an option of its own, and ``authenticode-verify``."""
    options = {**authenticode.SIGN_OPTIONS, EX_OPTION: ("true", "false", "keep")}
    return {"authenticode-sign": options, "authenticode-verify": {}}


def metadata(file: BinaryIO) -> Mapping[str, str]:
    """Subject and author of the summary information."""
    package = CompoundFile(file)
    stream = package.root.child(summary_information.STREAM_NAME)
    if stream is None:
        return {}
    return summary_information.read(package.read(stream, summary_information.MAX_SIZE))


def content_digest(file: BinaryIO) -> bytes:
    """Digest over content and metadata of everything but the signature."""
    package = CompoundFile(file)
    return _content(package, "sha256", _metadata(package, "sha256"))


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
    _signature_around(CompoundFile(file), directive, algorithms.hash_algorithm_of(directive))


def verify(file: BinaryIO) -> list[SignatureFact]:
    """The signature and those nested in it. MsiDigitalSignatureEx is checked where it is there."""
    package = CompoundFile(file)
    package.check_end()
    encoding = _read_signature(package)
    if encoding is None:
        return []
    extended = _read_extended(package)
    if extended and extended != _metadata(package, _HASHES_BY_SIZE[len(extended)]):
        message = "Names, sizes or times in the package differ from the signed ones."
        raise VerificationError(message, advice=CHANGED)
    digests: dict[str, bytes] = {}

    def check(data: cms.SignedData) -> str:
        indirect = authenticode.indirect_data(data, authenticode.SPC_SIP_INFO)
        if indirect.value not in _SIP_INFOS:
            message = "The signature is for another kind of file than an installer package."
            raise VerificationError(message, advice=SIGN_ANEW)
        algorithm = indirect.hash_algorithm
        if algorithm not in digests:
            digests[algorithm] = _content(package, algorithm, extended)
        if indirect.digest != digests[algorithm]:
            message = "The digest of the package differs from the signed one: it was changed."
            raise VerificationError(message, advice=CHANGED)
        return algorithm

    return authenticode.verify(encoding, check)


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    package = CompoundFile(source)
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    primary, extended = _signature_around(package, directive, hash_algorithm)
    digest = _content(package, hash_algorithm, extended)
    indirect = authenticode.IndirectData(
        authenticode.SPC_SIP_INFO, _SIP_INFO, hash_algorithm, digest
    )
    prepared = authenticode.prepare(indirect, directive, identity)
    (result,) = yield [prepared.request]
    signature = prepared.finish(result)
    if primary is not None:
        signature = authenticode.append(primary, signature)
    if len(signature) > _MAX_SIGNATURE:
        message = f"The signature would have {len(signature)} bytes, more than {_MAX_SIGNATURE}."
        raise ArtifactError(message, advice=FEWER_ISSUERS)
    streams = {SIGNATURE: signature, **({SIGNATURE_EX: extended} if extended else {})}
    rewrite(package, target, streams, SIGNATURE_STREAMS)
    how = ", appended" if primary is not None else ""
    return Outcome(summary=f"Authenticode, {hash_algorithm}{how}")


def _signature_around(
    package: CompoundFile, directive: Directive, hash_algorithm: str
) -> tuple[bytes | None, bytes]:
    """The signature to which another is to be appended, and MsiDigitalSignatureEx."""
    primary = _read_signature(package) if directive.options.get("append") == "true" else None
    if primary is None:
        return None, _extended(package, directive, hash_algorithm)
    return primary, _kept_extended(package, hash_algorithm)


# --- digests ------------------------------------------------------------------------------------


def _extended(package: CompoundFile, directive: Directive, hash_algorithm: str) -> bytes:
    """What MsiDigitalSignatureEx of a new signature holds; empty if it is not to be there."""
    wanted = directive.options.get(EX_OPTION) or "true"
    if wanted == "keep":
        wanted = "true" if package.root.child(SIGNATURE_EX) else "false"
    return _metadata(package, hash_algorithm) if wanted == "true" else b""


def _kept_extended(package: CompoundFile, hash_algorithm: str) -> bytes:
    """MsiDigitalSignatureEx as it is there: the first signature covers it."""
    extended = _read_extended(package)
    if extended and _HASHES_BY_SIZE[len(extended)] != hash_algorithm:
        kept = _HASHES_BY_SIZE[len(extended)]
        message = f"Only a {kept} signature can be appended: MsiDigitalSignatureEx is made with it."
        advice = f'Set hash-algorithm="{kept}", or replace the signature.'
        raise ArtifactError(message, advice=advice)
    return extended


def _metadata(package: CompoundFile, hash_algorithm: str) -> bytes:
    """Digest over names, kinds, sizes, states and times: what MsiDigitalSignatureEx holds."""
    hasher = hashlib.new(hash_algorithm, usedforsecurity=False)

    def add(node: Node, *, is_root: bool) -> None:
        entry = node.entry
        hasher.update(b"" if is_root else entry.name)
        if entry.kind == STREAM:
            hasher.update(struct.pack("<I", entry.size & 0xFFFFFFFF))
        else:
            hasher.update(entry.class_id)
        hasher.update(struct.pack("<I", entry.state))
        if not is_root:
            hasher.update(entry.created + entry.modified)
        for child in _signed(node, is_root=is_root):
            add(child, is_root=False)

    add(package.root, is_root=True)
    return hasher.digest()


def _content(package: CompoundFile, hash_algorithm: str, extended: bytes) -> bytes:
    """Digest over `extended`, then every stream and, behind its members, every storage's class."""
    hasher = hashlib.new(hash_algorithm, extended, usedforsecurity=False)

    def add(node: Node, *, is_root: bool) -> None:
        for child in _signed(node, is_root=is_root):
            if child.is_stream:
                for piece in package.chunks(child):
                    hasher.update(piece)
            else:
                add(child, is_root=False)
        hasher.update(node.entry.class_id)

    add(package.root, is_root=True)
    return hasher.digest()


def _signed(storage: Node, *, is_root: bool) -> list[Node]:
    """What a signature covers of a storage, in its order: by the bytes of the names."""
    left_out = SIGNATURE_STREAMS if is_root else ()
    members = [node for node in storage.children if node.name not in left_out]
    return sorted(members, key=lambda node: node.name)


# --- streams ------------------------------------------------------------------------------------


def _read_signature(package: CompoundFile) -> bytes | None:
    content = _read(package, SIGNATURE, _MAX_SIGNATURE)
    if not content:
        return None
    encoding = der.Reader(content).take(der.SEQUENCE).encoding
    padding = content[len(encoding) :]
    if padding.strip(b"\0") or len(padding) > 7:
        message = "The package hides data behind its signature."
        raise ArtifactError(message, advice="Have it made anew without it.")
    return encoding


def _read_extended(package: CompoundFile) -> bytes:
    """MsiDigitalSignatureEx, empty without it."""
    content = _read(package, SIGNATURE_EX, max(_HASHES_BY_SIZE))
    if content is None:
        return b""
    if len(content) not in _HASHES_BY_SIZE:
        message = f"MsiDigitalSignatureEx has {len(content)} bytes, which is no digest."
        raise ArtifactError(message, advice="Have the package signed anew.")
    return content


def _read(package: CompoundFile, stream_name: bytes, limit: int) -> bytes | None:
    stream = package.root.child(stream_name)
    if stream is None:
        return None
    if not stream.is_stream:
        message = "A storage has the name of a signature."
        raise ArtifactError(message, advice="Build the package again.")
    return package.read(stream, limit)
