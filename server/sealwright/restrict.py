"""Restricting a certificate to releases: who asks for it, over the API or at the command line, gets
the same checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from sealwright.db import Transaction, certificates, projects
from sealwright.errors import PolicyViolationError
from sealwright.model.certificate import Certificate, current
from sealwright.model.project import SigningPolicy
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
    # what refers to others is read before them: each statement may see a later state
    policies = await projects.policies(tx, organization_id)
    slugs = {one.id: one.slug for one in await projects.every(tx, organization_id)}
    others = {one.id: one for one in await certificates.every(tx, organization_id)}
    check_restrictions(dataclasses.replace(certificate, release=True), quorum=1)
    using = [
        policy
        for policy in policies
        if policy.quorum < 1 and current(others[policy.certificate_id], others).id == certificate.id
    ]
    _refuse_open(certificate, using, slugs, visible)
    waiting = [
        one
        for one in others.values()
        if one.replaces_id == certificate.id and one.is_pending and not one.release
    ]
    for one in (certificate, *waiting):
        await certificates.set_release(tx, organization_id, one.id, release=True)
    return [certificate, *waiting]


def _refuse_open(
    certificate: Certificate,
    using: Sequence[SigningPolicy],
    slugs: Mapping[str, str],
    visible: Collection[str] | None,
) -> None:
    """Refuse if policies without approval use it; names those that the caller may see.

    Args:
        slugs: of the projects, by id.
    """
    if not using:
        return
    named = [
        f"{slugs[one.project_id]}/{one.slug}"
        for one in using
        if visible is None or one.project_id in visible
    ][:_MAX_NAMED]
    if rest := len(using) - len(named):
        named.append(f"{rest} more" if named else f"{rest} that you cannot see")
    message = f"Signing policies without approval use {certificate.slug}: {', '.join(named)}."
    raise PolicyViolationError(
        message, advice="Set a quorum of at least 1 in them, or another certificate."
    )
