"""Passkeys that the signer trusts to endorse policies, passkeys and orders."""

from __future__ import annotations

import click

from sealwright.cli.administration import find_organization, open_database, organization_option
from sealwright.cli.frame import Sealwright, asynchronous, pass_sealwright
from sealwright.db import endorsements, passkeys, users
from sealwright.errors import NotFoundError
from sealwright.model.passkey import Passkey
from sealwright.signing.signer_client import SignerClient


@click.group()
def trust() -> None:
    """Name the passkeys without which no policy, approver's passkey or key order counts."""


@trust.command(name="list")
@organization_option
@pass_sealwright
@asynchronous
async def listing(sealwright: Sealwright, organization_slug: str | None) -> None:
    """List the passkeys of the organization's people: id, fingerprint, whether it is trusted. One
    that is trusted and was removed by its owner since counts for nothing: 'trust remove' it.

    \b
    Example:
      sealwright trust list
    """
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        anchors = {one.passkey_id: one for one in await endorsements.anchors(tx, organization.id)}
        known = await passkeys.of_organization(tx, organization.id)
        for anchor in anchors.values():
            removed = await passkeys.get(tx, organization.id, anchor.passkey_id)
            known += [removed] if removed and removed.removed_at else []
        people = {one.id: one for one in await users.every(tx, organization.id)}
    for one in known:
        owner = people[one.user_id]
        state = "trusted" if one.id in anchors else "-"
        state = state if one.removed_at is None else "removed"
        who = owner.email or owner.name
        click.echo(f"{one.id}  {one.fingerprint}  {state:7}  {who}  {one.name}")


@trust.command(name="add")
@click.argument("passkey")
@click.option("--fingerprint", required=True, help="SHA-256 of its public key, told by its owner.")
@organization_option
@pass_sealwright
@asynchronous
async def add(
    sealwright: Sealwright, passkey: str, fingerprint: str, organization_slug: str | None
) -> None:
    """Trust a passkey. With the first one, whatever is signed in the organization needs endorsed
    policies. The signer must run, as this user.

    \b
    Example:
      sealwright trust add 0199... --fingerprint 6f1e...
    """
    organization_id, found = await _find(sealwright, passkey, organization_slug)
    client = SignerClient(sealwright.settings().socket)
    try:
        await client.trust_passkey(organization_id, found.id, fingerprint.replace(":", ""))
    finally:
        await client.close()
    page = f"{sealwright.settings().url}/endorsements"
    click.echo(f"The signer trusts it. What waits for endorsement is at {page}")


@trust.command(name="remove")
@click.argument("passkey")
@organization_option
@pass_sealwright
@asynchronous
async def remove(sealwright: Sealwright, passkey: str, organization_slug: str | None) -> None:
    """Trust a passkey no more, nor what it has endorsed: have others endorse that first. Without
    any trusted passkey the organization needs no endorsements. The signer must run, as this user.
    """
    organization_id, found = await _find(sealwright, passkey, organization_slug)
    client = SignerClient(sealwright.settings().socket)
    try:
        await client.distrust_passkey(organization_id, found.id)
    finally:
        await client.close()
    click.echo("The signer does not trust it any more.")


async def _find(
    sealwright: Sealwright, passkey_id: str, organization_slug: str | None
) -> tuple[str, Passkey]:
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await passkeys.get(tx, organization.id, passkey_id)
    if found is None:
        message = f"There is no passkey {passkey_id[:40]!r} in {organization.slug}."
        raise NotFoundError(message, advice="Run 'sealwright trust list'.")
    return organization.id, found


COMMANDS = [trust]
