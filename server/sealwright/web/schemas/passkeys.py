"""Forms of passkeys: JSON as browsers make it (Web Authentication Level 3, 5.1, `toJSON`)."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sealwright.model.passkey import Assertion
from sealwright.web.schemas.fields import In, Name, Out
from sealwright.web.schemas.signing_requests import DecisionIn

_MAX_TEXT = 32 * 1024


def _base64url(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        message = "is no base64url text"
        raise ValueError(message)
    try:
        padded = value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        message = "is no base64url text"
        raise ValueError(message) from None


Base64Url = Annotated[
    bytes,
    BeforeValidator(_base64url),
    WithJsonSchema({"type": "string", "format": "base64url", "maxLength": _MAX_TEXT}),
]


class _Credential(BaseModel):
    """Browsers send more than this server reads."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class RegistrationResponseIn(_Credential):
    """What the authenticator answered to a registration."""

    client_data: Base64Url = Field(alias="clientDataJSON")
    attestation_object: Base64Url = Field(alias="attestationObject")


class RegisteredCredentialIn(_Credential):
    """A `PublicKeyCredential` made by `navigator.credentials.create`."""

    response: RegistrationResponseIn


class AssertionResponseIn(_Credential):
    """What the authenticator answered to a challenge."""

    client_data: Base64Url = Field(alias="clientDataJSON")
    authenticator_data: Base64Url = Field(alias="authenticatorData")
    signature: Base64Url
    user_handle: Base64Url | None = Field(None, alias="userHandle")


class AssertedCredentialIn(_Credential):
    """A `PublicKeyCredential` given by `navigator.credentials.get`."""

    raw_id: Base64Url = Field(alias="rawId")
    response: AssertionResponseIn

    def assertion(self) -> Assertion:
        """The same for the domain."""
        answer = self.response
        return Assertion(
            self.raw_id,
            answer.client_data,
            answer.authenticator_data,
            answer.signature,
            answer.user_handle or b"",
        )


class ApprovalIn(DecisionIn):
    """An approver's words, and what their passkey signed where the policy asks for it."""

    credential: AssertedCredentialIn | None = Field(
        None, description="the answer to `approval-options`"
    )


class PasskeyIn(In):
    """A new passkey."""

    name: Name
    credential: RegisteredCredentialIn


class PasskeyOut(Out):
    """A passkey, without its key."""

    id: str
    name: str
    created_at: dt.datetime
    last_used_at: dt.datetime | None


class PasskeysOut(Out):
    """All passkeys of a user."""

    items: list[PasskeyOut]


class PasskeyOptionsOut(Out):
    """What to give to `navigator.credentials`; binary values are base64url."""

    public_key: dict[str, Any] = Field(description="Web Authentication Level 3, 5.4 or 5.5")


class PasskeySessionIn(In):
    """A log-in with a passkey."""

    credential: AssertedCredentialIn
