"""From what an identity provider says to a user of ours.

A subject is bound to a user once, at the first log-in: to the one with the verified address, or to
one made then. From there on the subject decides, whatever becomes of the address.
"""

from __future__ import annotations

from sealwright.connectors.sign_on import SignedOn
from sealwright.db import Database, Transaction, groups, identity_providers, users
from sealwright.errors import ForbiddenError
from sealwright.membership import Actor, add_group, add_user, change_group, renamed
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.identity_provider import IdentityProvider
from sealwright.model.user import Group, User, UserKind
from sealwright.transparency.record import organization_entry, record

_ADVICE = "Ask an administrator of the organization."


async def admit(database: Database, provider: IdentityProvider, found: SignedOn) -> User:
    """The user who came in; made, bound and put into groups as the provider's settings say.

    Raises:
        ForbiddenError: nobody of that address may come in this way, or the user is deactivated.
    """
    by = Actor(f"sign-on:{provider.slug}")
    async with database.transaction() as tx:
        user = await _user(tx, provider, found, by)
        if not user.active or user.kind is UserKind.CI:
            message = "The user is deactivated."
            raise ForbiddenError(message, advice=_ADVICE)
        if provider.group_claim:
            await _put_into_groups(tx, provider, user, found.groups, by)
    return user


async def _user(tx: Transaction, provider: IdentityProvider, found: SignedOn, by: Actor) -> User:
    bound = await identity_providers.user_of(tx, provider.id, found.subject)
    if bound is not None:
        user = await users.get(tx, provider.organization_id, bound)
        if user is not None:
            return user
    _check_domain(provider, found.email)
    user = await users.by_email(tx, found.email)
    if user is not None and user.organization_id != provider.organization_id:
        message = "The address belongs to another organization."
        raise ForbiddenError(message, advice=_ADVICE)
    if user is not None and await identity_providers.subject_of(tx, provider.id, user.id):
        message = "The address belongs to a user who is somebody else at the identity provider."
        raise ForbiddenError(message, advice=_ADVICE)
    if user is None:
        if not provider.just_in_time:
            message = "Nobody with this address is invited."
            raise ForbiddenError(message, advice=_ADVICE)
        user = User(
            id=new_id(),
            organization_id=provider.organization_id,
            kind=UserKind.INTERACTIVE,
            name=found.name or found.email,
            email=found.email,
            role=provider.default_role,
            password_hash=None,
            active=True,
            created_at=utc_now(),
        )
        await add_user(tx, user, by)
    await identity_providers.link(tx, provider.id, found.subject, user.id, utc_now())
    facts = {"user": user.id, "identity_provider": provider.id}
    entry = organization_entry(
        provider.organization_id, "user.linked", actor=by.name, now=utc_now(), data=facts
    )
    await record(tx, entry)
    return user


def _check_domain(provider: IdentityProvider, email: str) -> None:
    if not email:
        message = "The identity provider gives no verified e-mail address."
        raise ForbiddenError(message, advice="Have it send the claims email and email_verified.")
    if email.rpartition("@")[2] not in provider.domains:
        message = f"{provider.name} does not speak for addresses of that domain."
        raise ForbiddenError(message, advice=_ADVICE)


async def _put_into_groups(
    tx: Transaction, provider: IdentityProvider, user: User, names: frozenset[str], by: Actor
) -> None:
    """Make the user a member of exactly the groups that the claim names, among those that this
    provider has made. Groups that administrators have made are never touched."""
    mark = f"sign-on:{provider.slug}:"
    known = await groups.every(tx, provider.organization_id, with_members=False)
    own = {one.external_id: one for one in known if (one.external_id or "").startswith(mark)}
    taken = {one.name for one in known}
    for name in sorted(names):
        key = f"{mark}{name}"[:200]
        if key not in own and name not in taken:
            group = Group(
                new_id(), provider.organization_id, name, utc_now(), key, frozenset({user.id})
            )
            await add_group(tx, group, by)
    wanted = {group.id for mine, group in own.items() if (mine or "").removeprefix(mark) in names}
    moved = {one.id for one in own.values()} & (wanted ^ user.groups)
    for group in await groups.some(tx, provider.organization_id, moved):
        belongs = group.id in wanted
        members = group.members | {user.id} if belongs else group.members - {user.id}
        await change_group(tx, group, renamed(group, None, members), by)
