"""XML signatures (W3C XML Signature Syntax and Processing 1.1): names of algorithms, and values.

What is signed, and how it is found, is each format's own affair. It is not left to a library for
XML signatures: those want the key, the document and a way to resolve any reference, where here
digests are sent to a token, and references are to members of archives.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sealwright.errors import ArtifactError, VerificationError
from sealwright.model.mechanism import Mechanism
from sealwright.signing import algorithms, strict_xml
from sealwright.signing.advice import SIGN_ANEW, WEAK
from sealwright.signing.x509 import Certificate

NAMESPACE = "http://www.w3.org/2000/09/xmldsig#"
DS = f"{{{NAMESPACE}}}"
OBJECT_TYPE = f"{NAMESPACE}Object"
CANONICAL = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"

DIGEST_METHODS = {
    "sha1": f"{NAMESPACE}sha1",
    "sha256": "http://www.w3.org/2001/04/xmlenc#sha256",
    "sha384": "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "sha512": "http://www.w3.org/2001/04/xmlenc#sha512",
}
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_SIGNATURE_METHODS = {
    (Mechanism.RSA_PKCS1, "sha1"): f"{NAMESPACE}rsa-sha1",
    **{(Mechanism.RSA_PKCS1, name): f"{_MORE}rsa-{name}" for name in algorithms.HASH_ALGORITHMS},
    (Mechanism.ECDSA, "sha1"): f"{_MORE}ecdsa-sha1",
    **{(Mechanism.ECDSA, name): f"{_MORE}ecdsa-{name}" for name in algorithms.HASH_ALGORITHMS},
}
_HASHES = {uri: name for name, uri in DIGEST_METHODS.items()}
_METHODS = {uri: key for key, uri in _SIGNATURE_METHODS.items()}
#: URI -> exclusive, with comments.
_CANONICALIZATIONS = {
    CANONICAL: (False, False),
    f"{CANONICAL}#WithComments": (False, True),
    "http://www.w3.org/2001/10/xml-exc-c14n#": (True, False),
    "http://www.w3.org/2001/10/xml-exc-c14n#WithComments": (True, True),
}


def signature_method(mechanism: Mechanism, hash_algorithm: str) -> str:
    """URI of the signature algorithm (RFC 9231, 2.3)."""
    return _SIGNATURE_METHODS[mechanism, hash_algorithm]


def read_signature_method(element: strict_xml.Node) -> tuple[Mechanism, str]:
    """Mechanism and hash of a SignatureMethod.

    Raises:
        VerificationError: it is another than RSA with PKCS #1 or ECDSA, with SHA-1 or SHA-2.
    """
    uri = _algorithm(element)
    if uri not in _METHODS or len(element):
        message = f"The signature method {uri[:120]} is not acceptable."
        raise VerificationError(message, advice=WEAK)
    return _METHODS[uri]


def read_digest_method(element: strict_xml.Node) -> str:
    """Hash of a DigestMethod; VerificationError if it is unknown."""
    uri = _algorithm(element)
    if uri not in _HASHES:
        message = f"The digest method {uri[:120]} is not acceptable."
        raise VerificationError(message, advice=WEAK)
    return _HASHES[uri]


def is_canonicalization(element: strict_xml.Node) -> bool:
    """Whether a Transform or CanonicalizationMethod is one that `canonicalize` knows."""
    return _algorithm(element) in _CANONICALIZATIONS and not len(element)


def canonicalize(method: strict_xml.Node, node: strict_xml.Node) -> bytes:
    """The octets of `node` by a CanonicalizationMethod or Transform."""
    if not is_canonicalization(method):
        message = f"The canonicalization {_algorithm(method)[:120]} is not acceptable."
        raise VerificationError(message, advice=SIGN_ANEW)
    exclusive, with_comments = _CANONICALIZATIONS[_algorithm(method)]
    return strict_xml.canonical(node, exclusive=exclusive, with_comments=with_comments)


def value_size(certificate: Certificate) -> int:
    """Bytes of r and of s in an ECDSA signature value (RFC 4050 and RFC 6090); 0 for RSA."""
    key = certificate.public_key
    return (key.curve.key_size + 7) // 8 if isinstance(key, ec.EllipticCurvePublicKey) else 0


def verify_value(
    candidates: Sequence[Certificate],
    mechanism: Mechanism,
    hash_algorithm: str,
    signed: bytes,
    value: bytes,
) -> Certificate:
    """The one of the certificates whose key made `value` over `signed`.

    Raises:
        VerificationError: none did.
    """
    digest = algorithms.digest(hash_algorithm, signed)
    for certificate in candidates:
        size = value_size(certificate)
        if (mechanism is Mechanism.ECDSA) != bool(size) or (size and len(value) != 2 * size):
            continue
        signature = value
        if size:
            r, s = (int.from_bytes(part, "big") for part in (value[:size], value[size:]))
            signature = encode_dss_signature(r, s)
        try:
            algorithms.verify_value(certificate, mechanism, hash_algorithm, digest, signature)
        except VerificationError:
            continue
        return certificate
    message = "The signature value is not that of a certificate in the signature."
    raise VerificationError(message, advice=SIGN_ANEW)


def read_base64(text: str | None, what: str) -> bytes:
    """Decode base64 with white space in it.

    Raises:
        ArtifactError: it is something else, or has bits that belong to no byte.
    """
    packed = "".join((text or "").split())
    try:
        decoded = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if base64.b64encode(decoded).decode() != packed:
        message = f"The {what} is not in base64."
        raise ArtifactError(message, advice=SIGN_ANEW)
    return decoded


def _algorithm(element: strict_xml.Node) -> str:
    uri: str = element.get("Algorithm", "")
    return uri
