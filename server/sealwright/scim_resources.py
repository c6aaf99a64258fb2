"""SCIM's documents of users and groups: their attributes, how they are shown, and what of them is
asked for. Pure (RFC 7643; RFC 7644, 3.9 and 3.14)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sealwright.model.user import Group, User

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
_MAX_NAMES = 100


def _attribute(name: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "multiValued": False,
        "required": False,
        "caseExact": False,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
    } | more


def _reference(kind: str, **more: Any) -> dict[str, Any]:
    return _attribute("$ref", "reference", caseExact=True, referenceTypes=[kind], **more)


_READ_ONLY: Mapping[str, Any] = {"mutability": "readOnly"}
_IMMUTABLE: Mapping[str, Any] = {"mutability": "immutable"}
#: What the schemas show; the common attributes are in no schema (RFC 7643, 3.1).
USER_ATTRIBUTES: Sequence[Mapping[str, Any]] = (
    _attribute("userName", required=True, uniqueness="server"),
    _attribute("displayName"),
    _attribute("name", "complex", subAttributes=[_attribute("formatted")]),
    _attribute(
        "emails",
        "complex",
        multiValued=True,
        subAttributes=[
            _attribute("value"),
            _attribute("type", canonicalValues=["work"]),
            _attribute("primary", "boolean"),
        ],
    ),
    _attribute("active", "boolean"),
    _attribute(
        "groups",
        "complex",
        multiValued=True,
        **_READ_ONLY,
        subAttributes=[
            _attribute("value", caseExact=True, **_READ_ONLY),
            _reference("Group", **_READ_ONLY),
        ],
    ),
)
GROUP_ATTRIBUTES: Sequence[Mapping[str, Any]] = (
    _attribute("displayName", required=True, uniqueness="server"),
    _attribute(
        "members",
        "complex",
        multiValued=True,
        subAttributes=[
            _attribute("value", caseExact=True, **_IMMUTABLE),
            _attribute("type", canonicalValues=["User"], **_IMMUTABLE),
            _reference("User", **_IMMUTABLE),
        ],
    ),
)
_COMMON: Sequence[Mapping[str, Any]] = (
    _attribute("id", caseExact=True, **_READ_ONLY),
    _attribute("externalId", caseExact=True),
    _attribute(
        "meta",
        "complex",
        **_READ_ONLY,
        subAttributes=[
            _attribute("resourceType", caseExact=True, **_READ_ONLY),
            _attribute("created", "dateTime", **_READ_ONLY),
        ],
    ),
)
#: What filters and paths may name.
USER_FILTERED = (*_COMMON, *USER_ATTRIBUTES)
GROUP_FILTERED = (*_COMMON, *GROUP_ATTRIBUTES)


def user_document(user: User, base: str) -> dict[str, Any]:
    """A user as it is shown (RFC 7643, 4.1).

    Args:
        base: URL of the endpoints, without a slash at its end.
    """
    shown: dict[str, Any] = {
        "schemas": [USER],
        "id": user.id,
        "userName": user.email,
        "name": {"formatted": user.name},
        "displayName": user.name,
        "emails": [{"value": user.email, "type": "work", "primary": True}],
        "active": user.active,
        "groups": [{"value": one, "$ref": f"{base}/Groups/{one}"} for one in sorted(user.groups)],
    }
    if user.external_id:
        shown["externalId"] = user.external_id
    return _with_meta(shown, "User", f"{base}/Users/{user.id}", user.created_at.isoformat())


def group_document(group: Group, base: str) -> dict[str, Any]:
    """A group as it is shown (RFC 7643, 4.2). Arguments are those of `user_document`."""
    shown: dict[str, Any] = {
        "schemas": [GROUP],
        "id": group.id,
        "displayName": group.name,
        "members": [
            {"value": one, "type": "User", "$ref": f"{base}/Users/{one}"}
            for one in sorted(group.members)
        ],
    }
    if group.external_id:
        shown["externalId"] = group.external_id
    return _with_meta(shown, "Group", f"{base}/Groups/{group.id}", group.created_at.isoformat())


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


def _names(listed: Iterable[str]) -> frozenset[str]:
    names = set()
    for one in list(listed)[:_MAX_NAMES]:
        name = one.strip().lower()
        for urn in (USER.lower(), GROUP.lower()):
            name = name.removeprefix(f"{urn}:")
        if name:
            names.add(name)
    return frozenset(names)
