"""Certificates that must not sign content."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwright.model.certificate import Certificate, CertificateKind


def other_purpose(certificate: Certificate) -> str:
    """What the certificate is or is for instead, in words that follow its name; empty where it may
    sign content.

    With a digest of the caller's choice, a CA's key would issue certificates, and a time stamp
    authority's would set clocks back.
    """
    if certificate.kind is not CertificateKind.X509 or certificate.is_pending:
        return ""
    try:
        extensions = x509.load_der_x509_certificate(certificate.certificate).extensions
    except ValueError:
        return "cannot be read"
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                return "is a certification authority's"
            case x509.ExtendedKeyUsage() as usages if ExtendedKeyUsageOID.TIME_STAMPING in usages:
                return "is a time stamp authority's"
            case x509.KeyUsage(key_cert_sign=True):
                return "is for signing certificates"
    return ""
