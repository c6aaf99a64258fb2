"""The XML signature in an Open Packaging file (ECMA-376-2, 13.2.4)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sealwright.errors import ArtifactError, VerificationError
from sealwright.model.mechanism import Mechanism
from sealwright.signing import (
    algorithms,
    signature_value,
    strict_xml,
    timestamps,
    xml_signature,
)
from sealwright.signing.advice import CHANGED, SIGN_ANEW
from sealwright.signing.artifact import Identity, SignatureFact, SignatureResult
from sealwright.signing.opc_package import Relationship, part_key, part_name
from sealwright.signing.x509 import Certificate
from sealwright.signing.xml_signature import CANONICAL, DIGEST_METHODS, DS, NAMESPACE

PACKAGE_OBJECT = "idPackageObject"
RELATIONSHIP_TRANSFORM = "http://schemas.openxmlformats.org/package/2006/RelationshipTransform"

_OPC = "http://schemas.openxmlformats.org/package/2006/digital-signature"
_TIME_FORMAT = "YYYY-MM-DDThh:mm:ss.sTZD"
_MAX_SIGNATURE = 32 << 20
_MAX_CERTIFICATES = 64
_STRENGTH = ("sha1", "sha256", "sha384", "sha512")


@dataclass(frozen=True)
class PartDigest:
    """What a signature says of one part.

    Attributes:
        path: of the member.
        content_type: of the part.
        hash_algorithm: of the digest.
        digest: of the content; of the transformed relationships if some are selected.
        ids: of the relationships that are signed.
        types: of the relationships that are signed, whatever their ids.
        is_transformed: whether the digest is over selected relationships, even if none is.
    """

    path: str
    content_type: str
    hash_algorithm: str
    digest: bytes
    ids: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    is_transformed: bool = False

    @property
    def selects(self) -> bool:
        """Whether the digest is over relationships that are selected from the part."""
        return self.is_transformed or bool(self.ids or self.types)

    def is_selected(self, relationship: Relationship) -> bool:
        """Whether it is among the selected relationships."""
        return relationship.id in self.ids or relationship.type in self.types


@dataclass(frozen=True)
class Prepared:
    """A signature that waits for its value: `digest` is what the token signs by `mechanism`."""

    digest: bytes
    mechanism: Mechanism
    _root: strict_xml.Node = field(repr=False)
    _certificate: Certificate = field(repr=False)

    def finish(self, result: SignatureResult) -> bytes:
        """The document, with the time stamp if there is one."""
        size = xml_signature.value_size(self._certificate)
        value = signature_value.concatenated(result.signature, size)
        self._root[1].text = base64.b64encode(value).decode()
        if result.timestamp_token is not None:
            _add_timestamp(self._root, result.timestamp_token)
        return strict_xml.write(self._root)


def prepare(parts: Sequence[PartDigest], hash_algorithm: str, identity: Identity) -> Prepared:
    """Everything but the signature value.

    Args:
        parts: all that is signed, in the order in which it is written.
        hash_algorithm: of the signature and of the manifest.
        identity: signer; self-signed issuers are left out.
    """
    leaf = Certificate.parse(identity.certificate)
    issuers = [Certificate.parse(encoding) for encoding in identity.chain]
    carried = [leaf, *(each for each in issuers if not each.is_self_issued)]
    mechanism = algorithms.mechanism_of(leaf)
    root = _element("Signature")
    signed_info = _add(root, "SignedInfo")
    _add(root, "SignatureValue")
    data = _add(_add(root, "KeyInfo"), "X509Data")
    for encoding in dict.fromkeys(each.encoding for each in carried):
        _add(data, "X509Certificate", base64.b64encode(encoding).decode())
    package = _add(root, "Object", Id=PACKAGE_OBJECT)
    manifest = _add(package, "Manifest")
    for part in parts:
        _add_part(manifest, part)
    _add_time(package, identity.signing_time)
    _add(signed_info, "CanonicalizationMethod", Algorithm=CANONICAL)
    method = xml_signature.signature_method(mechanism, hash_algorithm)
    _add(signed_info, "SignatureMethod", Algorithm=method)
    reference = _add(
        signed_info, "Reference", URI=f"#{PACKAGE_OBJECT}", Type=xml_signature.OBJECT_TYPE
    )
    _add(_add(reference, "Transforms"), "Transform", Algorithm=CANONICAL)
    _add_digest(reference, hash_algorithm, algorithms.digest(hash_algorithm, _canonical(package)))
    digest = algorithms.digest(hash_algorithm, _canonical(signed_info))
    return Prepared(digest, mechanism, root, leaf)


@dataclass(frozen=True)
class Verified:
    """A signature whose value and digests of its own objects were verified.

    Attributes:
        parts: what it says of the package's parts, by `part_key`; not compared with them yet.
        hash_algorithm: the weakest in it.
        signer: its certificate.
        certificates: that it carries.
        stamp: its time stamp, or None.
    """

    parts: Mapping[str, PartDigest]
    hash_algorithm: str
    signer: Certificate
    certificates: tuple[Certificate, ...]
    stamp: timestamps.Timestamp | None

    def fact(self, kind: str, index: int) -> SignatureFact:
        """As a fact of this format and number."""
        stamp = self.stamp
        carried = (self.signer, *self.certificates, *(stamp.certificates if stamp else ()))
        return SignatureFact(
            format=kind,
            hash_algorithm=self.hash_algorithm,
            signer=self.signer.encoding,
            certificates=tuple(dict.fromkeys(each.encoding for each in carried)),
            timestamp=stamp.time if stamp else None,
            timestamp_signer=stamp.signer.encoding if stamp else None,
            index=index,
        )


def verify(document: bytes, where: str, carried: Sequence[Certificate]) -> Verified:
    """Verify a signature by itself.

    Args:
        carried: certificates in parts of their own.

    Raises:
        VerificationError: it does not verify.
        ArtifactError: it is malformed.
    """
    root = strict_xml.parse(document, where, _MAX_SIGNATURE)
    if root.tag != f"{DS}Signature":
        message = "It is no XML signature."
        raise ArtifactError(message, where=where, advice=SIGN_ANEW)
    signed_info, value = _only(root, "SignedInfo"), _only(root, "SignatureValue")
    mechanism, hash_algorithm = xml_signature.read_signature_method(
        _only(signed_info, "SignatureMethod")
    )
    signed = xml_signature.canonicalize(_only(signed_info, "CanonicalizationMethod"), signed_info)
    raw = xml_signature.read_base64(value.text, "SignatureValue")
    candidates = [*_certificates(root), *carried]
    signer = xml_signature.verify_value(candidates, mechanism, hash_algorithm, signed, raw)
    package, hashes = _referenced(root, signed_info)
    parts: dict[str, PartDigest] = {}
    for part in _parts(_only(package, "Manifest")):
        key = part_key(part.path)
        if key in parts:
            message = "The signature names a part twice."
            raise VerificationError(message, where=part.path, advice=SIGN_ANEW)
        parts[key] = part
        hashes.add(part.hash_algorithm)
    weakest = min({*hashes, hash_algorithm}, key=_STRENGTH.index)
    return Verified(parts, weakest, signer, tuple(candidates), _timestamp(root, raw))


# --- writing ------------------------------------------------------------------------------------


def _element(name: str) -> strict_xml.Node:
    from lxml import etree

    return etree.Element(f"{DS}{name}", nsmap={None: NAMESPACE})


def _add(
    parent: strict_xml.Node,
    name: str,
    text: str | None = None,
    *,
    namespace: str = NAMESPACE,
    **attributes: str,
) -> strict_xml.Node:
    from lxml import etree

    prefixes = None if namespace == NAMESPACE else {None: namespace}
    element = etree.SubElement(parent, f"{{{namespace}}}{name}", attributes, nsmap=prefixes)
    element.text = text
    return element


def _add_digest(parent: strict_xml.Node, hash_algorithm: str, digest: bytes) -> None:
    _add(parent, "DigestMethod", Algorithm=DIGEST_METHODS[hash_algorithm])
    _add(parent, "DigestValue", base64.b64encode(digest).decode())


def _add_part(manifest: strict_xml.Node, part: PartDigest) -> None:
    uri = f"{part_name(part.path)}?ContentType={part.content_type}"
    reference = _add(manifest, "Reference", URI=uri)
    if part.selects:
        transforms = _add(reference, "Transforms")
        selection = _add(transforms, "Transform", Algorithm=RELATIONSHIP_TRANSFORM)
        for each in sorted(part.ids):
            _add(selection, "RelationshipReference", namespace=_OPC, SourceId=each)
        _add(transforms, "Transform", Algorithm=CANONICAL)
    _add_digest(reference, part.hash_algorithm, part.digest)


def _add_time(package: strict_xml.Node, posix: int) -> None:
    properties = _add(package, "SignatureProperties")
    owner = _add(properties, "SignatureProperty", Id="idSignatureTime", Target="")
    time = _add(owner, "SignatureTime", namespace=_OPC)
    _add(time, "Format", _TIME_FORMAT, namespace=_OPC)
    text = datetime.fromtimestamp(posix, UTC).strftime("%Y-%m-%dT%H:%M:%S.0+00:00")
    _add(time, "Value", text, namespace=_OPC)


def _add_timestamp(root: strict_xml.Node, token: bytes) -> None:
    stamp = _add(_add(root, "Object"), "TimeStamp", namespace=_OPC, Id="idSignatureTimestamp")
    _add(stamp, "Comment", namespace=_OPC)
    _add(stamp, "EncodedTime", base64.b64encode(token).decode(), namespace=_OPC)


def _canonical(node: strict_xml.Node) -> bytes:
    return strict_xml.canonical(node)


# --- reading ------------------------------------------------------------------------------------


def _only(parent: strict_xml.Node, name: str, namespace: str = NAMESPACE) -> strict_xml.Node:
    found = parent.findall(f"{{{namespace}}}{name}")
    if len(found) != 1:
        message = f"The signature has {len(found)} elements {name} in one place."
        raise ArtifactError(message, advice=SIGN_ANEW)
    return found[0]


def _certificates(root: strict_xml.Node) -> list[Certificate]:
    path = f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate"
    elements = root.findall(path)
    if len(elements) > _MAX_CERTIFICATES:
        message = f"The signature carries more than {_MAX_CERTIFICATES} certificates."
        raise ArtifactError(message, advice=SIGN_ANEW)
    read = (xml_signature.read_base64(element.text, "certificate") for element in elements)
    return [Certificate.parse(encoding) for encoding in read]


def _referenced(
    root: strict_xml.Node, signed_info: strict_xml.Node
) -> tuple[strict_xml.Node, set[str]]:
    """Check what SignedInfo refers to; gives the object of the package, and the hashes used.

    Only elements directly in the signature are looked up, so that none elsewhere can stand in.
    """
    by_id: dict[str, strict_xml.Node] = {}
    for element in root.iter():
        if "Id" in element.attrib:
            if element.attrib["Id"] in by_id:
                message = "Two elements of the signature have one Id."
                raise VerificationError(message, advice=SIGN_ANEW)
            by_id[element.attrib["Id"]] = element
    package, hashes = None, set()
    for reference in signed_info.findall(f"{DS}Reference"):
        uri = reference.get("URI", "")
        target = by_id.get(uri[1:]) if uri.startswith("#") else None
        if target is None:
            message = f'The signature refers to "{uri[:120]}", which is not in it.'
            raise VerificationError(message, advice=SIGN_ANEW)
        transforms = reference.findall(f"{DS}Transforms/{DS}Transform")
        if len(transforms) > 1:
            message = "An object of the signature is transformed more than once."
            raise VerificationError(message, advice=SIGN_ANEW)
        content = (
            xml_signature.canonicalize(transforms[0], target) if transforms else _canonical(target)
        )
        hash_algorithm, digest = _read_digest(reference)
        if algorithms.digest(hash_algorithm, content) != digest:
            message = "An object of the signature is not the signed one: it has been changed."
            raise VerificationError(message, advice=CHANGED)
        hashes.add(hash_algorithm)
        if target.getparent() is root and target.find(f"{DS}Manifest") is not None:
            if package is not None:
                message = "The signature has two manifests."
                raise VerificationError(message, advice=SIGN_ANEW)
            package = target
    if package is None:
        message = "The signature covers no manifest of parts."
        raise VerificationError(message, advice=SIGN_ANEW)
    return package, hashes


def _parts(manifest: strict_xml.Node) -> Iterator[PartDigest]:
    for reference in manifest.findall(f"{DS}Reference"):
        name, separator, query = reference.get("URI", "").partition("?")
        parameter, _, content_type = query.partition("=")
        if not name.startswith("/") or not separator or parameter != "ContentType":
            message = f'The signature names "{name[:120]}", which is no part with a content type.'
            raise VerificationError(message, advice=SIGN_ANEW)
        hash_algorithm, digest = _read_digest(reference)
        ids, types, is_transformed = _selection(reference)
        yield PartDigest(name[1:], content_type, hash_algorithm, digest, ids, types, is_transformed)


def _selection(
    reference: strict_xml.Node,
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Ids and types of the relationships that a reference selects, if it does."""
    transforms = reference.findall(f"{DS}Transforms/{DS}Transform")
    if not transforms:
        return (), (), False
    selects = transforms[0].get("Algorithm") == RELATIONSHIP_TRANSFORM
    if (
        not selects
        or len(transforms) != 2
        or transforms[1].get("Algorithm") != CANONICAL
        or len(transforms[1])
    ):
        message = "A part is transformed in a way that is not acceptable."
        raise VerificationError(message, advice=SIGN_ANEW)
    ids = transforms[0].findall(f"{{{_OPC}}}RelationshipReference")
    types = transforms[0].findall(f"{{{_OPC}}}RelationshipsGroupReference")
    return (
        tuple(element.get("SourceId", "") for element in ids),
        tuple(element.get("SourceType", "") for element in types),
        True,
    )


def _read_digest(reference: strict_xml.Node) -> tuple[str, bytes]:
    hash_algorithm = xml_signature.read_digest_method(_only(reference, "DigestMethod"))
    value = _only(reference, "DigestValue")
    return hash_algorithm, xml_signature.read_base64(value.text, "DigestValue")


def _timestamp(root: strict_xml.Node, value: bytes) -> timestamps.Timestamp | None:
    path = f"{DS}Object/{{{_OPC}}}TimeStamp"
    found = root.findall(path)
    if not found:
        return None
    if len(found) > 1:
        message = "The signature has several time stamps."
        raise VerificationError(message, advice=SIGN_ANEW)
    encoded = _only(found[0], "EncodedTime", _OPC)
    token = xml_signature.read_base64(encoded.text, "time stamp")
    return timestamps.verify_token(token, value)
