"""A key on the token together with its certificate."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass


class CertificateState(enum.StrEnum):
    """Whether the signer may use the key."""

    ACTIVE = "active"
    DISABLED = "disabled"


class KeyType(enum.StrEnum):
    """Kinds of keys that are generated on the token."""

    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    P256 = "p-256"
    P384 = "p-384"

    @property
    def is_rsa(self) -> bool:
        """Whether RSA mechanisms apply."""
        return self in (KeyType.RSA_3072, KeyType.RSA_4096)

    @property
    def bits(self) -> int:
        """Size of the modulus or of the curve's field."""
        return {"rsa-3072": 3072, "rsa-4096": 4096, "p-256": 256, "p-384": 384}[self.value]


class CertificateUsage(enum.StrEnum):
    """What a certificate is made for."""

    CODE_SIGNING = "code-signing"
    TIMESTAMPING = "timestamping"
    CA = "ca"


@dataclass(frozen=True)
class Certificate:
    """What the signer signs with.

    Attributes:
        key_uri: RFC 7512 URI of the private key (token and object id; never a PIN).
        certificate: DER of the leaf.
        chain: DER of its issuers, the leaf's issuer first.
        sha256: hex SHA-256 of the leaf's DER.
    """

    id: str
    organization_id: str
    slug: str
    name: str
    state: CertificateState
    key_uri: str
    key_type: KeyType
    certificate: bytes
    chain: tuple[bytes, ...]
    sha256: str
    subject: str
    not_before: dt.datetime
    not_after: dt.datetime
    created_at: dt.datetime
