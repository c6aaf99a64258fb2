"""What is published of an OpenPGP key (RFC 9580, 10.1.1)."""

from __future__ import annotations

from sealwright.model.certificate import Certificate


def published(certificate: Certificate) -> bytes:
    """The transferable public key, with its revocation where it has one: right behind the key."""
    key = certificate.certificate
    # our key packets have a header of the older format, its length in one or two bytes (4.2.2)
    size = 1 << (key[0] & 3)
    end = 1 + size + int.from_bytes(key[1 : 1 + size])
    return key[:end] + certificate.revocation + key[end:]
