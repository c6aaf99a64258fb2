"""What a request was decided by, read again: what a worker goes by must still be that."""

from __future__ import annotations

import hashlib

from sealwright.db import Transaction, certificates, projects
from sealwright.errors import InternalError, PolicyViolationError
from sealwright.model.certificate import Certificate, CertificateState
from sealwright.model.identifiers import utc_now
from sealwright.model.request import SigningRequest


async def usable_certificate(tx: Transaction, request: SigningRequest) -> Certificate:
    """The certificate that the request was decided by, once it is clear that it may be used.

    Raises:
        PolicyViolationError: the policy or the certificate was disabled or changed meanwhile.
        InternalError: the record contradicts itself.
    """
    organization = request.organization_id
    policy = await projects.find_policy(tx, organization, None, request.signing_policy_id)
    found = await certificates.get(tx, organization, request.certificate_id)
    if request.snapshot.sha256 != request.policy_hash or found is None or policy is None:
        message = "The request's policy snapshot does not belong to it."
        raise InternalError(message)
    if not policy.enabled:
        message = f"The signing policy {policy.slug} was disabled meanwhile."
        raise PolicyViolationError(message, advice="Have it enabled, then submit again.")
    _require_decided(request, found)
    now = utc_now()
    usable = not found.is_pending and found.not_before <= now < found.not_after
    if found.state is not CertificateState.ACTIVE or not usable:
        message = f"The certificate {found.slug} is disabled or not valid now."
        raise PolicyViolationError(message, advice="Have it enabled or renewed, then submit again.")
    return found


async def certificate(tx: Transaction, request: SigningRequest) -> Certificate:
    """The certificate that the request was decided by, whether or not it may be used now.

    Raises:
        PolicyViolationError: it is another one.
        InternalError: there is none.
    """
    found = await certificates.get(tx, request.organization_id, request.certificate_id)
    if found is None:
        message = "The request has no certificate."
        raise InternalError(message)
    _require_decided(request, found)
    return found


async def configuration(tx: Transaction, request: SigningRequest) -> str:
    """The XML of the artifact configuration that the request was decided by.

    Raises:
        InternalError: it is another one.
    """
    found = await projects.find_configuration(
        tx, request.organization_id, request.project_id, request.artifact_configuration_id
    )
    if (
        found is None
        or found.sha256 != request.snapshot.fields["artifact_configuration_sha256"]
        or hashlib.sha256(found.xml.encode()).hexdigest() != found.sha256
    ):
        message = "The artifact configuration is not the one that was decided on."
        raise InternalError(message)
    return found.xml


def _require_decided(request: SigningRequest, found: Certificate) -> None:
    if found.sha256 != request.snapshot.fields["certificate_sha256"]:
        message = f"The certificate {found.slug} is not the one that was decided on."
        raise PolicyViolationError(message, advice="Submit again.")
