"""What this server's SCIM can: configuration, resource types and schemas (RFC 7644, 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from sealwright.errors import ForbiddenError
from sealwright.scim.bulk import MAX_OPERATIONS, MAX_PAYLOAD
from sealwright.scim.query import MOST
from sealwright.scim.schema import GROUPS, USERS
from sealwright.visible import missing
from sealwright.web.api.scim_answers import answer, base, listed
from sealwright.web.routes import Call

_CORE = "urn:ietf:params:scim:schemas:core:2.0"
_RESOURCE_TYPE = f"{_CORE}:ResourceType"
_CONFIG = f"{_CORE}:ServiceProviderConfig"


async def config(call: Call) -> Response:
    """What this server can (RFC 7643, 5)."""
    bulk = {"supported": True, "maxOperations": MAX_OPERATIONS, "maxPayloadSize": MAX_PAYLOAD}
    return answer(
        {
            "schemas": [_CONFIG],
            "documentationUri": f"{call.services.settings.url}/api/openapi.json",
            "patch": {"supported": True},
            "bulk": bulk,
            "filter": {"supported": True, "maxResults": MOST},
            "changePassword": {"supported": False},
            "sort": {"supported": True},
            "etag": {"supported": True},
            "authenticationSchemes": [
                {
                    "type": "oauthbearertoken",
                    "name": "Bearer token",
                    "description": "A SCIM token of the organization.",
                    "primary": True,
                }
            ],
            "meta": _meta(call, "ServiceProviderConfig", "ServiceProviderConfig"),
        }
    )


async def resource_types(call: Call) -> Response:
    """Users and groups (RFC 7643, 6)."""
    return _all_of(call, _resource_types(call))


async def resource_type(call: Call) -> Response:
    """One of them."""
    return _named(_resource_types(call), call.path("resource_type"), "resource type")


async def schemas(call: Call) -> Response:
    """The attributes that are kept (RFC 7643, 7)."""
    return _all_of(call, _schemas(call))


async def schema(call: Call) -> Response:
    """Those of users or of groups."""
    return _named(_schemas(call), call.path("schema"), "schema")


def _all_of(call: Call, found: Sequence[Mapping[str, Any]]) -> Response:
    """What the server can, at once. A filter is refused (RFC 7644, 4)."""
    if call.request.query_params.get("filter"):
        message = "What the server can is not filtered."
        raise ForbiddenError(message)
    return listed(found, len(found))


def _named(found: Sequence[Mapping[str, Any]], name: str, kind: str) -> Response:
    for one in found:
        if one["id"] == name:
            return answer(one)
    raise missing(name, kind)


def _resource_types(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "schemas": [_RESOURCE_TYPE],
            "id": kind.name,
            "name": kind.name,
            "endpoint": f"/{kind.name}s",
            "schema": kind.urn,
            "meta": _meta(call, "ResourceType", f"ResourceTypes/{kind.name}"),
        }
        for kind in (USERS, GROUPS)
    ]


def _schemas(call: Call) -> list[dict[str, Any]]:
    return [
        kind.schema() | {"meta": _meta(call, "Schema", f"Schemas/{kind.urn}")}
        for kind in (USERS, GROUPS)
    ]


def _meta(call: Call, kind: str, path: str) -> dict[str, str]:
    return {"resourceType": kind, "location": f"{base(call)}/{path}"}
