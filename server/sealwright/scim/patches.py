"""SCIM's view of users and groups: what directories send of them, whole and as patches. Pure.

Sources: RFC 7643 (schema) and RFC 7644 (protocol: 3.5.2 PATCH). What directories in use send is
taken: PATCH with and without a path, operations in any case, booleans as text, and attributes that
are not kept here, which are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sealwright.errors import InvalidInputError
from sealwright.model.conditions import Condition, holds, pinned
from sealwright.model.user import MAX_MEMBERS
from sealwright.scim.errors import ScimError, ScimType
from sealwright.scim.filters import Target, parse_path
from sealwright.scim.schema import GROUPS, USERS, Kind

_MAX_TEXT = 200
_MAX_OPERATIONS = 1000
_MAX_SEARCHES = 20  #: operations whose filters may choose any value
#: Attributes that others write (RFC 7643, 7: readOnly).
_SHOWN_ONLY = frozenset({"id", "meta", "groups", "schemas"})
_REQUIRED = frozenset({"username", "active", "displayname", "name", "emails"})


@dataclass(frozen=True)
class UserResource:
    """A user as a directory has it. `email`: where it is another than the userName."""

    user_name: str
    name: str
    external_id: str | None
    active: bool
    email: str = ""

    @property
    def address(self) -> str:
        """Their e-mail address."""
        return self.email or self.user_name

    def reached_at(self, address: str) -> UserResource:
        """The user with this address, if it is one at all."""
        email = (address or self.address).lower()
        return replace(self, email="" if email == self.user_name else email)


@dataclass(frozen=True)
class GroupResource:
    """A group as a directory has it. `members` are our user ids."""

    name: str
    external_id: str | None
    members: frozenset[str]


def read_user(document: Mapping[str, Any]) -> UserResource:
    """A user as sent by POST or PUT (RFC 7643, 4.1).

    Raises:
        InvalidInputError: no usable userName or e-mail address, or a value of a wrong kind.
    """
    user = UserResource("", "", None, active=True)
    for name, value in document.items():
        user = _set_user(user, name, value)
    email = _email(document.get("emails"))
    user = replace(user, user_name=user.user_name or email).reached_at(email)
    if "@" not in user.address:
        message = "The user has no e-mail address: neither in emails nor as userName."
        raise InvalidInputError(message)
    return replace(user, name=user.name or user.address)


def read_group(document: Mapping[str, Any]) -> GroupResource:
    """A group as sent by POST or PUT (RFC 7643, 4.2).

    Raises:
        InvalidInputError: no displayName, or a value of a wrong kind.
    """
    name = _word(document.get("displayName"), "displayName")
    if not name:
        message = "The group has no displayName."
        raise InvalidInputError(message)
    members = _members(document.get("members", []))
    return GroupResource(name, _optional(document.get("externalId"), "externalId"), members)


def patch_user(user: UserResource, document: Mapping[str, Any]) -> UserResource:
    """Apply a PATCH (RFC 7644, 3.5.2). Attributes that are not ours are passed over.

    Raises:
        InvalidInputError: it is malformed.
        ScimError: invalidPath, invalidValue, mutability or noTarget.
    """
    for verb, target, value in _changes(document, USERS):
        user = _patched(user, verb, target, value)
    if "@" not in user.address:
        message = "A userName is an e-mail address where no other address is known."
        raise ScimError(ScimType.INVALID_VALUE, message)
    return user


def _patched(user: UserResource, verb: str, target: Target, value: Any) -> UserResource:
    name = target.attribute
    if name in _SHOWN_ONLY:
        raise _read_only(name)
    if verb == "remove":
        return _without(user, target)
    if name == "emails":
        if target.among is not None and not holds(target.among, {"email": user.address}):
            if verb == "replace":
                raise _no_target()
            return user  # another address than the one that is kept
        if target.part not in {"", "value"}:
            return user
        address = _word(value, "emails") if isinstance(value, str) else _email(_listed(value))
        return user.reached_at(address)
    if name == "name" and not target.part and isinstance(value, Mapping):
        return replace(user, name=_formatted(value) or user.name)
    return _set_user(user, f"{name}.{target.part}" if target.part else name, value)


def _without(user: UserResource, target: Target) -> UserResource:
    """Remove what can be: what is required stays (RFC 7644, 3.5.2.2)."""
    if target.attribute == "externalid":
        return replace(user, external_id=None)
    parts = {"name": {"", "formatted"}, "emails": {"", "value"}}.get(target.attribute, {""})
    chosen = target.among is None or holds(target.among, {"email": user.address})
    if target.attribute in _REQUIRED and target.part in parts and chosen:
        message = f"{target.attribute} cannot be removed."
        raise ScimError(ScimType.MUTABILITY, message, advice="Deactivate the user instead.")
    return user


def patch_group(group: GroupResource, document: Mapping[str, Any]) -> GroupResource:
    """Apply a PATCH (RFC 7644, 3.5.2).

    Raises:
        InvalidInputError: it is malformed.
        ScimError: invalidPath, invalidValue, mutability or noTarget.
    """
    for verb, target, value in _changes(document, GROUPS):
        group = _set_group(group, verb, target, value)
    return group


def _set_group(group: GroupResource, verb: str, target: Target, value: Any) -> GroupResource:
    match target.attribute:
        case "members":
            return _set_members(group, verb, target, value)
        case name if name in _SHOWN_ONLY:
            raise _read_only(name)
        case "displayname":
            if verb == "remove":
                message = "A group has a displayName."
                raise ScimError(ScimType.MUTABILITY, message)
            return replace(group, name=_word(value, "displayName") or group.name)
        case "externalid":
            given = None if verb == "remove" else _optional(value, "externalId")
            return replace(group, external_id=given)
    return group


def _set_members(group: GroupResource, verb: str, target: Target, value: Any) -> GroupResource:
    if target.among is not None:
        chosen = _chosen(group.members, target.among)
        if verb == "remove":
            return replace(group, members=group.members - chosen)
        if not chosen:
            raise _no_target()
        message = "A member is its value: remove it, and add another."
        raise ScimError(ScimType.MUTABILITY, message)
    named = _members(value if value is not None else [])
    if verb == "remove":
        left = group.members - named if value is not None else frozenset()
        return replace(group, members=left)
    members = named if verb == "replace" else group.members | named
    if len(members) > MAX_MEMBERS:
        raise _too_many()
    return replace(group, members=members)


def _chosen(members: frozenset[str], among: Condition) -> frozenset[str]:
    """The members that the filter of a path chooses: looked for only where it names none."""
    named = pinned(among, "member")
    some = members if named is None else members & named
    return frozenset(one for one in some if holds(among, {"member": one}))


def _set_user(user: UserResource, name: str, value: Any) -> UserResource:
    match name.rpartition(":")[2].lower():
        case "username":
            return replace(user, user_name=_word(value, "userName").lower() or user.user_name)
        case "externalid":
            return replace(user, external_id=_optional(value, "externalId"))
        case "displayname" | "name.formatted":
            return replace(user, name=_word(value, "displayName") or user.name)
        case "name" if isinstance(value, Mapping):
            return replace(user, name=user.name or _formatted(value))
        case "active":
            return replace(user, active=_flag(value))
    return user


def _formatted(name: Mapping[str, Any]) -> str:
    given = (name.get("givenName"), name.get("familyName"))
    parts = " ".join(one for one in given if isinstance(one, str) and one)
    return _word(name.get("formatted") or parts, "name")


def _changes(document: Mapping[str, Any], kind: Kind) -> Iterator[tuple[str, Target, Any]]:
    """Verb, target and value of all that the operations change, one after the other."""
    for verb, target, value in _operations(document, kind):
        named = _named_in(value, kind) if target is None else ((target, value),)
        for one, given in named:
            yield verb, one, given


def _operations(
    document: Mapping[str, Any], kind: Kind
) -> Sequence[tuple[str, Target | None, Any]]:
    """Verb, target and value of each; without a target the value is an object of attributes."""
    found = next((v for k, v in document.items() if k.lower() == "operations"), None)
    if not isinstance(found, list) or not 0 < len(found) <= _MAX_OPERATIONS:
        raise _malformed()
    operations, searches = [], 0
    for one in found:
        if not isinstance(one, Mapping):
            raise _malformed()
        verb, path = str(one.get("op", "")).lower(), one.get("path") or ""
        if verb not in {"add", "replace", "remove"} or not isinstance(path, str):
            raise _malformed()
        if verb == "remove" and not path.strip():
            message = "What is to be removed is not named."
            raise ScimError(ScimType.NO_TARGET, message, advice="Give the operation a path.")
        target = parse_path(path.strip(), kind) if path.strip() else None
        if target and target.among is not None and pinned(target.among, "member") is None:
            searches += 1
        if searches > _MAX_SEARCHES:
            message = f"More than {_MAX_SEARCHES} operations choose values without naming them."
            raise InvalidInputError(message, advice='Name them: members[value eq "..."].')
        operations.append((verb, target, one.get("value")))
    return operations


def _named_in(value: Any, kind: Kind) -> Iterator[tuple[Target, Any]]:
    """What an operation without a path names in its value; what others write is passed over."""
    if not isinstance(value, Mapping):
        raise _malformed()
    for name, one in value.items():
        target = parse_path(str(name), kind)
        if target.attribute not in _SHOWN_ONLY:
            yield target, one


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, Mapping) else value


def _members(value: Any) -> frozenset[str]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) > MAX_MEMBERS:
        raise _too_many()
    members = set()
    for one in listed:
        member = one.get("value") if isinstance(one, Mapping) else one
        if not isinstance(member, str) or not 0 < len(member) <= 100:
            raise _malformed()
        members.add(member)
    return frozenset(members)


def _email(value: Any) -> str:
    """The primary address, else the first."""
    listed = [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
    ordered = sorted(listed, key=lambda one: one.get("primary") is not True)
    address = ordered[0].get("value") if ordered else ""
    return _word(address, "emails").lower() if address else ""


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    message = "A flag is true or false."
    raise ScimError(ScimType.INVALID_VALUE, message)


def _word(value: Any, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        message = f"{name} is no text of at most {_MAX_TEXT} characters."
        raise ScimError(ScimType.INVALID_VALUE, message)
    return value.strip()


def _optional(value: Any, name: str) -> str | None:
    return _word(value, name) or None


def _malformed() -> ScimError:
    message = "The SCIM request is malformed."
    return ScimError(ScimType.INVALID_SYNTAX, message, advice="See RFC 7644, 3.5.2.")


def _no_target() -> ScimError:
    message = "The path chooses none of the values that are there."
    return ScimError(ScimType.NO_TARGET, message)


def _read_only(name: str) -> ScimError:
    message = f"{name} is not written."
    return ScimError(ScimType.MUTABILITY, message)


def _too_many() -> InvalidInputError:
    message = f"A group has at most {MAX_MEMBERS} members."
    return InvalidInputError(message)
