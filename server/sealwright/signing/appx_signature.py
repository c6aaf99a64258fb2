"""Signatures of app packages and bundles: ``AppxSignature.p7x``.

The member holds Authenticode behind four bytes. What is signed is a list of digests: of the archive
in front of the signature, of its central directory without it, of content types, block map and, if
there is one, the code integrity catalog. The format is documented nowhere; what is here agrees with
the open MSIX SDK's reader and with what Windows' own signer writes. The hash is the block map's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import algorithms, appx_publisher, authenticode, cms, streams, strict_xml
from sealwright.signing.advice import CHANGED, DIRECTIVE, SIGN_ANEW
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)
from sealwright.signing.containers.appx import (
    BLOCK_MAP,
    BUNDLE_MANIFEST,
    CODE_INTEGRITY,
    CONTENT_TYPES,
    SIGNATURE,
    AppxContainer,
    is_appx,
)
from sealwright.signing.containers.zip import NewMember, ZipContainer
from sealwright.signing.x509 import Certificate

_MAGIC = b"PKCX"
_SIP_VERSION = 0x0101_0000
_PACKAGE = authenticode.sip_info(bytes.fromhex("4bdfc50a07cee24db76e23c839a09fd1"), _SIP_VERSION)
_BUNDLE = authenticode.sip_info(bytes.fromhex("b3585f0fdeaa9a4ba43495742d92eceb"), _SIP_VERSION)
_SIGNATURE_TYPE = "application/vnd.ms-appx.signature"
_TYPES = "{http://schemas.openxmlformats.org/package/2006/content-types}"
_ROLES = {
    SIGNATURE: "signature of the package",
    BLOCK_MAP: "block map: the digests of all files",
    CONTENT_TYPES: "list of content types",
    BUNDLE_MANIFEST: "manifest of the bundle, with the places of its packages",
}
_MAX_MEMBERS = 100_000
_OPTIONS = {key: value for key, value in authenticode.SIGN_OPTIONS.items() if key != "append"}
_REPACK = "Pack it again with MakeAppx."


class AppxFormat:
    """A file element for app packages and bundles; a `Format`.

    Args:
        name: of the file element.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def recognize(self, file: BinaryIO) -> bool:
        """Whether it is an archive with block map and manifest, or an encrypted package."""
        return is_appx(file)

    def directives(self) -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
        """``authenticode-sign``, which cannot append, and ``authenticode-verify``."""
        return {"authenticode-sign": _OPTIONS, "authenticode-verify": {}}

    def metadata(self, file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG002 - there is none
        """Packages have no metadata that can be restricted."""
        return {}

    def is_signature_member(self, path: str) -> bool:
        """What signing or repacking writes anew: signature, block map, content types, and the
        manifest of a bundle."""
        return path in _ROLES

    def member_role(self, path: str) -> str:
        """What of the signature it is."""
        return _ROLES[path]

    def is_signed(self, file: BinaryIO, paths: Collection[str]) -> bool:  # noqa: ARG002 - paths tell
        """Whether the member of the signature is there."""
        return SIGNATURE in paths

    def kept_attributes(self, file: BinaryIO) -> bytes:
        """SHA-256 over what those members say besides digests, sizes and places."""
        return _kept(AppxContainer(file, _MAX_MEMBERS))

    def content_digest(self, file: BinaryIO) -> bytes:
        """SHA-256 over all but the signature: members, their attributes, and `kept_attributes`."""
        package = AppxContainer(file, _MAX_MEMBERS)
        hasher = hashlib.sha256(_kept(package) + package.fingerprint(None))
        for path, entry in package.by_path.items():
            if not self.is_signature_member(path):
                hasher.update(package.fingerprint(entry))
        return hasher.digest()

    def sign(
        self, source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
    ) -> SignGenerator:
        """See `artifact.Format`."""
        if directive.name == "authenticode-sign":
            return _sign(source, directive, identity, target)
        message = f"<{self.name}> knows no directive {directive.name}."
        raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)

    def check_signable(self, file: BinaryIO, directive: Directive) -> None:  # noqa: ARG002 - there is but one
        """See `artifact.ParticularFormat`."""
        package = AppxContainer(file, _MAX_MEMBERS)
        package.check_packages()
        package.block_map().check(file, package.zip, package.mapped())
        _signature_override(_content_types(package))

    def check_signer(self, file: BinaryIO, directive: Directive, certificate: bytes) -> None:  # noqa: ARG002 - all name the publisher
        """See `artifact.IdentifiedFormat`."""
        _check_publisher(AppxContainer(file, _MAX_MEMBERS), certificate, ArtifactError)

    def verify(self, file: BinaryIO) -> list[SignatureFact]:
        """The signature; block map, places of packages and publisher must be right as well."""
        package = AppxContainer(file, _MAX_MEMBERS)
        entry = package.by_path.get(SIGNATURE)
        if entry is None:
            return []
        encoding = package.read(SIGNATURE)
        if not encoding.startswith(_MAGIC):
            message = "The signature does not begin with PKCX."
            raise ArtifactError(message, where=SIGNATURE, advice=SIGN_ANEW)
        if package.zip.extent(entry).end != package.zip.directory_start:
            message = "The signature is not the last member of the package."
            raise VerificationError(message, where=SIGNATURE, advice=SIGN_ANEW)
        block_map = package.block_map()
        package.check_packages()
        block_map.check(file, package.zip, package.mapped())

        def check(data: cms.SignedData) -> str:
            indirect = authenticode.indirect_data(data, authenticode.SPC_SIP_INFO)
            if indirect.value != _sip_info(package):
                message = "The signature is for another kind of package."
                raise VerificationError(message, advice=SIGN_ANEW)
            if indirect.hash_algorithm != block_map.hash_algorithm:
                message = "The signature's hash is not the block map's."
                raise VerificationError(message, advice=SIGN_ANEW)
            if indirect.digest != _digests(file, package, indirect.hash_algorithm):
                message = "The digests of the package differ from the signed ones: it was changed."
                raise VerificationError(message, advice=CHANGED)
            return indirect.hash_algorithm

        facts = authenticode.verify(encoding[len(_MAGIC) :], check)
        for fact in facts:
            _check_publisher(package, fact.signer, VerificationError)
        return facts


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    package = AppxContainer(source, _MAX_MEMBERS)
    _check_publisher(package, identity.certificate, ArtifactError)
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    package.check_packages()
    _write_unsigned(source, package, hash_algorithm, target)
    unsigned = AppxContainer(target, _MAX_MEMBERS)
    indirect = authenticode.IndirectData(
        authenticode.SPC_SIP_INFO,
        _sip_info(unsigned),
        hash_algorithm,
        _digests(target, unsigned, hash_algorithm),
    )
    prepared = authenticode.prepare(indirect, directive, identity)
    (result,) = yield [prepared.request]
    unsigned.zip.append(NewMember(SIGNATURE, _MAGIC + prepared.finish(result)))
    target.flush()
    return Outcome(summary=f"Authenticode, {hash_algorithm}")


def _write_unsigned(
    source: BinaryIO, package: AppxContainer, hash_algorithm: str, target: BinaryIO
) -> None:
    """The package without signature, with the content type of one, its block map in this hash."""
    mapped = package.mapped()
    block_map = package.block_map()
    block_map.check(source, package.zip, mapped)
    made: dict[str, bytes] = {}
    if block_map.hash_algorithm != hash_algorithm:
        block_map.rehash(source, package.zip, mapped, hash_algorithm)
        made[BLOCK_MAP] = strict_xml.write(block_map.root)
    types = _content_types(package)
    if _signature_override(types) is None:
        attributes = {"PartName": f"/{SIGNATURE}", "ContentType": _SIGNATURE_TYPE}
        types.append(types.makeelement(f"{_TYPES}Override", attributes))
        made[CONTENT_TYPES] = strict_xml.write(types)
    members = [NewMember(path, content) for path, content in made.items()]
    out = [package.by_path[path] for path in (*made, SIGNATURE) if path in package.by_path]
    package.zip.rewrite(target, {entry.order for entry in out}, last=members)
    target.flush()


def _digests(file: BinaryIO, package: AppxContainer, hash_algorithm: str) -> bytes:
    """What is signed: four letters and a digest, one after another."""

    def over(path: str) -> bytes:
        return algorithms.digest(hash_algorithm, package.read(path))

    signature = package.by_path.get(SIGNATURE)
    archive: ZipContainer = package.zip
    end = archive.extent(signature).header if signature else archive.directory_start
    content = hashlib.new(hash_algorithm)
    for data in streams.chunks(file, 0, end):
        content.update(data)
    directory = archive.directory_without(signature)
    parts = [
        (b"AXPC", content.digest()),
        (b"AXCD", algorithms.digest(hash_algorithm, directory)),
        (b"AXCT", over(CONTENT_TYPES)),
        (b"AXBM", over(BLOCK_MAP)),
    ]
    if CODE_INTEGRITY in package.by_path:
        parts.append((b"AXCI", over(CODE_INTEGRITY)))
    return b"APPX" + b"".join(name + digest for name, digest in parts)


def _sip_info(package: AppxContainer) -> bytes:
    return _BUNDLE if package.is_bundle else _PACKAGE


def _check_publisher(
    package: AppxContainer, encoding: bytes, error: type[ArtifactError] | type[VerificationError]
) -> None:
    """The manifest's publisher must be the certificate's subject, or Windows installs nothing."""
    publisher = _publisher(package)
    certificate = Certificate.parse(encoding)
    if not appx_publisher.is_publisher(publisher, certificate):
        subject = appx_publisher.subject_text(certificate)
        message = (
            f'The publisher in the manifest is "{publisher[:400]}", but the subject of the '
            f'certificate is "{subject}".'
        )
        advice = (
            "Have the build write the subject, in this very form, as the Publisher of the "
            "manifest's Identity, or sign with the publisher's certificate."
        )
        raise error(message, advice=advice, where=package.manifest_path)


def _publisher(package: AppxContainer) -> str:
    root = package.manifest()
    expected = "Bundle" if package.is_bundle else "Package"
    found = [child for child in root if strict_xml.local_name(child) == "Identity"]
    publisher = found[0].get("Publisher") if len(found) == 1 else None
    if strict_xml.local_name(root) != expected or publisher is None:
        message = "The manifest does not name the package and its publisher."
        raise ArtifactError(message, advice=_REPACK, where=package.manifest_path)
    return str(publisher)


def _content_types(package: AppxContainer) -> strict_xml.Node:
    limit = 16 << 20
    root = strict_xml.parse(package.read(CONTENT_TYPES), CONTENT_TYPES, limit)
    if root.tag != f"{_TYPES}Types":
        message = "It does not list content types."
        raise ArtifactError(message, advice=_REPACK, where=CONTENT_TYPES)
    return root


def _signature_override(types: strict_xml.Node) -> strict_xml.Node | None:
    for element in types.findall(f"{_TYPES}Override"):
        if element.get("PartName", "").lower() == f"/{SIGNATURE.lower()}":
            if element.get("ContentType") != _SIGNATURE_TYPE:
                message = "The signature has another content type than it must have."
                raise ArtifactError(message, advice=_REPACK, where=CONTENT_TYPES)
            return element
    return None


def _kept(package: AppxContainer) -> bytes:
    """SHA-256 of what signing and repacking leave as it is in the members that they write."""
    hasher = hashlib.sha256(package.block_map().skeleton())
    types = _content_types(package)
    override = _signature_override(types)
    if override is not None:
        types.remove(override)
    hasher.update(strict_xml.canonical(types))
    if package.is_bundle:
        root = package.manifest()
        for element in root.iter():
            if strict_xml.local_name(element) == "Package" and "Offset" in element.attrib:
                element.set("Offset", "")
                if "Size" in element.attrib:
                    element.set("Size", "")
        hasher.update(strict_xml.canonical(root))
    return hasher.digest()
