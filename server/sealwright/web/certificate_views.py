"""Certificates and orders, from the model to what the API answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from sealwright.certificate_text import chain_pem, openpgp_key
from sealwright.model.certificate import Certificate, CertificateKind, CertificateOrder
from sealwright.model.identifiers import utc_now
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
            "pem": _pem(certificate),
        }
    )


def _pem(certificate: Certificate) -> str:
    if certificate.is_pending:
        return ""
    is_openpgp = certificate.kind is CertificateKind.OPENPGP
    return openpgp_key(certificate) if is_openpgp else chain_pem(certificate)


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
