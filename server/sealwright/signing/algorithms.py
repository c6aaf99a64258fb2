"""Hash and signature algorithms: their identifiers (RFC 5754, 3370, 4055) and how they verify."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from sealwright.errors import ConfigurationError, VerificationError
from sealwright.model.mechanism import Mechanism
from sealwright.signing import der
from sealwright.signing.advice import SIGN_ANEW, WEAK
from sealwright.signing.artifact import Directive
from sealwright.signing.der import Element
from sealwright.signing.x509 import Certificate

#: Hash algorithms that sign, by their names in the artifact configuration.
HASH_ALGORITHMS = ("sha256", "sha384", "sha512")

_HASH_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_HASH_NAMES = {oid: name for name, oid in _HASH_OIDS.items()}
_HASH_CLASSES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}

_RSA = "1.2.840.113549.1.1.1"
_RSA_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_ECDSA = {
    "sha1": "1.2.840.10045.4.1",
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
#: Signature algorithm -> mechanism and the hash algorithm it fixes, if any.
_SIGNATURE_ALGORITHMS: dict[str, tuple[Mechanism, str | None]] = {
    _RSA: (Mechanism.RSA_PKCS1, None),
    "1.2.840.113549.1.1.5": (Mechanism.RSA_PKCS1, "sha1"),
    "1.2.840.113549.1.1.11": (Mechanism.RSA_PKCS1, "sha256"),
    "1.2.840.113549.1.1.12": (Mechanism.RSA_PKCS1, "sha384"),
    "1.2.840.113549.1.1.13": (Mechanism.RSA_PKCS1, "sha512"),
    _RSA_PSS: (Mechanism.RSA_PSS, None),
    "1.2.840.10045.2.1": (Mechanism.ECDSA, None),
    **{oid: (Mechanism.ECDSA, name) for name, oid in _ECDSA.items()},
}
_MAX_SALT = 512


def digest(hash_algorithm: str, data: bytes) -> bytes:
    """Digest of `data`; SHA-1 only ever identifies or checks what others signed."""
    return hashlib.new(hash_algorithm, data, usedforsecurity=False).digest()


def digest_algorithm(hash_algorithm: str, parameters: bytes = b"") -> bytes:
    """AlgorithmIdentifier of a hash; SHA-2 without parameters (RFC 5754, section 2)."""
    return der.sequence(der.object_identifier(_HASH_OIDS[hash_algorithm]), parameters)


def read_digest_algorithm(element: Element) -> str:
    """Name of the hash in an AlgorithmIdentifier with absent or NULL parameters.

    Raises:
        VerificationError: it is not one of SHA-1, SHA-256, SHA-384 and SHA-512.
    """
    reader = element.children()
    oid = der.read_oid(reader.take(der.OBJECT_IDENTIFIER))
    parameters = reader.maybe(der.NULL)
    reader.finish()
    if oid not in _HASH_NAMES or (parameters and parameters.content):
        message = f"The hash algorithm {oid} is not acceptable."
        raise VerificationError(message, advice=WEAK)
    return _HASH_NAMES[oid]


def mechanism_of(certificate: Certificate, rsa_padding: str = "pkcs1") -> Mechanism:
    """How the certificate's key signs; `rsa_padding` (``pkcs1``, ``pss``) matters for RSA alone."""
    key = certificate.public_key
    if isinstance(key, rsa.RSAPublicKey):
        return Mechanism.RSA_PSS if rsa_padding == "pss" else Mechanism.RSA_PKCS1
    if isinstance(key, ec.EllipticCurvePublicKey):
        return Mechanism.ECDSA
    message = f"A key of type {type(key).__name__} cannot make CMS signatures."
    raise ConfigurationError(message, advice="Use a certificate with an RSA or NIST curve key.")


def signature_algorithm(mechanism: Mechanism, hash_algorithm: str) -> bytes:
    """RFC 3370, 3.2 (PKCS #1), RFC 4056, section 3 (PSS) and RFC 5754, 3.3 (ECDSA)."""
    if mechanism is Mechanism.ECDSA:
        return der.sequence(der.object_identifier(_ECDSA[hash_algorithm]))
    if mechanism is Mechanism.RSA_PKCS1:
        return der.sequence(der.object_identifier(_RSA), der.null())
    hashed = digest_algorithm(hash_algorithm)
    parameters = der.sequence(
        der.explicit(0, hashed),
        der.explicit(1, der.sequence(der.object_identifier(_MGF1), hashed)),
        der.explicit(2, der.integer(hashlib.new(hash_algorithm).digest_size)),
    )
    return der.sequence(der.object_identifier(_RSA_PSS), parameters)


def _read_pss_salt_length(parameters: Element, hash_algorithm: str) -> int:
    """Salt length of RSASSA-PSS-params whose hashes are both `hash_algorithm` (RFC 4055, 3.1)."""
    reader = parameters.children()
    hashed = der.single(reader.take(der.context(0)).content, der.SEQUENCE)
    mask = der.single(reader.take(der.context(1)).content, der.SEQUENCE).children()
    mask_oid = der.read_oid(mask.take(der.OBJECT_IDENTIFIER))
    mask_hash = mask.take(der.SEQUENCE)
    mask.finish()
    salt = reader.maybe(der.context(2))
    reader.finish()
    named = {read_digest_algorithm(hashed), read_digest_algorithm(mask_hash)}
    if mask_oid != _MGF1 or named != {hash_algorithm}:
        message = "The RSASSA-PSS parameters do not match the digest algorithm."
        raise VerificationError(message, advice=SIGN_ANEW)
    length = der.read_integer(der.single(salt.content)) if salt else 20
    if not 0 <= length <= _MAX_SALT:
        message = f"The RSASSA-PSS salt length {length} is not acceptable."
        raise VerificationError(message, advice=SIGN_ANEW)
    return length


def verify_signature(
    certificate: Certificate,
    algorithm: Element,
    hash_algorithm: str,
    signed_digest: bytes,
    signature: bytes,
) -> None:
    """Check a signature value over a digest, refusing algorithms that contradict each other."""
    reader = algorithm.children()
    oid = der.read_oid(reader.take(der.OBJECT_IDENTIFIER))
    parameters = reader.maybe(der.NULL, der.SEQUENCE)
    reader.finish()
    mechanism, fixed = _SIGNATURE_ALGORITHMS.get(oid, (None, None))
    if mechanism is None or (fixed is not None and fixed != hash_algorithm):
        message = f"The signature algorithm {oid} does not fit the digest {hash_algorithm}."
        raise VerificationError(message, advice=SIGN_ANEW)
    prehashed = Prehashed(_HASH_CLASSES[hash_algorithm]())
    key = certificate.public_key
    try:
        if mechanism is Mechanism.ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed_digest, ec.ECDSA(prehashed))
        elif mechanism is Mechanism.RSA_PKCS1 and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed_digest, padding.PKCS1v15(), prehashed)
        elif mechanism is Mechanism.RSA_PSS and isinstance(key, rsa.RSAPublicKey) and parameters:
            salt_length = _read_pss_salt_length(parameters, hash_algorithm)
            mask = padding.MGF1(_HASH_CLASSES[hash_algorithm]())
            key.verify(signature, signed_digest, padding.PSS(mask, salt_length), prehashed)
        else:
            message = f"The signature algorithm {oid} does not fit the signer's key."
            raise VerificationError(message, advice=SIGN_ANEW)
    except (InvalidSignature, ValueError) as error:
        message = "The signature value is not the signer's over these signed attributes."
        raise VerificationError(message, advice=SIGN_ANEW) from error


def verify_value(
    certificate: Certificate,
    mechanism: Mechanism,
    hash_algorithm: str,
    signed_digest: bytes,
    signature: bytes,
) -> None:
    """Check a bare signature value, of which `mechanism` and hash are known beforehand.

    Raises:
        VerificationError: it is not the certificate's over this digest.
    """
    algorithm = der.single(signature_algorithm(mechanism, hash_algorithm), der.SEQUENCE)
    verify_signature(certificate, algorithm, hash_algorithm, signed_digest, signature)


def hash_algorithm_of(directive: Directive) -> str:
    """The directive's ``hash-algorithm``; without one the first of `HASH_ALGORITHMS`."""
    return directive.options.get("hash-algorithm") or HASH_ALGORITHMS[0]
