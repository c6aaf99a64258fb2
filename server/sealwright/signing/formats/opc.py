"""Open Packaging files such as VSIX: digital signatures of ECMA-376, Part 2, section 13.

A signature is a part with an XML signature. That covers an object with a manifest: a digest for
each part, together with its content type, and for each set of relationships. Every part is signed
here, and the verifier wants every part to be signed; relationships that only lead to signatures may
come and go. The RFC 3161 time stamp is where Visual Studio's signers put it, in an object of its
own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import (
    algorithms,
    cms_writing,
    opc_package,
    opc_signature,
    vsix_manifest,
)
from sealwright.signing.advice import ADDED_AFTERWARDS, CHANGED, DIRECTIVE, MAKE_UNSIGNED
from sealwright.signing.artifact import (
    Directive,
    Entry,
    Identity,
    Outcome,
    SignatureFact,
    SignatureRequest,
    SignGenerator,
)
from sealwright.signing.containers.zip import NewMember
from sealwright.signing.containers.zip_records import STORED
from sealwright.signing.opc_package import (
    CONTENT_TYPES,
    RELATIONSHIPS_TYPE,
    ROOT_RELATIONSHIPS,
    UNKNOWN_TYPE,
    OpcPackage,
    Relationship,
    part_key,
)
from sealwright.signing.opc_signature import PartDigest
from sealwright.signing.streams import DigestWriter
from sealwright.signing.x509 import Certificate
from sealwright.signing.xml_signature import value_size

name = "opc-file"

_FOLDERS = ("package/services/digital-signature/", "_xmlsignatures/")  # the latter is Office's
_ORIGIN = "package/services/digital-signature/origin.psdor"
_SIGNATURES = "package/services/digital-signature/xml-signature/"
_RELATIONSHIP_TYPES = (
    "http://schemas.openxmlformats.org/package/2006/relationships/digital-signature/"
)
_TO_ORIGIN, _TO_SIGNATURE, _TO_CERTIFICATE = (
    _RELATIONSHIP_TYPES + kind for kind in ("origin", "signature", "certificate")
)
_KIND = "application/vnd.openxmlformats-package.digital-signature-"
_ORIGIN_KIND, _SIGNATURE_KIND = _KIND + "origin", _KIND + "xmlsignature+xml"
_MAX_SIGNATURES = 16
_REMOVE = "Have the build make the package without signatures."


def recognize(file: BinaryIO) -> bool:
    """Whether it is a ZIP archive that lists content types."""
    return opc_package.is_opc(file)


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``opc-sign``."""
    return {"opc-sign": {"hash-algorithm": algorithms.HASH_ALGORITHMS}}


def metadata(file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG001 - there is none
    """Packages have no metadata that can be restricted."""
    return {}


def is_signature_member(path: str) -> bool:
    """Signatures and what leads to them, and a VSIX's list of digests."""
    key = part_key(path)
    if key.startswith(_FOLDERS):
        return True
    return path in (CONTENT_TYPES, vsix_manifest.PATH) or key == ROOT_RELATIONSHIPS


def member_role(path: str) -> str:
    """What of the signature it is."""
    key = part_key(path)
    if key.endswith(".rels"):
        return "relationships"
    if path == CONTENT_TYPES:
        return "list of content types"
    if path == vsix_manifest.PATH:
        return "list of the digests of all files"
    if key == _ORIGIN:
        return "origin of the signatures"
    return "certificate" if key.endswith(".cer") else "signature of the package"


def is_signed(file: BinaryIO, paths: Collection[str]) -> bool:  # noqa: ARG001 - paths tell
    """Whether there are members of signatures."""
    return any(part_key(path).startswith(_FOLDERS) for path in paths)


def kept_attributes(file: BinaryIO) -> bytes:
    """SHA-256 over content types and relationships of all but signatures."""
    package = OpcPackage(file)
    types = {
        entry.path: package.types.of(entry.path) or UNKNOWN_TYPE
        for entry in package.parts.values()
        if not part_key(entry.path).startswith(_FOLDERS) and not _is_root(entry)
    }
    others = [repr(each) for each in package.relationships("") if each.type != _TO_ORIGIN]
    hasher = hashlib.sha256(repr((sorted(types.items()), sorted(others))).encode())
    manifest = package.find(vsix_manifest.PATH)
    if manifest is not None:
        hasher.update(vsix_manifest.skeleton(package.read(manifest)))
    return hasher.digest()


def content_digest(file: BinaryIO) -> bytes:
    """SHA-256 over all but the signatures: members, their attributes, and `kept_attributes`."""
    package = OpcPackage(file)
    hasher = hashlib.sha256(kept_attributes(file) + package.zip.fingerprint(None))
    for entry in package.parts.values():
        if not is_signature_member(entry.path):
            hasher.update(package.zip.fingerprint(entry))
    return hasher.digest()


def sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    """Sign anew: signatures that are there are removed."""
    if directive.name != "opc-sign":
        message = f"<{name}> knows no directive {directive.name}."
        raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)
    return _sign(source, directive, identity, target)


def check_signable(file: BinaryIO, directive: Directive) -> None:  # noqa: ARG001 - there is but one
    """See `artifact.ParticularFormat`."""
    package = OpcPackage(file)
    _check_replaceable(package)
    for entry in package.parts.values():
        if opc_package.is_relationships(entry.path):
            opc_package.read_relationships(package.read(entry), entry.path)
    manifest = package.find(vsix_manifest.PATH)
    if manifest is not None:
        vsix_manifest.updated(
            package.read(manifest), lambda name: None if package.find(name) is None else ""
        )


def verify(file: BinaryIO) -> list[SignatureFact]:
    """Every signature, in the order of the relationships that lead to them."""
    package = OpcPackage(file)
    origin = _origin(package)
    if origin is None:
        return []
    signatures = [
        package.target(origin.path, each)
        for each in package.relationships(origin.path)
        if each.type == _TO_SIGNATURE
    ]
    if len(signatures) > _MAX_SIGNATURES:
        message = f"The package has more than {_MAX_SIGNATURES} signatures."
        raise ArtifactError(message, advice=MAKE_UNSIGNED)
    certificates = {
        entry.path: [
            package.target(entry.path, each)
            for each in package.relationships(entry.path)
            if each.type == _TO_CERTIFICATE
        ]
        for entry in signatures
    }
    apart = {part_key(entry.path) for entry in signatures}
    for path, entries in certificates.items():
        apart.add(part_key(opc_package.relationships_of(path)))
        apart |= {part_key(entry.path) for entry in entries}
    facts = []
    for index, entry in enumerate(signatures):
        carried = [Certificate.parse(package.read(each)) for each in certificates[entry.path]]
        made = opc_signature.verify(package.read(entry), entry.path, carried)
        _check_covered(package, made.parts, apart)
        facts.append(made.fact("opc", index))
    return facts


# --- signing ------------------------------------------------------------------------------------


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    package = OpcPackage(source)
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    certificate = Certificate.parse(identity.certificate)
    path = f"{_SIGNATURES}{certificate.fingerprint('sha256').hex()[:24]}.psdsxs"
    made, removed = _around_signature(package, path)
    parts = list(_part_digests(package, made, removed, hash_algorithm))
    prepared = opc_signature.prepare(parts, hash_algorithm, identity)
    request = SignatureRequest(
        digest=prepared.digest,
        hash_algorithm=hash_algorithm,
        mechanism=prepared.mechanism,
        timestamp=cms_writing.timestamp_form(directive),
        value_size=value_size(certificate),
    )
    (result,) = yield [request]
    members = [
        NewMember(path_, content, STORED if not content else NewMember.method)
        for path_, content in {**made, path: prepared.finish(result)}.items()
    ]
    package.zip.rewrite(target, {entry.order for entry in removed}, last=members)
    target.flush()
    return Outcome(f"OPC signature, {hash_algorithm}, {len(parts)} parts")


def _around_signature(package: OpcPackage, path: str) -> tuple[dict[str, bytes], list[Entry]]:
    """What is made anew besides the signature at `path`, and what is left out for it."""
    _check_replaceable(package)
    removed = [e for e in package.parts.values() if part_key(e.path).startswith(_FOLDERS)]
    kept = [each for each in package.relationships("") if each.type != _TO_ORIGIN]
    root = Relationship(_free_id(kept), _TO_ORIGIN, f"/{_ORIGIN}")
    to_signature = Relationship("R1", _TO_SIGNATURE, f"/{path}")
    made: dict[str, bytes] = {}
    manifest = package.find(vsix_manifest.PATH)
    if manifest is not None:
        document = package.read(manifest)
        updated = vsix_manifest.updated(document, lambda name: _sha256(package, name))
        if updated is not None:
            made[manifest.path] = updated
            removed.append(manifest)
    made[ROOT_RELATIONSHIPS] = opc_package.write_relationships([*kept, root])
    made[_ORIGIN] = b""
    made[opc_package.relationships_of(_ORIGIN)] = opc_package.write_relationships([to_signature])
    root_entry = package.find(ROOT_RELATIONSHIPS)
    removed += [e for e in (root_entry, package.content_types) if e is not None]
    gone = {part_key(entry.path) for entry in removed} - {part_key(each) for each in made}
    made[CONTENT_TYPES] = _typed(package, gone)
    return made, removed


def _check_replaceable(package: OpcPackage) -> None:
    origin = _origin(package)
    if origin is not None and not part_key(origin.path).startswith(_FOLDERS):
        message = "The package's signatures are in an unusual place, so they cannot be replaced."
        raise ArtifactError(message, advice=_REMOVE, where=origin.path)


def _typed(package: OpcPackage, gone: set[str]) -> bytes:
    """The content types for the signature, and for members that had none."""
    types = package.types
    types.remove(gone, {"psdor", "psdsxs"})
    if types.of(ROOT_RELATIONSHIPS) is None:
        types.add_default("rels", RELATIONSHIPS_TYPE)
    for key, entry in package.parts.items():
        if not key.startswith(_FOLDERS) and types.of(entry.path) is None:
            types.add_override(entry.path, UNKNOWN_TYPE)
    types.add_default("psdor", _ORIGIN_KIND)
    types.add_default("psdsxs", _SIGNATURE_KIND)
    return opc_package.write_types(types)


def _part_digests(
    package: OpcPackage, made: Mapping[str, bytes], removed: list[Entry], hash_algorithm: str
) -> Iterator[PartDigest]:
    """Digests of the parts that the signed package will have, but for the signature itself."""
    left_out = {entry.order for entry in removed}
    contents: dict[str, Entry | bytes] = {
        entry.path: entry for entry in package.parts.values() if entry.order not in left_out
    }
    contents |= {path: content for path, content in made.items() if path != CONTENT_TYPES}
    for path, content in sorted(contents.items()):
        kind = package.types.of(path) or UNKNOWN_TYPE
        if opc_package.is_relationships(path):
            document = content if isinstance(content, bytes) else package.read(content)
            relationships = opc_package.read_relationships(document, path)
            transformed = opc_package.transform_relationships(relationships)
            digest = algorithms.digest(hash_algorithm, transformed)
            yield PartDigest(path, kind, hash_algorithm, digest, tuple(r.id for r in relationships))
        elif isinstance(content, bytes):
            yield PartDigest(path, kind, hash_algorithm, algorithms.digest(hash_algorithm, content))
        else:
            yield PartDigest(path, kind, hash_algorithm, _digest(package, content, hash_algorithm))


def _sha256(package: OpcPackage, path: str) -> str | None:
    entry = package.find(path)
    return None if entry is None else _digest(package, entry, "sha256").hex()


def _digest(package: OpcPackage, entry: Entry, hash_algorithm: str) -> bytes:
    writer = DigestWriter(hash_algorithm)
    package.zip.extract(entry, writer.file)
    return writer.digest()


def _free_id(relationships: list[Relationship]) -> str:
    taken = {each.id for each in relationships}
    number = 1
    while f"RSignature{number}" in taken:
        number += 1
    return f"RSignature{number}"


# --- verifying ----------------------------------------------------------------------------------


def _origin(package: OpcPackage) -> Entry | None:
    found = [each for each in package.relationships("") if each.type == _TO_ORIGIN]
    if len(found) > 1:
        message = "The package has several origins of signatures."
        raise ArtifactError(message, advice=_REMOVE, where=ROOT_RELATIONSHIPS)
    return package.target("", found[0]) if found else None


def _check_covered(package: OpcPackage, parts: Mapping[str, PartDigest], apart: set[str]) -> None:
    """Every part is the signed one, and every one is signed.

    Args:
        parts: what the signature says, by `part_key`.
        apart: signatures and certificates, which it cannot cover.
    """
    for key, part in parts.items():
        entry = package.parts.get(key)
        if entry is None:
            message = "A signed part is missing."
            raise VerificationError(message, where=part.path, advice=CHANGED)
        if (package.types.of(entry.path) or "").lower() != part.content_type.lower():
            message = "The part has another content type than the signed one."
            raise VerificationError(message, where=entry.path, advice=CHANGED)
        if _present_digest(package, entry, part) != part.digest:
            message = "The part is not the signed one: it has been changed."
            raise VerificationError(message, where=entry.path, advice=CHANGED)
    origin = _origin(package)
    for key, entry in package.parts.items():
        if key in apart or (origin is not None and entry.path == origin.path):
            continue
        signed = parts.get(key)
        if opc_package.is_relationships(entry.path):
            if signed is None or signed.selects:
                _check_unselected(package, entry, signed)
        elif signed is None:
            message = "The part is not signed."
            raise VerificationError(message, where=entry.path, advice=ADDED_AFTERWARDS)


def _present_digest(package: OpcPackage, entry: Entry, part: PartDigest) -> bytes:
    if not part.selects:
        return _digest(package, entry, part.hash_algorithm)
    relationships = opc_package.read_relationships(package.read(entry), entry.path)
    chosen = [each for each in relationships if part.is_selected(each)]
    return algorithms.digest(part.hash_algorithm, opc_package.transform_relationships(chosen))


def _check_unselected(package: OpcPackage, entry: Entry, signed: PartDigest | None) -> None:
    """Relationships that are not signed may only lead to signatures."""
    for each in opc_package.read_relationships(package.read(entry), entry.path):
        is_selected = signed is not None and signed.is_selected(each)
        if not is_selected and not each.type.startswith(_RELATIONSHIP_TYPES):
            message = f'The relationship "{each.id[:80]}" is not signed.'
            raise VerificationError(message, where=entry.path, advice=ADDED_AFTERWARDS)


def _is_root(entry: Entry) -> bool:
    return part_key(entry.path) == ROOT_RELATIONSHIPS
