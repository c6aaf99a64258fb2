"""SCIM's view of users and groups: filters, patches, and the resources that they work on. Pure.

Sources: RFC 7643 (schema) and RFC 7644 (protocol: 3.4.2.2 filtering, 3.5.2 PATCH). What directories
in use send is taken: one ``eq`` comparison as filter; PATCH with and without a path, with a value
filter on members, with operations in any case, and booleans as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sealwright.errors import InvalidInputError

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
_FILTER = re.compile(
    r'\s*([A-Za-z][\w.:-]{0,100})\s+eq\s+("(?:[^"\\]|\\.){0,400}"|true|false)\s*', re.IGNORECASE
)
_MEMBER = re.compile(r'members\[\s*value\s+eq\s+"([^"\\]{1,100})"\s*\]', re.IGNORECASE)
_PRIMARY = re.compile(r"emails(\[.{0,100}\])?(\.value)?", re.IGNORECASE)
_MAX_TEXT = 200
_MAX_OPERATIONS = 1000
_MAX_MEMBERS = 5000


@dataclass(frozen=True)
class UserResource:
    """A user as a directory has it."""

    user_name: str
    name: str
    external_id: str | None
    active: bool


@dataclass(frozen=True)
class GroupResource:
    """A group as a directory has it. `members` are our user ids."""

    name: str
    external_id: str | None
    members: frozenset[str]


@dataclass(frozen=True)
class Filter:
    """``attribute eq value``; `attribute` is lower-case, without its schema."""

    attribute: str
    value: str


def parse_filter(text: str, attributes: frozenset[str]) -> Filter | None:
    """Read a filter; None where there is none.

    Raises:
        InvalidInputError: not ``attribute eq "value"``, or of another attribute.
    """
    if not text.strip():
        return None
    match = _FILTER.fullmatch(text)
    attribute = match[1].rpartition(":")[2].lower() if match else ""
    if match is None or attribute not in attributes:
        known = ", ".join(sorted(attributes))
        message = "The filter is not supported."
        raise InvalidInputError(message, advice=f'Use attribute eq "value", of {known}.')
    value = match[2]
    if value.startswith('"'):
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return Filter(attribute, value)


def read_user(document: Mapping[str, Any]) -> UserResource:
    """A user as sent by POST or PUT (RFC 7643, 4.1).

    Raises:
        InvalidInputError: no usable userName or e-mail address, or a value of a wrong kind.
    """
    user = UserResource("", "", None, active=True)
    for name, value in document.items():
        user = _set_user(user, name, value)
    email = _email(document.get("emails"))
    user_name = email or user.user_name
    if "@" not in user_name:
        message = "The user has no e-mail address: neither in emails nor as userName."
        raise InvalidInputError(message)
    return replace(user, user_name=user_name.lower(), name=user.name or user_name)


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
    """
    for verb, path, value in _operations(document):
        if verb == "remove":
            if path.lower() == "externalid":
                user = replace(user, external_id=None)
            continue
        if path:
            if _PRIMARY.fullmatch(path):
                address = value if isinstance(value, str) else _email(value)
                user = replace(user, user_name=(address or user.user_name).lower())
                continue
            user = _set_user(user, path, value)
            continue
        if not isinstance(value, Mapping):
            raise _malformed()
        for name, one in value.items():
            user = _set_user(user, name, one)
    if "@" not in user.user_name:
        message = "A userName is an e-mail address here."
        raise InvalidInputError(message)
    return user


def patch_group(group: GroupResource, document: Mapping[str, Any]) -> GroupResource:
    """Apply a PATCH (RFC 7644, 3.5.2).

    Raises:
        InvalidInputError: it is malformed.
    """
    for verb, path, value in _operations(document):
        changes = dict(value) if not path and isinstance(value, Mapping) else {path: value}
        for name, one in changes.items():
            group = _set_group(group, verb, str(name), one)
    return group


def _set_group(group: GroupResource, verb: str, path: str, value: Any) -> GroupResource:
    match = _MEMBER.fullmatch(path)
    if match and verb == "remove":
        return replace(group, members=group.members - {match[1]})
    lowered = path.rpartition(":")[2].lower()
    if lowered == "members":
        named = _members(value if value is not None else [])
        if verb == "remove":
            left = group.members - named if value is not None else frozenset()
            return replace(group, members=left)
        members = named if verb == "replace" else group.members | named
        if len(members) > _MAX_MEMBERS:
            raise _too_many()
        return replace(group, members=members)
    if verb == "remove":
        return group
    if lowered == "displayname":
        return replace(group, name=_word(value, "displayName") or group.name)
    if lowered == "externalid":
        return replace(group, external_id=_optional(value, "externalId"))
    return group


def _set_user(user: UserResource, name: str, value: Any) -> UserResource:
    match name.rpartition(":")[2].lower():
        case "username":
            return replace(user, user_name=_word(value, "userName").lower() or user.user_name)
        case "externalid":
            return replace(user, external_id=_optional(value, "externalId"))
        case "displayname" | "name.formatted":
            return replace(user, name=_word(value, "displayName") or user.name)
        case "name" if isinstance(value, Mapping):
            given = (value.get("givenName"), value.get("familyName"))
            parts = " ".join(one for one in given if isinstance(one, str) and one)
            text = _word(value.get("formatted") or parts, "name")
            return replace(user, name=user.name or text)
        case "active":
            return replace(user, active=_flag(value))
    return user


def _operations(document: Mapping[str, Any]) -> Sequence[tuple[str, str, Any]]:
    found = next((v for k, v in document.items() if k.lower() == "operations"), None)
    if not isinstance(found, list) or not 0 < len(found) <= _MAX_OPERATIONS:
        raise _malformed()
    operations = []
    for one in found:
        if not isinstance(one, Mapping):
            raise _malformed()
        verb, path = str(one.get("op", "")).lower(), one.get("path") or ""
        if verb not in {"add", "replace", "remove"} or not isinstance(path, str):
            raise _malformed()
        if verb == "remove" and not path:
            raise _malformed()
        operations.append((verb, path.strip()[:400], one.get("value")))
    return operations


def _members(value: Any) -> frozenset[str]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) > _MAX_MEMBERS:
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
    raise _malformed()


def _word(value: Any, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        message = f"{name} is no text of at most {_MAX_TEXT} characters."
        raise InvalidInputError(message)
    return value.strip()


def _optional(value: Any, name: str) -> str | None:
    return _word(value, name) or None


def _malformed() -> InvalidInputError:
    message = "The SCIM request is malformed."
    return InvalidInputError(message, advice="See RFC 7644, 3.5.2.")


def _too_many() -> InvalidInputError:
    message = f"A group has at most {_MAX_MEMBERS} members."
    return InvalidInputError(message)
