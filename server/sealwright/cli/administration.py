"""What an operator does on the server itself, with its database: the first steps, and emergencies.

Everyday administration is the web pages' and the API's; these commands ask nobody's permission but
the operating system's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from sealwright.accounts import setup_link
from sealwright.cli.frame import (
    Sealwright,
    asynchronous,
    emit_json,
    json_option,
    pass_sealwright,
)
from sealwright.config import Settings
from sealwright.db import Database, Transaction, organizations, projects, users
from sealwright.errors import ConflictError, InvalidInputError, NotFoundError
from sealwright.intake.passwords import hash_password
from sealwright.intake.tokens import new_token, token_hash
from sealwright.model.identifiers import is_slug, new_id, utc_now
from sealwright.model.organization import Organization
from sealwright.model.user import ApiToken, Role, TokenKind, TokenScope, User, UserKind
from sealwright.transparency.record import organization_entry, record

_OPERATOR = "operator"

organization_option = click.option(
    "--organization",
    "organization_slug",
    help="Slug of the organization; needed where there are several.",
)
password_option = click.option(
    "--password-file",
    type=click.File(),
    help="File whose first line is the password ('-': standard input).  [default: asks]",
)


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database that the settings name, for as long as the context."""
    database = Database(settings.database, pool_size=1)
    try:
        yield database
    finally:
        await database.close()


@click.command()
@click.option("--organization", "slug", required=True, help="Slug of the new organization.")
@click.option("--name", help="Its name for people.  [default: the slug]")
@click.option("--email", required=True, help="Address that the administrator logs in with.")
@click.option("--user-name", default="Administrator", show_default=True)
@password_option
@click.option("--token/--no-token", "with_token", default=False, help="Also make an API token.")
@json_option
@pass_sealwright
@asynchronous
async def init(
    sealwright: Sealwright,
    slug: str,
    name: str | None,
    email: str,
    user_name: str,
    password_file: Any,
    with_token: bool,  # noqa: FBT001 - a flag of the command
    as_json: bool,  # noqa: FBT001
) -> None:
    """Make an organization and its administrator.

    \b
    Example:
      sealwright init --organization acme --email admin@example.com
    """
    if not is_slug(slug):
        raise not_a_slug(slug)
    now = utc_now()
    organization = Organization(new_id(), slug, name or slug, now)
    user = User(
        id=new_id(),
        organization_id=organization.id,
        kind=UserKind.INTERACTIVE,
        name=user_name,
        email=_address(email),
        role=Role.GLOBAL_ADMINISTRATOR,
        password_hash=await hash_password(_password(password_file)),
        active=True,
        created_at=now,
    )
    text, token = _token(user, "init", None) if with_token else ("", None)
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        if any(one.slug == slug for one in await organizations.every(tx)):
            message = f"There is an organization {slug!r} already."
            raise ConflictError(message, advice="'sealwright user create' adds people to it.")
        await organizations.add(tx, organization)
        await _add_user(tx, user)
        if token:
            await users.add_token(tx, token)
    if as_json:
        emit_json({"organization_id": organization.id, "user_id": user.id, "token": text or None})
        return
    click.echo(f"The organization {slug} has the administrator {user.email}.")
    if text:
        click.echo(f"Their API token, shown this once:\n{text}")


@click.command(name="setup-link")
@pass_sealwright
@asynchronous
async def make_setup_link(sealwright: Sealwright) -> None:
    """Make a link to set an empty server up in the browser.

    The link works once, for a day: whoever opens it makes the first organization and its
    administrator.
    """
    settings = sealwright.settings()
    async with open_database(settings) as database:
        click.echo(await setup_link(database, settings.url))


@click.group()
def user() -> None:
    """Make and list users, also when nobody can log in."""


@user.command(name="create")
@click.option("--name", required=True)
@click.option("--email", help="Makes an interactive user who logs in with it; else a CI user.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.REGULAR_USER.value,
    show_default=True,
)
@password_option
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def user_create(
    sealwright: Sealwright,
    name: str,
    email: str | None,
    role: str,
    password_file: Any,
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Make a user. With an address they are interactive, without one a CI user."""
    password_hash = await hash_password(_password(password_file)) if email else None
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        organization = await find_organization(tx, organization_slug)
        made = User(
            id=new_id(),
            organization_id=organization.id,
            kind=UserKind.INTERACTIVE if email else UserKind.CI,
            name=name,
            email=_address(email) if email else None,
            role=Role(role),
            password_hash=password_hash,
            active=True,
            created_at=utc_now(),
        )
        await _add_user(tx, made)
    if as_json:
        emit_json(_public(made))
    else:
        click.echo(made.id)


@user.command(name="list")
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def user_list(
    sealwright: Sealwright,
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List the users of an organization."""
    async with open_database(sealwright.settings()) as database, database.read() as tx:
        organization = await find_organization(tx, organization_slug)
        found = await users.every(tx, organization.id)
    if as_json:
        emit_json([_public(one) for one in found])
        return
    for one in found:
        state = "" if one.active else "  (inactive)"
        click.echo(f"{one.id}  {one.kind.value:<11}  {one.role.value:<25}  {one.name}{state}")


@click.group()
def token() -> None:
    """Make and revoke API tokens."""


@token.command(name="create")
@click.option("--user", "user_name", required=True, help="Id, address or name of the user.")
@click.option("--name", default="cli", show_default=True, help="What the token is for.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True)
@click.option(
    "--scope",
    type=click.Choice([scope.value for scope in TokenScope]),
    default=TokenScope.FULL.value,
    show_default=True,
    help="What of the user's rights it carries.",
)
@click.option("--project", help="Slug or id of the one project that it is good for.")
@organization_option
@json_option
@pass_sealwright
@asynchronous
async def token_create(
    sealwright: Sealwright,
    user_name: str,
    name: str,
    days: int,
    scope: str,
    project: str | None,
    organization_slug: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Make an API token. Its text is shown this once; only a hash of it is kept."""
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        organization = await find_organization(tx, organization_slug)
        owner = await _user(tx, organization, user_name)
        text, made = _token(owner, name, days)
        made = dataclasses.replace(
            made, scope=TokenScope(scope), project_id=await _project_id(tx, organization, project)
        )
        await users.add_token(tx, made)
        entry = organization_entry(
            organization.id,
            "token.created",
            actor=_OPERATOR,
            now=made.created_at,
            data={"token": made.id, "user": owner.id},
        )
        await record(tx, entry)
    if as_json:
        emit_json({"id": made.id, "token": text, "expires_at": made.expires_at})
    else:
        click.echo(text)


@token.command(name="revoke")
@click.argument("token_id")
@organization_option
@pass_sealwright
@asynchronous
async def token_revoke(
    sealwright: Sealwright, token_id: str, organization_slug: str | None
) -> None:
    """Revoke an API token for good, by its id."""
    now = utc_now()
    async with open_database(sealwright.settings()) as database, database.transaction() as tx:
        organization = await find_organization(tx, organization_slug)
        if not await users.revoke_token(tx, organization.id, token_id, now):
            message = f"There is no valid token {token_id!r} in {organization.slug}."
            raise NotFoundError(message)
        entry = organization_entry(
            organization.id, "token.revoked", actor=_OPERATOR, now=now, data={"token": token_id}
        )
        await record(tx, entry)


async def find_organization(tx: Transaction, slug: str | None) -> Organization:
    """The organization of that slug or id; without one, the only one.

    Raises:
        NotFoundError
    """
    found = await organizations.every(tx)
    if slug is not None:
        found = [one for one in found if slug in (one.slug, one.id)]
    if len(found) == 1:
        return found[0]
    message = "There is no such organization." if not found else "There are several organizations."
    advice = "Name one by --organization." if found else "'sealwright init' makes one."
    raise NotFoundError(message, advice=advice)


async def _user(tx: Transaction, organization: Organization, name: str) -> User:
    found = [
        one
        for one in await users.every(tx, organization.id)
        if name in (one.id, one.name) or name.lower() == (one.email or "").lower()
    ]
    if len(found) == 1:
        return found[0]
    message = f"{len(found) or 'No'} users of {organization.slug} are called {name!r}."
    raise NotFoundError(message, advice="'sealwright user list' shows their ids.")


async def _add_user(tx: Transaction, made: User) -> None:
    if made.email and await users.by_email(tx, made.email):
        message = f"A user with the address {made.email} exists already."
        raise ConflictError(message, advice="Addresses are unique on the whole server.")
    await users.add(tx, made)
    entry = organization_entry(
        made.organization_id,
        "user.created",
        actor=_OPERATOR,
        now=made.created_at,
        data={"user": made.id, "kind": made.kind.value, "role": made.role.value},
    )
    await record(tx, entry)


async def _project_id(tx: Transaction, organization: Organization, name: str | None) -> str | None:
    if name is None:
        return None
    found = await projects.find(tx, organization.id, name)
    if found is None:
        message = f"There is no project {name!r} in {organization.slug}."
        raise NotFoundError(message)
    return found.id


def _token(owner: User, name: str, days: int | None) -> tuple[str, ApiToken]:
    text, now = new_token(TokenKind.API), utc_now()
    return text, ApiToken(
        id=new_id(),
        organization_id=owner.organization_id,
        user_id=owner.id,
        kind=TokenKind.API,
        name=name,
        sha256=token_hash(text),
        expires_at=now + dt.timedelta(days=days) if days else None,
        revoked_at=None,
        created_at=now,
    )


def _password(file: Any) -> str:
    """From the file's first line, or asked for twice: never an argument, which every user of the
    machine could read."""
    if file is not None:
        return str(file.readline()).rstrip("\r\n")
    if not sys.stdin.isatty():
        message = "There is no terminal to ask for the password."
        raise InvalidInputError(message, advice="Give --password-file.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _address(email: str) -> str:
    address = email.strip().lower()
    local, _, domain = address.partition("@")
    if not local or not domain or any(character.isspace() for character in address):
        message = f"{email!r} is not an e-mail address."
        raise InvalidInputError(message)
    return address


def not_a_slug(slug: str) -> InvalidInputError:
    """The error for a slug that is none."""
    message = f"{slug!r} is no slug."
    return InvalidInputError(
        message, advice="Use lower-case letters, digits, '.', '_' and '-', at most 100."
    )


def _public(one: User) -> dict[str, Any]:
    fields = dataclasses.asdict(one)
    del fields["password_hash"]
    return fields


COMMANDS = [init, make_setup_link, user, token]
