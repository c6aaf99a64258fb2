"""Restricting a certificate to releases: who asks for it, over the API or at the command line, gets
the same checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from sealwright.db import Transaction, certificates, projects
from sealwright.errors import PolicyViolationError
from sealwright.model.certificate import Certificate, current
from sealwright.policy.decide import check_restrictions

_MAX_NAMED = 10  #: policies that an error names


async def restrict(
    tx: Transaction, certificate: Certificate, visible: Collection[str] | None
) -> list[Certificate]:
    """Make it a release certificate, and with it renewals that are not issued yet: what takes its
    place must not be freer than it is.

    Args:
        visible: ids of the projects that an error may name; None: all.

    Returns:
        What was restricted, as it was before: the certificate first.

    Raises:
        PolicyViolationError: its key is too weak, or policies without approval use it.
    """
    organization_id = certificate.organization_id
    others = {one.id: one for one in await certificates.every(tx, organization_id)}
    check_restrictions(dataclasses.replace(certificate, release=True), quorum=1)
    await _check_policies(tx, certificate, others, visible)
    waiting = [
        one
        for one in others.values()
        if one.replaces_id == certificate.id and one.is_pending and not one.release
    ]
    for one in (certificate, *waiting):
        await certificates.set_release(tx, organization_id, one.id, release=True)
    return [certificate, *waiting]


async def _check_policies(
    tx: Transaction,
    certificate: Certificate,
    others: Mapping[str, Certificate],
    visible: Collection[str] | None,
) -> None:
    """Refuse while policies without approval use it; names those that the caller may see."""
    slugs = {one.id: one.slug for one in await projects.every(tx, certificate.organization_id)}
    open_ones = [
        policy
        for policy in await projects.policies(tx, certificate.organization_id)
        if policy.quorum < 1 and current(others[policy.certificate_id], others).id == certificate.id
    ]
    if not open_ones:
        return
    named = [
        f"{slugs[one.project_id]}/{one.slug}"
        for one in open_ones
        if visible is None or one.project_id in visible
    ][:_MAX_NAMED]
    if rest := len(open_ones) - len(named):
        named.append(f"{rest} more" if named else f"{rest} that you cannot see")
    message = f"Signing policies without approval use {certificate.slug}: {', '.join(named)}."
    raise PolicyViolationError(
        message, advice="Set a quorum of at least 1 in them, or another certificate."
    )
