"""SCIM's documents of users and groups: how they are shown, and what of them is asked for. Pure
(RFC 7643; RFC 7644, 3.9 and 3.14)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sealwright.model.user import Group, User
from sealwright.scim.schema import GROUPS, USERS

USER, GROUP = USERS.urn, GROUPS.urn
_MAX_NAMES = 100


def user_document(user: User, base: str) -> dict[str, Any]:
    """A user as it is shown (RFC 7643, 4.1).

    Args:
        base: URL of the endpoints, without a slash at its end.
    """
    shown: dict[str, Any] = {
        "schemas": [USER],
        "id": user.id,
        "userName": user.user_name or user.email,
        "name": {"formatted": user.name},
        "displayName": user.name,
        "emails": [{"value": user.email, "type": "work", "primary": True}],
        "active": user.active,
        "groups": [{"value": one, "$ref": f"{base}/Groups/{one}"} for one in sorted(user.groups)],
    }
    if user.external_id:
        shown["externalId"] = user.external_id
    return _with_meta(shown, "User", f"{base}/Users/{user.id}", user.created_at.isoformat())


def group_document(group: Group, base: str, *, with_members: bool = True) -> dict[str, Any]:
    """A group as it is shown (RFC 7643, 4.2).

    Args:
        with_members: its members have been read. Without them it has no version.
    """
    shown: dict[str, Any] = {"schemas": [GROUP], "id": group.id, "displayName": group.name}
    if with_members:
        shown["members"] = [
            {"value": one, "type": "User", "$ref": f"{base}/Users/{one}"}
            for one in sorted(group.members)
        ]
    if group.external_id:
        shown["externalId"] = group.external_id
    shown = _with_meta(shown, "Group", f"{base}/Groups/{group.id}", group.created_at.isoformat())
    if not with_members:
        del shown["meta"]["version"]
    return shown


def _with_meta(shown: dict[str, Any], kind: str, location: str, created: str) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
    meta = {
        "resourceType": kind,
        "location": location,
        "created": created,
        "version": f'W/"{digest[:32]}"',
    }
    return shown | {"meta": meta}


def has_version(document: Mapping[str, Any], wanted: str) -> bool:
    """Whether an ``If-Match`` or ``If-None-Match`` names the document's version, compared weakly
    (RFC 9110, 8.8.3.2)."""
    present = document["meta"]["version"].removeprefix("W/")
    return any(
        one.strip() == "*" or one.strip().removeprefix("W/") == present
        for one in wanted.split(",")[:_MAX_NAMES]
    )


def projected(
    document: Mapping[str, Any], attributes: Iterable[str], excluded: Iterable[str]
) -> dict[str, Any]:
    """What is asked for of a document; schemas and id are always there (RFC 7643, 7: returned).

    Args:
        attributes: names of what is wanted, in any case, with or without their schema, of parts as
            ``name.formatted``; none: everything.
        excluded: names of what is not; without effect where `attributes` are named.
    """
    wanted, unwanted = _names(attributes), _names(excluded)
    always = {"schemas", "id"}
    if not wanted and not unwanted:
        return dict(document)
    shown: dict[str, Any] = {}
    for name, value in document.items():
        lower = name.lower()
        parts = {one.partition(".")[2] for one in wanted if one.partition(".")[0] == lower}
        if name in always or (wanted and "" in parts):
            shown[name] = value
        elif wanted:
            if parts:
                shown[name] = _parts(value, lambda part, named=parts: part in named)
        elif lower not in unwanted:
            gone = {one.partition(".")[2] for one in unwanted if one.partition(".")[0] == lower}
            shown[name] = _parts(value, lambda part, named=gone: part not in named)
    return shown


def _parts(value: Any, keep: Any) -> Any:
    if isinstance(value, list):
        return [_parts(one, keep) for one in value]
    if isinstance(value, Mapping):
        return {name: one for name, one in value.items() if keep(name.lower())}
    return value


def leaves_out(name: str, attributes: Iterable[str], excluded: Iterable[str]) -> bool:
    """Whether nothing of the attribute is asked for (`name` in lower case)."""
    wanted = _names(attributes)
    if wanted:
        return name not in {one.partition(".")[0] for one in wanted}
    return name in _names(excluded)


def _names(listed: Iterable[str]) -> frozenset[str]:
    names = set()
    for one in list(listed)[:_MAX_NAMES]:
        name = one.strip().lower()
        for urn in (USER.lower(), GROUP.lower()):
            name = name.removeprefix(f"{urn}:")
        if name:
            names.add(name)
    return frozenset(names)
