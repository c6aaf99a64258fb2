"""Forms of SCIM tokens. SCIM's own documents are read by `scim.patches`."""

from __future__ import annotations

from pydantic import Field

from sealwright.web.schemas.fields import In, Name


class ScimTokenIn(In):
    """A new SCIM token."""

    name: Name = Field(description="of the directory")
    expires_in_days: int | None = Field(365, ge=1, le=3650, description="null: never")
