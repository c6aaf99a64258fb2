"""Forms of certificates, and of what is ordered of the signer."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Base64Bytes, Field, StringConstraints

from sealwright.model.certificate import (
    CertificateKind,
    CertificateSource,
    CertificateState,
    CertificateStatus,
    KeyType,
    Operation,
    OrderState,
    RevocationReason,
)
from sealwright.web.schemas.awaited import AwaitedOut
from sealwright.web.schemas.fields import In, Name, Out, Reference, Slug

MAX_FILE = 256 * 1024
Subject = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1000, strip_whitespace=True),
]
GeneratedKey = Literal["rsa-3072", "rsa-4096", "p-256", "p-384"]
Days = Annotated[int, Field(ge=1, le=30 * 365)]


class CertificateOut(Out):
    """A certificate. `pem` holds the leaf and then its issuers, or an armored OpenPGP key with its
    revocation. It is empty while the certificate is pending; validity and digest are null then."""

    id: str
    slug: str
    name: str
    state: CertificateState = Field(description="the administrator's switch")
    status: CertificateStatus = Field(description="what state, time and renewals come to")
    kind: CertificateKind
    source: CertificateSource
    key_type: KeyType
    subject: str
    exposed: bool = Field(description="the private key was readable outside the token")
    release: bool = Field(description="only policies with approvals, and strong keys")
    sha256: str | None
    not_before: dt.datetime | None
    not_after: dt.datetime | None
    expires_in_days: int | None
    warning: int | None = Field(
        description="within so many days of its end: 60, 30, 14, 7 or 1; null: no warning"
    )
    replaces_id: str | None
    replaced_by_id: str | None
    enrolment_id: str | None
    has_request: bool
    revoked_at: dt.datetime | None = Field(description="of an OpenPGP key that is revoked")
    revocation_reason: RevocationReason | None
    created_at: dt.datetime
    pem: str


class CertificatePatch(In):
    """What is to change."""

    state: CertificateState | None = None
    name: Name | None = None
    release: bool | None = Field(
        None, description="false where it is true only in a session with a recent log-in"
    )


class CertificatesOut(Out):
    """One page."""

    items: list[CertificateOut]
    next_cursor: str | None


class CertificateIn(In):
    """A new key on the token, and what is to vouch for it."""

    slug: Slug
    name: Name | None = Field(None, description="default: the slug")
    kind: CertificateKind = CertificateKind.X509
    source: Literal["self-signed", "request", "enrolment"] = "self-signed"
    subject: Subject = Field(
        description="an RFC 4514 name (`CN=Example,O=Example Ltd`); for an OpenPGP key its user id "
        "(`Example <releases@example.com>`)"
    )
    key_type: GeneratedKey = "rsa-3072"
    valid_days: Days = Field(365, description="of a self-signed certificate or OpenPGP key")
    release: bool = False
    enrolment: Reference | None = Field(None, description="id or slug of the EST server")


class CertificateImportIn(In):
    """A PKCS #12 file (.pfx, .p12) with its password. The key counts as exposed for good."""

    slug: Slug
    name: Name | None = Field(None, description="default: the slug")
    release: bool = False
    file: Annotated[Base64Bytes, Field(max_length=MAX_FILE)]
    password: Annotated[str, StringConstraints(max_length=1024)] = ""


class CertificateRenewIn(In):
    """How a certificate is renewed. What is left out stays as it is."""

    method: Literal["self-signed", "request", "enrolment"] | None = Field(
        None, description="default: as the present one was made"
    )
    enrolment: Reference | None = Field(
        None, description="id or slug of the EST server that is to issue it; default: the same"
    )
    new_key: bool = Field(default=False, description="generate another key")
    slug: Slug | None = Field(None, description="default: the slug with the next number")
    name: Name | None = None
    subject: Subject | None = None
    valid_days: Days = 365


class CertificateRevokeIn(In):
    """Why an OpenPGP key is revoked: for good, with every certificate of the same key."""

    reason: RevocationReason = Field(
        RevocationReason.UNSPECIFIED,
        description="whatever a compromised key has signed counts no more",
    )
    comment: Annotated[
        str, StringConstraints(max_length=150, pattern=r"^[\x20-\x7e]*$", strip_whitespace=True)
    ] = Field("", description="for people; it is in the exported key")


class OrderQuery(In):
    """How long to wait for the signer."""

    wait: int = Field(0, ge=0, le=60, description="seconds to wait until it is settled")


class CertificateOrderOut(Out):
    """What was ordered of the signer. `certificate` is what came of it, once it is done."""

    id: str
    operation: Operation
    state: OrderState
    certificate_id: str | None
    requested_by: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None
    code: str
    reason: str
    advice: str
    certificate: CertificateOut | None
    awaits_endorsement_by: AwaitedOut = None


class CertificateOrdersOut(Out):
    """The latest."""

    items: list[CertificateOrderOut]
