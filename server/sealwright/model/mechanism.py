"""How a key is used and which keys are made, as signing, key stores and the signer name it."""

from __future__ import annotations

import enum


class Mechanism(enum.StrEnum):
    """How the key is used. The digest is always computed before the token sees anything."""

    RSA_PKCS1 = "rsa-pkcs1"  # RFC 8017, 8.2: the signer wraps the digest in a DigestInfo
    RSA_PSS = "rsa-pss"  # RFC 8017, 8.1: MGF1 with the same hash, salt as long as the digest
    ECDSA = "ecdsa"  # signature is a DER ECDSA-Sig-Value (RFC 3279, 2.2.3)


class KeyAlgorithm(enum.StrEnum):
    """The keys that are generated. Others may already be on a token; they are named likewise."""

    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
