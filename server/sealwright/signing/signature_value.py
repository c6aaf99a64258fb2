"""Bare signature values, as the signer returns them: checked, and as time stamps cover them."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from sealwright.errors import VerificationError
from sealwright.model.mechanism import Mechanism
from sealwright.signing.advice import OTHER_KEY
from sealwright.signing.artifact import SignatureRequest
from sealwright.signing.x509 import Certificate

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


def verify_signature_value(certificate: bytes, request: SignatureRequest, signature: bytes) -> None:
    """Check that `signature` is that of the certificate's key over the request's digest.

    Args:
        certificate: DER.
        signature: raw RSA signature or DER ``ECDSA-Sig-Value``.

    Raises:
        VerificationError: it is not, or the mechanism does not fit the key.
    """
    key = Certificate.parse(certificate).public_key
    algorithm = _HASHES[request.hash_algorithm]()
    prehashed = Prehashed(algorithm)
    try:
        if request.mechanism is Mechanism.ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, request.digest, ec.ECDSA(prehashed))
        elif request.mechanism is Mechanism.RSA_PKCS1 and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, request.digest, padding.PKCS1v15(), prehashed)
        elif request.mechanism is Mechanism.RSA_PSS and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
            key.verify(signature, request.digest, pss, prehashed)
        else:
            message = f"The certificate's key cannot sign by {request.mechanism.value}."
            raise VerificationError(message, advice=OTHER_KEY)
    except InvalidSignature:
        message = "The signature is not that of the certificate's key over this digest."
        raise VerificationError(message, advice=OTHER_KEY) from None


def concatenated(signature: bytes, size: int) -> bytes:
    """r and s of an ECDSA signature in DER, `size` bytes each; with size 0 the value as it is.

    Raises:
        VerificationError: it is no such signature, or its numbers are larger.
    """
    if not size:
        return signature
    try:
        r, s = decode_dss_signature(signature)
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    except (ValueError, OverflowError):
        message = f"The signature is not that of an elliptic curve with {size} bytes."
        raise VerificationError(message, advice=OTHER_KEY) from None


def stamped_value(request: SignatureRequest, signature: bytes) -> bytes:
    """What the message imprint of a signature's time stamp is over."""
    return concatenated(signature, request.value_size)
