"""Users and groups as a directory sees and changes them. Each change is a transaction of its own.

Users are the organization's people, CI users are not shown. Deleting a user deactivates them, takes
them out of their groups, and hides them: what they decided stays. Made again under their address
they are the same user. New users are regular ones; roles are given elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sealwright.db import Database, Transaction, groups, users
from sealwright.errors import PreconditionFailedError
from sealwright.membership import (
    actor_of,
    add_group,
    add_user,
    change_group,
    change_user,
    remove_group,
)
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.user import Group, Role, User, UserKind
from sealwright.policy.permissions import Grant, check_may_grant
from sealwright.scim.documents import group_document, has_version, leaves_out, user_document
from sealwright.scim.patches import (
    GroupResource,
    UserResource,
    patch_group,
    patch_user,
    read_group,
    read_user,
)
from sealwright.scim.query import Query
from sealwright.scim.schema import GROUPS, USERS, Kind
from sealwright.visible import find_group, find_user, missing

Document = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A page of documents, whole; `total`: of all that were asked for."""

    total: int
    page: Sequence[Document]


class Resources(Protocol):
    """The resources of one kind, for one caller.

    Every method raises the errors of what it does; besides NotFoundError where `id_` is nobody's,
    PreconditionFailedError where the resource is not in `version`, and ScimError.
    """

    @property
    def kind(self) -> Kind:
        """What they are."""

    @property
    def base(self) -> str:
        """The URL of all endpoints, without a slash at its end."""

    async def found(self, query: Query) -> Found:
        """A page of a list."""

    async def get(self, id_: str) -> Document:
        """One of them."""

    async def create(self, given: Mapping[str, Any]) -> Document:
        """Make one."""

    async def replace(self, id_: str, given: Mapping[str, Any], version: str | None) -> Document:
        """Write one anew."""

    async def patch(self, id_: str, given: Mapping[str, Any], version: str | None) -> Document:
        """Change some of its attributes."""

    async def delete(self, id_: str, version: str | None) -> None:
        """Take it away."""


@dataclass(frozen=True)
class People:
    """Users. `base` is the URL of the endpoints, without a slash at its end."""

    database: Database
    grant: Grant
    base: str
    kind: Kind = USERS

    async def found(self, query: Query) -> Found:
        """See `Resources`."""
        organization, wanted = self.grant.organization_id, query.wanted
        async with self.database.read() as tx:
            total = await users.count_people(tx, organization, wanted)
            page: Sequence[User] = ()
            if query.count:
                page = await users.people(
                    tx, organization, wanted, query.order, skip=query.start - 1, limit=query.count
                )
        return Found(total, [user_document(one, self.base) for one in page])

    async def get(self, id_: str) -> Document:
        """See `Resources`."""
        async with self.database.read() as tx:
            return user_document(await self._find(tx, id_), self.base)

    async def create(self, given: Mapping[str, Any]) -> Document:
        """See `Resources`. The person comes in by single sign-on or an invitation."""
        read = read_user(given)
        async with self.database.transaction() as tx:
            former = await users.by_email(tx, read.address)
            if former is not None and self._deleted(former):
                check_may_grant(self.grant.user, former.role)
                user = dataclasses.replace(_written(former, read), deprovisioned_at=None)
                await change_user(tx, former, user, actor_of(self.grant))
            else:
                user = _written(self._new(), read)
                await add_user(tx, user, actor_of(self.grant))
        return user_document(user, self.base)

    def _deleted(self, user: User) -> bool:
        own = user.organization_id == self.grant.organization_id
        return own and user.deprovisioned_at is not None

    def _new(self) -> User:
        return User(
            id=new_id(),
            organization_id=self.grant.organization_id,
            kind=UserKind.INTERACTIVE,
            name="",
            email=None,
            role=Role.REGULAR_USER,
            password_hash=None,
            active=True,
            created_at=utc_now(),
        )

    async def replace(self, id_: str, given: Mapping[str, Any], version: str | None) -> Document:
        """See `Resources`."""
        read = read_user(given)
        return await self._change(id_, version, lambda _: read)

    async def patch(self, id_: str, given: Mapping[str, Any], version: str | None) -> Document:
        """See `Resources`."""
        return await self._change(id_, version, lambda user: patch_user(user, given))

    async def delete(self, id_: str, version: str | None) -> None:
        """Deactivate a person: sessions and tokens count no more."""
        async with self.database.transaction() as tx:
            user = await self._locked(tx, id_, version)
            gone = dataclasses.replace(user, active=False, deprovisioned_at=utc_now())
            await change_user(tx, user, gone, actor_of(self.grant))
            for group_id in sorted(user.groups):
                await groups.lock(tx, self.grant.organization_id, group_id)
                group = await find_group(tx, self.grant, group_id)
                left = dataclasses.replace(group, members=group.members - {user.id})
                await change_group(tx, group, left, actor_of(self.grant))

    async def _change(
        self, id_: str, version: str | None, change: Callable[[UserResource], UserResource]
    ) -> Document:
        async with self.database.transaction() as tx:
            user = await self._locked(tx, id_, version)
            address, name = user.email or "", user.user_name
            before = UserResource(
                name or address, user.name, user.external_id, user.active, address if name else ""
            )
            changed = _written(user, change(before))
            await change_user(tx, user, changed, actor_of(self.grant))
        return user_document(changed, self.base)

    async def _locked(self, tx: Transaction, id_: str, version: str | None) -> User:
        """The person in the version that the caller names, whom nobody else changes."""
        if is_id(id_):
            await users.lock(tx, self.grant.organization_id, id_)
        user = await self._find(tx, id_)
        check_may_grant(self.grant.user, user.role)
        _check_version(user_document(user, self.base), version)
        return user

    async def _find(self, tx: Transaction, id_: str) -> User:
        user = await find_user(tx, self.grant, id_)
        if user.kind is not UserKind.INTERACTIVE or user.deprovisioned_at is not None:
            raise missing(user.id, "user")
        return user


@dataclass(frozen=True)
class Groups:
    """Groups. `base` is that of `People`."""

    database: Database
    grant: Grant
    base: str
    kind: Kind = GROUPS

    async def found(self, query: Query) -> Found:
        """See `Resources`. Members that nobody asks for are not read."""
        organization, wanted = self.grant.organization_id, query.wanted
        with_members = not leaves_out("members", query.attributes, query.excluded)
        async with self.database.read() as tx:
            total = await groups.count(tx, organization, wanted)
            page: Sequence[Group] = ()
            if query.count:
                page = await groups.search(
                    tx, organization, wanted, query.order, skip=query.start - 1,
                    limit=query.count, with_members=with_members,
                )  # fmt: skip
        shown = [group_document(one, self.base, with_members=with_members) for one in page]
        return Found(total, shown)

    async def get(self, id_: str) -> Document:
        """See `Resources`."""
        async with self.database.read() as tx:
            return group_document(await find_group(tx, self.grant, id_), self.base)

    async def create(self, given: Mapping[str, Any]) -> Document:
        """See `Resources`."""
        read = read_group(given)
        group = Group(
            new_id(),
            self.grant.organization_id,
            read.name,
            utc_now(),
            read.external_id,
            read.members,
        )
        async with self.database.transaction() as tx:
            await add_group(tx, group, actor_of(self.grant))
        return group_document(group, self.base)

    async def replace(self, id_: str, given: Mapping[str, Any], version: str | None) -> Document:
        """See `Resources`."""
        read = read_group(given)
        return await self._change(id_, version, lambda _: read)

    async def patch(self, id_: str, given: Mapping[str, Any], version: str | None) -> Document:
        """See `Resources`."""
        return await self._change(id_, version, lambda group: patch_group(group, given))

    async def delete(self, id_: str, version: str | None) -> None:
        """Delete a group that no project or policy names."""
        async with self.database.transaction() as tx:
            group = await self._locked(tx, id_, version)
            await remove_group(tx, group, actor_of(self.grant))

    async def _change(
        self, id_: str, version: str | None, change: Callable[[GroupResource], GroupResource]
    ) -> Document:
        async with self.database.transaction() as tx:
            group = await self._locked(tx, id_, version)
            after = change(GroupResource(group.name, group.external_id, group.members))
            changed = dataclasses.replace(
                group, name=after.name, external_id=after.external_id, members=after.members
            )
            await change_group(tx, group, changed, actor_of(self.grant))
        return group_document(changed, self.base)

    async def _locked(self, tx: Transaction, id_: str, version: str | None) -> Group:
        """The group in the version that the caller names, which nobody else changes."""
        if is_id(id_):
            await groups.lock(tx, self.grant.organization_id, id_)
        group = await find_group(tx, self.grant, id_)
        _check_version(group_document(group, self.base), version)
        return group


def _written(user: User, given: UserResource) -> User:
    return dataclasses.replace(
        user,
        email=given.address,
        name=given.name,
        external_id=given.external_id,
        active=given.active,
        user_name=given.user_name if given.email else None,
    )


def _check_version(document: Mapping[str, Any], wanted: str | None) -> None:
    if wanted is not None and not has_version(document, wanted):
        message = "It is not in this version any more."
        raise PreconditionFailedError(message, advice="Read it again.")
