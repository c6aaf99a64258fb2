"""How a key signs a digest."""

from __future__ import annotations

import enum


class Mechanism(enum.StrEnum):
    """Signature mechanisms. The digest is always computed before the token sees anything."""

    RSA_PKCS1 = "rsa-pkcs1"  # RFC 8017, 8.2: the signer wraps the digest in a DigestInfo
    RSA_PSS = "rsa-pss"  # RFC 8017, 8.1: MGF1 with the same hash, salt as long as the digest
    ECDSA = "ecdsa"  # the signature is a DER ECDSA-Sig-Value (RFC 3279, 2.2.3)
