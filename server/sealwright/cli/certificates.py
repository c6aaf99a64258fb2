"""Certificates from the server itself: keys on the token, requests, chains, imports, renewals.

The signer must run, as this user: it is asked over its socket, past every permission but the
operating system's. Everybody else orders the same over the API or on the pages.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import click

from sealwright.certificate_text import chain_pem, openpgp_key, request_pem
from sealwright.certify import import_payload
from sealwright.cli.administration import (
    find_organization,
    not_a_slug,
    open_database,
    organization_option,
)
from sealwright.cli.frame import Sealwright, asynchronous, emit_json, json_option, pass_sealwright
from sealwright.db import Transaction, certificates
from sealwright.db import enrolment as enrolment_servers
from sealwright.errors import ConflictError, InvalidInputError, NotFoundError
from sealwright.model.certificate import (
    GENERATED_KEYS,
    Certificate,
    CertificateKind,
    CertificateState,
    KeyType,
    Operation,
    RevocationReason,
)
from sealwright.model.identifiers import is_slug, utc_now
from sealwright.model.organization import Organization
from sealwright.restrict import restrict
from sealwright.signing.signer_client import SignerClient
from sealwright.transparency.record import organization_entry, record

_MAX_FILE = 256 * 1024
release_option = click.option(
    "--release", is_flag=True, help="Only policies with approvals may use it, with a strong key."
)
name_option = click.option("--name", help="Name for people.  [default: the slug]")
key_type_option = click.option(
    "--key-type",
    type=click.Choice([one.value for one in GENERATED_KEYS]),
    default=GENERATED_KEYS[0].value,
    show_default=True,
)


@click.group()
def certificate() -> None:
    """Make keys on the token, and look after certificates."""


@certificate.command(name="create")
@click.argument("slug")
@click.option("--name", help="Name for people.  [default: the slug]")
@click.option("--subject", required=True, help="RFC 4514 name, such as 'CN=Acme release,O=Acme'.")
@click.option(
    "--key-type",
    type=click.Choice([one.value for one in GENERATED_KEYS]),
    default=KeyType.RSA_3072.value,
    show_default=True,
)
@click.option("--issuer", help="Slug of a CA certificate of ours.  [default: self-signed]")
@click.option("--days", type=click.IntRange(1, 7300), default=365, show_default=True)
@click.option(
    "--usage",
    type=click.Choice(["code-signing", "timestamping", "ca"]),
    default="code-signing",
    show_default=True,
)
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def certificate_create(
    sealwright: Sealwright,
    slug: str,
    name: str | None,
    subject: str,
    key_type: str,
    issuer: str | None,
    days: int,
    usage: str,
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Generate a key on the token and certify it. The signer must run, as this user.

    \b
    Examples:
      sealwright certificate create root --subject 'CN=Acme root' --usage ca --days 3650
      sealwright certificate create release --subject 'CN=Acme' --issuer root
    """
    if not is_slug(slug):
        raise not_a_slug(slug)
    settings = sealwright.settings()
    async with open_database(settings) as database:
        async with database.read() as tx:
            organization = await find_organization(tx, organization_slug)
            issuer_id = (await _find(tx, organization, issuer)).id if issuer else None
        client = SignerClient(settings.socket)
        try:
            made = await client.create_certificate(
                organization.id,
                slug,
                name or slug,
                subject,
                KeyType(key_type),
                issuer=issuer_id,
                valid_days=days,
                usage=usage,
            )
        finally:
            await client.close()
        async with database.read() as tx:
            found = await certificates.get(tx, organization.id, made)
    if as_json and found:
        emit_json(_fields(found))
    else:
        click.echo(made)


@certificate.command(name="list")
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def certificate_list(
    sealwright: Sealwright,
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List the certificates of an organization."""
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await certificates.every(tx, organization.id)
    if as_json:
        emit_json([_fields(one) for one in found])
        return
    for one in found:
        until = "" if one.is_pending else one.not_after.date().isoformat()
        status = one.status(utc_now()).value
        click.echo(f"{one.slug:<20}  {status:<8}  {one.key_type.value:<8}  {until:<10}  "
                   f"{one.subject}")  # fmt: skip


@certificate.command(name="request")
@click.argument("slug")
@name_option
@click.option("--subject", required=True, help="RFC 4514 name, such as 'CN=Acme release,O=Acme'.")
@key_type_option
@release_option
@organization_option
@pass_sealwright
@asynchronous
async def certificate_request(
    sealwright: Sealwright,
    slug: str,
    name: str | None,
    subject: str,
    key_type: str,
    release: bool,  # noqa: FBT001 - a flag of the command
    organization_slug: str | None,
) -> None:
    """Generate a key on the token and write a request (PKCS #10, PEM) for it.

    \b
    Examples:
      sealwright certificate request release --subject 'CN=Acme,O=Acme,C=AT' > release.csr
      sealwright certificate install release chain.pem
    """
    arguments: dict[str, str | int | bool] = {
        "slug": _slug(slug),
        "name": name or slug,
        "subject": subject,
        "key_type": key_type,
        "release": release,
    }
    made = await _order(sealwright, organization_slug, Operation.REQUEST, arguments)
    click.echo(request_pem(made), nl=False)


@certificate.command(name="openpgp")
@click.argument("slug")
@name_option
@click.option("--user-id", required=True, help="Such as 'Acme releases <releases@example.com>'.")
@key_type_option
@click.option("--days", type=click.IntRange(1, 7300), default=730, show_default=True)
@release_option
@organization_option
@pass_sealwright
@asynchronous
async def certificate_openpgp(
    sealwright: Sealwright,
    slug: str,
    name: str | None,
    user_id: str,
    key_type: str,
    days: int,
    release: bool,  # noqa: FBT001 - a flag of the command
    organization_slug: str | None,
) -> None:
    """Generate a key on the token and write its OpenPGP public key, armored.

    \b
    Example:
      sealwright certificate openpgp releases --user-id 'Acme <releases@example.com>' | gpg --import
    """
    arguments: dict[str, str | int | bool] = {
        "slug": _slug(slug),
        "name": name or slug,
        "kind": "openpgp",
        "subject": user_id,
        "key_type": key_type,
        "valid_days": days,
        "release": release,
    }
    made = await _order(sealwright, organization_slug, Operation.CREATE, arguments)
    click.echo(openpgp_key(made), nl=False)


@certificate.command(name="install")
@click.argument("certificate_name", metavar="CERTIFICATE")
@click.argument("file", type=click.File("rb"))
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def certificate_install(
    sealwright: Sealwright,
    certificate_name: str,
    file: Any,
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001 - a flag of the command
) -> None:
    """Take the chain that was issued for a request: PEM, DER or PKCS #7 ('-': standard input)."""
    made = await _order(
        sealwright,
        organization_slug,
        Operation.INSTALL,
        {},
        certificate_name=certificate_name,
        payload=_content(file),
    )
    _tell(made, as_json)


@certificate.command(name="import")
@click.argument("slug")
@click.argument("file", type=click.File("rb"))
@name_option
@click.option(
    "--password-file",
    type=click.File(),
    help="File whose first line is the password.  [default: asks]",
)
@release_option
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def certificate_import(
    sealwright: Sealwright,
    slug: str,
    file: Any,
    name: str | None,
    password_file: Any,
    release: bool,  # noqa: FBT001 - a flag of the command
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Put the key of a PKCS #12 file (.pfx, .p12) on the token. It counts as exposed for good."""
    arguments: dict[str, str | int | bool] = {
        "slug": _slug(slug),
        "name": name or slug,
        "release": release,
    }
    payload = import_payload(_content(file), _password(password_file))
    made = await _order(sealwright, organization_slug, Operation.IMPORT, arguments, payload=payload)
    _tell(made, as_json)


@certificate.command(name="renew")
@click.argument("certificate_name", metavar="CERTIFICATE")
@click.option(
    "--method",
    type=click.Choice(["self-signed", "request", "enrolment"]),
    help="[default: as the present one was made]",
)
@click.option("--enrolment", help="Slug of the EST server that is to issue it.")
@click.option("--new-key", is_flag=True, help="Generate another key.")
@click.option("--slug", help="[default: the slug with the next number]")
@click.option("--days", type=click.IntRange(1, 7300), default=365, show_default=True)
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def certificate_renew(
    sealwright: Sealwright,
    certificate_name: str,
    method: str | None,
    enrolment: str | None,
    new_key: bool,  # noqa: FBT001 - a flag of the command
    slug: str | None,
    days: int,
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Make a successor, which policies use as soon as it is issued. The old one is kept."""
    arguments: dict[str, str | int | bool] = {"valid_days": days, "new_key": new_key}
    if method:
        arguments["method"] = method
    if slug:
        arguments["slug"] = _slug(slug)
    if enrolment:
        server = await _server(sealwright, organization_slug, enrolment)
        arguments |= {"method": "enrolment", "enrolment_id": server}
    made = await _order(
        sealwright,
        organization_slug,
        Operation.RENEW,
        arguments,
        certificate_name=certificate_name,
    )
    if made.is_pending and not as_json:
        click.echo(request_pem(made), nl=False)
    else:
        _tell(made, as_json)


@certificate.command(name="revoke")
@click.argument("certificate_name", metavar="CERTIFICATE")
@click.option(
    "--reason",
    type=click.Choice([one.value for one in RevocationReason]),
    default=RevocationReason.UNSPECIFIED.value,
    show_default=True,
    help="What a compromised key has signed counts no more; of the others it stays good.",
)
@click.option("--comment", default="", help="For people; it is in the exported key.")
@organization_option
@pass_sealwright
@asynchronous
async def certificate_revoke(
    sealwright: Sealwright,
    certificate_name: str,
    reason: str,
    comment: str,
    organization_slug: str | None,
) -> None:
    """Have an OpenPGP key revoke itself, for good, and write it armored with its revocation.

    \b
    Example:
      sealwright certificate revoke releases --reason superseded | gpg --import
    """
    made = await _order(
        sealwright,
        organization_slug,
        Operation.REVOKE,
        {"reason": reason, "comment": comment},
        certificate_name=certificate_name,
    )
    click.echo(openpgp_key(made), nl=False)


@certificate.command(name="show")
@click.argument("certificate_name", metavar="CERTIFICATE")
@click.option("--pem", "as_pem", is_flag=True, help="Write it instead, then its issuers, in PEM.")
@click.option("--request", "as_request", is_flag=True, help="Write the request instead, in PEM.")
@click.option("--openpgp", "as_key", is_flag=True, help="Write the OpenPGP key instead, armored.")
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def certificate_show(
    sealwright: Sealwright,
    certificate_name: str,
    as_pem: bool,  # noqa: FBT001 - a flag of the command
    as_request: bool,  # noqa: FBT001
    as_key: bool,  # noqa: FBT001
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show a certificate, or write it, the request that it waits with, or an OpenPGP key.

    Example:
      sealwright certificate show root --pem > root.pem
    """
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await _find(tx, organization, certificate_name)
    if as_pem:
        if found.is_pending or found.kind is CertificateKind.OPENPGP:
            message = f"There is no certificate of {found.slug} to write."
            advice = "Install its chain first." if found.is_pending else "Use --openpgp."
            raise ConflictError(message, advice=advice)
        click.echo(chain_pem(found), nl=False)
    elif as_request:
        if not found.csr:
            message = f"The certificate {found.slug} was made without a request."
            raise ConflictError(message, advice="Renew it with --method request to get one.")
        click.echo(request_pem(found), nl=False)
    elif as_key:
        if found.kind is not CertificateKind.OPENPGP:
            message = f"The certificate {found.slug} is no OpenPGP key."
            raise ConflictError(message)
        click.echo(openpgp_key(found), nl=False)
    elif as_json:
        emit_json(_fields(found))
    else:
        for label, value in _fields(found).items():
            click.echo(f"{label:<16}  {'' if value is None else value}")


@certificate.command(name="enable")
@click.argument("certificate_name", metavar="CERTIFICATE")
@organization_option
@pass_sealwright
@asynchronous
async def certificate_enable(
    sealwright: Sealwright, certificate_name: str, organization_slug: str | None
) -> None:
    """Let the signer use a certificate's key again."""
    await _set_state(sealwright, certificate_name, organization_slug, CertificateState.ACTIVE)


@certificate.command(name="disable")
@click.argument("certificate_name", metavar="CERTIFICATE")
@organization_option
@pass_sealwright
@asynchronous
async def certificate_disable(
    sealwright: Sealwright, certificate_name: str, organization_slug: str | None
) -> None:
    """Stop every use of a certificate's key at once, also by requests under way."""
    await _set_state(sealwright, certificate_name, organization_slug, CertificateState.DISABLED)


@certificate.command(name="restrict")
@click.argument("certificate_name", metavar="CERTIFICATE")
@organization_option
@pass_sealwright
@asynchronous
async def certificate_restrict(
    sealwright: Sealwright, certificate_name: str, organization_slug: str | None
) -> None:
    """Make it a release certificate: only policies with approvals use it, with a strong key."""
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await _find(tx, organization, certificate_name)
        for one in await restrict(tx, found, None):
            await _log_update(tx, one, {"release": True})


@certificate.command(name="unrestrict")
@click.argument("certificate_name", metavar="CERTIFICATE")
@organization_option
@pass_sealwright
@asynchronous
async def certificate_unrestrict(
    sealwright: Sealwright, certificate_name: str, organization_slug: str | None
) -> None:
    """Make it a release certificate no more: policies without approval may use it."""
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await _find(tx, organization, certificate_name)
        await certificates.set_release(tx, organization.id, found.id, release=False)
        await _log_update(tx, found, {"release": False})


async def _log_update(tx: Transaction, one: Certificate, facts: Mapping[str, Any]) -> None:
    entry = organization_entry(
        one.organization_id,
        "certificate.updated",
        actor="operator",
        now=utc_now(),
        data={"certificate": one.id} | dict(facts),
    )
    await record(tx, entry)


async def _find(tx: Transaction, organization: Organization, name: str) -> Certificate:
    found = await certificates.find(tx, organization.id, name)
    if found is None:
        message = f"There is no certificate {name!r} in {organization.slug}."
        raise NotFoundError(message, advice="'sealwright certificate list' shows them.")
    return found


async def _server(sealwright: Sealwright, organization_slug: str | None, name: str) -> str:
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await enrolment_servers.find(tx, organization.id, name)
    if found is None:
        message = f"There is no EST server {name!r} in {organization.slug}."
        raise NotFoundError(message)
    return found.id


async def _set_state(
    sealwright: Sealwright, name: str, organization_slug: str | None, state: CertificateState
) -> None:
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await _find(tx, organization, name)
        if not await certificates.set_state(tx, organization.id, found.id, state):
            message = f"The OpenPGP key {found.slug} is revoked, which is for good."
            raise ConflictError(message, advice="Make another key, and let policies use it.")
        await _log_update(tx, found, {"state": state.value})


async def _order(
    sealwright: Sealwright,
    organization_slug: str | None,
    operation: Operation,
    arguments: Mapping[str, str | int | bool],
    *,
    certificate_name: str | None = None,
    payload: bytes = b"",
) -> Certificate:
    settings = sealwright.settings()
    async with open_database(settings) as database:
        async with database.read() as tx:
            organization = await find_organization(tx, organization_slug)
            found = None
            if certificate_name is not None:
                found = await _find(tx, organization, certificate_name)
        client = SignerClient(settings.socket)
        try:
            made = await client.order(
                organization.id,
                operation,
                arguments,
                certificate_id=found.id if found else None,
                payload=payload,
            )
        finally:
            await client.close()
        async with database.read() as tx:
            return await _find(tx, organization, made)


def _tell(made: Certificate, as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        emit_json(_fields(made))
    else:
        click.echo(made.id)


def _slug(slug: str) -> str:
    if not is_slug(slug):
        raise not_a_slug(slug)
    return slug


def _content(file: Any) -> bytes:
    content: bytes = file.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        message = f"The file has more than {_MAX_FILE} bytes."
        raise InvalidInputError(message, advice="Give the certificates alone.")
    return content


def _password(file: Any) -> str:
    if file is not None:
        return str(file.readline()).rstrip("\r\n")
    if not sys.stdin.isatty():
        message = "There is no terminal to ask for the password."
        raise InvalidInputError(message, advice="Give --password-file.")
    return str(click.prompt("Password", hide_input=True, default="", show_default=False))


def _fields(one: Certificate) -> dict[str, Any]:
    fields = dataclasses.asdict(one)
    hidden = ("certificate", "chain", "csr", "revocation")
    shown = {name: value for name, value in fields.items() if name not in hidden}
    return shown | {"status": one.status(utc_now()), "expires_in_days": one.days_left(utc_now())}


COMMANDS = [certificate]
