"""Forms of endorsements."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sealwright.model.endorsement import EndorsementKind
from sealwright.web.schemas.fields import In, Out, Reference
from sealwright.web.schemas.passkeys import AssertedCredentialIn


class WaitingOut(Out):
    """Something that does not count until it is endorsed."""

    kind: EndorsementKind
    subject_id: str
    name: str
    version: int = Field(description="of the endorsement to be made")
    terms_sha256: str
    terms: dict[str, Any] = Field(description="what is endorsed")
    public_key: dict[str, Any] | None = Field(
        description="what to give to the authenticator; null where the caller's passkeys are not "
        "trusted"
    )


class WaitingListOut(Out):
    """All that waits."""

    required: bool = Field(description="whether the organization has trusted passkeys at all")
    items: list[WaitingOut]


class EndorsementIn(In):
    """What a trusted passkey signed."""

    kind: EndorsementKind
    subject_id: Reference
    version: int = Field(ge=1, le=2**31 - 1)
    credential: AssertedCredentialIn


class EndorsementOut(Out):
    """An endorsement."""

    kind: EndorsementKind
    subject_id: str
    version: int
    terms_sha256: str
    sha256: str = Field(description="names it in the leaves of the signatures that rest on it")
