"""How people come to an account and back into it: set-up, invitations, passwords.

What is sent by mail is a link with a one-time secret. Only its hash is kept; it is good for one use
and for a time, and a newer one replaces it. Whether an address has an account, no answer tells.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass

from sealwright.db import Database, Transaction, one_time_secrets, organizations, users
from sealwright.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from sealwright.intake.passwords import hash_password, password_fits
from sealwright.membership import Actor, add_user, change_user
from sealwright.model.identifiers import is_slug, new_id, utc_now
from sealwright.model.one_time_secret import OneTimeSecret, Purpose
from sealwright.model.organization import Organization
from sealwright.model.user import Role, User, UserKind
from sealwright.reporting.letters import render
from sealwright.reporting.mail import Mail
from sealwright.reporting.notify import Letter
from sealwright.transparency.record import organization_entry, record

INVITATION_LIFE = dt.timedelta(days=7)
RESET_LIFE = dt.timedelta(hours=1)
SETUP_LIFE = dt.timedelta(days=1)
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Invitation:
    """A link that was made. Its text is in `url` alone."""

    user: User
    organization: str
    url: str
    expires_at: dt.datetime

    def mail(self) -> Mail:
        """What to send."""
        letter = Letter(
            f"Invitation to {self.organization}",
            f"{self.user.name}, you are invited to sign code with the organization "
            f"{self.organization}. Choose a password or a passkey to set up your account. The "
            f"link works once, until {self.expires_at:%Y-%m-%d %H:%M} UTC.",
            path=self.url,
            link="Set up your account",
        )
        return render(letter, _address(self.user), footer=_footer(self.url))


@dataclass(frozen=True)
class Reset:
    """A link to a new password that was made."""

    user: User
    url: str

    def mail(self) -> Mail:
        """What to send."""
        letter = Letter(
            "A new password",
            "Somebody, we hope you, asked for a new password. The link to set it works once, "
            "within an hour. If it was not you, do nothing: your password stays as it is.",
            path=self.url,
            link="Set a new password",
        )
        return render(letter, _address(self.user), footer=_footer(self.url))


def _footer(link: str) -> str:
    return f"Sealwright at {link.rpartition('/')[0]}."


async def invite(tx: Transaction, user: User, by: Actor, server_url: str) -> Invitation:
    """Make a link by which the user sets up their account. Earlier ones are void.

    Raises:
        InvalidInputError: the user has no address.
        ConflictError: the user is deactivated.
    """
    _address(user)
    if not user.active:
        message = f"{user.name} is deactivated."
        raise ConflictError(message, advice="Activate the user first.")
    organization = await organizations.get(tx, user.organization_id)
    await one_time_secrets.withdraw(tx, user.id, Purpose.INVITATION)
    text, secret = _new(Purpose.INVITATION, user.id, INVITATION_LIFE)
    await one_time_secrets.add(tx, secret)
    await _log(tx, user, "user.invited", by)
    name = organization.name if organization else ""
    return Invitation(user, name, f"{server_url}/invitation?code={text}", secret.expires_at)


async def invited(database: Database, code: str) -> User:
    """Whom the link invites. It stays usable.

    Raises:
        NotFoundError: it was used, replaced, has expired, or never was.
    """
    return await _holder(database, code, Purpose.INVITATION)


async def accept(database: Database, code: str, name: str, password: str | None) -> User:
    """Use an invitation up: the user has a name and, unless they want a passkey, a password.

    Raises:
        NotFoundError: it was used, replaced, has expired, or never was.
        InvalidInputError: the password is too short.
    """
    await invited(database, code)  # before the costly hash
    password_hash = await hash_password(password) if password is not None else None
    async with database.transaction() as tx:
        user = await _take(tx, code, Purpose.INVITATION)
        changed = dataclasses.replace(
            user, name=name, password_hash=password_hash or user.password_hash
        )
        by = Actor(f"user:{user.id}")
        await change_user(tx, user, changed, by)
        await _log(tx, user, "invitation.accepted", by)
    return changed


async def forgotten(database: Database, email: str, server_url: str) -> Reset | None:
    """Make a link to a new password; None where nobody who logs in by password has the address."""
    async with database.transaction() as tx:
        user = await users.by_email(tx, email)
        if user is None or not user.active or user.kind is UserKind.CI:
            return None
        if user.password_hash is None:
            return None  # they never had one: an invitation, a passkey or single sign-on
        await one_time_secrets.withdraw(tx, user.id, Purpose.PASSWORD_RESET)
        text, secret = _new(Purpose.PASSWORD_RESET, user.id, RESET_LIFE)
        await one_time_secrets.add(tx, secret)
        await _log(tx, user, "password.reset_requested", Actor("system"))
    return Reset(user, f"{server_url}/new-password?code={text}")


async def resetting(database: Database, code: str) -> User:
    """Whose password the link sets. It stays usable.

    Raises:
        NotFoundError: it was used, replaced, has expired, or never was.
    """
    return await _holder(database, code, Purpose.PASSWORD_RESET)


async def reset_password(database: Database, code: str, password: str) -> User:
    """Use a link up and set the password; every session of the user ends.

    Raises:
        NotFoundError: it was used, replaced, has expired, or never was.
        InvalidInputError: the password is too short.
    """
    await resetting(database, code)
    password_hash = await hash_password(password)
    async with database.transaction() as tx:
        user = await _take(tx, code, Purpose.PASSWORD_RESET)
        changed = dataclasses.replace(user, password_hash=password_hash)
        await change_user(tx, user, changed, Actor(f"user:{user.id}"))
        await one_time_secrets.withdraw(tx, user.id, Purpose.INVITATION)
    return changed


async def change_password(
    database: Database, user: User, present: str, password: str, by: Actor
) -> User:
    """Set one's own password; every session ends, also the one that asks.

    Raises:
        ForbiddenError: the present password is another one.
        InvalidInputError: the new one is too short.
    """
    if user.password_hash is not None and not await password_fits(user.password_hash, present):
        message = "The present password is wrong."
        raise ForbiddenError(message)
    password_hash = await hash_password(password)
    async with database.transaction() as tx:
        now = await users.get(tx, user.organization_id, user.id)
        if now is None or now.password_hash != user.password_hash:
            message = "The password was changed meanwhile."
            raise ConflictError(message, advice="Log in anew.")
        changed = dataclasses.replace(now, password_hash=password_hash)
        await change_user(tx, now, changed, by)
        await one_time_secrets.withdraw(tx, user.id, Purpose.PASSWORD_RESET, Purpose.INVITATION)
    return changed


async def is_empty(database: Database) -> bool:
    """Whether the server has no organization yet: nobody can log in."""
    async with database.read() as tx:
        return not await organizations.every(tx)


async def setup_link(database: Database, server_url: str) -> str:
    """Make a link by which the first organization and its administrator are made.

    Raises:
        ConflictError: there is an organization already.
    """
    if not await is_empty(database):
        message = "The server is set up already."
        raise ConflictError(message, advice="Log in, or use 'sealwright init' and 'user create'.")
    text, secret = _new(Purpose.SETUP, None, SETUP_LIFE)
    async with database.transaction() as tx:
        await one_time_secrets.add(tx, secret)
    return f"{server_url}/setup?code={text}"


async def check_setup(database: Database, code: str) -> None:
    """Tell whether a set-up link would do.

    Raises:
        NotFoundError: it was used, has expired, or never was; or the server is set up already.
    """
    async with database.read() as tx:
        found = await one_time_secrets.find(tx, _digest(code), Purpose.SETUP, utc_now())
        if found is None or await organizations.every(tx):
            raise _void()


async def set_up(
    database: Database, code: str, *, slug: str, name: str, user_name: str, email: str,
    password: str,
) -> User:  # fmt: skip
    """Use a set-up link up: make the first organization and its administrator.

    Raises:
        NotFoundError: as `check_setup`.
        InvalidInputError: the password is too short, or the slug is none.
    """
    if not is_slug(slug):
        message = f"{slug[:100]!r} is no slug."
        raise InvalidInputError(message, advice="Use lower-case letters, digits and '-'.")
    await check_setup(database, code)
    password_hash = await hash_password(password)
    now = utc_now()
    organization = Organization(new_id(), slug, name, now)
    administrator = User(
        id=new_id(),
        organization_id=organization.id,
        kind=UserKind.INTERACTIVE,
        name=user_name,
        email=email,
        role=Role.GLOBAL_ADMINISTRATOR,
        password_hash=password_hash,
        active=True,
        created_at=now,
    )
    async with database.transaction() as tx:
        taken = await one_time_secrets.take(tx, _digest(code), Purpose.SETUP, now)
        if taken is None or await organizations.every(tx):
            raise _void()
        await organizations.add(tx, organization)
        await add_user(tx, administrator, Actor("setup"))
    return administrator


def _new(purpose: Purpose, user_id: str | None, life: dt.timedelta) -> tuple[str, OneTimeSecret]:
    text, now = secrets.token_urlsafe(_SECRET_BYTES), utc_now()
    return text, OneTimeSecret(_digest(text), purpose, user_id, {}, now + life, now)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


async def _holder(database: Database, code: str, purpose: Purpose) -> User:
    async with database.read() as tx:
        found = await one_time_secrets.find(tx, _digest(code), purpose, utc_now())
        return await _active(tx, found)


async def _take(tx: Transaction, code: str, purpose: Purpose) -> User:
    found = await one_time_secrets.take(tx, _digest(code), purpose, utc_now())
    return await _active(tx, found)


async def _active(tx: Transaction, found: OneTimeSecret | None) -> User:
    user = await users.any_by_id(tx, found.user_id) if found and found.user_id else None
    if user is None or not user.active:
        raise _void()
    return user


def _void() -> NotFoundError:
    message = "The link was used already, has expired, or was replaced by a newer one."
    return NotFoundError(message, advice="Ask for a new one.")


def _address(user: User) -> str:
    if user.email is None:
        message = f"{user.name} has no address."
        raise InvalidInputError(message, advice="CI users authenticate with API tokens alone.")
    return user.email


async def _log(tx: Transaction, user: User, action: str, by: Actor) -> None:
    entry = organization_entry(
        user.organization_id, action, actor=by.name, now=utc_now(), data={"user": user.id}
    )
    await record(tx, entry)
