"""An order that the signer carries out: what it asks for, read and bounded."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sealwright.errors import InvalidInputError
from sealwright.model.certificate import (
    GENERATED_KEYS,
    CertificateOrder,
    KeyType,
    RevocationReason,
)
from sealwright.model.identifiers import is_slug
from sealwright.signer.certificates import MAX_DAYS

_MAX_NAME = 200
_MAX_SUBJECT = 1000


@dataclass(frozen=True)
class Commission:
    """An order that was decided on.

    Attributes:
        actor: who wants it, as the log names them.
        payload: the order's own, opened where it was sealed.
    """

    order: CertificateOrder
    actor: str
    payload: bytes

    @property
    def organization_id(self) -> str:
        """Whose order it is."""
        return self.order.organization_id

    def text(self, name: str, default: str = "") -> str:
        """An argument that is text. Raises InvalidInputError."""
        value = self.order.arguments.get(name, default)
        if not isinstance(value, str) or len(value) > _MAX_SUBJECT or not value.isprintable():
            message = f"The order's {name!r} is no text of at most {_MAX_SUBJECT} characters."
            raise InvalidInputError(message)
        return value

    def flag(self, name: str) -> bool:
        """An argument that is true or false. Raises InvalidInputError."""
        value = self.order.arguments.get(name, False)
        if not isinstance(value, bool):
            message = f"The order's {name!r} is neither true nor false."
            raise InvalidInputError(message)
        return value

    def days(self) -> dt.timedelta:
        """How long the certificate is to be valid. Raises InvalidInputError."""
        value = self.order.arguments.get("valid_days", 365)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_DAYS:
            message = f"A certificate is valid for 1 to {MAX_DAYS} days."
            raise InvalidInputError(message)
        return dt.timedelta(days=value)

    def key_type(self) -> KeyType:
        """The kind of key to generate. Raises InvalidInputError."""
        wanted = self.text("key_type", KeyType.RSA_3072.value)
        for one in GENERATED_KEYS:
            if one.value == wanted:
                return one
        message = f"Keys of type {wanted[:20]!r} are not generated."
        raise InvalidInputError(message, advice=f"Use one of {', '.join(GENERATED_KEYS)}.")

    def reason(self) -> RevocationReason:
        """Why a key is revoked. Raises InvalidInputError."""
        text = self.text("reason", RevocationReason.UNSPECIFIED.value)
        try:
            return RevocationReason(text)
        except ValueError:
            message = f"There is no reason {text[:20]!r} to revoke a key."
            raise InvalidInputError(
                message, advice=f"Use one of {', '.join(RevocationReason)}."
            ) from None

    def facts(self) -> dict[str, Any]:
        """What every leaf about the order says."""
        return {
            "order": self.order.id,
            "operation": self.order.operation.value,
            "requested_by": self.actor,
        }


@dataclass(frozen=True)
class Names:
    """What a new certificate is called."""

    slug: str
    name: str

    @classmethod
    def of(cls, commission: Commission) -> Names:
        """As the order has it. Raises InvalidInputError."""
        slug = commission.text("slug")
        names = cls(slug, commission.text("name") or slug)
        if not is_slug(names.slug):
            message = f"{names.slug[:100]!r} cannot be the slug of a certificate."
            raise InvalidInputError(message, advice="Use lower-case letters, digits and '-._'.")
        if len(names.name) > _MAX_NAME:
            message = f"A certificate's name has at most {_MAX_NAME} characters."
            raise InvalidInputError(message)
        return names
