"""Certificates from the server itself: keys on the token, requests, chains, imports, renewals.

The signer must run, as this user: it is asked over its socket, past every permission but the
operating system's. Everybody else orders the same over the API or on the pages.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwright.certify import import_payload
from sealwright.cli.administration import (
    certificate,
    certificate_fields,
    find_certificate,
    find_organization,
    not_a_slug,
    open_database,
    organization_option,
)
from sealwright.cli.frame import Sealwright, asynchronous, emit_json, json_option, pass_sealwright
from sealwright.db import certificates
from sealwright.errors import ConflictError, InvalidInputError
from sealwright.model.certificate import GENERATED_KEYS, Certificate, CertificateState, Operation
from sealwright.model.identifiers import is_slug, utc_now
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
    arguments = {
        "slug": _slug(slug),
        "name": name or slug,
        "subject": subject,
        "key_type": key_type,
        "release": release,
    }
    made = await _order(sealwright, organization_slug, Operation.REQUEST, arguments)
    click.echo(_request_pem(made), nl=False)


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
    "--password-file", type=click.File(), help="File whose first line is the password.  [default: asks]"
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
    arguments = {"slug": _slug(slug), "name": name or slug, "release": release}
    payload = import_payload(_content(file), _password(password_file))
    made = await _order(
        sealwright, organization_slug, Operation.IMPORT, arguments, payload=payload
    )
    _tell(made, as_json)


@certificate.command(name="renew")
@click.argument("certificate_name", metavar="CERTIFICATE")
@click.option(
    "--method",
    type=click.Choice(["self-signed", "request", "enrolment"]),
    help="[default: as the present one was made]",
)
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
    made = await _order(
        sealwright,
        organization_slug,
        Operation.RENEW,
        arguments,
        certificate_name=certificate_name,
    )
    if made.is_pending and not as_json:
        click.echo(_request_pem(made), nl=False)
    else:
        _tell(made, as_json)


@certificate.command(name="show")
@click.argument("certificate_name", metavar="CERTIFICATE")
@click.option("--request", "as_request", is_flag=True, help="Write the request instead, in PEM.")
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def certificate_show(
    sealwright: Sealwright,
    certificate_name: str,
    as_request: bool,  # noqa: FBT001 - a flag of the command
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show a certificate, or the request that it waits with."""
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await find_certificate(tx, organization, certificate_name)
    if as_request:
        if not found.csr:
            message = f"The certificate {found.slug} was made without a request."
            raise ConflictError(message, advice="Renew it with --method request to get one.")
        click.echo(_request_pem(found), nl=False)
    elif as_json:
        emit_json(certificate_fields(found))
    else:
        for label, value in certificate_fields(found).items():
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


async def _set_state(
    sealwright: Sealwright, name: str, organization_slug: str | None, state: CertificateState
) -> None:
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await find_certificate(tx, organization, name)
        await certificates.set_state(tx, organization.id, found.id, state)
        entry = organization_entry(
            organization.id,
            "certificate.updated",
            actor="operator",
            now=utc_now(),
            data={"certificate": found.id, "state": state.value},
        )
        await record(tx, entry)


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
                found = await find_certificate(tx, organization, certificate_name)
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
            return await find_certificate(tx, organization, made)


def _tell(made: Certificate, as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        emit_json(certificate_fields(made))
    else:
        click.echo(made.id)


def _request_pem(made: Certificate) -> str:
    return x509.load_der_x509_csr(made.csr).public_bytes(Encoding.PEM).decode()


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
