"""Keys of GitHub Apps on the signer's token."""

from __future__ import annotations

import click

from sealwright.cli.administration import find_organization, open_database, organization_option
from sealwright.cli.frame import Sealwright, asynchronous, pass_sealwright
from sealwright.db import build_systems
from sealwright.errors import InvalidInputError, NotFoundError
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem
from sealwright.signing.signer_client import SignerClient


@click.group(name="app-key")
def app_key() -> None:
    """Have a key on the token speak for a GitHub App."""


@app_key.command(name="bind")
@click.argument("build_system")
@click.option("--key", required=True, help="RFC 7512 URI of the key, such as 'pkcs11:id=%0a'.")
@organization_option
@pass_sealwright
@asynchronous
async def bind(
    sealwright: Sealwright, build_system: str, key: str, organization_slug: str | None
) -> None:
    """Let an RSA key on the token sign the JWTs of a build system's GitHub App, instead of the PEM
    file. The signer must run, as this user.

    \b
    Example:
      sealwright app-key bind github --key 'pkcs11:id=%0a'
    """
    system = await _system(sealwright, build_system, organization_slug)
    client = SignerClient(sealwright.settings().socket)
    issuer = system.settings.get("client_id") or system.settings.get("app_id") or ""
    try:
        await client.bind_app_key(system.organization_id, system.id, issuer, key)
    finally:
        await client.close()
    click.echo(f"The key now speaks for the App {issuer} of {system.slug}.")


@app_key.command(name="unbind")
@click.argument("build_system")
@organization_option
@pass_sealwright
@asynchronous
async def unbind(sealwright: Sealwright, build_system: str, organization_slug: str | None) -> None:
    """Let no key on the token speak for a build system's App any more. The key stays there."""
    system = await _system(sealwright, build_system, organization_slug)
    client = SignerClient(sealwright.settings().socket)
    try:
        await client.unbind_app_key(system.id)
    finally:
        await client.close()
    click.echo(f"No key speaks for the App of {system.slug} any more.")


async def _system(
    sealwright: Sealwright, slug: str, organization_slug: str | None
) -> TrustedBuildSystem:
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        system = await build_systems.find(tx, organization.id, slug)
    if system is None:
        message = f"There is no build system {slug[:100]!r} in {organization.slug}."
        raise NotFoundError(message, advice="Make it first, without a private_key.")
    if system.kind is not BuildSystemKind.GITHUB:
        message = f"{system.slug} is no GitHub."
        raise InvalidInputError(message, advice="Only GitHub's Apps have keys.")
    return system


COMMANDS = [app_key]
