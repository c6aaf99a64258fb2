"""Certificates as text, to be given to others."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwright.model.ascii_armor import armor
from sealwright.model.certificate import Certificate
from sealwright.model.openpgp import published


def chain_pem(certificate: Certificate) -> str:
    """The certificate, then its issuers, in PEM (RFC 7468, 5)."""
    chain = (certificate.certificate, *certificate.chain)
    return "".join(
        x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM).decode() for one in chain
    )


def openpgp_key(certificate: Certificate) -> str:
    """An OpenPGP key with all that is published of it, armored."""
    return armor("PUBLIC KEY BLOCK", published(certificate)).decode()


def request_pem(certificate: Certificate) -> str:
    """The PKCS #10 request in PEM (RFC 7468, 7)."""
    return x509.load_der_x509_csr(certificate.csr).public_bytes(Encoding.PEM).decode()
