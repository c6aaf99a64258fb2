"""Certificates and orders, from the model to what the API answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwright.model.ascii_armor import armor
from sealwright.model.certificate import Certificate, CertificateKind, CertificateOrder
from sealwright.model.identifiers import utc_now
from sealwright.model.openpgp import published
from sealwright.web.schemas.certificates import CertificateOrderOut, CertificateOut
from sealwright.web.views import fields_of


def certificate_out(certificate: Certificate, now: dt.datetime | None = None) -> CertificateOut:
    """A certificate, without where its key is."""
    now = now or utc_now()
    issued = not certificate.is_pending
    return CertificateOut.model_validate(
        fields_of(certificate)
        | {
            "status": certificate.status(now),
            "sha256": certificate.sha256 or None,
            "not_before": certificate.not_before if issued else None,
            "not_after": certificate.not_after if issued else None,
            "expires_in_days": certificate.days_left(now),
            "warning": certificate.warning(now),
            "has_request": bool(certificate.csr),
            "revocation_reason": certificate.revocation_reason or None,
            "pem": pem_of(certificate),
        }
    )


def pem_of(certificate: Certificate) -> str:
    """Leaf and issuers in PEM, or an armored OpenPGP key; empty while it is pending."""
    if certificate.is_pending:
        return ""
    if certificate.kind is CertificateKind.OPENPGP:
        return armor("PUBLIC KEY BLOCK", published(certificate)).decode()
    chain = (certificate.certificate, *certificate.chain)
    return "".join(
        x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM).decode() for one in chain
    )


def request_pem(certificate: Certificate) -> str:
    """The PKCS #10 request in PEM (RFC 7468, 7)."""
    request = x509.load_der_x509_csr(certificate.csr)
    return request.public_bytes(Encoding.PEM).decode()


def order_out(
    order: CertificateOrder, certificate: Certificate | None, awaited: Sequence[str] | None
) -> CertificateOrderOut:
    """An order, without what was uploaded with it. `awaited`: for whose endorsement it waits."""
    return CertificateOrderOut.model_validate(
        fields_of(order)
        | {
            "certificate": certificate_out(certificate) if certificate else None,
            "awaits_endorsement_by": awaited,
        }
    )
