"""The attributes of users and groups that are kept (RFC 7643, 4 and 7), and where their values are.

``/Schemas`` shows the models; filters and paths are read against them. The common attributes are in
no schema (3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field
from scim2_models import (
    URN,
    CaseExact,
    ComplexAttribute,
    Context,
    Mutability,
    Reference,
    Required,
    Resource,
    Uniqueness,
)

from sealwright.model.conditions import Value


class _Name(ComplexAttribute):
    formatted: Annotated[str | None, Required.true] = None


class _Email(ComplexAttribute):
    value: Annotated[str | None, Required.true] = None
    type: Annotated[str | None, Mutability.read_only] = Field(None, examples=["work"])
    primary: Annotated[bool | None, Mutability.read_only] = None


class _Membership(ComplexAttribute):
    value: Annotated[str | None, Mutability.read_only, CaseExact.true] = None
    ref: Annotated[Reference["Group"] | None, Mutability.read_only] = Field(  # noqa: UP037
        None, serialization_alias="$ref", validation_alias="$ref"
    )


class User(Resource[Any]):
    """A person. What is required is always there: a directory may leave it out, and takes it away
    never."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    user_name: Annotated[str | None, Required.true, Uniqueness.server] = None
    display_name: Annotated[str | None, Required.true] = None
    name: Annotated[_Name | None, Required.true] = None
    emails: Annotated[list[_Email] | None, Required.true] = None
    active: Annotated[bool | None, Required.true] = None
    groups: Annotated[list[_Membership] | None, Mutability.read_only] = None


class _Member(ComplexAttribute):
    value: Annotated[str | None, Mutability.immutable, CaseExact.true] = None
    type: Annotated[str | None, Mutability.immutable] = Field(None, examples=["User"])
    ref: Annotated[Reference["User"] | None, Mutability.immutable] = Field(  # noqa: UP037
        None, serialization_alias="$ref", validation_alias="$ref"
    )


class Group(Resource[Any]):
    """Users who stand together."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:Group")

    display_name: Annotated[str | None, Required.true, Uniqueness.server] = None
    members: list[_Member] | None = None


@dataclass(frozen=True)
class Kept:
    """Where the value of an attribute is.

    Attributes:
        field: of the rows.
        several: there may be several values.
        fixed: the value is this, wherever the field has one.
    """

    field: str
    several: bool = False
    fixed: Value = None


@dataclass(frozen=True)
class Kind:
    """A type of resource.

    Attributes:
        attributes: attribute and part, or None -> where it is: what filters and orders may name.
    """

    name: str
    model: type[Resource[Any]]
    attributes: Mapping[tuple[str, str | None], Kept] = field(repr=False)

    @property
    def urn(self) -> str:
        """Of the schema."""
        return str(self.model.__schema__)

    def schema(self) -> dict[str, Any]:
        """The schema as ``/Schemas`` shows it, but for its metadata."""
        shown: dict[str, Any] = self.model.to_schema().model_dump(
            scim_ctx=Context.RESOURCE_QUERY_RESPONSE
        )
        return shown


def _common(kind: str) -> dict[tuple[str, str | None], Kept]:
    return {
        ("id", None): Kept("id"),
        ("external_id", None): Kept("external_id"),
        ("meta", "created"): Kept("created_at"),
        ("meta", "resource_type"): Kept("id", fixed=kind),
    }


USERS = Kind(
    "User",
    User,
    _common("User")
    | {
        ("user_name", None): Kept("user_name"),
        ("display_name", None): Kept("name"),
        ("name", "formatted"): Kept("name"),
        ("emails", "value"): Kept("email"),
        ("emails", "type"): Kept("email", fixed="work"),
        ("emails", "primary"): Kept("email", fixed=True),
        ("active", None): Kept("active"),
        ("groups", "value"): Kept("group", several=True),
    },
)
GROUPS = Kind(
    "Group",
    Group,
    _common("Group")
    | {
        ("display_name", None): Kept("name"),
        ("members", "value"): Kept("member", several=True),
        ("members", "type"): Kept("member", several=True, fixed="user"),
    },
)
